//! Which buffers are alive where.

use super::cache::{Homes, kept};
use std::collections::HashMap;
use steer_compiler::program::{BufId, Instr, KernelArg, LookupIndex, OutputPlace, Program};

/// Which buffers of rows are alive at the start of each stretch.
pub struct Lives {
    at: Vec<Vec<BufId>>,
}

impl Lives {
    pub fn of(program: &Program, homes: &Homes) -> Self {
        let n = program.stretches.len();
        let mut last: HashMap<BufId, usize> = HashMap::new();
        let mut made: HashMap<BufId, usize> = HashMap::new();
        let mut used = |b: BufId, s: usize| {
            let l = last.entry(b).or_insert(s);
            *l = (*l).max(s);
        };
        for (s, stretch) in program.stretches.iter().enumerate() {
            for p in &stretch.patches {
                used(p.base, s);
            }
            for (i, instr) in stretch.instrs.iter().enumerate() {
                for b in buffers_of(instr) {
                    made.entry(b).or_insert(s);
                    used(b, s);
                }
                if let Some(keeps) = kept((s, i), instr) {
                    for b in [keeps.keys].into_iter().chain(keeps.values) {
                        used(b, homes.of(keeps.place));
                    }
                }
            }
        }
        for out in &program.outputs {
            if let OutputPlace::Buffer { buffer, stretch } = out {
                used(*buffer, *stretch);
            }
        }
        let mut at = vec![Vec::new(); n];
        for (s, live) in at.iter_mut().enumerate() {
            for (b, &l) in &last {
                let rows = program.buffers[b.0 as usize].per_row;
                if rows && l >= s && made.get(b).is_some_and(|&m| m < s) {
                    live.push(*b);
                }
            }
            live.sort_unstable();
        }
        Lives { at }
    }

    /// The buffers that are alive at the start of a stretch.
    pub fn at(&self, s: usize) -> &[BufId] {
        &self.at[s]
    }

    /// Whether this buffer alone is alive at the start of a stretch.
    pub fn only(&self, s: usize, buffer: BufId) -> bool {
        self.at[s] == [buffer]
    }
}

/// The buffers that an instruction itself reads and writes; what it keeps in a cache is read there.
fn buffers_of(instr: &Instr) -> Vec<BufId> {
    let of_args = |args: &[KernelArg]| {
        args.iter().filter_map(|a| if let KernelArg::Buffer(b) = a { Some(*b) } else { None }).collect::<Vec<_>>()
    };
    match instr {
        Instr::Kernel(call) => of_args(&call.args),
        Instr::Linear { x, y, active, .. } => [*x, *y].into_iter().chain(*active).collect(),
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
        Instr::Scan { body, y, .. } => {
            let mut out = of_args(&body.call.args);
            out.push(*y);
            out
        }
    }
}
