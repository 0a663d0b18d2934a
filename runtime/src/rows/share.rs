//! Value numbers: which rows of a step are one row.
//!
//! A row's number in a stretch is a hash of all that its values there depend on: its token and position,
//! the edits on it, and what it reads of earlier rows once an instruction has read them. Rows with one
//! number are computed once.

use super::number::{ByNumber, Kind, Number, behind, joined, mixed};
use super::runs::{Pasts, RunState, Use, Users};
use crate::engine::Extend;
use crate::error::Error;
use std::sync::Arc;
use steer_compiler::plan::{EditId, Reads};
use steer_compiler::program::{Instr, KernelArg, LookupIndex, OutputPlace, Program};

/// One row of one run in a step.
#[derive(Clone, Copy, Debug)]
pub struct NewRow {
    pub run: usize,
    pub position: usize,
    pub token: u32,
    /// Index into the step's work, and into its tokens.
    pub work: usize,
    pub at: usize,
}

/// The distinct rows of one stretch.
#[derive(Clone, Debug, Default)]
pub struct RowsOf {
    /// By row of the step: its distinct row, or [`NONE`] where nothing needs it.
    pub map: Vec<u32>,
    /// By distinct row: the row of the step that stands for it.
    pub first: Vec<u32>,
}

/// A row that nothing needs.
pub const NONE: u32 = u32::MAX;

/// The rows of a step and how they are shared.
pub struct Step<'a> {
    pub work: &'a [Extend],
    /// A run's rows together, donors before those they give to.
    pub rows: Vec<NewRow>,
    /// The pieces of work in the order of their rows.
    pub order: Vec<usize>,
    /// By piece of work: its first row.
    begins: Vec<u32>,
    /// By run: its piece of work.
    of_run: Vec<u32>,
    pub stretches: Vec<Arc<RowsOf>>,
}

impl<'a> Step<'a> {
    fn new(runs: &[RunState], users: &Users, work: &'a [Extend]) -> Result<Self, Error> {
        let mut order: Vec<usize> = (0..work.len()).collect();
        if work.iter().any(|w| w.run >= runs.len()) {
            return Err(super::broken("there is no such run"));
        }
        order.sort_by_key(|w| users.order[work[*w].run]);
        let mut step = Step {
            work,
            rows: Vec::with_capacity(work.iter().map(|w| w.tokens.len()).sum()),
            order,
            begins: vec![0; work.len()],
            of_run: vec![NONE; runs.len()],
            stretches: Vec::new(),
        };
        for &w in &step.order {
            let run = work[w].run;
            if step.of_run[run] != NONE {
                return Err(super::broken("a run is extended twice in one step"));
            }
            step.begins[w] = step.rows.len() as u32;
            step.of_run[run] = w as u32;
            let start = runs[run].len;
            let rows = work[w].tokens.iter().enumerate();
            step.rows.extend(rows.map(|(at, &token)| NewRow { run, position: start + at, token, work: w, at }));
        }
        Ok(step)
    }

    /// The rows of a piece of work.
    pub fn rows_of(&self, work: usize) -> std::ops::Range<usize> {
        let first = self.begins[work] as usize;
        first..first + self.work[work].tokens.len()
    }

    /// How many rows the sequence of a row has by the end of the step.
    pub fn length(&self, row: &NewRow) -> usize {
        row.position - row.at + self.work[row.work].tokens.len()
    }

    /// The row of a run at a position.
    pub fn row_at(&self, run: usize, position: usize) -> Option<u32> {
        let work = *self.of_run.get(run).filter(|w| **w != NONE)? as usize;
        let rows = self.rows_of(work);
        let first = self.rows.get(rows.start).filter(|_| !rows.is_empty())?.position;
        let at = position.checked_sub(first)?;
        (at < rows.len()).then_some((rows.start + at) as u32)
    }

