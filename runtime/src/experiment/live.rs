//! Runs in progress: prompts in chunks, then token by token, all of them side by side.

use super::phase::{PhaseOptions, Prepared};
use super::sample::sample;
use super::session::Session;
use crate::engine::{Engine, Extend, RowCount, RowReceipt, StepResult};
use crate::error::Error;
use crate::interrupt;
use crate::progress::Bar;
use crate::tokens::Stream;
use std::collections::HashMap;
use std::sync::Arc;
use std::rc::Rc;
use steer_compiler::elaborate::{Alignment, Encoded, GenerateOptions, Place, Sequence};
use steer_compiler::plan::EditId;
use steer_lang::codes;

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
    /// The statement and the prompt, for the key of every draw.
    pub key: [u64; 2],
    /// The output that gives the logits.
    pub logits: usize,
}

/// What the runs of a phase gave.
#[derive(Default)]
pub struct Gathered {
    /// By run, output and position.
    pub values: HashMap<(usize, usize, usize), Arc<[f32]>>,
    /// By run: the new tokens.
    pub generated: Vec<Vec<u32>>,
    pub texts: Vec<String>,
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
    done: bool,
}

impl Live<'_> {
    fn sequence(&self) -> Sequence<'_> {
        let Encoded { bos, turns, .. } = &*self.encoded;
        let (text, ranges, turns) = (&self.text, &self.ranges, turns.as_deref());
        Sequence { prompt: self.prompt, len: self.tokens.len(), bos: *bos, text, ranges, turns }
    }
}

/// Runs everything that is asked for. `on_text` is given new text of a run as it comes.
pub fn run(
    session: &Session,
    prepared: &Prepared,
    engine: &mut dyn Engine,
    asks: &[Ask],
    options: &PhaseOptions,
    on_text: &mut dyn FnMut(usize, &str),
) -> Result<Gathered, Error> {
    let outputs = prepared.plan.outputs.len();
    let mut gathered = Gathered::default();
    let mut live = start(prepared, asks);
    for (i, l) in live.iter_mut().enumerate() {
        if l.tokens.is_empty() {
            return Err(Error::new(codes::BAD_TOKENIZER, "the model has no tokenizer, so texts cannot be run")
                .help("put its tokenizer.json beside config.json"));
        }
        if let (Some(t), Some(Ask { grow: Some(_), .. })) = (&session.tokens, asks.get(i)) {
            l.stream = Some(Stream::new(t, &l.tokens)?);
        }
    }
    gathered.generated = vec![Vec::new(); live.len()];
    gathered.texts = vec![String::new(); live.len()];
    prompts(prepared, engine, asks, options, outputs, &mut live, &mut gathered)?;
    if !gathered.stopped {
        grow(session, prepared, engine, asks, options, outputs, &mut live, &mut gathered, on_text)?;
    }
    for (i, l) in live.iter().enumerate() {
        // A token that was generated last and not handed over has no row.
        let rows = l.fed.max(l.prompt);
        for (edit, place) in prepared.engine_runs[i].edits.iter().zip(&prepared.places[i]) {
            let count = place.on.rows(&l.sequence()).iter().take(rows).filter(|b| **b).count();
            gathered.selected.insert((i, edit.edit), count as u64);
        }
    }
    for (i, l) in live.into_iter().enumerate() {
        if let Some(s) = l.stream {
            let rest = s.finish()?;
            if !rest.is_empty() {
                on_text(i, &rest);
                gathered.texts[i].push_str(&rest);
            }
        }
    }
    Ok(gathered)
}

/// The runs of a phase before their first row.
fn start<'a>(prepared: &Prepared, asks: &[Ask]) -> Vec<Live<'a>> {
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
            // Rows behind the last one that is read are of no use.
            needed: if grows { e.tokens.len() } else { read },
            fed: 0,
            stream: None,
            done: !grows,
        });
    }
    // A run that patches are taken from is needed as far as they reach; simply all of it.
    for donor in prepared.engine_runs.iter().flat_map(|r| &r.edits).filter_map(|e| e.donor) {
        live[donor].needed = live[donor].prompt;
    }
    live
}

/// All prompts in one pass, as they would be handed to an engine.
pub fn first_work(prepared: &Prepared, asks: &[Ask]) -> Vec<Extend> {
    let live = start(prepared, asks);
    let all = live.iter().enumerate().filter(|(_, l)| l.needed > 0);
    all.map(|(run, l)| {
        let mut reads = asks.get(run).map_or_else(Vec::new, |a| a.reads.clone());
        reads.resize(prepared.plan.outputs.len(), Vec::new());
        if let Some(g) = asks.get(run).and_then(|a| a.grow.as_ref()) {
            reads[g.logits].push(l.prompt - 1);
        }
        extend(prepared, run, l, 0, l.needed, reads)
    })
    .collect()
}

