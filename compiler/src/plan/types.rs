//! The typing rules of the Plan, once: the builder infers with them and the verifier checks with them.

use super::error::TypeError;
use super::ir::*;
use std::sync::Arc;

/// The type of `op`. `declared` is consulted only where the op leaves a choice: the axes of a table, an
/// `iota`, a view or an argument, and the element type of a number.
pub fn infer(plan: &Plan, op: &Op, declared: &Type) -> Result<Type, TypeError> {
    let ty =
        |id: NodeId| plan.nodes.get(id.0 as usize).map(|n| &n.ty).ok_or(TypeError::Unknown { what: "node", id: id.0 });
    let result = match op {
        Op::Token | Op::Position => Type::scalar(Elem::Index, true),
        Op::Layer => Type::scalar(Elem::Index, false),
        Op::Number(n) => number(*n, declared.elem)?,
        Op::Table(values) => table(values, declared)?,
        Op::Iota => iota(declared)?,
        Op::Weight(id) => {
            let weight = plan.weights.get(id.0 as usize).ok_or(TypeError::Unknown { what: "weight", id: id.0 })?;
            constant(weight.axes())
        }
        Op::Tensor(id) => {
            let tensor = plan.tensors.get(id.0 as usize).ok_or(TypeError::Unknown { what: "tensor", id: id.0 })?;
            constant(tensor.axes.clone())
        }
        Op::Param { edit, slot } => {
            let e = plan.edits.get(edit.0 as usize).ok_or(TypeError::Unknown { what: "edit", id: edit.0 })?;
            if *slot as usize >= e.params.len() {
                return Err(TypeError::NoSlot { edit: e.name.clone(), slot: *slot });
            }
            Type::scalar(Elem::F32, true)
        }
        Op::Donor(edit) => {
            plan.edits.get(edit.0 as usize).ok_or(TypeError::Unknown { what: "edit", id: edit.0 })?;
            Type { per_row: true, ..declared.clone() }
        }
        Op::Arg(_) => declared.clone(),
        Op::Unary(op, a) => {
            let elem = if matches!(op, Unary::Not | Unary::IsFinite) { Elem::Bool } else { Elem::F32 };
            Type { elem, ..ty(*a)?.clone() }
        }
        Op::Binary(op, a, b) => {
            let elem = if is_bool(*op) { Elem::Bool } else { Elem::F32 };
            broadcast(ty(*a)?, ty(*b)?, elem)?
        }
        Op::Select(c, a, b) => {
            let (a, b) = (ty(*a)?, ty(*b)?);
            let elem = if a.elem == b.elem { a.elem } else { Elem::F32 };
            broadcast(&broadcast(a, b, elem)?, ty(*c)?, elem)?
        }
        Op::Reduce(op, a, over) => reduce(*op, ty(*a)?, over)?,
        Op::TopK { of, axis, k } => {
            let (of, k) = (ty(*of)?, ty(*k)?);
            find(of, axis)?;
            scalar(k, "the count of a top-k")?;
            Type { elem: Elem::Bool, per_row: of.per_row || k.per_row, axes: of.axes.clone() }
        }
        Op::Slice { of, axis, start, len } => {
            let of = ty(*of)?;
            let (at, size) = fixed(of, axis, "a slice")?;
            if *len == 0 {
                return Err(TypeError::Empty { axis: axis.clone() });
            }
            let end = start.checked_add(*len).unwrap_or(usize::MAX);
            if end > size {
                return Err(TypeError::OutOfRange { axis: axis.clone(), index: end - 1, size });
            }
            resized(of, at, *len)
        }
        Op::At { of, axis, index } => {
            let of = ty(*of)?;
            let (at, size) = fixed(of, axis, "an index")?;
            if *index >= size {
                return Err(TypeError::OutOfRange { axis: axis.clone(), index: *index, size });
            }
            let mut result = of.clone();
            result.axes.remove(at);
            result
        }
        Op::Pick { of, axis, entries } => {
            let of = ty(*of)?;
            no_rows(of, "a choice of entries")?;
            let (at, size) = fixed(of, axis, "a choice of entries")?;
            if entries.is_empty() {
                return Err(TypeError::Empty { axis: axis.clone() });
            }
            if let Some(&bad) = entries.iter().find(|&&e| e as usize >= size) {
                return Err(TypeError::OutOfRange { axis: axis.clone(), index: bad as usize, size });
            }
            resized(of, at, entries.len())
        }
        Op::Reshape(a) => {
            let a = ty(*a)?;
            let to = Type { axes: declared.axes.clone(), ..a.clone() };
            if around_keys(a) != around_keys(&to) {
                return Err(TypeError::Elements { from: a.clone(), to });
            }
            to
        }
        Op::Permute(a) => {
            let a = ty(*a)?;
            let to = Type { axes: declared.axes.clone(), ..a.clone() };
            if a.axes.len() != to.axes.len() || !a.axes.iter().all(|x| to.axes.contains(x)) {
                return Err(TypeError::OtherAxes { left: a.clone(), right: to });
            }
            to
        }
        Op::Concat(a, b, axis) => concat(ty(*a)?, ty(*b)?, axis)?,
        Op::Linear { x, w, over, active } => {
            let active = active.map(ty).transpose()?;
            linear(ty(*x)?, ty(*w)?, over, active)?
        }
        Op::Lookup { table, index } => {
            let (table, index) = (ty(*table)?, ty(*index)?);
            no_rows(table, "the table of a lookup")?;
            scalar(index, "the index of a lookup")?;
            if index.elem == Elem::Bool {
                return Err(TypeError::Kind { want: Elem::Index, have: Elem::Bool });
            }
            if table.axes.is_empty() {
                return Err(TypeError::Axes {
                    what: "the table of a lookup",
                    want: "at least one axis",
                    have: table.clone(),
                });
            }
            Type { axes: table.axes[1..].to_vec(), elem: table.elem, per_row: index.per_row }
        }
        Op::Attention { q, k, v, window, .. } => {
            if *window == Some(0) {
                return Err(TypeError::Empty { axis: KEY.into() });
            }
            attention(ty(*q)?, ty(*k)?, ty(*v)?)?;
            Type { per_row: true, elem: Elem::F32, axes: ty(*q)?.axes.clone() }
        }
        Op::Conv1d { x, w } => conv1d(ty(*x)?, ty(*w)?)?,
        Op::Scan { body } => {
            let region = plan.regions.get(body.0 as usize).ok_or(TypeError::Unknown { what: "region", id: body.0 })?;
            let (&[state], &[new, result]) = (&region.args[..], &region.results[..]) else {
                return Err(TypeError::Unknown { what: "result of region", id: body.0 });
            };
            let (state, new, result) = (ty(state)?, ty(new)?, ty(result)?);
            if state.axes != new.axes {
                return Err(TypeError::OtherAxes { left: state.clone(), right: new.clone() });
            }
            no_keys(result, "a scan")?;
            Type { per_row: true, ..result.clone() }
        }
        Op::Overlay { base, value, .. } => {
            let (base, value) = (ty(*base)?, ty(*value)?);
            if base.axes != value.axes {
                return Err(TypeError::OtherAxes { left: base.clone(), right: value.clone() });
            }
            if base.elem != value.elem && base.elem != Elem::F32 {
                return Err(TypeError::Kind { want: base.elem, have: value.elem });
            }
            Type { per_row: true, ..base.clone() }
        }
        Op::Receipt { value, .. } => {
            scalar(ty(*value)?, "a receipt")?;
            Type::scalar(Elem::F32, true)
        }
    };
    well_formed(&result)?;
    Ok(result)
}

