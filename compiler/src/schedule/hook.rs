//! A hook by itself: rows of its site in, the same rows edited out.

use super::schedule;
use crate::kernel::{Base, Kernel, Lin, Operand, ParamKind, Ref, Stmt, VecOp, Vector};
use crate::plan::rules::Options;
use crate::plan::{Edit, EditId, NodeId, Op, Output, Plan};
use crate::program::{Instr, KernelArg, Program};
use steer_lang::{Diagnostic, codes};

/// A hook at one site as a kernel that edits rows in place where its guard is not 0.
#[derive(Clone, Debug)]
pub struct HookKernel {
    /// The Plan of the hook alone, and its program: what constants are loaded by.
    pub plan: Plan,
    pub program: Program,
    /// The stretch and the instruction that call the kernel.
    pub at: (usize, usize),
    pub kernel: Kernel,
    /// By parameter of the kernel; `None` where it is not used any more.
    pub args: Vec<Option<KernelArg>>,
    /// The parameter that is the rows.
    pub rows: usize,
    /// The numbers of a row, and the names and sizes of its axes.
    pub len: usize,
    pub axes: Vec<(String, usize)>,
}

/// The kernel of an edit of a Plan.
pub fn hook_kernel(plan: &Plan, edit: EditId) -> Result<HookKernel, Diagnostic> {
    let declared = plan.edits.get(edit.0 as usize);
    let Some(declared) = declared else { return Err(bug("there is no such edit")) };
    let refused = |why: &str| {
        Diagnostic::error(codes::BACKEND, format!("the hook `{}` at {} {why}", declared.name, declared.site))
            .at(declared.span, "this hook cannot be built")
            .help("a hook that is built reads the rows that it edits, positions, parameters, and vectors of the script")
    };
    let overlay = plan.nodes.iter().position(|n| matches!(n.op, Op::Overlay { edit: e, .. } if e == edit));
    let Some(overlay) = overlay.map(|i| NodeId(i as u32)) else { return Err(refused("changes nothing that is read")) };
    let Op::Overlay { base, .. } = plan.node(overlay).op else { return Err(bug("an overlay is none")) };
    if !plan.regions.first().is_some_and(|main| main.order.contains(&overlay)) {
        return Err(refused("acts inside of an attention or a recurrence, where a row is as long as there are keys"));
    }
    let ty = plan.ty(base).clone();
    let Some(len) = ty.len() else { return Err(refused("acts on rows that are as long as there are keys")) };
    if plan.nodes.iter().any(|n| n.op == Op::Donor(edit)) {
        return Err(refused("takes values of another run"));
    }
    let mut alone = plan.clone();
    // What the caller hands in stands for the value before the hook.
    let given = EditId(alone.edits.len() as u32);
    alone.edits.push(Edit { name: "rows".into(), params: Vec::new(), ..declared.clone() });
    alone.nodes[base.0 as usize].op = Op::Donor(given);
    // What is told of the hook, nobody asks for here.
    for region in &mut alone.regions {
        region.order.retain(|n| !matches!(plan.node(*n).op, Op::Receipt { .. }));
    }
    alone.outputs = vec![Output { name: declared.site.clone(), node: overlay }];
    let (program, _) = schedule(&alone, &Options::default())?;
    let mut calls = program
        .stretches
        .iter()
        .enumerate()
        .flat_map(|(s, stretch)| stretch.instrs.iter().enumerate().map(move |(i, instr)| ((s, i), instr)));
    let (at, call) = match (calls.next(), calls.next()) {
        (Some((at, Instr::Kernel(call))), None) => (at, call.clone()),
        (None, _) => return Err(refused("changes nothing")),
        _ => {
            return Err(refused(
                "reads other values of the model than the rows that it edits, or multiplies with matrices",
            ));
        }
    };
    let kernel = program.kernels[call.kernel.0 as usize].clone();
    for arg in &call.args {
        match arg {
            KernelArg::Donor(e) if *e == given => {}
            KernelArg::Guard(e) | KernelArg::Params(e) if *e == edit => {}
            KernelArg::Buffer(_) | KernelArg::Const(_) | KernelArg::Table(_) | KernelArg::Numbers(_) => {}
            KernelArg::Position => {}
            KernelArg::Token => return Err(refused("reads the token")),
            _ => return Err(refused("reads more than the rows that it edits")),
        }
    }
    let find = |wanted: &dyn Fn(&KernelArg) -> bool| call.args.iter().position(wanted);
    let rows = find(&|a| *a == KernelArg::Donor(given)).ok_or_else(|| bug("a hook without rows"))?;
    let out = kernel.params.iter().position(|p| p.out && p.kind == ParamKind::Rows);
    let out = out.ok_or_else(|| bug("a hook without a result"))?;
    let kernel = in_place(kernel, rows, out, len).ok_or_else(|| bug("a hook of another form"))?;
    let args = call.args.iter().enumerate().map(|(i, a)| (i != out).then(|| a.clone())).collect();
    let size = |a: &crate::plan::Axis| match a.size {
        crate::plan::Size::Fixed(n) => n,
        crate::plan::Size::Keys => 0,
    };
    let axes = ty.axes.iter().map(|a| (a.name.to_string(), size(a))).collect();
    Ok(HookKernel { plan: alone, program, at, kernel, args, rows, len, axes })
}

fn bug(what: &str) -> Diagnostic {
    Diagnostic::error(codes::BACKEND, format!("cannot build a hook: {what}")).help("this is a bug in steer")
}

/// The kernel with its result in the place of what it reads, where its guard holds. `None` where it is not a copy that is
/// edited under guards.
fn in_place(mut kernel: Kernel, rows: usize, out: usize, len: usize) -> Option<Kernel> {
    let (from, to) = (Base::Param(rows as u32), Base::Param(out as u32));
    let temp = Base::Temp(kernel.temps.len() as u32);
    kernel.temps.push(Lin::fixed(len));
    let mut body = Vec::new();
    for stmt in std::mem::take(&mut kernel.body) {
        match stmt {
            Stmt::Vector(v) if v.dst.base == to => {
                let copies = v.op == VecOp::Copy && v.srcs.iter().all(|s| s.as_ref().is_some_and(|r| r.base == from));
                if !copies {
                    return None;
                }
            }
            Stmt::Vector(v) => body.push(Stmt::Vector(v)),
            Stmt::If { guards, body: mut inside } => {
                let mut edits = false;
                for stmt in &mut inside {
                    let Stmt::Vector(v) = stmt else { return None };
                    let srcs = v.srcs.iter_mut().filter_map(|s| match s {
                        Operand::Ref(r) => Some(r),
                        Operand::Number(_) => None,
                    });
                    for r in srcs.chain([&mut v.dst]) {
                        if r.base == to {
                            edits = true;
                            r.base = temp;
                        }
                    }
                }
                if edits {
                    let at = |base| Ref { base, offset: Lin::ZERO, strides: vec![Lin::ONE] };
                    let (dst, srcs) = (at(from), vec![Operand::Ref(at(temp))]);
                    inside.push(Stmt::Vector(Vector { op: VecOp::Copy, loops: vec![Lin::fixed(len)], dst, srcs }));
                }
                body.push(Stmt::If { guards, body: inside });
            }
        }
    }
    kernel.body = body;
    let param = kernel.params.get_mut(rows)?;
    (param.kind, param.out) = (ParamKind::Rows, true);
    kernel.params.get_mut(out)?.out = false;
    crate::kernel::verify(&kernel).ok()?;
    Some(kernel)
}
