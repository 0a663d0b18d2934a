//! Runs in progress: prompts in chunks, then token by token, all of them side by side.

use super::phase::{PhaseOptions, Prepared};
use super::sample::sample;
use super::score::Score;
use super::session::{Session, one};
use super::spent::Passes;
use super::stop::Held;
use crate::engine::{Engine, Extend, RowCount, RowReceipt};
use crate::error::Error;
use crate::interrupt;
use crate::progress::{Bar, Unit};
use crate::tokens::{self, Stream};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;
use steer_compiler::elaborate::{Alignment, Encoded, GenerateOptions, Place, Sequence};
use steer_compiler::plan::EditId;
use steer_lang::{Diagnostics, codes};

/// What is asked of a run.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    /// By output of the Plan: the positions of the prompt that are read.
    pub reads: Vec<Vec<usize>>,
    pub grow: Option<Grow>,
}

/// How a run grows.
#[derive(Clone, Debug)]
pub struct Grow {
    pub options: GenerateOptions,
    /// The prompt, and which of the statement's texts with this prompt it is, for the key of every draw.
    pub key: [u64; 2],
    /// The output that gives the logits.
    pub logits: usize,
    pub score: Option<Score>,
}

/// What the runs of a phase gave.
#[derive(Default)]
pub struct Gathered {
    /// By run, output and position.
    pub values: HashMap<(usize, usize, usize), Arc<[f32]>>,
    /// By run: the new tokens.
    pub generated: Vec<Vec<u32>>,
    pub texts: Vec<String>,
    /// By run: whether no more text comes of it.
    pub ended: Vec<bool>,
    /// By run: what a complete text is scored with.
    pub scores: Vec<Option<f64>>,
    /// Whether all values that are read of prompts are there.
    pub prompts_done: bool,
    pub receipts: Vec<RowReceipt>,
    /// By run and edit: the rows that it selects, computed or not.
    pub selected: HashMap<(usize, EditId), u64>,
    pub rows: RowCount,
    pub stopped: bool,
    /// Rows handed to the engine for prompts and for new tokens, and the seconds they took.
    pub prompt_rows: usize,
    pub new_rows: usize,
    pub prompt_seconds: f64,
    pub new_seconds: f64,
    /// What they were spent on, where that is measured: those of prompts, and those of new tokens.
    pub spent: [Passes; 2],
}

struct Live<'a> {
    tokens: Vec<u32>,
    prompt: usize,
    /// The prompt as it was before it grew.
    encoded: Rc<Encoded>,
    text: String,
    ranges: Vec<(usize, usize)>,
    /// How far the prompt has to be run.
    needed: usize,
    /// Rows handed to the engine.
    fed: usize,
    stream: Option<Stream<'a>>,
    held: Held,
    done: bool,
}

impl Live<'_> {
    fn sequence(&self) -> Sequence<'_> {
        let Encoded { bos, turns, .. } = &*self.encoded;
        let (text, ranges, turns) = (&self.text, &self.ranges, turns.as_deref());
        Sequence { prompt: self.prompt, len: self.tokens.len(), bos: *bos, text, ranges, turns, fields: None }
    }
}

/// Called with the share of the work that is done.
pub type Progress = Arc<dyn Fn(f64) + Send + Sync>;

/// Who follows the runs of a phase.
pub struct Follow<'f> {
    /// Ends with the prompts.
    pub prompts: Progress,
    /// Whether new tokens have a progress bar; none, where their text is seen as it comes.
    pub tokens: bool,
    /// Is shown what there is after the prompts, and after each token.
    pub step: &'f mut dyn FnMut(&Gathered) -> Result<(), Diagnostics>,
}

