//! What executing a program takes: bytes of constants, and bytes of each distinct row.
//!
//! Nothing here reads a weight or allocates a row; the sizes hold for any number of runs.

use super::cache::{Homes, SPARE, kept};
use super::chosen::{Chosen, chosen};
use super::constants::{self, wanted};
use super::count::sees_all;
use super::edits::acting;
use super::exec_experts::pairs_of_row;
use super::lives::{Lives, buffers_of};
use crate::engine::WeightSource;
use std::collections::{BTreeMap, HashSet};
use steer_compiler::plan::{Axis, Output, Plan, Sight, Size, Stat, Weight};
use steer_compiler::program::{BufId, ConstSource, Dim, Instr, MatrixView, OutputPlace, Program};
use steer_kernels::Format;
use steer_kernels::attention::CacheFormat;

/// What the engine notes of a row besides its values: numbers, places, slots.
const NOTES: u64 = 200;

/// More rows pass through segments, on any common machine.
const FEW: u64 = 4096;

/// And of a row in each stretch.
const NOTES_OF_STRETCH: u64 = 8;

/// The memory that the constants of a program take, in bytes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Held {
    /// Matrices as they are packed, contiguous copies of other constants, and computed ones; by the format of their numbers.
    pub formats: BTreeMap<Format, u64>,
    /// Those of experts, of which those take memory that a row has chosen.
    pub chosen: Vec<Chosen>,
    /// The largest weight that is read as a whole, before it is packed.
    pub reading: u64,
}

impl Held {
    /// Equal views are there once.
    pub fn of(plan: &Plan, program: &Program, weights: &dyn WeightSource) -> Self {
        let mut held = Held { chosen: chosen(plan, program, weights), ..Held::default() };
        let alone: HashSet<String> = held.chosen.iter().map(|c| c.key.clone()).collect();
        let mut seen: HashSet<String> = HashSet::new();
        for wanted in constants::instrs(program).flat_map(wanted) {
            if !seen.insert(wanted.key()) {
                continue;
            }
            let stored = wanted.format(plan, weights);
            let format = stored.unwrap_or_default();
            *held.formats.entry(format).or_default() += wanted.bytes(format);
            if let (ConstSource::Weight(id), None) = (wanted.source(), stored)
                && !alone.contains(&wanted.key())
            {
                held.reading = held.reading.max(reading(&plan.weights[id.0 as usize]));
            }
        }
        let computed = program.buffers.iter().filter(|b| !b.per_row).map(|b| b.len as u64 * 4).sum::<u64>();
        if computed > 0 {
            *held.formats.entry(Format::F32).or_default() += computed;
        }
        held
    }

    /// All of them.
    pub fn bytes(&self) -> u64 {
        self.formats.values().fold(0, |sum, bytes| sum.saturating_add(*bytes))
    }

    /// Those that so many rows take at most.
    pub fn weights(&self, rows: u64) -> u64 {
        let all: u64 = self.chosen.iter().map(|c| c.of_rows(u64::MAX)).sum();
        self.chosen.iter().map(|c| c.of_rows(rows)).fold(self.bytes().saturating_sub(all), u64::saturating_add)
    }

    /// What is read for the largest matrix that rows choose.
    pub fn reading_chosen(&self) -> u64 {
        self.chosen.iter().map(|c| c.reading).max().unwrap_or(0)
    }
}

/// The memory that the rows of a program take, in bytes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sizes {
    pub stretches: Vec<RowSizes>,
}

/// The memory that rows take in one stretch of a program, in bytes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RowSizes {
    /// The most that is alive at once for each distinct row of a pass.
    pub buffers: u64,
    /// The same of many rows, which pass through segments: without what only a segment knows, but with all else
    /// until its end.
    pub many: u64,
    /// What is alive at the start, which is copied where the set of rows changes there.
    pub entering: u64,
    /// What each distinct row leaves behind for later rows: keys and values.
    pub cached: u64,
    /// And inputs of convolutions, which are forgotten after its pass.
    pub inputs: u64,
    /// Those that a run keeps.
    pub behind: u64,
    /// The states of scans; every run keeps one.
    pub states: u64,
}

impl Sizes {
    /// With keys and values stored in a format.
    pub fn of(plan: &Plan, program: &Program, format: CacheFormat) -> Self {
        let homes = Homes::new(program);
        let lives = Lives::of(program, &homes);
        let acting = acting(program);
        let mut stretches = vec![RowSizes::default(); program.stretches.len()];
        let floats = |b: BufId| program.buffers[b.0 as usize].len as u64 * 4;
        // Values that patches took stay for the kernels that come later.
        let mut donated = 0;
        for (s, stretch) in program.stretches.iter().enumerate() {
            donated += stretch.patches.iter().filter(|p| !p.whole).map(|p| floats(p.base)).sum::<u64>();
            let edits = &acting[s];
            let of_edits = edits
                .iter()
                .map(|e| 4 + 4 * Stat::COUNT as u64 + 4 * plan.edits[e.0 as usize].params.len() as u64)
                .sum::<u64>();
            let beside = donated + of_edits + NOTES + NOTES_OF_STRETCH * program.stretches.len() as u64;
            let mut alive: HashSet<BufId> = lives.at(s).iter().copied().collect();
            let now = |alive: &HashSet<BufId>| alive.iter().map(|b| floats(*b)).sum::<u64>();
            stretches[s].entering = now(&alive);
            let mut most = now(&alive);
            let segments = lives.segments(s);
            let locals: HashSet<BufId> = segments.iter().flat_map(|g| lives.locals(s, g.start)).copied().collect();
            let (mut slowly, mut many) = (alive.clone(), most);
            for (i, instr) in stretch.instrs.iter().enumerate() {
                let rows = buffers_of(instr).into_iter().filter(|b| program.buffers[b.0 as usize].per_row);
                alive.extend(rows.clone());
                slowly.extend(rows.filter(|b| !locals.contains(b)));
                many = many.max(now(&slowly) + passing(program, instr));
                if let Some(segment) = segments.iter().find(|g| g.end == i + 1) {
                    slowly.retain(|b| !segment.clone().any(|i| lives.end(s, i).contains(b)));
                }
                most = most.max(now(&alive) + passing(program, instr));
                for b in lives.end(s, i) {
                    alive.remove(b);
                }
                if let Some(keeps) = kept((s, i), instr) {
                    let home = &mut stretches[homes.of(keeps.place)];
                    match instr {
                        Instr::Attention { kv_heads, d_head, .. } => {
                            home.cached += (8 * kv_heads * format.words(*d_head)) as u64;
                        }
                        Instr::Conv1d { taps, .. } => {
                            home.inputs += floats(keeps.keys);
                            home.behind += floats(keeps.keys) * taps.saturating_sub(1) as u64;
                        }
                        _ => {}
                    }
                }
                if let Instr::Scan { state, .. } = instr {
                    stretches[s].states += *state as u64 * 4;
                }
            }
            // Those that wait for the end of the stretch.
            for b in lives.end_of(s) {
                alive.remove(b);
            }
            stretches[s].buffers = most + beside;
            stretches[s].many = many + beside;
        }
        Sizes { stretches }
    }

