//! A kernel as a function: the row loop, the branches and the nests of loops.

use super::passes::{Passes, Region};
use super::prim::{Prim, Prims};
use crate::kernel::{Base, Kernel, Layout, Lin, Operand, Ref};
use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::types::{F32, I64};
use cranelift_codegen::ir::{AbiParam, Function, InstBuilder, MemFlagsData, Signature, Value};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_jit::JITModule;
use cranelift_module::Module;
use steer_lang::Diagnostic;

/// The size of an `f32`.
const BYTES: usize = 4;

pub(super) fn signature(module: &JITModule) -> Signature {
    let mut signature = module.make_signature();
    signature.params = vec![AbiParam::new(I64); 5];
    signature
}

/// Emits a verified kernel.
pub(super) fn function(
    func: &mut Function,
    builders: &mut FunctionBuilderContext,
    kernel: &Kernel,
    passes: &Passes,
    module: &mut JITModule,
    prims: &mut Prims,
) -> Result<(), Box<Diagnostic>> {
    prims.next_function();
    let mut b = FunctionBuilder::new(func, builders);
    let entry = b.create_block();
    b.append_block_params_for_function_params(entry);
    b.switch_to_block(entry);
    let &[args, start, end, keys, scratch] = b.block_params(entry) else {
        unreachable!("the signature has five parameters")
    };
    let params = (0..kernel.params.len())
        .map(|i| b.ins().load(I64, MemFlagsData::trusted(), args, (i * size_of::<*mut f32>()) as i32))
        .collect();
    let mut emit = Emit {
        b,
        kernel,
        layout: &passes.layout,
        params,
        rows: Vec::new(),
        keys,
        scratch,
        module,
        prims,
        failed: Ok(()),
    };
    emit.count(start, end, &mut |emit, row| emit.row(row, &passes.regions));
    emit.b.ins().return_(&[]);
    emit.b.seal_all_blocks();
    let Emit { b, failed, module, .. } = emit;
    b.finalize(module.target_config());
    failed
}

pub(super) struct Emit<'f> {
    pub(super) b: FunctionBuilder<'f>,
    pub(super) kernel: &'f Kernel,
    layout: &'f Layout,
    /// The bases of the parameters.
    params: Vec<Value>,
    /// The current row's part of them.
    rows: Vec<Value>,
    keys: Value,
    scratch: Value,
    module: &'f mut JITModule,
    prims: &'f mut Prims,
    failed: Result<(), Box<Diagnostic>>,
}

