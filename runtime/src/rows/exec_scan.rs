//! Scans. What a recurrence describes runs through many rows at a time, its units shared by the threads; rows on which
//! an edit acts, or whose state something reads, take a step each with the body in it, or by the body alone.

use super::cache::{Place, States};
use super::exec::{Frame, slots};
use super::exec_body::{acts, call, keep};
use super::exec_instr::{Shared, pointers, room};
use super::given::Given;
use super::{RowsEngine, broken, team};
use crate::error::Error;
use crate::memory;
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use steer_compiler::program::{Body, Instr, KernelArg, Recurrence, Strided};
use steer_kernels::scan::{self, Of, Part, Scan};

/// Below this many states of all rows together a scan stays on one thread.
const ALONE: usize = 1 << 12;
/// Units that a thread takes at least.
const UNITS: usize = 16;

/// Rows that follow one another from one state, and leave only the last one's behind.
struct Chain {
    /// The slot whose state they start from; none before the first row.
    from: Option<u32>,
    rows: Vec<u32>,
    /// Its only row takes a step with the body in it.
    body: bool,
}

/// The scan of one layer over the rows of a frame.
struct Layer<'a> {
    place: Place,
    body: Option<&'a Body>,
    scan: Option<Scan>,
    /// Whether the body does what the scan does, too.
    instead: bool,
    /// The result of the body that is the new state before edits.
    new: Option<u32>,
    /// The arguments of the body.
    base: Vec<Shared>,
    state: usize,
    out: Shared,
    width: usize,
    first_slot: u32,
    /// How many rows of this step start from each state.
    users: HashMap<u32, usize>,
    /// The states that outlive the step.
    ends: HashSet<u32>,
}

pub fn scan(engine: &mut RowsEngine, frame: &mut Frame, place: Place, instr: &Instr) -> Result<(), Error> {
    let Instr::Scan { body, recurrence, state, y, .. } = instr else { return Err(broken("no scan")) };
    let out = Shared(room(engine, frame, *y)?);
    let base = match body {
        Some(body) => pointers(engine, frame, place, &body.call, &[])?.into_iter().map(Shared).collect(),
        None => Vec::new(),
    };
    let mut layer = Layer {
        place,
        body: body.as_ref(),
        scan: recurrence.as_ref().map(|r| described(engine, frame, place, r, out)).transpose()?,
        instead: recurrence.as_ref().is_none_or(|r| r.instead),
        new: recurrence.as_ref().and_then(|r| r.new),
        base,
        state: *state,
        out,
        width: engine.program.buffers[y.0 as usize].len,
        first_slot: engine.caches.slots[place.0] - frame.count() as u32,
        users: HashMap::new(),
        ends: engine.runs.iter().filter_map(|r| r.slots[place.0].last().copied()).collect(),
    };
    for p in (0..frame.count()).filter_map(|j| parent(engine, frame, place, j)) {
        *layer.users.entry(p).or_default() += 1;
    }
    let mut kept = engine.caches.states.remove(&place).unwrap_or_default();
    let result = layer.run(engine, frame, &mut kept);
    kept.at.retain(|slot, _| layer.ends.contains(slot));
    engine.caches.states.insert(place, kept);
    result
}

/// The slot before that of a row.
fn parent(engine: &RowsEngine, frame: &Frame, place: Place, j: usize) -> Option<u32> {
    let list = slots(engine, place.0, frame.row(j), frame.row(j).position + 1);
    (list.len() > 1).then(|| list[list.len() - 2])
}

