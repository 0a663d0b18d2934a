//! State space models and mixtures of experts under measurement, one step at a time as `mixers.py` asks for it on the
//! standard input: `steer-mixers FOLDER SCRIPT`. Each line is a question, each answer a line of JSON:
//!
//! - `load NAME HOOK...`: opens the model under a name, with hooks of the script; the seconds that it took;
//! - `drop NAME`;
//! - `prompt NAME N`: the seconds of a prompt of N tokens, and `decode NAME N M`: of M tokens after N, one by one;
//! - `logits NAME N M`: those of the last of M tokens after N;
//! - `limits`: operations and bytes that the machine can do and read in a second now.

mod machine;
#[path = "steer.rs"]
mod steer_model;

use serde_json::{Value, json};
use std::collections::HashMap;
use std::hint::black_box;
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::time::Instant;
use steer_model::{Model, Steer};

/// Tokens that both sides can make up.
fn tokens(n: usize) -> Vec<u32> {
    (0..n as u32).map(|i| (i * 7919 + 13) % 30011).collect()
}

struct Bench {
    folder: PathBuf,
    script: String,
    models: HashMap<String, Steer>,
    threads: usize,
    numbers: Vec<f32>,
}

fn main() -> Result<(), String> {
    let mut args = std::env::args().skip(1);
    let (Some(folder), Some(script)) = (args.next(), args.next()) else {
        return Err("usage: steer-mixers FOLDER SCRIPT, with questions on the standard input".into());
    };
    let threads = rayon::current_num_threads();
    let numbers = vec![1.0; 50 << 20];
    let mut bench = Bench { folder: folder.into(), script, models: HashMap::new(), threads, numbers };
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
                let model = Steer::open(&self.folder, &self.script, None, hooks)?;
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
                model.begin();
                let clock = Instant::now();
                black_box(model.extend(&tokens));
                Ok(json!(clock.elapsed().as_secs_f64()))
            }
            ([what @ ("decode" | "logits"), name, ..], Some(n), Some(m)) => {
                let model = self.model(name)?;
                let tokens = tokens(n + m);
                model.begin();
                model.extend(&tokens[..n]);
                let clock = Instant::now();
                let mut last = Vec::new();
                for t in &tokens[n..] {
                    last = black_box(model.extend(&[*t]));
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
