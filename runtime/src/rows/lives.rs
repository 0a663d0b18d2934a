//! How long buffers live: from the instruction that fills one to the last that reads it.

use super::cache::{Homes, kept};
use super::segments::segments;
use std::collections::HashMap;
use std::ops::Range;
use steer_compiler::program::{BufId, Instr, KernelArg, LookupIndex, OutputPlace, Program};

/// Which buffers of rows are alive when.
pub struct Lives {
    /// By stretch: those that are alive at its start.
    at: Vec<Vec<BufId>>,
    /// By stretch and instruction, and behind the last one for its end: those that nothing reads any more.
    ends: Vec<Vec<Vec<BufId>>>,
    /// By stretch: its segments.
    segments: Vec<Vec<Range<usize>>>,
    /// By stretch and first instruction of a segment: those that nothing outside of it reads.
    locals: HashMap<(usize, usize), Vec<BufId>>,
}

impl Lives {
    pub fn of(program: &Program, homes: &Homes) -> Self {
        let n = program.stretches.len();
        let segments: Vec<Vec<Range<usize>>> = program.stretches.iter().map(segments).collect();
        // The end of a stretch, as a place behind its instructions.
        let end = |s: usize| program.stretches[s].instrs.len();
        let start = |s: usize, i: usize| segments[s].iter().find(|g| g.contains(&i)).map_or(i, |g| g.start);
        let mut last: HashMap<BufId, (usize, usize)> = HashMap::new();
        // By stretch and segment.
        let mut made: HashMap<BufId, (usize, usize)> = HashMap::new();
        let mut seen = |b: BufId, at: (usize, usize)| {
            let l = last.entry(b).or_insert(at);
            *l = (*l).max(at);
        };
        for (s, stretch) in program.stretches.iter().enumerate() {
            for p in &stretch.patches {
                seen(p.base, (s, 0));
            }
            for (i, instr) in stretch.instrs.iter().enumerate() {
                for b in buffers_of(instr) {
                    made.entry(b).or_insert((s, start(s, i)));
                    seen(b, (s, i));
                }
                // What is kept is read where it is stored: by the instruction, or at the end of an earlier stretch.
                if let Some(keeps) = kept((s, i), instr) {
                    let home = homes.of(keeps.place);
                    let at = if home == s { (s, i) } else { (home, end(home)) };
                    for b in [keeps.keys].into_iter().chain(keeps.values) {
                        seen(b, at);
                    }
                }
            }
        }
        for out in &program.outputs {
            if let OutputPlace::Buffer { buffer, stretch } = out {
                seen(*buffer, (*stretch, end(*stretch)));
            }
        }
        last.retain(|b, _| program.buffers[b.0 as usize].per_row);
        let ends = (0..n).map(|s| vec![Vec::new(); end(s) + 1]).collect();
        let mut lives = Lives { at: vec![Vec::new(); n], ends, segments: Vec::new(), locals: HashMap::new() };
        for (b, last) in last {
            let first = made.get(&b).map_or(n, |m| m.0 + 1);
            if let Some(of) = made.get(&b)
                && of.0 == last.0
                && last.1 != end(last.0)
                && of.1 == start(last.0, last.1)
            {
                lives.locals.entry(*of).or_default().push(b);
            }
            for live in lives.at.iter_mut().take(last.0 + 1).skip(first) {
                live.push(b);
            }
            lives.ends[last.0][last.1].push(b);
        }
        lives.at.iter_mut().for_each(|live| live.sort_unstable());
        lives.segments = segments;
        lives
    }

    /// The instructions of a stretch in order, those together that work row by row.
    pub fn segments(&self, s: usize) -> &[Range<usize>] {
        &self.segments[s]
    }

    /// The buffers that are alive at the start of a stretch.
    pub fn at(&self, s: usize) -> &[BufId] {
        &self.at[s]
    }

    /// Whether this buffer alone is alive at the start of a stretch.
    pub fn only(&self, s: usize, buffer: BufId) -> bool {
        self.at[s] == [buffer]
    }

    /// The buffers that only a segment knows, by its first instruction.
    pub fn locals(&self, s: usize, start: usize) -> &[BufId] {
        self.locals.get(&(s, start)).map_or(&[], Vec::as_slice)
    }

    /// What nothing reads any more after an instruction.
    pub fn end(&self, s: usize, instr: usize) -> &[BufId] {
        &self.ends[s][instr]
    }

    /// What nothing reads any more after a stretch and its outputs.
    pub fn end_of(&self, s: usize) -> &[BufId] {
        self.ends[s].last().map_or(&[], Vec::as_slice)
    }
}

/// The buffers that an instruction itself reads and writes; what it keeps in a cache is read there.
pub fn buffers_of(instr: &Instr) -> Vec<BufId> {
    let of_args = |args: &[KernelArg]| {
        args.iter().filter_map(|a| if let KernelArg::Buffer(b) = a { Some(*b) } else { None }).collect::<Vec<_>>()
    };
    match instr {
        Instr::Kernel(call) => of_args(&call.args),
        Instr::Linear { x, y, active, .. } => [*x, *y].into_iter().chain(*active).collect(),
        Instr::Experts(e) => {
            [e.x, e.gates, e.y].into_iter().chain(e.kernels().flat_map(|k| of_args(&k.call.args))).collect()
        }
        Instr::Lookup { index, y, .. } => match index {
            LookupIndex::Buffer(b) => vec![*b, *y],
            _ => vec![*y],
        },
        Instr::Attention { q, z, body, .. } => {
            let mut out = vec![*q, *z];
            out.extend(body.iter().flat_map(|b| of_args(&b.call.args)));
            out
        }
        Instr::Conv1d { y, .. } => vec![*y],
        Instr::Scan { body, recurrence, y, .. } => {
            let mut out: Vec<BufId> = body.iter().flat_map(|b| of_args(&b.call.args)).collect();
            for operand in recurrence.iter().flat_map(|r| r.operands()) {
                out.extend(of_args(std::slice::from_ref(&operand.arg)));
            }
            out.push(*y);
            out
        }
    }
}