/// Runs everything that is asked for.
pub fn run(
    session: &Session,
    prepared: &Prepared,
    engine: &mut dyn Engine,
    asks: &[Ask],
    options: &PhaseOptions,
    follow: &mut Follow,
) -> Result<Gathered, Diagnostics> {
    let mut asks = asks.to_vec();
    let recalled = options.warm.as_ref().map(|w| w.recall(session, prepared, &mut asks)).unwrap_or_default();
    let mut gathered = Gathered { values: recalled.values, receipts: recalled.receipts, ..Gathered::default() };
    let asks = &asks[..];
    let mut live = start(prepared, asks);
    for (i, l) in live.iter_mut().enumerate() {
        if l.tokens.is_empty() {
            let e = Error::new(codes::BAD_TOKENIZER, "the model has no tokenizer, so texts cannot be run");
            return Err(one(e.help(tokens::remedy(session.checkpoint.path()))));
        }
        if let (Some(t), Some(Ask { grow: Some(_), .. })) = (&session.tokens, asks.get(i)) {
            l.stream = Some(Stream::new(t, &l.tokens).map_err(one)?);
        }
    }
    gathered.generated = vec![Vec::new(); live.len()];
    gathered.texts = vec![String::new(); live.len()];
    gathered.scores = vec![None; live.len()];
    gathered.ended = live.iter().map(|l| l.done).collect();
    prompts(prepared, engine, asks, options, &follow.prompts, &mut live, &mut gathered).map_err(one)?;
    follow.prompts = Arc::new(|_| ());
    if gathered.prompts_done {
        (follow.step)(&gathered)?;
        grow(session, prepared, engine, asks, options, &mut live, &mut gathered, follow)?;
    }
    for (i, l) in live.iter_mut().enumerate() {
        // A token that was generated last and not handed over has no row.
        let rows = l.fed.max(l.prompt);
        for (edit, place) in prepared.engine_runs[i].edits.iter().zip(&prepared.places[i]) {
            let count = place.on.rows(&l.sequence()).iter().take(rows).filter(|b| **b).count();
            gathered.selected.insert((i, edit.edit), count as u64);
        }
        end(&mut gathered, i, l).map_err(one)?;
    }
    if let Some(warm) = options.warm.as_ref().filter(|_| !gathered.stopped) {
        warm.keep_runs(session, prepared, asks, &gathered.values, &gathered.receipts);
    }
    Ok(gathered)
}

/// Nothing more comes of a run: the rest of its text is all there is.
fn end(gathered: &mut Gathered, run: usize, l: &mut Live) -> Result<(), Error> {
    l.done = true;
    gathered.ended[run] = true;
    if let Some(s) = l.stream.take() {
        gathered.texts[run].push_str(&l.held.end(&s.finish()?));
    }
    Ok(())
}

/// The runs of a phase before their first row.
fn start<'a>(prepared: &Prepared, asks: &[Ask]) -> Vec<Live<'a>> {
    let whole = prepared.plan.is_whole();
    let mut live: Vec<Live> = Vec::new();
    for (i, run) in prepared.runs.iter().enumerate() {
        let e = &run.encoded;
        let ask = asks.get(i);
        let grows = ask.is_some_and(|a| a.grow.is_some());
        let read = ask.and_then(|a| a.reads.iter().flatten().copied().max()).map_or(0, |m| m + 1);
        live.push(Live {
            tokens: e.tokens.clone(),
            prompt: e.tokens.len(),
            encoded: Rc::clone(e),
            text: run.text.to_string(),
            ranges: e.ranges.clone(),
            // Rows behind the last one that is read are of no use, unless rows read those behind them.
            needed: if grows || (whole && read > 0) { e.tokens.len() } else { read },
            fed: 0,
            stream: None,
            held: ask.and_then(|a| a.grow.as_ref()).map_or_else(Held::default, |g| Held::new(&g.options.stops)),
            done: !grows,
        });
    }
    // A run that patches are taken from is needed as far as they reach; simply all of it.
    let mut open: Vec<usize> = (0..live.len()).filter(|run| live[*run].needed > 0).collect();
    while let Some(run) = open.pop() {
        for donor in prepared.engine_runs[run].edits.iter().filter_map(|e| e.donor) {
            if live[donor].needed < live[donor].prompt {
                live[donor].needed = live[donor].prompt;
                open.push(donor);
            }
        }
    }
    live
}

/// All prompts in one pass, as they would be handed to an engine.
pub fn first_work(prepared: &Prepared, asks: &[Ask]) -> Vec<Extend> {
    passes(prepared, asks, usize::MAX).next().unwrap_or_default()
}

/// The passes over all prompts, one after another.
pub fn passes<'a>(prepared: &'a Prepared, asks: &'a [Ask], chunk: usize) -> impl Iterator<Item = Vec<Extend>> + 'a {
    let live = start(prepared, asks);
    spans(longest(&live), self::chunk(prepared, chunk)).map(move |(start, end)| pass(prepared, asks, &live, start, end))
}

fn longest(live: &[Live]) -> usize {
    live.iter().map(|l| l.needed).max().unwrap_or(0)
}

/// The rows of a pass: all where a row takes from one at another position, since both stand in one pass, and where rows
/// read those behind them.
pub fn chunk(prepared: &Prepared, chunk: usize) -> usize {
    let apart = |p: &Rc<Place>| p.from.as_ref().is_some_and(|f| f.by != Alignment::Index);
    let whole = prepared.plan.is_whole() || prepared.places.iter().flatten().any(apart);
    if whole { usize::MAX } else { chunk }
}

/// The positions of each pass, from and to.
fn spans(longest: usize, chunk: usize) -> impl Iterator<Item = (usize, usize)> {
    let chunk = chunk.max(1);
    (0..longest).step_by(chunk).map(move |start| (start, start.saturating_add(chunk).min(longest)))
}

