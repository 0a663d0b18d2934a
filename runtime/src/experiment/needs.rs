//! Whether there is memory for a phase, before a weight is read.

use super::live::{self, Ask, Grow};
use super::phase::{PhaseOptions, Prepared, most};
use crate::error::Error;
use crate::memory::{Limit, Offer, enough, shown};
use crate::rows::{Counter, Sizes};
use std::cmp::Reverse;
use steer_compiler::backend::{DEFAULT, row_backend};
use steer_compiler::plan::{Axis, Plan, Size, Tensor};
use steer_kernels::attention::CacheFormat;
use steer_lang::{Diagnostics, codes};

/// The memory that a phase takes at most, in bytes, and what for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Needs {
    /// Weights as they are computed with, and the script's own tensors as they were read. Of experts as many as the rows
    /// choose at most.
    pub weights: u64,
    /// The same where rows choose all experts.
    pub all_weights: u64,
    /// The largest weight, before it is packed.
    pub reading: u64,
    /// Values of the rows of one pass, and how many rows are in the largest.
    pub buffers: u64,
    pub pass_rows: usize,
    /// What later tokens read of earlier ones, how many rows they are at most, and how many of these are new tokens.
    pub caches: u64,
    pub rows: usize,
    pub new: usize,
    /// What is read: captures, and logits for metrics and new tokens.
    pub outputs: u64,
    /// Floating-point operations, with as many new tokens as there may be.
    pub operations: u64,
}

impl Needs {
    /// What a phase takes, from its Plan and the lengths of its prompts alone.
    pub fn of(prepared: &Prepared, asks: &[Ask], options: &PhaseOptions) -> Result<Self, Error> {
        if asks.is_empty() {
            return Ok(Needs::default());
        }
        if row_backend(&options.backend).is_none() {
            return Ok(of_reference(prepared, asks));
        }
        let (plan, program) = (&prepared.plan, &prepared.program);
        let (sizes, held) = (Sizes::of(plan, program, options.rounding.cache), &prepared.held);
        let mut needs = Needs { reading: held.reading, ..Needs::default() };
        let mut counter = Counter::new(program, &prepared.engine_runs)?;
        let (mut inputs, mut passes) = (0, 0);
        for work in live::passes(prepared, asks, options.chunk) {
            let pass = counter.pass(plan, &work)?;
            needs.buffers = needs.buffers.max(sizes.pass(&pass.rows).saturating_add(pass.inside));
            needs.pass_rows = needs.pass_rows.max(pass.rows.iter().copied().max().unwrap_or(0));
            needs.rows += pass.rows.iter().copied().max().unwrap_or(0);
            needs.outputs += pass.read;
            needs.operations += pass.operations;
            let cached = sizes.stretches.iter().zip(&pass.rows).map(|(s, n)| s.cached.saturating_mul(*n as u64));
            needs.caches = needs.caches.saturating_add(cached.sum());
            inputs = inputs.max(sizes.inputs(&pass.rows, prepared.runs.len()));
            passes += 1;
        }
        // New tokens differ from run to run.
        let growing: Vec<usize> = asks.iter().filter_map(|a| a.grow.as_ref()).map(|g| g.options.max).collect();
        let new: usize = growing.iter().map(|max| max.saturating_sub(1)).fold(0, usize::saturating_add);
        (needs.rows, needs.new) = (needs.rows.saturating_add(new), new);
        needs.operations = needs.operations.saturating_add(counter.row().saturating_mul(new as u64));
        needs.caches = needs.caches.saturating_add(sizes.cached().saturating_mul(new as u64));
        if passes > 1 || new > 0 {
            // They grow by half.
            needs.caches = needs.caches.saturating_add(needs.caches / 2);
        }
        let states = sizes.states().saturating_mul(prepared.runs.len() as u64 + 1);
        needs.caches = needs.caches.saturating_add(states).saturating_add(inputs);
        needs.buffers = needs.buffers.max(sizes.row().saturating_mul(growing.len() as u64));
        needs.outputs = needs.outputs.saturating_add(logits(plan, asks) * growing.len() as u64);
        let scored = asks.iter().filter_map(|a| a.grow.as_ref()).map(|g| scores(plan, g));
        needs.outputs = scored.fold(needs.outputs, u64::saturating_add);
        // Experts are read while rows are computed, one after another.
        needs.buffers = needs.buffers.saturating_add(held.reading_chosen());
        let weights = |rows: u64| held.weights(rows).saturating_add(tensors(plan));
        (needs.weights, needs.all_weights) = (weights(needs.rows as u64), weights(u64::MAX));
        Ok(needs)
    }

