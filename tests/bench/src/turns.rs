//! Models in turns, each held against the machine's limit in the same turn: its speed drifts, so that times of
//! different moments say nothing of each other.

use crate::machine::{self, median};
use crate::model::Model;
use std::hint::black_box;
use std::time::Instant;

/// What is measured together: names with models, the first of which the others are held against.
pub type Models = [(String, Box<dyn Model>)];

/// Tokens that a model has seen before it makes new ones.
const BEFORE: usize = 16;

/// One turn of all models.
pub struct Turn {
    /// By model.
    pub seconds: Vec<f64>,
    /// What the machine can do in a second, measured beside each model.
    pub limits: Vec<f64>,
}

/// The medians over the turns, of one model.
pub struct Figures {
    pub tokens_per_second: f64,
    /// The fastest turn.
    pub best: f64,
    /// Of the machine's limit.
    pub share: f64,
    /// Of the time of the first model in the same turn.
    pub time: f64,
}

/// Prompts of these tokens. Who begins moves on from turn to turn; the first turn warms up.
pub fn prompts(models: &mut Models, turns: usize, threads: usize, tokens: &[u32]) -> Result<Vec<Turn>, String> {
    let n = models.len();
    let mut turn = |turn: usize| {
        let (mut seconds, mut limits) = (vec![0.0; n], vec![0.0; n]);
        let mut before = machine::peak(threads);
        for at in (0..n).map(|i| (turn + i) % n) {
            let m = &mut models[at].1;
            m.begin()?;
            let clock = Instant::now();
            black_box(m.extend(tokens)?);
            seconds[at] = clock.elapsed().as_secs_f64();
            let after = machine::peak(threads);
            limits[at] = (before + after) / 2.0;
            before = after;
        }
        Ok(Turn { seconds, limits })
    };
    turn(0)?;
    (1..=turns).map(turn).collect()
}

/// New tokens one by one, of which all models make each before any makes the next, so that they meet the same moments.
pub fn new_tokens(
    models: &mut Models,
    turns: usize,
    threads: usize,
    tokens: &[u32],
    count: usize,
) -> Result<Vec<Turn>, String> {
    let numbers = machine::numbers();
    let n = models.len();
    let mut turn = |turn: usize| {
        let mut seconds = vec![0.0; n];
        let mut reading = 0.0;
        for (_, m) in models.iter_mut() {
            m.begin()?;
            m.extend(&tokens[..BEFORE])?;
        }
        for (step, token) in tokens[BEFORE..BEFORE + count].iter().enumerate() {
            reading += 1.0 / machine::read(threads, &numbers);
            for at in (0..n).map(|i| (turn + step + i) % n) {
                let clock = Instant::now();
                black_box(models[at].1.extend(&[*token])?);
                seconds[at] += clock.elapsed().as_secs_f64();
            }
        }
        Ok(Turn { seconds, limits: vec![count as f64 / reading; n] })
    };
    turn(0)?;
    (1..=turns).map(turn).collect()
}

/// The figures of each model, which takes so much work for so many tokens.
pub fn figures(turns: &[Turn], tokens: usize, work: impl Fn(usize) -> f64) -> Vec<Figures> {
    let of = |i: usize| {
        let over = |f: &dyn Fn(&Turn) -> f64| median(turns.iter().map(f).collect());
        let fastest = turns.iter().map(|t| t.seconds[i]).fold(f64::INFINITY, f64::min);
        Figures {
            tokens_per_second: over(&|t| tokens as f64 / t.seconds[i]),
            best: tokens as f64 / fastest,
            share: over(&|t| work(i) / t.limits[i] / t.seconds[i]),
            time: over(&|t| t.seconds[i] / t.seconds[0]),
        }
    };
    (0..turns.first().map_or(0, |t| t.seconds.len())).map(of).collect()
}

/// The machine's limit over all turns and models.
pub fn limit(turns: &[Turn]) -> f64 {
    median(turns.iter().flat_map(|t| t.limits.iter().copied()).collect())
}