/// The rows of all prompts at these positions. All runs go through the same positions in one pass, so that
/// equal rows meet.
fn pass(prepared: &Prepared, asks: &[Ask], live: &[Live], start: usize, end: usize) -> Vec<Extend> {
    let mut work = Vec::new();
    for (run, l) in live.iter().enumerate() {
        let stop = end.min(l.needed);
        if start >= stop {
            continue;
        }
        let mut reads = vec![Vec::new(); prepared.plan.outputs.len()];
        if let Some(ask) = asks.get(run) {
            for (r, wanted) in reads.iter_mut().zip(&ask.reads) {
                r.extend(wanted.iter().copied().filter(|p| (start..stop).contains(p)));
            }
            if let Some(g) = &ask.grow
                && stop == l.prompt
                && !reads[g.logits].contains(&(l.prompt - 1))
            {
                reads[g.logits].push(l.prompt - 1);
            }
        }
        work.push(extend(prepared, run, l, start, stop, reads));
    }
    work
}

fn prompts(
    prepared: &Prepared,
    engine: &mut dyn Engine,
    asks: &[Ask],
    options: &PhaseOptions,
    progress: &Progress,
    live: &mut [Live],
    gathered: &mut Gathered,
) -> Result<(), Error> {
    let all = live.iter().map(|l| l.needed).sum::<usize>().max(1) as f64;
    let clock = Instant::now();
    for (start, end) in spans(longest(live), chunk(prepared, options.chunk)) {
        if interrupt::requested() {
            gathered.stopped = true;
            break;
        }
        let work = pass(prepared, asks, live, start, end);
        let (before, rows) = (gathered.prompt_rows, work.iter().map(|w| w.tokens.len()).sum::<usize>());
        let seen = Arc::clone(progress);
        engine.watch(Some(Box::new(move |part| seen((before as f64 + part * rows as f64) / all))));
        let done = step(engine, &work, gathered);
        engine.watch(None);
        if !done? {
            break;
        }
        gathered.prompt_rows += rows;
        progress(gathered.prompt_rows as f64 / all);
        live.iter_mut().for_each(|l| l.fed = l.fed.max(end.min(l.needed)));
    }
    gathered.prompts_done = !gathered.stopped;
    gathered.prompt_seconds = clock.elapsed().as_secs_f64();
    Ok(())
}

fn extend(prepared: &Prepared, run: usize, l: &Live, start: usize, stop: usize, reads: Vec<Vec<usize>>) -> Extend {
    let seq = l.sequence();
    let mut of_place: HashMap<*const Place, Vec<bool>> = HashMap::new();
    let (mut active, mut donors) = (Vec::new(), Vec::new());
    for place in &prepared.places[run] {
        let rows = of_place.entry(Rc::as_ptr(place)).or_insert_with(|| place.on.rows(&seq));
        active.push(rows[start..stop].to_vec());
        donors.push(match &place.from {
            Some(from) if from.by != Alignment::Index => {
                let rows = from.by.donors(&l.tokens[..l.prompt], &from.run.encoded.tokens);
                // Rows without a donor are not selected.
                (start..stop).map(|p| rows.get(p).copied().flatten().unwrap_or(p)).collect()
            }
            _ => Vec::new(),
        });
    }
    Extend { run, tokens: l.tokens[start..stop].to_vec(), active, donor_positions: donors, reads }
}

/// Lets an engine compute some rows and takes over what they gave; false where ctrl-C came between.
fn step(engine: &mut dyn Engine, work: &[Extend], gathered: &mut Gathered) -> Result<bool, Error> {
    let result = match engine.extend(work) {
        Err(e) if e.0.code == codes::STOPPED => {
            gathered.stopped = true;
            return Ok(false);
        }
        result => result?,
    };
    for v in result.values {
        gathered.values.insert((v.run, v.output, v.position), v.data);
    }
    gathered.receipts.extend(result.receipts);
    gathered.rows += result.rows;
    let rows = work.iter().map(|w| w.tokens.len()).sum();
    gathered.spent[usize::from(gathered.prompts_done)].pass(rows, result.spent);
    Ok(true)
}