    /// The rows on which a run's edit is active.
    pub fn active(&self, of: Use) -> impl Iterator<Item = u32> + '_ {
        let work = self.of_run[of.run];
        let found = (work != NONE).then(|| {
            let rows = self.rows_of(work as usize);
            let flags = self.work[work as usize].active.get(of.place).map_or(&[][..], Vec::as_slice);
            rows.zip(flags).filter(|(_, active)| **active).map(|(row, _)| row as u32)
        });
        found.into_iter().flatten()
    }

    /// The row that a patch on a row takes its value from.
    pub fn donor(&self, of: Use, row: u32) -> Result<u32, Error> {
        let row = &self.rows[row as usize];
        let given = self.work[row.work].donor_positions.get(of.place).and_then(|p| p.get(row.at));
        let position = given.copied().unwrap_or(row.position);
        let found = of.donor.and_then(|d| self.row_at(d, position));
        found.ok_or_else(|| super::broken("a patch's donor has no such row in this step"))
    }
}

/// What sharing has to know of a program.
pub struct Layout {
    /// By stretch: the patches that replace a whole value with nothing else alive beside it.
    pub whole: Vec<Vec<EditId>>,
    /// The first narrow stretch.
    pub narrow: usize,
    /// Whether a narrow stretch reads earlier rows that it has to tell apart.
    past_in_narrow: bool,
    /// Whether rows are told apart by those behind them, too.
    sequences: bool,
    /// No stretch from here on reads tokens.
    no_tokens: usize,
}

impl Layout {
    pub fn new(program: &Program, whole: Vec<Vec<EditId>>) -> Self {
        let stretches = &program.stretches;
        let narrow = stretches.iter().position(|s| s.narrow).unwrap_or(usize::MAX);
        let tokens = |i: &Instr| match i {
            Instr::Lookup { index, .. } => *index == LookupIndex::Token,
            Instr::Kernel(call) => call.args.contains(&KernelArg::Token),
            Instr::Attention { body: Some(body), .. } | Instr::Scan { body: Some(body), .. } => {
                body.call.args.contains(&KernelArg::Token)
            }
            _ => false,
        };
        Layout {
            whole,
            narrow,
            past_in_narrow: stretches.iter().any(|s| s.narrow && s.reads != Reads::Own),
            sequences: stretches.iter().any(|s| s.reads == Reads::Whole),
            no_tokens: stretches.iter().rposition(|s| s.instrs.iter().any(tokens)).map_or(0, |s| s + 1),
        }
    }
}

/// Numbers all rows of a step, stretch by stretch, and finds the distinct ones.
pub fn number<'a>(
    program: &Program,
    layout: &Layout,
    runs: &[RunState],
    users: &Users,
    pasts: &mut Pasts,
    work: &'a [Extend],
    share: bool,
) -> Result<Step<'a>, Error> {
    let step = Step::new(runs, users, work)?;
    if layout.sequences && work.iter().any(|w| runs[w.run].len > 0) {
        return Err(super::broken("a sequence that is read as a whole is extended"));
    }
    let last = last_needed(program, layout, users, &step)?;
    let mut ends = vec![false; program.stretches.len()];
    last.iter().for_each(|l| ends[*l as usize] = true);
    let start = |r: &NewRow| mixed(Kind::Row, u128::from(r.token) << 64 | r.position as u128);
    let numbers = step.rows.iter().map(start).collect();
    let mut n = Numbering { layout, runs, users, pasts, step, numbers, given: Vec::new(), past: Vec::new() };
    let mut seen = ByNumber::default();
    for (s, stretch) in program.stretches.iter().enumerate() {
        let told = match stretch.reads {
            Reads::Own => n.edits(s)?,
            Reads::Prefix | Reads::Whole => n.prefix(s, stretch.reads == Reads::Whole)?,
            Reads::Window(rows) => n.window(s, rows),
            Reads::State => n.state(s)?,
        };
        if s + 1 == layout.narrow && layout.past_in_narrow {
            n.past_of_narrow();
        }
        let fewer = match s.cmp(&layout.narrow) {
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Equal => ends[..s].contains(&true),
            std::cmp::Ordering::Greater => ends[s - 1],
        };
        let rows = match n.step.stretches.last() {
            Some(before) if !told && !fewer => Arc::clone(before),
            before => {
                let needed = |i: usize| s < layout.narrow || last[i] as usize >= s;
                match before {
                    // One row is distinct whatever its number.
                    Some(before) if n.numbers.len() == 1 && before.first.len() == usize::from(needed(0)) => {
                        Arc::clone(before)
                    }
                    _ => Arc::new(distinct(&n.numbers, needed, share, &mut seen)),
                }
            }
        };
        n.step.stretches.push(rows);
    }
    Ok(n.step)
}

