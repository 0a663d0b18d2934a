//! Which statements of a kernel are executed together in one pass over memory, and which temporaries
//! then need none.

use crate::kernel::depend::{Dependence, accesses, dependence, is_sequential, one_to_one, reduces};
use crate::kernel::{Base, Kernel, Lin, Operand, ParamKind, Ref, Stmt, VecOp, Vector};
use steer_kernels::Reduce;

/// Statements with the same loops. For every index they are executed in order.
pub(super) struct Group<'k> {
    pub loops: &'k [Lin],
    pub steps: Vec<&'k Vector>,
    /// One statement that nothing else joins, and that runs element by element.
    pub alone: bool,
}

/// Groups in order, under the same guards; without guards on every row.
pub(super) struct Region<'k> {
    pub guards: &'k [u32],
    pub groups: Vec<Group<'k>>,
}

/// Where a temporary is kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Home {
    /// In registers: one group writes and reads it, element by element.
    Pass,
    /// In a register: one number.
    Number,
    /// So many floats from the start of the scratch memory.
    Memory(Lin),
    /// In the row of an output that is written in full where the temporary ends.
    Output(u32),
}

/// A kernel's statements as they are executed.
pub(super) struct Grouped<'k> {
    pub regions: Vec<Region<'k>>,
    pub homes: Vec<Home>,
    /// The floats of scratch memory that a call needs.
    pub scratch: Lin,
}

/// The kernel without copies of one number along a row: what reads such a row reads the number.
pub(super) fn simplified(kernel: &Kernel) -> Kernel {
    let mut writes: Vec<usize> = vec![0; kernel.temps.len()];
    let mut as_row: Vec<bool> = vec![false; kernel.temps.len()];
    kernel.for_each(&mut |v, _| {
        let row = reduces(v) || v.op == VecOp::TopK;
        for (r, written) in accesses(v) {
            if let Base::Temp(t) = r.base {
                writes[t as usize] += usize::from(written);
                as_row[t as usize] |= row && !written;
            }
        }
    });
    let constant = |operand: &Operand| match operand {
        Operand::Number(_) => true,
        Operand::Ref(r) if r.strides.iter().any(|s| *s != Lin::ZERO) => false,
        Operand::Ref(r) => match r.base {
            Base::Temp(t) => kernel.temps[t as usize] == Lin::ONE && writes[t as usize] == 1,
            Base::Param(p) => !kernel.params[p as usize].out,
        },
    };
    let mut known: Vec<Option<Operand>> = vec![None; kernel.temps.len()];
    let mut visit = |v: &Vector| {
        let mut v = v.clone();
        for operand in &mut v.srcs {
            if let Operand::Ref(Ref { base: Base::Temp(t), strides, .. }) = operand
                && let Some(source) = &known[*t as usize]
            {
                let count = strides.len();
                *operand = match source {
                    Operand::Ref(r) => Operand::Ref(Ref { strides: vec![Lin::ZERO; count], ..r.clone() }),
                    number => number.clone(),
                };
            }
        }
        match (v.op, v.dst.base, v.srcs.first()) {
            (VecOp::Copy, Base::Temp(t), Some(source))
                if writes[t as usize] == 1 && !as_row[t as usize] && constant(source) =>
            {
                known[t as usize] = Some(source.clone());
                None
            }
            _ => Some(Stmt::Vector(v)),
        }
    };
    let mut body = Vec::new();
    for stmt in &kernel.body {
        match stmt {
            Stmt::Vector(v) => body.extend(visit(v)),
            Stmt::If { guards, body: inside } => {
                let inside: Vec<Stmt> = inside
                    .iter()
                    .filter_map(|s| match s {
                        Stmt::Vector(v) => visit(v),
                        Stmt::If { .. } => None,
                    })
                    .collect();
                body.push(Stmt::If { guards: guards.clone(), body: inside });
            }
        }
    }
    Kernel { params: kernel.params.clone(), temps: kernel.temps.clone(), body }
}

/// Groups the statements of a kernel, with at most `reductions` of them in one group.
pub(super) fn group(kernel: &Kernel, reductions: usize) -> Grouped<'_> {
    let mut regions: Vec<Region> = Vec::new();
    let mut open: Vec<&Vector> = Vec::new();
    for stmt in &kernel.body {
        match stmt {
            Stmt::Vector(v) => open.push(v),
            Stmt::If { guards, body } => {
                close(&mut regions, &mut open, &[], reductions);
                open.extend(body.iter().filter_map(|s| match s {
                    Stmt::Vector(v) => Some(v),
                    Stmt::If { .. } => None,
                }));
                close(&mut regions, &mut open, guards, reductions);
            }
        }
    }
    close(&mut regions, &mut open, &[], reductions);
    let mut homes = homes(kernel, &regions);
    let scratch = memory(kernel, &regions, &mut homes);
    Grouped { regions, homes, scratch }
}

