//! The row primitives as functions that compiled code calls by name.

use cranelift_codegen::ir::types::{F32, I64};
use cranelift_codegen::ir::{AbiParam, FuncRef, Function, Type};
use cranelift_jit::JITModule;
use cranelift_module::{FuncId, Linkage, Module};
use std::collections::HashMap;
use steer_kernels::rows;
use steer_kernels::{Binary, Isa, Reduce, Stored, Summed, Unary};
use steer_lang::Diagnostic;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Prim {
    Unary(Unary),
    ScalarUnary(Unary),
    Binary(Binary),
    BinaryVs(Binary),
    BinarySv(Binary),
    ScalarBinary(Binary),
    Reduce(Reduce),
    ReduceStrided(Reduce),
    Axpy,
    /// Whether the first and the second are rows.
    Select([bool; 2]),
    StoreSum(Stored, Summed),
    Fill,
    Copy,
    Dot,
    TopK,
    Gather,
    Scatter,
}

impl Prim {
    fn all() -> impl Iterator<Item = Prim> {
        let unary = Unary::ALL.into_iter().flat_map(|op| [Prim::Unary(op), Prim::ScalarUnary(op)]);
        let binary = Binary::ALL
            .into_iter()
            .flat_map(|op| [Prim::Binary(op), Prim::BinaryVs(op), Prim::BinarySv(op), Prim::ScalarBinary(op)]);
        let reduce = Reduce::ALL.into_iter().flat_map(|op| [Prim::Reduce(op), Prim::ReduceStrided(op)]);
        let select = [[true, true], [true, false], [false, true], [false, false]].map(Prim::Select);
        let sums = Stored::ALL.into_iter().flat_map(|stored| Summed::ALL.map(|sum| Prim::StoreSum(stored, sum)));
        let rest = [Prim::Axpy, Prim::Fill, Prim::Copy, Prim::Dot, Prim::TopK, Prim::Gather, Prim::Scatter];
        unary.chain(binary).chain(reduce).chain(select).chain(sums).chain(rest)
    }

    fn name(self) -> String {
        match self {
            Prim::Unary(op) => format!("row.{}", op.name()),
            Prim::ScalarUnary(op) => format!("scalar.{}", op.name()),
            Prim::Binary(op) => format!("row.{}.vv", op.name()),
            Prim::BinaryVs(op) => format!("row.{}.vs", op.name()),
            Prim::BinarySv(op) => format!("row.{}.sv", op.name()),
            Prim::ScalarBinary(op) => format!("scalar.{}", op.name()),
            Prim::Reduce(op) => format!("reduce.{}", op.name()),
            Prim::ReduceStrided(op) => format!("reduce.{}.strided", op.name()),
            Prim::Axpy => "row.axpy".into(),
            Prim::Select([a, b]) => format!("row.select.{}{}", if a { "v" } else { "s" }, if b { "v" } else { "s" }),
            Prim::StoreSum(stored, sum) => format!("row.{}.{}", stored.name(), sum.name()),
            Prim::Fill => "row.fill".into(),
            Prim::Copy => "row.copy".into(),
            Prim::Dot => "reduce.dot".into(),
            Prim::TopK => "row.top_k".into(),
            Prim::Gather => "row.gather".into(),
            Prim::Scatter => "row.scatter".into(),
        }
    }

    fn address(self, isa: Isa) -> usize {
        match self {
            Prim::Unary(op) => rows::unary(isa, op) as usize,
            Prim::ScalarUnary(op) => rows::scalar_unary(isa, op) as usize,
            Prim::Binary(op) => rows::binary(isa, op) as usize,
            Prim::BinaryVs(op) => rows::binary_vs(isa, op) as usize,
            Prim::BinarySv(op) => rows::binary_sv(isa, op) as usize,
            Prim::ScalarBinary(op) => rows::scalar_binary(isa, op) as usize,
            Prim::Reduce(op) => rows::reduce(isa, op) as usize,
            Prim::ReduceStrided(op) => rows::reduce_strided(isa, op) as usize,
            Prim::Axpy => rows::axpy(isa) as usize,
            Prim::Select([true, true]) => rows::select(isa) as usize,
            Prim::Select([true, false]) => rows::select_vs(isa) as usize,
            Prim::Select([false, true]) => rows::select_sv(isa) as usize,
            Prim::Select([false, false]) => rows::select_ss(isa) as usize,
            Prim::StoreSum(stored, sum) => rows::store_sum(isa, stored, sum) as usize,
            Prim::Fill => rows::fill(isa) as usize,
            Prim::Copy => rows::copy() as usize,
            Prim::Dot => rows::dot(isa) as usize,
            Prim::TopK => rows::top_k_mask() as usize,
            Prim::Gather => rows::gather_strided() as usize,
            Prim::Scatter => rows::scatter_strided() as usize,
        }
    }