/// By row: the last stretch in which something needs it; of no meaning below the first narrow one.
fn last_needed(program: &Program, layout: &Layout, users: &Users, step: &Step) -> Result<Vec<u32>, Error> {
    let mut last = vec![0u32; step.rows.len()];
    if layout.narrow >= program.stretches.len() {
        return Ok(last);
    }
    for w in step.work {
        for (place, positions) in program.outputs.iter().zip(&w.reads) {
            let (OutputPlace::Buffer { stretch, .. } | OutputPlace::Body { stretch, .. }) = place;
            for row in positions.iter().filter_map(|p| step.row_at(w.run, *p)) {
                let l = &mut last[row as usize];
                *l = (*l).max(*stretch as u32);
            }
        }
    }
    // A row that gives is needed as far as what it gives.
    for s in (layout.narrow..program.stretches.len()).rev() {
        let given = if program.stretches[s].reads == Reads::Own { s.saturating_sub(1) } else { s };
        for u in users.begin_in(s).iter().rev().filter(|u| u.donor.is_some()) {
            for row in step.active(*u) {
                if last[row as usize] as usize >= s {
                    let l = &mut last[step.donor(*u, row)? as usize];
                    *l = (*l).max(given as u32);
                }
            }
        }
    }
    Ok(last)
}

struct Numbering<'a, 's> {
    layout: &'a Layout,
    runs: &'a [RunState],
    users: &'a Users,
    pasts: &'a mut Pasts,
    step: Step<'s>,
    /// By row of the step.
    numbers: Vec<Number>,
    /// What patches of one stretch take, by row on which they are active.
    given: Vec<Number>,
    /// By row: all rows up to it as narrow stretches read them.
    past: Vec<Number>,
}

impl Numbering<'_, '_> {
    /// Edits of values that are complete: a patch takes them as they are before the stretch.
    fn edits(&mut self, s: usize) -> Result<bool, Error> {
        let uses = self.users.begin_in(s);
        let whole = |u: &Use| self.layout.whole[s].contains(&u.edit);
        let mut given = std::mem::take(&mut self.given);
        given.clear();
        for u in uses.iter().filter(|u| u.donor.is_some()) {
            let whole = whole(u);
            for row in self.step.active(*u) {
                let donor = self.step.donor(*u, row)?;
                given.push(if whole { self.redirected(s, row, donor) } else { self.numbers[donor as usize] });
            }
        }
        let mut taken = given.iter();
        let mut told = false;
        for u in uses {
            let whole = u.donor.is_some() && whole(u);
            for row in self.step.active(*u) {
                let number = &mut self.numbers[row as usize];
                let taken = if u.donor.is_some() { taken.next().copied() } else { None };
                *number = match taken {
                    Some(taken) if whole => taken,
                    taken => edited(*number, u.key, taken),
                };
                told = true;
            }
        }
        self.given = given;
        Ok(told)
    }

    /// The number of a row all of whose values are the donor's from a stretch on.
    fn redirected(&self, s: usize, row: u32, donor: u32) -> Number {
        let mut number = self.numbers[donor as usize];
        let (to, from) = (&self.step.rows[row as usize], &self.step.rows[donor as usize]);
        if to.position != from.position {
            number = joined(Kind::Redirected, number, to.position as u128);
        }
        if to.token != from.token && s < self.layout.no_tokens {
            number = joined(Kind::Redirected, number, u128::from(to.token) << 64);
        }
        number
    }

    /// What an instruction reads of all earlier rows, or of the whole sequence, and then the edits of its body: it
    /// passes nothing on to later rows. Donors are numbered before those they give to.
    fn prefix(&mut self, s: usize, whole: bool) -> Result<bool, Error> {
        if s >= self.layout.narrow {
            self.numbers.iter_mut().zip(&self.past).for_each(|(n, past)| *n = joined(Kind::Past, *past, *n));
        } else if whole {
            for &w in &self.step.order {
                let rows = &mut self.numbers[self.step.rows_of(w)];
                let all = together(rows);
                rows.iter_mut().for_each(|n| *n = joined(Kind::Past, all, *n));
            }
        } else {
            let pasts = self.pasts.of(s);
            for &w in &self.step.order {
                roll(&mut pasts[self.step.work[w].run], &mut self.numbers[self.step.rows_of(w)]);
            }
        }
        for u in self.users.begin_in(s) {
            for row in self.step.active(*u) {
                self.numbers[row as usize] = self.in_body(*u, row)?;
            }
        }
        Ok(true)
    }