/// Whether the operation gives a truth value.
pub fn is_bool(op: Binary) -> bool {
    use Binary::*;
    matches!(op, Lt | Le | Gt | Ge | Eq | Ne | And | Or)
}

/// The type of an elementwise result: the axes of the operand that has more of them (of equals, the
/// first), then those that only the other one has.
pub fn broadcast(a: &Type, b: &Type, elem: Elem) -> Result<Type, TypeError> {
    let (most, other) = if b.axes.len() > a.axes.len() { (b, a) } else { (a, b) };
    let mut axes = most.axes.clone();
    for axis in &other.axes {
        match most.axes.iter().find(|m| m.name == axis.name) {
            None => axes.push(axis.clone()),
            Some(m) if m.size == axis.size => {}
            Some(_) => {
                let size = |t: &Type| t.axes.iter().find(|x| x.name == axis.name).map_or(Size::Keys, |x| x.size);
                return Err(TypeError::SizeMismatch { axis: axis.name.clone(), left: size(a), right: size(b) });
            }
        }
    }
    Ok(Type { axes, elem, per_row: a.per_row || b.per_row })
}

/// The type of an attention's scores, the argument of its body.
pub fn scores(q: &Type) -> Type {
    let axes = q.axes.first().cloned().into_iter().chain([Axis::key()]).collect();
    Type { axes, elem: Elem::F32, per_row: true }
}

fn constant(axes: Vec<Axis>) -> Type {
    Type { axes, elem: Elem::F32, per_row: false }
}

fn number(n: f32, elem: Elem) -> Result<Type, TypeError> {
    let fits = match elem {
        Elem::F32 => true,
        Elem::Bool => n == 0.0 || n == 1.0,
        Elem::Index => (0.0..16_777_216.0).contains(&n) && n.fract() == 0.0,
    };
    if fits { Ok(Type::scalar(elem, false)) } else { Err(TypeError::BadNumber { number: n, elem }) }
}