#[allow(clippy::too_many_arguments)]
fn grow(
    session: &Session,
    prepared: &Prepared,
    engine: &mut dyn Engine,
    asks: &[Ask],
    options: &PhaseOptions,
    live: &mut [Live],
    gathered: &mut Gathered,
    follow: &mut Follow,
) -> Result<(), Diagnostics> {
    let most = asks.iter().filter_map(|a| a.grow.as_ref()).map(|g| g.options.max).max().unwrap_or(0);
    if most == 0 {
        return Ok(());
    }
    let eos = session.tokens.as_ref().map_or(&[][..], |t| t.eos());
    // Texts that end by themselves make it fewer.
    let bar = if follow.tokens { Bar::new("new tokens, at most", Unit::Steps(most as u64)) } else { Bar::hidden() };
    for _ in 0..most {
        if interrupt::requested() {
            gathered.stopped = true;
            break;
        }
        let clock = Instant::now();
        let mut work = Vec::new();
        // Texts that are complete, whose scores may read one more row.
        let mut complete = Vec::new();
        for (run, ask) in asks.iter().enumerate() {
            let (l, Some(g)) = (&mut live[run], &ask.grow) else { continue };
            if l.done {
                continue;
            }
            let last = l.tokens.len() - 1;
            // The values of grown rows are not asked for by anyone else.
            let key = (run, g.logits, last);
            let scored = g.score.as_ref().map_or(&[][..], |s| &s.outputs);
            let kept = ask.reads.get(g.logits).is_some_and(|r| r.contains(&last)) || scored.contains(&g.logits);
            let found = if kept { gathered.values.get(&key).cloned() } else { gathered.values.remove(&key) };
            let Some(logits) = found else {
                return Err(one(Error::new(codes::BACKEND, "no logits came back").help("this is a bug in steer")));
            };
            if let Some(bad) = unusable(&logits) {
                return Err(one(not_finite(&prepared.runs[run].label, last, bad)));
            }
            let seed = options.seed.unwrap_or(g.options.seed);
            let token = sample(&logits, &l.tokens, &g.options, seed, [g.key[0], g.key[1], last as u64]);
            if g.options.stop && eos.contains(&token) {
                complete.push(run);
                continue;
            }
            gathered.generated[run].push(token);
            let piece = match &mut l.stream {
                Some(s) => s.push(token).map_err(one)?,
                None => None,
            };
            let from = l.text.len();
            let mut stops = false;
            if let Some(text) = &piece {
                l.text.push_str(text);
                let (seen, ends) = l.held.push(text);
                gathered.texts[run].push_str(&seen);
                stops = ends;
            }
            l.tokens.push(token);
            l.ranges.push((from, l.text.len()));
            if stops {
                // What is still in it comes behind the end.
                l.stream = None;
            }
            if stops || gathered.generated[run].len() >= g.options.max {
                complete.push(run);
                if scored.is_empty() {
                    continue;
                }
            }
            let at = l.tokens.len() - 1;
            let mut reads = vec![Vec::new(); prepared.plan.outputs.len()];
            reads[g.logits].push(at);
            scored.iter().filter(|o| **o != g.logits).for_each(|o| reads[*o].push(at));
            gathered.new_rows += 1;
            l.fed = at + 1;
            work.push(extend(prepared, run, l, at, at + 1, reads));
        }
        let (scored, plain): (Vec<_>, Vec<_>) =
            complete.into_iter().partition(|run| asks[*run].grow.as_ref().is_some_and(|g| g.score.is_some()));
        for run in plain {
            end(gathered, run, &mut live[run]).map_err(one)?;
        }
        gathered.new_seconds += clock.elapsed().as_secs_f64();
        (follow.step)(gathered)?;
        let clock = Instant::now();
        let done = work.is_empty() || step(engine, &work, gathered).map_err(one)?;
        for &run in scored.iter().filter(|_| done) {
            if let Some(score) = asks[run].grow.as_ref().and_then(|g| g.score.as_ref()) {
                let (l, of) = (&live[run], (run, &prepared.runs[run]));
                let value = score.of(&gathered.values, of, &l.sequence(), &l.tokens).map_err(one)?;
                gathered.scores[run] = Some(value);
            }
            end(gathered, run, &mut live[run]).map_err(one)?;
        }
        if !scored.is_empty() {
            // Nobody else reads values of runs that grow.
            gathered.values.retain(|of, _| !scored.contains(&of.0));
        }
        gathered.new_seconds += clock.elapsed().as_secs_f64();
        if work.is_empty() || !done {
            break;
        }
        bar.inc(1);
    }
    Ok(())
}

/// The entry because of which no token can be chosen. One of minus infinity is never chosen, and may be meant.
fn unusable(logits: &[f32]) -> Option<usize> {
    let bad = logits.iter().position(|x| x.is_nan() || *x == f32::INFINITY);
    bad.or_else(|| logits.iter().all(|x| *x == f32::NEG_INFINITY).then_some(0))
}

pub fn not_finite(label: &str, position: usize, entry: usize) -> Error {
    Error::new(codes::NOT_FINITE, format!("logit {entry} at position {position} of `{label}` is not a finite number"))
        .help("an edit may have blown it up: look at its receipt with a smaller strength, and at divisions by a norm that can be 0")
}