fn described(engine: &RowsEngine, frame: &Frame, place: Place, r: &Recurrence, out: Shared) -> Result<Scan, Error> {
    let fixed = &engine.constants.of(place).operands;
    let of = |i: usize| -> Result<Of, Error> {
        let Strided { arg, offset, head, channel } = r.operands()[i];
        let (at, row) = match (fixed.get(i), arg) {
            (Some(Some(values)), _) => (values.as_ptr(), 0),
            (_, KernelArg::Buffer(b)) => {
                (frame.buffers[b.0 as usize].as_ptr(), engine.program.buffers[b.0 as usize].len)
            }
            _ => return Err(broken("an operand of a recurrence is missing")),
        };
        Ok(Of { at: at.wrapping_add(*offset), row, head: *head, channel: *channel })
    };
    let Recurrence { heads, channels, states, each, .. } = *r;
    let (dt, rate, x, b, c) = (of(0)?, of(1)?, of(2)?, of(3)?, of(4)?);
    Ok(Scan { heads, channels, states, dt, rate, each, x, b, c, y: out.get() })
}

impl Layer<'_> {
    fn run(&mut self, engine: &RowsEngine, frame: &mut Frame, kept: &mut States) -> Result<(), Error> {
        let mut given = match self.body {
            Some(body) => Some(Given::new(&engine.plan, body, &engine.users, frame.step, frame.rows, &|_| 1)?),
            None => None,
        };
        // Chains that start from states which are known.
        let mut ready: Vec<Chain> = Vec::new();
        for chain in self.chains(engine, frame, given.as_ref()) {
            let waits = |c: &Chain| c.rows.last().map(|j| self.first_slot + j) == chain.from && chain.from.is_some();
            if chain.body || ready.iter().any(waits) {
                self.chained(engine, std::mem::take(&mut ready), kept)?;
            }
            match (chain.body, self.body, &mut given) {
                (true, Some(body), Some(given)) => self.step(engine, frame, &chain, (body, given), kept)?,
                _ => ready.push(chain),
            }
        }
        self.chained(engine, ready, kept)
    }

    /// The rows of the frame in chains, each behind the one that it starts from: parents stand before their children,
    /// since a run's rows are in order.
    fn chains(&self, engine: &RowsEngine, frame: &Frame, given: Option<&Given>) -> Vec<Chain> {
        let mut chains: Vec<Chain> = Vec::new();
        // By slot: the chain that ends there and may go on.
        let mut open: HashMap<u32, usize> = HashMap::new();
        for j in 0..frame.count() {
            let (from, slot) = (parent(engine, frame, self.place, j), self.first_slot + j as u32);
            let body = self.body.is_some_and(|body| self.scan.is_none() || acts(frame, body, given, j));
            let goes_on = from.and_then(|p| open.remove(&p)).filter(|_| !body);
            let at = match goes_on {
                Some(at) => at,
                None => {
                    chains.push(Chain { from, rows: Vec::new(), body });
                    chains.len() - 1
                }
            };
            chains[at].rows.push(j as u32);
            // A state that several rows start from, or that stays, is kept.
            if !body && self.users.get(&slot) == Some(&1) && !self.ends.contains(&slot) {
                open.insert(slot, at);
            }
        }
        chains
    }

    /// The state that a chain starts from, in memory of its own.
    fn start(&mut self, chain: &Chain, kept: &mut States) -> Result<Vec<f32>, Error> {
        let Some(from) = chain.from else {
            let mut fresh = kept.free.pop().unwrap_or_default();
            memory::resize(&mut fresh, self.state, "states")?;
            fresh.fill(0.0);
            return Ok(fresh);
        };
        let left = self.users.get_mut(&from).ok_or_else(|| broken("a state has lost its rows"))?;
        *left -= 1;
        if *left == 0 && !self.ends.contains(&from) {
            return kept.at.remove(&from).ok_or_else(|| broken("a state is missing"));
        }
        let mut fresh = kept.free.pop().unwrap_or_default();
        memory::resize(&mut fresh, self.state, "states")?;
        fresh.copy_from_slice(kept.at.get(&from).ok_or_else(|| broken("a state is missing"))?);
        Ok(fresh)
    }

    /// The slot of a chain's last row.
    fn end(&self, chain: &Chain) -> u32 {
        self.first_slot + chain.rows.last().copied().unwrap_or(0)
    }

    /// Chains without a body, of which none starts from another.
    fn chained(&mut self, engine: &RowsEngine, chains: Vec<Chain>, kept: &mut States) -> Result<(), Error> {
        let mut work = Vec::with_capacity(chains.len());
        for chain in chains {
            let state = self.start(&chain, kept)?;
            work.push((chain, state));
        }
        let Some(scan) = self.scan.as_ref().filter(|_| !work.is_empty()) else { return Ok(()) };
        let units = scan.heads * scan.channels;
        let rows: usize = work.iter().map(|(chain, _)| chain.rows.len()).sum();
        let threads = if rows * self.state < ALONE { 1 } else { rayon::current_num_threads() };
        let parts = (2 * threads).div_ceil(work.len()).min(units.div_ceil(UNITS)).max(1);
        let each = units.div_ceil(parts).next_multiple_of(UNITS);
        let scan = Sent(scan);
        let mut tasks: Vec<(&[u32], Range<usize>, Shared)> = Vec::new();
        for (chain, state) in &mut work {
            let at = Shared(state.as_mut_ptr());
            let parts = (0..units).step_by(each).map(|u| u..(u + each).min(units));
            tasks.extend(parts.map(|part| (&chain.rows[..], part, at)));
        }
        let one = |(rows, units, state): &(&[u32], Range<usize>, Shared)| {
            // SAFETY: the operands hold all rows of the frame and `state` all units; each task has units of its own.
            unsafe { scan::scan(engine.isa, Part::Both, scan.get(), rows, units.clone(), state.get()) };
        };
        match threads {
            1 => tasks.iter().for_each(one),
            _ => team::each(tasks.len(), |i| one(&tasks[i])),
        }
        for (chain, state) in work {
            kept.at.insert(self.end(&chain), state);
        }
        Ok(())
    }

    /// One row with the body in it.
    fn step(
        &mut self,
        engine: &RowsEngine,
        frame: &mut Frame,
        chain: &Chain,
        (body, given): (&Body, &mut Given),
        kept: &mut States,
    ) -> Result<(), Error> {
        let Some(&row) = chain.rows.first() else { return Ok(()) };
        let mut before = self.start(chain, kept)?;
        let around = self.scan.as_ref().filter(|_| !self.instead);
        let (j, units) = (row as usize, around.map_or(0, |s| s.heads * s.channels));
        if let Some(scan) = around {
            // SAFETY: the operands hold this row and `before` all units.
            unsafe { scan::scan(engine.isa, Part::State, scan, &[row], 0..units, before.as_mut_ptr()) };
        }
        let mut after = kept.free.pop().unwrap_or_default();
        memory::resize(&mut after, self.state, "states")?;
        let edits = around.is_none() || body.call.args.contains(&KernelArg::Result(0));
        let (old, new, y) = (before.as_mut_ptr(), after.as_mut_ptr(), self.out.get().wrapping_add(j * self.width));
        let mut own = |arg: &KernelArg| match arg {
            KernelArg::Body(_) => Some(old),
            KernelArg::Result(0) => Some(new),
            KernelArg::Result(1) => Some(y),
            _ => None,
        };
        let mut results = call(engine, body, given, &self.base, (j, 1), &mut own);
        for (_, values) in results.iter_mut().filter(|(r, _)| self.new == Some(*r)) {
            values.copy_from_slice(&before);
        }
        keep(frame, self.place, body, given, j, results);
        let (mut state, other) = if edits { (after, before) } else { (before, after) };
        if let Some(scan) = around {
            // SAFETY: as above.
            unsafe { scan::scan(engine.isa, Part::Read, scan, &[row], 0..units, state.as_mut_ptr()) };
        }
        kept.free.push(other);
        kept.at.insert(self.end(chain), state);
        Ok(())
    }
}

/// A scan that threads may share: each has units of its own.
struct Sent<'a>(&'a Scan);

// SAFETY: the operands are only read, and the tasks write to units of their own.
unsafe impl Sync for Sent<'_> {}

impl Sent<'_> {
    fn get(&self) -> &Scan {
        self.0
    }
}