    /// What the rows take.
    fn of_rows(&self) -> u64 {
        [self.buffers, self.caches, self.outputs].into_iter().fold(0, u64::saturating_add)
    }

    /// The most that is taken at once: while weights are read, or while rows are computed.
    pub fn total(&self) -> u64 {
        self.weights.saturating_add(self.reading.max(self.of_rows()))
    }

    /// What is taken at once, part by part: its bytes, what they are for, and its kind.
    pub fn parts(&self) -> Vec<(u64, String, Kind)> {
        let mut parts = vec![(self.weights, "the weights".to_string(), Kind::Weights)];
        if self.reading > self.of_rows() {
            parts.push((self.reading, "the largest of them while it is read".into(), Kind::Weights));
        } else {
            parts.push((self.buffers, format!("the values of {} rows in one pass", self.pass_rows), Kind::Buffers));
            parts.push((self.caches, format!("what later tokens read of {} rows", self.rows), Kind::Caches));
            parts.push((self.outputs, "what is read and captured".into(), Kind::Outputs));
        }
        parts
    }

    /// An error where there is less. It says what makes the largest part smaller, by what the options leave to do.
    pub fn fit(&self, offer: Offer, ways: impl FnOnce() -> Ways) -> Result<(), Error> {
        if self.total() <= offer.bytes {
            return Ok(());
        }
        let mut parts = self.parts();
        // The largest part, and those of which what is missing may come, too.
        let missing = self.total() - offer.bytes;
        let mut kinds: Vec<(u64, Kind)> = parts.iter().map(|p| (p.0, p.2)).collect();
        kinds.sort_by_key(|k| Reverse(k.0));
        let kinds = kinds.iter().enumerate().filter(|(i, k)| *i == 0 || k.0 > missing).map(|(_, k)| k.1);
        let advice = ways().less(&kinds.collect::<Vec<_>>(), self.new > 0, offer.limit);
        // What is too small to matter is not named.
        parts.retain(|p| p.0 >= self.total() / 100);
        let parts: Vec<String> = parts.iter().map(|(n, what, _)| format!("{} for {what}", shown(*n))).collect();
        let mut message = format!("the run needs {} of memory, and {offer}", enough(self.total()));
        if enough(self.total()) == shown(offer.bytes) {
            message += &format!(", {} too little", enough(missing));
        }
        Err(Error::new(codes::MEMORY, message).help(format!("{}; {advice}", parts.join(", "))))
    }
}

/// What memory is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Weights,
    Buffers,
    Caches,
    Outputs,
}

/// What would make a phase take less under its options, bit for bit or not.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ways {
    /// Weights are widened that their files have in fewer bytes.
    pub stored: bool,
    /// The formats of the cache that take less than the one that it has.
    pub caches: Vec<&'static str>,
    /// Whether a pass may have fewer rows.
    pub chunk: bool,
    /// Whether it is the reference that executes it, which keeps all values of a run.
    pub reference: bool,
}

impl Ways {
    /// Of a phase.
    pub fn of(prepared: &Prepared, options: &PhaseOptions) -> Self {
        let (plan, program) = (&prepared.plan, &prepared.program);
        let cached = |format| Sizes::of(plan, program, format).cached();
        let now = cached(options.rounding.cache);
        let smaller = [CacheFormat::F16, CacheFormat::Q8].into_iter().filter(|f| cached(*f) < now);
        let longest = prepared.runs.iter().map(|r| r.encoded.tokens.len()).max().unwrap_or(0);
        let rows = live::chunk(prepared, options.chunk).min(longest);
        let reference = row_backend(&options.backend).is_none();
        Ways {
            stored: !reference && prepared.stored < most(&prepared.held),
            caches: smaller.map(CacheFormat::name).collect(),
            chunk: rows > 1 && live::chunk(prepared, 1) == 1,
            reference,
        }
    }