    /// The number of a row under an edit of a body.
    fn in_body(&self, of: Use, row: u32) -> Result<Number, Error> {
        let given = match of.donor {
            Some(_) => Some(self.numbers[self.step.donor(of, row)? as usize]),
            None => None,
        };
        Ok(edited(self.numbers[row as usize], of.key, given))
    }

    /// What an instruction reads of the last rows, of which `width` are with the row itself.
    fn window(&mut self, s: usize, width: usize) -> bool {
        let kept = width.saturating_sub(1);
        let pasts = self.pasts.of(s);
        let mut recent: Vec<Number> = Vec::new();
        for &w in &self.step.order {
            let run = self.step.work[w].run;
            let past = &mut pasts[run * kept..(run + 1) * kept];
            recent.clear();
            recent.extend_from_slice(&past[kept - kept.min(self.runs[run].len)..]);
            let rows = &mut self.numbers[self.step.rows_of(w)];
            for number in &mut *rows {
                recent.push(*number);
                let first = recent.len().saturating_sub(width);
                *number = mixed(Kind::Past, recent[first..].iter().fold(0, |n, r| behind(n, *r)));
            }
            let left = kept.min(recent.len());
            past[kept - left..].copy_from_slice(&recent[recent.len() - left..]);
        }
        true
    }

    /// The edits of a body whose state is carried on, and then what is carried on of all earlier rows.
    fn state(&mut self, s: usize) -> Result<bool, Error> {
        let mut uses = self.users.begin_in(s);
        for &w in &self.step.order {
            let run = self.step.work[w].run;
            let skipped = uses.iter().take_while(|u| self.users.order[u.run] < self.users.order[run]).count();
            uses = &uses[skipped..];
            let mine = &uses[..uses.iter().take_while(|u| u.run == run).count()];
            for row in self.step.rows_of(w) {
                for u in mine {
                    let flags = self.step.work[w].active.get(u.place);
                    if flags.and_then(|f| f.get(self.step.rows[row].at)) == Some(&true) {
                        self.numbers[row] = self.in_body(*u, row as u32)?;
                    }
                }
                roll(&mut self.pasts.of(s)[run], &mut self.numbers[row..=row]);
            }
        }
        Ok(true)
    }

    /// Keeps what narrow stretches read of earlier rows: all of them as they are now.
    fn past_of_narrow(&mut self) {
        self.past = self.numbers.clone();
        for &w in &self.step.order {
            let rows = &mut self.past[self.step.rows_of(w)];
            match self.layout.sequences {
                true => rows.fill(together(rows)),
                false => roll(&mut self.pasts.narrow[self.step.work[w].run], rows),
            }
        }
    }
}

/// The number of a row under an edit, with what a patch gives to it.
fn edited(number: Number, edit: Number, given: Option<Number>) -> Number {
    let number = joined(Kind::Edited, number, edit);
    given.map_or(number, |g| joined(Kind::Given, number, g))
}

/// Turns the numbers of rows that follow one another into those of all rows up to each.
fn roll(past: &mut Number, numbers: &mut [Number]) {
    for n in numbers {
        *past = behind(*past, *n);
        *n = mixed(Kind::Past, *past);
    }
}

/// The number of all rows of a sequence.
fn together(numbers: &[Number]) -> Number {
    mixed(Kind::Past, numbers.iter().fold(0, |all, n| behind(all, *n)))
}

fn distinct(numbers: &[Number], needed: impl Fn(usize) -> bool, share: bool, seen: &mut ByNumber<u32>) -> RowsOf {
    let mut rows = RowsOf { map: vec![NONE; numbers.len()], first: Vec::new() };
    seen.clear();
    for (i, number) in numbers.iter().enumerate().filter(|(i, _)| needed(*i)) {
        let next = rows.first.len() as u32;
        let at = if share { *seen.entry(*number).or_insert(next) } else { next };
        if at == next {
            rows.first.push(i as u32);
        }
        rows.map[i] = at;
    }
    rows
}