    /// The most that each distinct row of a pass takes, whatever stretch it is in.
    pub fn row(&self) -> u64 {
        self.stretches.iter().map(|s| s.buffers.max(s.many).max(s.entering * 2)).max().unwrap_or(0)
    }

    /// What a row leaves in the caches of all stretches.
    pub fn cached(&self) -> u64 {
        self.stretches.iter().map(|s| s.cached).sum()
    }

    /// The states that a run keeps.
    pub fn states(&self) -> u64 {
        self.stretches.iter().map(|s| s.states).sum()
    }

    /// The inputs of convolutions that are there at most, by the distinct rows of each stretch in the largest pass and how
    /// many runs there are.
    pub fn inputs(&self, rows: &[usize], runs: usize) -> u64 {
        // Some are forgotten only once there are many of them.
        let of = |s: &RowSizes, rows: usize| {
            let kept = s.behind.saturating_mul(2 * runs as u64).saturating_add(s.inputs * SPARE as u64);
            s.inputs.saturating_mul(rows as u64).saturating_add(if s.inputs > 0 { kept } else { 0 })
        };
        self.stretches.iter().zip(rows).fold(0, |sum, (s, n)| sum.saturating_add(of(s, *n)))
    }

    /// The buffers of one pass, by the distinct rows of each stretch.
    pub fn pass(&self, rows: &[usize]) -> u64 {
        let mut most = 0;
        for (s, size) in self.stretches.iter().enumerate() {
            let here = rows.get(s).copied().unwrap_or(0) as u64;
            let before = s.checked_sub(1).and_then(|s| rows.get(s)).copied().unwrap_or(0) as u64;
            most = most.max(here.min(FEW).saturating_mul(size.buffers)).max(here.saturating_mul(size.many));
            if here != before {
                most = most.max((here + before).saturating_mul(size.entering));
            }
        }
        most
    }
}

/// What a weight takes as f32 in file order. One that is spread over several tensors is put together from them one by one.
fn reading(weight: &Weight) -> u64 {
    let size = |a: &Axis| if let Size::Fixed(n) = a.size { n as u64 } else { 1 };
    let bytes = weight.dims.iter().flatten().map(size).fold(4u64, u64::saturating_mul);
    let pieces: u64 = weight.spread().map(size).product();
    if pieces > 1 { bytes + bytes / pieces } else { bytes }
}

/// What an instruction takes for each row only while it works.
fn passing(program: &Program, instr: &Instr) -> u64 {
    let len = |b: &BufId| program.buffers[b.0 as usize].len as u64 * 4;
    match instr {
        // Rows that chose an entry are gathered, and their results stand apart.
        Instr::Linear { x, y, w, active: Some(_), x_has_batch, .. } => {
            let batch = w.batch.iter().map(|d| d.0 as u64).product::<u64>().max(1);
            len(y) / batch + if *x_has_batch { len(x) / batch } else { len(x) }
        }
        Instr::Experts(experts) => {
            let count = |dims: &[Dim]| dims.iter().map(|d| d.0 as u64).product::<u64>();
            let inner = |w: &MatrixView| count(&w.inner);
            let out = |w: &MatrixView| count(&w.out);
            let outs = if experts.after.is_some() { 2 } else { 1 } * out(&experts.second);
            let each = experts.first.iter().map(out).sum::<u64>() + inner(&experts.second) + outs;
            4 * pairs_of_row(count(&experts.second.batch) as usize) as u64
                * (each + experts.first.first().map_or(0, inner))
        }
        _ => 0,
    }
}

/// The values inside of bodies that are outputs and so are kept for all rows of a stretch, in bytes, for
/// a row at a position in a sequence of so many rows, as if no window left keys out.
pub fn inside(plan: &Plan, program: &Program, stretch: usize, (position, rows): (usize, usize)) -> u64 {
    let mine = |(place, o): (&OutputPlace, &Output)| match place {
        OutputPlace::Body { stretch: s, instr, .. } if *s == stretch => {
            let sight = Sight { window: None, whole: sees_all(program, stretch, *instr) };
            Some(plan.ty(o.node).len_with(sight.of(position, rows).len()) as u64 * 4)
        }
        _ => None,
    };
    program.outputs.iter().zip(&plan.outputs).filter_map(mine).sum()
}