    /// Parameters, and whether an `f32` is returned. Pointers and lengths are words.
    fn types(self) -> (&'static [Type], bool) {
        match self {
            Prim::Unary(_) | Prim::Copy => (&[I64, I64, I64], false),
            Prim::ScalarUnary(_) => (&[F32], true),
            Prim::Binary(_) | Prim::TopK | Prim::Gather | Prim::Scatter => (&[I64, I64, I64, I64], false),
            Prim::BinaryVs(_) => (&[I64, I64, F32, I64], false),
            Prim::BinarySv(_) => (&[I64, F32, I64, I64], false),
            Prim::ScalarBinary(_) => (&[F32, F32], true),
            Prim::Reduce(_) => (&[I64, I64], true),
            Prim::ReduceStrided(_) | Prim::Dot => (&[I64, I64, I64], true),
            Prim::Axpy => (&[I64, I64, F32, I64, I64], false),
            Prim::Select([true, true]) => (&[I64, I64, I64, I64, I64], false),
            Prim::Select([true, false]) => (&[I64, I64, I64, F32, I64], false),
            Prim::Select([false, true]) => (&[I64, I64, F32, I64, I64], false),
            Prim::Select([false, false]) => (&[I64, I64, F32, F32, I64], false),
            Prim::StoreSum(..) => (&[I64, I64, F32, I64, I64, I64], true),
            Prim::Fill => (&[I64, F32, I64], false),
        }
    }
}

/// Where each primitive of an instruction set lies, by name.
pub(super) fn addresses(isa: Isa) -> HashMap<String, usize> {
    Prim::all().map(|p| (p.name(), p.address(isa))).collect()
}

/// The primitives that a module has declared.
#[derive(Default)]
pub(super) struct Prims {
    declared: HashMap<Prim, FuncId>,
    /// Those that the current function knows already.
    known: HashMap<Prim, FuncRef>,
}

impl Prims {
    /// The primitive as something that this function can call.
    pub(super) fn of(
        &mut self,
        prim: Prim,
        module: &mut JITModule,
        func: &mut Function,
    ) -> Result<FuncRef, Box<Diagnostic>> {
        if let Some(known) = self.known.get(&prim) {
            return Ok(*known);
        }
        let id = match self.declared.get(&prim) {
            Some(id) => *id,
            None => {
                let mut signature = module.make_signature();
                let (params, returns) = prim.types();
                signature.params.extend(params.iter().map(|t| AbiParam::new(*t)));
                signature.returns.extend(returns.then(|| AbiParam::new(F32)));
                let id = module.declare_function(&prim.name(), Linkage::Import, &signature);
                let id = id.map_err(|e| Box::new(super::failure(e)))?;
                self.declared.insert(prim, id);
                id
            }
        };
        let known = module.declare_func_in_func(id, func);
        self.known.insert(prim, known);
        Ok(known)
    }

    /// Forgets the last function.
    pub(super) fn next_function(&mut self) {
        self.known.clear();
    }

    /// A printed function in which the primitives have their names.
    pub(super) fn named(&self, text: &str) -> String {
        let mut lines: Vec<String> = text.lines().map(str::to_string).collect();
        for (prim, id) in &self.declared {
            let number = format!("u0:{} ", id.as_u32());
            for line in &mut lines {
                if let Some((head, tail)) = line.split_once(" = ")
                    && head.trim_start().starts_with("fn")
                    && tail.starts_with(&number)
                {
                    *line = format!("{head} = %{} {}", prim.name(), &tail[number.len()..]);
                }
            }
        }
        lines.join("\n") + "\n"
    }
}