impl Emit<'_> {
    /// A loop from `start` up to `end`.
    pub(super) fn count(&mut self, start: Value, end: Value, body: &mut dyn FnMut(&mut Self, Value)) {
        let (head, inside, after) = (self.b.create_block(), self.b.create_block(), self.b.create_block());
        let i = self.b.append_block_param(head, I64);
        self.b.ins().jump(head, &[start.into()]);
        self.b.switch_to_block(head);
        let more = self.b.ins().icmp(IntCC::UnsignedLessThan, i, end);
        self.b.ins().brif(more, inside, &[], after, &[]);
        self.b.switch_to_block(inside);
        body(self, i);
        let next = self.b.ins().iadd_imm_s(i, 1);
        self.b.ins().jump(head, &[next.into()]);
        self.b.switch_to_block(after);
    }

    /// A nest of loops from 0; the body is given the indices, outermost first.
    pub(super) fn nest(&mut self, extents: &[Lin], outer: &[Value], body: &mut dyn FnMut(&mut Self, &[Value])) {
        let Some((&extent, rest)) = extents.split_first() else { return body(self, outer) };
        let (zero, end) = (self.word(0), self.lin(extent));
        self.count(zero, end, &mut |emit, i| {
            let mut index = outer.to_vec();
            index.push(i);
            emit.nest(rest, &index, body);
        });
    }

    fn row(&mut self, row: Value, regions: &[Region]) {
        self.rows.clear();
        let kernel = self.kernel;
        for (i, param) in kernel.params.iter().enumerate() {
            let mut at = self.params[i];
            if let (true, Some(len)) = (param.kind.per_row(), param.len.known()) {
                let offset = self.b.ins().imul_imm_s(row, (len * BYTES) as i64);
                at = self.b.ins().iadd(at, offset);
            }
            self.rows.push(at);
        }
        for region in regions {
            self.guarded(&region.guards, &mut |emit| region.passes.iter().for_each(|p| emit.pass(p)));
        }
    }

    /// On the rows where one of the guards is not 0; without guards on every row.
    fn guarded(&mut self, guards: &[u32], body: &mut dyn FnMut(&mut Self)) {
        if guards.is_empty() {
            return body(self);
        }
        let (inside, after) = (self.b.create_block(), self.b.create_block());
        for (i, &g) in guards.iter().enumerate() {
            let next = if i + 1 == guards.len() { after } else { self.b.create_block() };
            let at = self.rows[g as usize];
            let guard = self.b.ins().load(F32, MemFlagsData::trusted(), at, 0);
            let zero = self.b.ins().f32const(0.0);
            let active = self.b.ins().fcmp(FloatCC::NotEqual, guard, zero);
            self.b.ins().brif(active, inside, &[], next, &[]);
            if next != after {
                self.b.switch_to_block(next);
            }
        }
        self.b.switch_to_block(inside);
        body(self);
        self.b.ins().jump(after, &[]);
        self.b.switch_to_block(after);
    }

    /// A branch: arm 0 where the condition holds, else arm 1.
    pub(super) fn either(&mut self, holds: Value, arm: &mut dyn FnMut(&mut Self, usize)) {
        let blocks = [self.b.create_block(), self.b.create_block()];
        let after = self.b.create_block();
        self.b.ins().brif(holds, blocks[0], &[], blocks[1], &[]);
        for (i, block) in blocks.into_iter().enumerate() {
            self.b.switch_to_block(block);
            arm(self, i);
            self.b.ins().jump(after, &[]);
        }
        self.b.switch_to_block(after);
    }

    pub(super) fn word(&mut self, n: usize) -> Value {
        self.b.ins().iconst(I64, n as i64)
    }

    /// The value of `fixed + keys * K`.
    pub(super) fn lin(&mut self, l: Lin) -> Value {
        match (l.fixed, l.keys) {
            (n, 0) => self.word(n),
            (0, 1) => self.keys,
            (n, k) => {
                let product = self.b.ins().imul_imm_s(self.keys, k as i64);
                if n == 0 { product } else { self.b.ins().iadd_imm_s(product, n as i64) }
            }
        }
    }

    /// A pointer so many floats further.
    fn advanced(&mut self, at: Value, by: Lin) -> Value {
        if by == Lin::ZERO {
            return at;
        }
        let offset = self.lin(by.scaled(BYTES));
        self.b.ins().iadd(at, offset)
    }

    /// Where the elements of a reference begin: a parameter, or nothing for the scratch memory, and the floats from there.
    pub(super) fn place(&self, r: &Ref) -> (Option<u32>, Lin) {
        match r.base {
            Base::Param(i) => (Some(i), r.offset),
            Base::Temp(i) => (None, self.layout.offsets[i as usize].plus(r.offset)),
        }
    }

    /// The address of an element; the strides beyond `index` are taken at 0.
    pub(super) fn address(&mut self, r: &Ref, index: &[Value]) -> Value {
        let (param, offset) = self.place(r);
        let base = param.map_or(self.scratch, |i| self.rows[i as usize]);
        let mut at = self.advanced(base, offset);
        for (&stride, &i) in r.strides.iter().zip(index) {
            if stride != Lin::ZERO {
                let step = match stride.scaled(BYTES).known() {
                    Some(n) => self.b.ins().imul_imm_s(i, n as i64),
                    None => {
                        let n = self.lin(stride.scaled(BYTES));
                        self.b.ins().imul(i, n)
                    }
                };
                at = self.b.ins().iadd(at, step);
            }
        }
        at
    }

    pub(super) fn read(&mut self, operand: &Operand, index: &[Value]) -> Value {
        match operand {
            Operand::Number(n) => self.b.ins().f32const(n.value()),
            Operand::Ref(r) => {
                let at = self.address(r, index);
                self.b.ins().load(F32, MemFlagsData::trusted(), at, 0)
            }
        }
    }

    pub(super) fn write(&mut self, r: &Ref, index: &[Value], value: Value) {
        let at = self.address(r, index);
        self.b.ins().store(MemFlagsData::trusted(), value, at, 0);
    }

    /// Calls a primitive; the result is that of one that returns a number.
    pub(super) fn call(&mut self, prim: Prim, args: &[Value]) -> Option<Value> {
        match self.prims.of(prim, self.module, self.b.func) {
            Ok(f) => {
                let call = self.b.ins().call(f, args);
                self.b.inst_results(call).first().copied()
            }
            Err(e) => {
                self.failed = Err(e);
                None
            }
        }
    }

    /// Calls a primitive that returns a number.
    pub(super) fn number(&mut self, prim: Prim, args: &[Value]) -> Value {
        let result = self.call(prim, args);
        result.unwrap_or_else(|| self.b.ins().f32const(0.0))
    }
}