    /// What to do for less of the first kind, and by which options for less of the others.
    fn less(&self, kinds: &[Kind], grows: bool, limit: Limit) -> String {
        let mut ways: Vec<String> = Vec::new();
        if self.reference {
            ways.push(format!("execute it with `--backend {DEFAULT}`"));
        }
        for kind in kinds {
            ways.extend(match kind {
                Kind::Weights => self.stored.then(|| "leave out `--weights f32`".to_string()),
                Kind::Buffers => {
                    let chunk = self.chunk && !self.reference;
                    chunk.then(|| "take fewer rows in one pass with `--chunk`".to_string())
                }
                Kind::Caches => {
                    let formats: Vec<String> = self.caches.iter().map(|f| format!("`--cache {f}`")).collect();
                    let what = "what later tokens read";
                    (!formats.is_empty()).then(|| format!("store {what} with {}", formats.join(" or ")))
                }
                Kind::Outputs => None,
            });
        }
        match kinds.first() {
            Some(Kind::Weights) | None => ways.push("use a smaller model or one in fewer bits".into()),
            Some(Kind::Buffers) => ways.push("use shorter or fewer texts".into()),
            Some(Kind::Caches) => {
                ways.push("use shorter or fewer texts".into());
                ways.extend(grows.then(|| "generate fewer tokens".to_string()));
            }
            Some(Kind::Outputs) => ways.push("capture or measure at fewer positions, as with `on prompt[-1]`".into()),
        }
        ways.push(match limit {
            Limit::Asked => "allow more with `--memory`".into(),
            Limit::Machine => "use a machine with more memory".into(),
            Limit::Group | Limit::AddressSpace | Limit::Data => "raise the limit".into(),
        });
        let last = ways.pop().unwrap_or_default();
        format!("{}, or {last}", ways.join(", "))
    }
}

/// Refuses what there is too little memory for. Where nobody knows how much there is, nothing is refused.
pub fn check(needs: &Needs, prepared: &Prepared, options: &PhaseOptions) -> Result<(), Diagnostics> {
    match offer(options) {
        Some(offer) => needs.fit(offer, || Ways::of(prepared, options)).map_err(|e| vec![*e.0]),
        None => Ok(()),
    }
}

/// What there is, or less where the options say so.
fn offer(options: &PhaseOptions) -> Option<Offer> {
    let asked = options.memory.map(|bytes| Offer { bytes, limit: Limit::Asked });
    // What a session holds is there already, and a run counts it as what it needs.
    let held = options.warm.as_ref().map_or(0, |w| w.bytes());
    let now = Offer::now().map(|o| Offer { bytes: o.bytes.saturating_add(held), ..o });
    asked.into_iter().chain(now).min_by_key(|o| o.bytes)
}

/// The memory that a piece of an experiment may take: of what there is a tenth is left.
pub fn budget(options: &PhaseOptions) -> Option<u64> {
    let left = |o: Offer| if o.limit == Limit::Asked { o.bytes } else { o.bytes - o.bytes / 10 };
    offer(options).map(left)
}

/// The script's tensors that runs read.
fn tensors(plan: &Plan) -> u64 {
    let size = |a: &Axis| if let Size::Fixed(n) = a.size { n as u64 } else { 1 };
    let bytes = |t: &Tensor| t.axes.iter().map(size).fold(4, u64::saturating_mul);
    plan.tensors.iter().map(bytes).fold(0, u64::saturating_add)
}

/// The logits of one row, where there are runs that grow.
fn logits(plan: &Plan, asks: &[Ask]) -> u64 {
    let output = asks.iter().find_map(|a| a.grow.as_ref()).and_then(|g| plan.outputs.get(g.logits));
    output.map_or(0, |o| plan.ty(o.node).len_with(1) as u64 * 4)
}

/// What the score of a text reads of its new rows.
fn scores(plan: &Plan, grow: &Grow) -> u64 {
    let outputs = grow.score.iter().flat_map(|s| &s.outputs).filter_map(|o| plan.outputs.get(*o));
    let row: u64 = outputs.map(|o| plan.ty(o.node).len_with(1) as u64 * 4).sum();
    row.saturating_mul(grow.options.max as u64)
}