fn table(values: &[f32], declared: &Type) -> Result<Type, TypeError> {
    no_keys(declared, "a table")?;
    if declared.len() != Some(values.len()) {
        return Err(TypeError::Count { numbers: values.len(), ty: declared.clone() });
    }
    for &v in values {
        number(v, declared.elem)?;
    }
    Ok(Type { per_row: false, ..declared.clone() })
}

fn iota(declared: &Type) -> Result<Type, TypeError> {
    if declared.axes.len() != 1 {
        return Err(TypeError::Axes { what: "an iota", want: "one axis", have: declared.clone() });
    }
    Ok(Type { elem: Elem::Index, per_row: declared.has_keys(), axes: declared.axes.clone() })
}

fn reduce(op: Reduce, a: &Type, over: &[Arc<str>]) -> Result<Type, TypeError> {
    if over.is_empty() || (op == Reduce::ArgMax && over.len() != 1) {
        let want = if op == Reduce::ArgMax { "one axis" } else { "at least one axis" };
        return Err(TypeError::Axes { what: "a reduction", want, have: a.clone() });
    }
    let mut result = a.clone();
    for name in over {
        find(a, name)?;
        let at = result.position_of(name).ok_or_else(|| TypeError::Duplicate { axis: name.clone() })?;
        result.axes.remove(at);
    }
    result.elem = match op {
        Reduce::Sum | Reduce::SumSq => Elem::F32,
        Reduce::Max | Reduce::Min => a.elem,
        Reduce::ArgMax => Elem::Index,
    };
    Ok(result)
}

fn concat(a: &Type, b: &Type, axis: &Arc<str>) -> Result<Type, TypeError> {
    let (at, left) = fixed(a, axis, "a concatenation")?;
    let (_, right) = fixed(b, axis, "a concatenation")?;
    let result = resized(a, at, left + right);
    if resized(b, b.position_of(axis).unwrap_or(0), left + right).axes != result.axes {
        for x in &a.axes {
            let y = b
                .axes
                .iter()
                .find(|y| y.name == x.name)
                .ok_or_else(|| TypeError::NoAxis { axis: x.name.clone(), have: b.clone() })?;
            if x.name != *axis && x.size != y.size {
                return Err(TypeError::SizeMismatch { axis: x.name.clone(), left: x.size, right: y.size });
            }
        }
        return Err(TypeError::OtherAxes { left: a.clone(), right: b.clone() });
    }
    let elem = if a.elem == b.elem { a.elem } else { Elem::F32 };
    Ok(Type { elem, per_row: a.per_row || b.per_row, ..result })
}

fn linear(x: &Type, w: &Type, over: &[Arc<str>], active: Option<&Type>) -> Result<Type, TypeError> {
    no_rows(w, "the weight of a product")?;
    no_keys(x, "a product with weights")?;
    if over.is_empty() {
        return Err(TypeError::Axes { what: "a product", want: "at least one axis to sum over", have: x.clone() });
    }
    for (i, name) in over.iter().enumerate() {
        if x.position_of(name).is_none() || w.position_of(name).is_none() {
            return Err(TypeError::NotShared { axis: name.clone(), left: x.clone(), right: w.clone() });
        }
        if over[..i].contains(name) {
            return Err(TypeError::Duplicate { axis: name.clone() });
        }
    }
    for a in &x.axes {
        if let Some(b) = w.axes.iter().find(|b| b.name == a.name && b.size != a.size) {
            return Err(TypeError::SizeMismatch { axis: a.name.clone(), left: a.size, right: b.size });
        }
    }
    let kept = x.axes.iter().filter(|a| !over.contains(&a.name));
    let new = w.axes.iter().filter(|a| x.position_of(&a.name).is_none());
    let result = Type { axes: kept.chain(new).cloned().collect(), elem: Elem::F32, per_row: x.per_row };
    let Some(active) = active else { return Ok(result) };
    let [axis] = &active.axes[..] else {
        return Err(TypeError::Axes {
            what: "the active entries of a product",
            want: "one axis",
            have: active.clone(),
        });
    };
    if w.position_of(&axis.name).is_none() || over.contains(&axis.name) {
        return Err(TypeError::NoAxis { axis: axis.name.clone(), have: w.clone() });
    }
    match result.axes.iter().find(|a| a.name == axis.name) {
        Some(a) if a.size != axis.size => {
            Err(TypeError::SizeMismatch { axis: axis.name.clone(), left: a.size, right: axis.size })
        }
        _ => Ok(Type { per_row: result.per_row || active.per_row, ..result }),
    }
}