/// All runs go through the same positions in one pass, so that equal rows meet.
fn prompts(
    prepared: &Prepared,
    engine: &mut dyn Engine,
    asks: &[Ask],
    options: &PhaseOptions,
    outputs: usize,
    live: &mut [Live],
    gathered: &mut Gathered,
) -> Result<(), Error> {
    let longest = live.iter().map(|l| l.needed).max().unwrap_or(0);
    // A row and the one that it takes from stand in one pass.
    let apart = prepared.places.iter().flatten().any(|p| p.from.as_ref().is_some_and(|f| f.by != Alignment::Index));
    let chunk = if apart { longest } else { options.chunk };
    let mut bar = Bar::new("prompts", longest as u64);
    let clock = std::time::Instant::now();
    let mut start = 0;
    while start < longest {
        if interrupt::requested() {
            gathered.stopped = true;
            break;
        }
        let end = start.saturating_add(chunk.max(1)).min(longest);
        let mut work = Vec::new();
        for (run, l) in live.iter().enumerate() {
            let stop = end.min(l.needed);
            if start >= stop {
                continue;
            }
            let mut reads = vec![Vec::new(); outputs];
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
            gathered.prompt_rows += stop - start;
            work.push(extend(prepared, run, l, start, stop, reads));
        }
        let result = engine.extend(&work)?;
        keep(gathered, result);
        live.iter_mut().for_each(|l| l.fed = l.fed.max(end.min(l.needed)));
        bar.inc((end - start) as u64);
        start = end;
    }
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

fn keep(gathered: &mut Gathered, result: StepResult) {
    for v in result.values {
        gathered.values.insert((v.run, v.output, v.position), v.data);
    }
    gathered.receipts.extend(result.receipts);
    gathered.rows.computed += result.rows.computed;
    gathered.rows.naive += result.rows.naive;
}

#[allow(clippy::too_many_arguments)]
fn grow(
    session: &Session,
    prepared: &Prepared,
    engine: &mut dyn Engine,
    asks: &[Ask],
    options: &PhaseOptions,
    outputs: usize,
    live: &mut [Live],
    gathered: &mut Gathered,
    on_text: &mut dyn FnMut(usize, &str),
) -> Result<(), Error> {
    let most = asks.iter().filter_map(|a| a.grow.as_ref()).map(|g| g.options.max).max().unwrap_or(0);
    if most == 0 {
        return Ok(());
    }
    let eos = session.tokens.as_ref().map_or(&[][..], |t| t.eos());
    let mut bar = Bar::new("tokens", most as u64);
    let clock = std::time::Instant::now();
    for _ in 0..most {
        if interrupt::requested() {
            gathered.stopped = true;
            break;
        }
        let mut work = Vec::new();
        for (run, ask) in asks.iter().enumerate() {
            let (l, Some(g)) = (&mut live[run], &ask.grow) else { continue };
            if l.done {
                continue;
            }
            let last = l.tokens.len() - 1;
            // The values of grown rows are not asked for by anyone else.
            let key = (run, g.logits, last);
            let kept = ask.reads.get(g.logits).is_some_and(|r| r.contains(&last));
            let found = if kept { gathered.values.get(&key).cloned() } else { gathered.values.remove(&key) };
            let Some(logits) = found else {
                return Err(Error::new(codes::BACKEND, "no logits came back").help("this is a bug in steer"));
            };
            if let Some(bad) = logits.iter().position(|x| !x.is_finite()) {
                return Err(not_finite(&prepared.runs[run].label, last, bad));
            }
            let seed = options.seed.unwrap_or(g.options.seed);
            let token = sample(&logits, &g.options, seed, [g.key[0], g.key[1], last as u64]);
            if g.options.stop && eos.contains(&token) {
                l.done = true;
                continue;
            }
            gathered.generated[run].push(token);
            let mut piece = None;
            if let Some(s) = &mut l.stream {
                piece = s.push(token)?;
            }
            let from = l.text.len();
            if let Some(text) = &piece {
                l.text.push_str(text);
                gathered.texts[run].push_str(text);
                on_text(run, text);
            }
            l.tokens.push(token);
            l.ranges.push((from, l.text.len()));
            if gathered.generated[run].len() >= g.options.max {
                l.done = true;
                continue;
            }
            let at = l.tokens.len() - 1;
            let mut reads = vec![Vec::new(); outputs];
            reads[g.logits].push(at);
            gathered.new_rows += 1;
            l.fed = at + 1;
            work.push(extend(prepared, run, l, at, at + 1, reads));
        }
        if work.is_empty() {
            break;
        }
        keep(gathered, engine.extend(&work)?);
        bar.inc(1);
    }
    gathered.new_seconds = clock.elapsed().as_secs_f64();
    Ok(())
}

pub fn not_finite(label: &str, position: usize, entry: usize) -> Error {
    Error::new(codes::NOT_FINITE, format!("logit {entry} at position {position} of `{label}` is not a finite number"))
        .help("an edit may have blown it up: look at its receipt with a smaller strength, and at divisions by a norm that can be 0")
}