fn close<'k>(regions: &mut Vec<Region<'k>>, open: &mut Vec<&'k Vector>, guards: &'k [u32], reductions: usize) {
    if !open.is_empty() {
        regions.push(Region { guards, groups: groups(open, reductions) });
        open.clear();
    }
}

/// Whether a statement is its own group.
fn is_alone(v: &Vector) -> bool {
    let special = matches!(v.op, VecOp::TopK | VecOp::Reduce(Reduce::ArgMax));
    special || is_sequential(v) || (!reduces(v) && !one_to_one(&v.loops, &v.dst))
}

/// Each statement joins the first group that has its loops and is not before anything it depends on.
fn groups<'k>(statements: &[&'k Vector], reductions: usize) -> Vec<Group<'k>> {
    let mut groups: Vec<Group> = Vec::new();
    for &v in statements {
        let mut first = 0;
        for (at, group) in groups.iter().enumerate() {
            for step in &group.steps {
                match dependence(step, v) {
                    Dependence::None => {}
                    Dependence::SameElement if !group.alone => first = first.max(at),
                    _ => first = first.max(at + 1),
                }
            }
        }
        let alone = is_alone(v);
        let fits = |g: &Group| {
            let count = g.steps.iter().filter(|s| reduces(s)).count();
            !alone && !g.alone && g.loops == v.loops && (!reduces(v) || count < reductions)
        };
        match groups.iter_mut().skip(first).find(|g| fits(g)) {
            Some(group) => group.steps.push(v),
            None => groups.push(Group { loops: &v.loops, steps: vec![v], alone }),
        }
    }
    groups
}

/// Whether a statement writes one number.
fn writes_one(v: &Vector) -> bool {
    match v.loops.split_last() {
        None => true,
        Some((_, outer)) => reduces(v) && outer.is_empty(),
    }
}

/// An access of a temporary: the region, the group in all, the step in it.
struct Access<'k> {
    region: usize,
    group: usize,
    step: usize,
    at: &'k Ref,
    by: &'k Vector,
    written: bool,
}

fn of_temps<'k>(kernel: &Kernel, regions: &[Region<'k>]) -> Vec<Vec<Access<'k>>> {
    let mut out: Vec<Vec<Access>> = kernel.temps.iter().map(|_| Vec::new()).collect();
    let mut number = 0;
    for (region, r) in regions.iter().enumerate() {
        for group in &r.groups {
            for (step, &by) in group.steps.iter().enumerate() {
                for (at, written) in accesses(by) {
                    if let Base::Temp(t) = at.base
                        && let Some(list) = out.get_mut(t as usize)
                    {
                        list.push(Access { region, group: number, step, at, by, written });
                    }
                }
            }
            number += 1;
        }
    }
    out
}

fn homes(kernel: &Kernel, regions: &[Region]) -> Vec<Home> {
    let all: Vec<&Group> = regions.iter().flat_map(|r| &r.groups).collect();
    let home = |(list, len): (&Vec<Access>, &Lin)| {
        let mut writes = list.iter().filter(|a| a.written);
        let (Some(write), None) = (writes.next(), writes.next()) else { return Home::Memory(Lin::ZERO) };
        let everywhere = regions[write.region].guards.is_empty();
        if *len == Lin::ONE
            && writes_one(write.by)
            && !all[write.group].alone
            && list.iter().all(|a| everywhere || a.region == write.region)
        {
            return Home::Number;
        }
        let same = |a: &Access| a.group == write.group && (a.written || (a.at == write.at && a.step > write.step));
        let passes = !all[write.group].alone && !reduces(write.by) && one_to_one(&write.by.loops, write.at);
        if passes && list.iter().all(same) { Home::Pass } else { Home::Memory(Lin::ZERO) }
    };
    of_temps(kernel, regions).iter().zip(&kernel.temps).map(home).collect()
}

/// Temporaries of a fixed length begin at cache lines.
const LINE: usize = 16;

fn rounded(len: Lin) -> Lin {
    if len.keys == 0 { Lin::fixed(len.fixed.max(1).next_multiple_of(LINE)) } else { len }
}

/// A piece of scratch memory, and the last group that needs what is in it.
struct Slot {
    size: Lin,
    first: usize,
    owner: usize,
    until: usize,
    home: Home,
}

