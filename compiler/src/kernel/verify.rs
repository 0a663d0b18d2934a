//! What every kernel satisfies, so that a backend needs no checks of its own.

use super::{Base, Kernel, Lin, Ref, Stmt, VecOp, Vector};
use std::collections::HashMap;

/// Checks that every access lies within its parameter or temporary for any number of keys from 1 on,
/// that what is read was written, and that operations have the operands they are defined for.
pub fn verify(kernel: &Kernel) -> Result<(), String> {
    // The guards under which a temporary was written; none means on every row.
    let mut written: HashMap<u32, Vec<&[u32]>> = HashMap::new();
    for (i, p) in kernel.params.iter().enumerate() {
        if p.out && !p.kind.writable() {
            return Err(format!("p{i} is not writable"));
        }
        if p.kind.per_row() && p.len.keys != 0 {
            return Err(format!("p{i} has no fixed length a row"));
        }
    }
    for stmt in &kernel.body {
        match stmt {
            Stmt::Vector(v) => vector(kernel, v, &[], &mut written)?,
            Stmt::If { guards, body } => {
                if guards.is_empty() {
                    return Err("a branch without guards".into());
                }
                for &g in guards {
                    if kernel.params.get(g as usize).is_none_or(|p| p.kind != super::ParamKind::Guard) {
                        return Err(format!("p{g} is no guard"));
                    }
                }
                for inner in body {
                    match inner {
                        Stmt::Vector(v) => vector(kernel, v, guards, &mut written)?,
                        Stmt::If { .. } => return Err("branches do not nest".into()),
                    }
                }
            }
        }
    }
    Ok(())
}

fn vector<'k>(
    kernel: &'k Kernel,
    v: &'k Vector,
    guards: &'k [u32],
    written: &mut HashMap<u32, Vec<&'k [u32]>>,
) -> Result<(), String> {
    if v.srcs.len() != v.op.arity() {
        return Err(format!("`{v}` has {} operands", v.srcs.len()));
    }
    for r in v.srcs.iter().filter_map(|s| s.as_ref()).chain([&v.dst]) {
        within(kernel, v, r)?;
    }
    for r in v.srcs.iter().filter_map(|s| s.as_ref()) {
        if let Base::Temp(t) = r.base {
            let covered = written.get(&t).is_some_and(|sets| {
                sets.iter().any(|set| set.is_empty() || (!guards.is_empty() && guards.iter().all(|g| set.contains(g))))
            });
            if !covered {
                return Err(format!("`{v}` reads t{t} where it is not written"));
            }
        }
    }
    match v.dst.base {
        Base::Temp(t) => written.entry(t).or_default().push(guards),
        Base::Param(p) => {
            if !kernel.params[p as usize].out {
                return Err(format!("`{v}` writes p{p}, which is no output"));
            }
        }
    }
    shape(v)
}

/// The conditions of an operation on its last loop.
fn shape(v: &Vector) -> Result<(), String> {
    let inner = |r: &Ref| r.strides.last().copied().unwrap_or(Lin::ZERO);
    let src = |i: usize| v.srcs.get(i).and_then(|s| s.as_ref());
    let fine = match v.op {
        _ if v.op.is_map() => return Ok(()),
        _ if v.loops.is_empty() => false,
        VecOp::Iota => src(0).is_none_or(|r| inner(r) == Lin::ZERO),
        VecOp::Reduce(_) => inner(&v.dst) == Lin::ZERO && src(0).is_some(),
        VecOp::Dot => {
            let contiguous = |i| src(i).is_some_and(|r: &Ref| inner(r) == Lin::ONE);
            inner(&v.dst) == Lin::ZERO && contiguous(0) && contiguous(1)
        }
        VecOp::TopK => {
            inner(&v.dst) == Lin::ONE
                && src(0).is_some_and(|r| inner(r) == Lin::ONE && r.base != v.dst.base)
                && src(1).is_none_or(|r| inner(r) == Lin::ZERO)
        }
        _ => true,
    };
    if fine { Ok(()) } else { Err(format!("`{v}` does not fit its last loop")) }
}

/// Whether the farthest element lies within the base for every number of keys from 1 on.
fn within(kernel: &Kernel, v: &Vector, r: &Ref) -> Result<(), String> {
    let Some(len) = kernel.len_of(r.base) else { return Err(format!("`{v}`: there is no {}", r.base)) };
    if r.strides.len() != v.loops.len() {
        return Err(format!("`{v}`: {} has {} strides for {} loops", r.base, r.strides.len(), v.loops.len()));
    }
    let (mut fixed, mut keys) = (r.offset.fixed as i128, r.offset.keys as i128);
    for (&extent, &stride) in v.loops.iter().zip(&r.strides) {
        if extent == Lin::ZERO {
            return Ok(());
        }
        if extent.keys != 0 && stride.keys != 0 {
            return Err(format!("`{v}`: a stride of K in a loop over K"));
        }
        let (e, ek) = (extent.fixed as i128 - 1, extent.keys as i128);
        fixed += e * stride.fixed as i128;
        keys += e * stride.keys as i128 + ek * stride.fixed as i128;
    }
    let (room, growth) = (len.fixed as i128 - fixed, len.keys as i128 - keys);
    if growth < 0 || room + growth <= 0 {
        return Err(format!("`{v}` leaves {}, which has {len}", r.base));
    }
    Ok(())
}