fn attention(q: &Type, k: &Type, v: &Type) -> Result<(), TypeError> {
    for (what, t) in
        [("the query of an attention", q), ("the key of an attention", k), ("the value of an attention", v)]
    {
        no_keys(t, "an attention")?;
        if t.axes.len() != 2 {
            return Err(TypeError::Axes { what, want: "two axes, the heads and their entries", have: t.clone() });
        }
    }
    if k.axes != v.axes {
        return Err(TypeError::OtherAxes { left: k.clone(), right: v.clone() });
    }
    let (d, e) = (&q.axes[1], &k.axes[1]);
    if d.name != e.name {
        return Err(TypeError::NoAxis { axis: d.name.clone(), have: k.clone() });
    }
    if d.size != e.size {
        return Err(TypeError::SizeMismatch { axis: d.name.clone(), left: d.size, right: e.size });
    }
    match (q.axes[0].size, k.axes[0].size) {
        (Size::Fixed(heads), Size::Fixed(kv_heads)) if kv_heads > 0 && heads % kv_heads == 0 => Ok(()),
        (left, right) => Err(TypeError::SizeMismatch { axis: q.axes[0].name.clone(), left, right }),
    }
}

fn conv1d(x: &Type, w: &Type) -> Result<Type, TypeError> {
    no_rows(w, "the filters of a convolution")?;
    no_keys(x, "a convolution")?;
    let ([channel], [c, _]) = (&x.axes[..], &w.axes[..]) else {
        let (want, have) = if x.axes.len() == 1 { ("its filters over two axes", w) } else { ("one axis", x) };
        return Err(TypeError::Axes { what: "a convolution", want, have: have.clone() });
    };
    if channel.name != c.name {
        return Err(TypeError::NoAxis { axis: channel.name.clone(), have: w.clone() });
    }
    if channel.size != c.size {
        return Err(TypeError::SizeMismatch { axis: c.name.clone(), left: channel.size, right: c.size });
    }
    Ok(Type { per_row: true, elem: Elem::F32, axes: x.axes.clone() })
}

fn find(t: &Type, axis: &Arc<str>) -> Result<usize, TypeError> {
    t.position_of(axis).ok_or_else(|| TypeError::NoAxis { axis: axis.clone(), have: t.clone() })
}

/// Where an axis stands and how many entries it has.
fn fixed(t: &Type, axis: &Arc<str>, op: &'static str) -> Result<(usize, usize), TypeError> {
    let at = find(t, axis)?;
    match t.axes[at].size {
        Size::Fixed(n) => Ok((at, n)),
        Size::Keys => Err(TypeError::KeyAxis { op }),
    }
}

fn resized(t: &Type, at: usize, size: usize) -> Type {
    let mut result = t.clone();
    result.axes[at].size = Size::Fixed(size);
    result
}

fn no_keys(t: &Type, op: &'static str) -> Result<(), TypeError> {
    if t.has_keys() { Err(TypeError::KeyAxis { op }) } else { Ok(()) }
}

fn no_rows(t: &Type, what: &'static str) -> Result<(), TypeError> {
    if t.per_row { Err(TypeError::RowInConst { what }) } else { Ok(()) }
}

fn scalar(t: &Type, what: &'static str) -> Result<(), TypeError> {
    if t.axes.is_empty() { Ok(()) } else { Err(TypeError::Axes { what, want: "no axes", have: t.clone() }) }
}

/// The elements before and after the axis `key`; all of them where there is none.
fn around_keys(t: &Type) -> (Option<usize>, Option<usize>) {
    let product = |axes: &[Axis]| Type { axes: axes.to_vec(), elem: t.elem, per_row: true }.len();
    match t.axes.iter().position(|a| a.size == Size::Keys) {
        Some(at) => (product(&t.axes[..at]), product(&t.axes[at + 1..])),
        None => (product(&t.axes), None),
    }
}

/// No name twice, none without entries, and `key` exactly for the rows that attention reads.
fn well_formed(t: &Type) -> Result<(), TypeError> {
    for (i, a) in t.axes.iter().enumerate() {
        if t.axes[..i].iter().any(|b| b.name == a.name) {
            return Err(TypeError::Duplicate { axis: a.name.clone() });
        }
        if a.size == Size::Fixed(0) {
            return Err(TypeError::Empty { axis: a.name.clone() });
        }
        if (&*a.name == KEY) != (a.size == Size::Keys) {
            return Err(TypeError::KeyAxis { op: "an axis of another kind" });
        }
    }
    if t.has_keys() && !t.per_row {
        return Err(TypeError::KeyAxis { op: "a value without rows" });
    }
    Ok(())
}