/// Gives memory to those temporaries that need it. Those that are never needed at once share a piece; one that ends
/// where another begins, element by element, hands its own on.
fn memory(kernel: &Kernel, regions: &[Region], homes: &mut [Home]) -> Lin {
    let lists = of_temps(kernel, regions);
    let in_memory = |t: &usize| matches!(homes[*t], Home::Memory(_)) && !lists[*t].is_empty();
    let mut order: Vec<usize> = (0..lists.len()).filter(in_memory).collect();
    let first = |t: usize| lists[t].iter().map(|a| (a.group, a.step)).min().unwrap_or_default();
    let last = |t: usize| lists[t].iter().map(|a| a.group).max().unwrap_or_default();
    order.sort_by_key(|t| first(*t));
    let mut slots: Vec<Slot> = Vec::new();
    let mut place: Vec<Option<usize>> = vec![None; lists.len()];
    for (n, &t) in order.iter().enumerate() {
        let (begin, size) = (first(t).0, rounded(kernel.temps[t]));
        let follows = |s: &usize| {
            let slot = place[*s].map(|i| &slots[i]);
            slot.is_some_and(|slot| slot.owner == *s && slot.until == begin)
                && kernel.temps[*s] == kernel.temps[t]
                && hands_on(&lists, *s, t)
        };
        let handed = order[..n].iter().copied().find(follows).and_then(|s| place[s]);
        let free = slots.iter().position(|s| s.size == size && s.until < begin);
        if let (None, Some(again)) = (handed, free) {
            slots[again].first = usize::MAX;
        }
        let at = handed.or(free).unwrap_or_else(|| {
            slots.push(Slot { size, first: t, owner: t, until: 0, home: Home::Memory(Lin::ZERO) });
            slots.len() - 1
        });
        (slots[at].owner, slots[at].until) = (t, last(t));
        place[t] = Some(at);
    }
    let mut taken = Vec::new();
    for slot in &mut slots {
        if let Some(output) = output(kernel, regions, &lists, slot).filter(|o| !taken.contains(o)) {
            taken.push(output);
            slot.home = Home::Output(output);
        }
    }
    let inside = |s: &&mut Slot| matches!(s.home, Home::Memory(_));
    let fixed: usize = slots.iter_mut().filter(inside).filter(|s| s.size.keys == 0).map(|s| s.size.fixed).sum();
    let (mut low, mut high) = (Lin::ZERO, Lin::fixed(fixed));
    for slot in slots.iter_mut().filter(inside) {
        let next = if slot.size.keys == 0 { &mut low } else { &mut high };
        slot.home = Home::Memory(*next);
        *next = next.plus(slot.size);
    }
    for (home, at) in homes.iter_mut().zip(place) {
        if let (Home::Memory(_), Some(at)) = (&home, at) {
            *home = slots[at].home;
        }
    }
    high
}

/// An output whose row a piece of memory may be: where its last owner ends the row is written in full, element by element
/// after it was read, and nothing else has to do with the row from where its first owner begins.
fn output(kernel: &Kernel, regions: &[Region], lists: &[Vec<Access>], slot: &Slot) -> Option<u32> {
    let begin = lists.get(slot.first)?.iter().min_by_key(|a| a.group)?;
    let reads: Vec<&Access> = lists[slot.owner].iter().filter(|a| a.group == slot.until).collect();
    let end = reads.first()?;
    if begin.region != end.region || begin.group == end.group || reads.iter().any(|a| a.written) {
        return None;
    }
    let all: Vec<&Group> = regions.iter().flat_map(|r| &r.groups).collect();
    let steps = &all[end.group].steps;
    let (step, write) = steps.iter().enumerate().find(|(_, v)| {
        let whole = v.loops.iter().try_fold(Lin::ONE, |n, l| n.times(*l)) == Some(kernel.temps[slot.owner]);
        matches!(v.dst.base, Base::Param(_)) && !reduces(v) && whole && one_to_one(&v.loops, &v.dst)
    })?;
    let Base::Param(p) = write.dst.base else { return None };
    let param = kernel.params.get(p as usize)?;
    let same = |a: &&Access| a.at.offset == write.dst.offset && a.at.strides == write.dst.strides && a.step <= step;
    let free = (begin.group..=end.group).all(|g| {
        let touches = |(i, v): (usize, &&Vector)| {
            (g, i) != (end.group, step) && accesses(v).any(|(r, _)| r.base == write.dst.base)
        };
        !all[g].steps.iter().enumerate().any(touches)
    });
    let fits = param.kind == ParamKind::Rows && param.len == kernel.temps[slot.owner] && !all[end.group].alone;
    (fits && free && reads.iter().all(same)).then_some(p)
}

/// Whether `new` may take the memory of `old` within the group where `old` ends and `new` begins.
fn hands_on(lists: &[Vec<Access>], old: usize, new: usize) -> bool {
    let (Some(begin), Some(end)) = (lists[new].iter().map(|a| a.group).min(), lists[old].iter().map(|a| a.group).max())
    else {
        return false;
    };
    if begin != end || lists[old].iter().all(|a| a.group == end) {
        return false;
    }
    let (old, new) = (lists[old].iter().filter(|a| a.group == end), lists[new].iter().filter(|a| a.group == end));
    let (old, new): (Vec<_>, Vec<_>) = (old.collect(), new.collect());
    let same = |a: &&Access| {
        a.at.offset == new[0].at.offset
            && a.at.strides == new[0].at.strides
            && one_to_one(&a.by.loops, a.at)
            && !(a.written && reduces(a.by))
    };
    let read = old.iter().map(|a| a.step).max();
    let written = new.iter().map(|a| a.step).min();
    old.iter().all(same) && new.iter().all(same) && read <= written && old.iter().all(|a| !a.written)
}