/// The reference keeps every weight as it is and as a matrix, and all values of a run's rows.
fn of_reference(prepared: &Prepared, asks: &[Ask]) -> Needs {
    let size = |a: &steer_compiler::plan::Axis| if let Size::Fixed(n) = a.size { n as u64 } else { 1 };
    let bytes = |w: &steer_compiler::plan::Weight| w.dims.iter().flatten().map(size).fold(4, u64::saturating_mul);
    let weights = prepared.plan.weights.iter().map(bytes).fold(0, u64::saturating_add);
    let max = |run: usize| asks.get(run).and_then(|a| a.grow.as_ref()).map_or(0, |g| g.options.max);
    let rows = prepared.runs.iter().enumerate().map(|(i, r)| r.encoded.tokens.len() + max(i)).max().unwrap_or(0);
    let values = prepared.plan.nodes.iter().filter(|n| n.ty.per_row).map(|n| n.ty.len_with(rows) as u64 * 4);
    let buffers = values.fold(0, u64::saturating_add).saturating_mul(rows as u64);
    let weights = weights.saturating_mul(2);
    Needs { weights, all_weights: weights, buffers, pass_rows: rows, ..Needs::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_said_with_its_largest_part() {
        let needs = Needs {
            weights: 4_000_000_000,
            all_weights: 4_000_000_000,
            reading: 500_000_000,
            buffers: 1_000_000_000,
            pass_rows: 1000,
            caches: 6_000_000_000,
            rows: 9000,
            new: 0,
            outputs: 1_000_000,
            operations: 0,
        };
        assert_eq!(needs.total(), 11_001_000_000);
        let offer = |bytes| Offer { bytes, limit: Limit::Machine };
        assert!(needs.fit(offer(11_001_000_000), Ways::default).is_ok());
        let e = needs.fit(offer(11_000_000_000), Ways::default).unwrap_err().0;
        assert_eq!(e.message, "the run needs 11.1 GB of memory, and this machine has 11.0 GB available");
        assert_eq!(
            e.help.as_deref(),
            Some(
                "4.00 GB for the weights, 1.00 GB for the values of 1000 rows in one pass, 6.00 GB for what later \
                 tokens read of 9000 rows; use shorter or fewer texts, or use a machine with more memory"
            )
        );
    }

    #[test]
    fn a_large_weight_counts_while_it_is_read() {
        let needs = Needs { weights: 1_000_000_000, reading: 2_000_000_000, ..Needs::default() };
        let limit = Offer { bytes: 2_500_000_000, limit: Limit::AddressSpace };
        let e = needs.fit(limit, Ways::default).unwrap_err().0;
        assert!(
            e.help.is_some_and(|h| h.contains("2.00 GB for the largest of them while it is read; use a smaller model"))
        );
    }

    #[test]
    fn only_what_applies_is_advised() {
        let all = Ways { stored: true, caches: vec!["f16", "q8_0"], chunk: true, reference: false };
        let none = Ways::default();
        let said = |ways: &Ways, kind, grows| ways.less(&[kind], grows, Limit::Asked);
        let memory = "or allow more with `--memory`";
        for (kind, grows, much, little) in [
            (Kind::Weights, false, "leave out `--weights f32`, ", "use a smaller model or one in fewer bits, "),
            (Kind::Buffers, false, "take fewer rows in one pass with `--chunk`, ", "use shorter or fewer texts, "),
            (
                Kind::Caches,
                false,
                "store what later tokens read with `--cache f16` or `--cache q8_0`, ",
                "use shorter or fewer texts, ",
            ),
            (
                Kind::Caches,
                true,
                "store what later tokens read with `--cache f16` or `--cache q8_0`, use shorter or fewer texts, ",
                "generate fewer tokens, ",
            ),
        ] {
            assert_eq!(said(&all, kind, grows), format!("{much}{little}{memory}"));
            if !grows {
                assert_eq!(said(&none, kind, grows), format!("{little}{memory}"));
            }
        }
        let several = all.less(&[Kind::Weights, Kind::Buffers, Kind::Outputs], false, Limit::Asked);
        let weights = "leave out `--weights f32`, take fewer rows in one pass with `--chunk`, use a smaller model";
        assert!(several.starts_with(weights), "{several}");
        let reference = Ways { reference: true, ..all };
        assert!(said(&reference, Kind::Buffers, false).starts_with("execute it with `--backend "));
        assert!(!said(&reference, Kind::Buffers, false).contains("--chunk"));
    }
}
