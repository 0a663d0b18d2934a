//! A model under measurement, one step at a time as a program in Python asks for it on the standard input. Each line is
//! a question, each answer a line of JSON:
//!
//! - `load NAME HOOK...`: opens the model under a name, with hooks of the script; the seconds that it took;
//! - `drop NAME`;
//! - `prompt NAME N`: the seconds of a prompt of N tokens, and `decode NAME N M`: of M tokens after N, one by one;
//! - `logits NAME N M`: those of the last of M tokens after N;
//! - `start NAME N`: N tokens, and `next NAME`: the seconds of one more, so that several sides can take turns;
//! - `spent NAME N M`: what M tokens after N, one by one, took by kind of work, the most first: kind, name, seconds, bytes a
//!   second; the model is measured from then on, which itself takes time;
//! - `limits`: operations and bytes that the machine can do and read in a second now.

use crate::machine;
use crate::model::{Model, Source, Steer};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::io::{BufRead, Write};
use std::time::Instant;
use steer_kernels::Area;

/// Tokens that both sides can make up.
fn tokens(n: usize) -> Vec<u32> {
    (0..n as u32).map(|i| (i * 7919 + 13) % 30011).collect()
}

struct Bench {
    source: Source,
    models: BTreeMap<String, Steer>,
    /// By model: the tokens that it has seen.
    at: BTreeMap<String, usize>,
    threads: usize,
    numbers: Area,
}

pub fn serve(source: Source, threads: usize) -> Result<(), String> {
    let mut bench =
        Bench { source, models: BTreeMap::new(), at: BTreeMap::new(), threads, numbers: machine::numbers() };
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|e| e.to_string())?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let answer = bench.answer(&words).unwrap_or_else(|e| json!({ "error": e }));
        println!("{answer}");
        std::io::stdout().flush().map_err(|e| e.to_string())?;
    }
    Ok(())
}

impl Bench {
    fn answer(&mut self, words: &[&str]) -> Result<Value, String> {
        let number = |at: usize| words.get(at).and_then(|w| w.parse::<usize>().ok()).filter(|n| *n > 0);
        let clock = Instant::now();
        match (words, number(2), number(3)) {
            (["load", name, hooks @ ..], ..) => {
                let model = Steer::open(&self.source, hooks, self.models.values().next())?;
                self.models.insert(name.to_string(), model);
                Ok(json!(clock.elapsed().as_secs_f64()))
            }
            (["drop", name], ..) => {
                self.models.remove(*name);
                Ok(json!(null))
            }
            (["limits"], ..) => Ok(json!([machine::peak(self.threads), machine::read(self.threads, &self.numbers)])),
            (["prompt", name, _], Some(n), _) => {
                let model = self.model(name)?;
                let tokens = tokens(n);
                model.begin()?;
                let clock = Instant::now();
                black_box(model.extend(&tokens)?);
                Ok(json!(clock.elapsed().as_secs_f64()))
            }
            (["start", name, _], Some(n), _) => {
                let model = self.model(name)?;
                model.begin()?;
                model.extend(&tokens(n))?;
                self.at.insert(name.to_string(), n);
                Ok(json!(clock.elapsed().as_secs_f64()))
            }
            (["next", name], ..) => {
                let at = self.at.get_mut(*name).ok_or_else(|| format!("`{name}` has not started"))?;
                *at += 1;
                let token = tokens(*at).pop().unwrap_or_default();
                let model = self.model(name)?;
                let clock = Instant::now();
                black_box(model.extend(&[token])?);
                Ok(json!(clock.elapsed().as_secs_f64()))
            }
            (["spent", name, ..], Some(n), Some(m)) => {
                let model = self.model(name)?;
                let tokens = tokens(n + m);
                model.measure();
                model.begin()?;
                model.extend(&tokens[..n])?;
                let mut work: BTreeMap<String, (f64, u64)> = BTreeMap::new();
                for t in &tokens[n..] {
                    model.extend(&[*t])?;
                    for spent in model.spent() {
                        let (seconds, bytes) = work.entry(format!("{:?} {}", spent.kind, spent.name)).or_default();
                        *seconds += spent.seconds;
                        *bytes += spent.bytes;
                    }
                }
                let mut work: Vec<_> = work.into_iter().collect();
                work.sort_by(|a, b| b.1.0.total_cmp(&a.1.0));
                Ok(work.into_iter().map(|(of, (s, b))| json!([of, s, b as f64 / s])).collect())
            }
            ([what @ ("decode" | "logits"), name, ..], Some(n), Some(m)) => {
                let model = self.model(name)?;
                let tokens = tokens(n + m);
                model.begin()?;
                model.extend(&tokens[..n])?;
                let clock = Instant::now();
                let mut last = Vec::new();
                for t in &tokens[n..] {
                    last = black_box(model.extend(&[*t])?);
                }
                Ok(if *what == "logits" { json!(last) } else { json!(clock.elapsed().as_secs_f64()) })
            }
            _ => Err(format!("no question: {words:?}")),
        }
    }

    fn model(&mut self, name: &str) -> Result<&mut Steer, String> {
        self.models.get_mut(name).ok_or_else(|| format!("no model `{name}`"))
    }
}
