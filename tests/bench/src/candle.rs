//! Beside candle-transformers' own model. Of those that run, StarCoder2 is the nearest to GPT-2: the same widths, heads,
//! norms, biases, MLP and tied unembedding, with rotary positions instead of learned ones. `starcoder2.steer` describes
//! it to steer, both read the same file, and their logits are compared first.

use crate::format::Format;
use crate::model::{Model, Source, Steer, here};
use crate::models::shape;
use crate::random::Random;
use crate::turns::{Figures, Models, figures, limit, new_tokens, prompts};
use crate::write;
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::starcoder2;
use std::path::Path;

/// StarCoder2 with its cache.
struct Candle {
    model: starcoder2::Model,
    len: usize,
}

impl Candle {
    fn open(folder: &Path, config: &serde_json::Value) -> candle_core::Result<Self> {
        let weights = std::fs::read(folder.join("model.safetensors"))?;
        let builder = VarBuilder::from_buffered_safetensors(weights, DType::F32, &Device::Cpu)?;
        let config: starcoder2::Config = serde_json::from_value(config.clone()).map_err(candle_core::Error::wrap)?;
        Ok(Candle { model: starcoder2::Model::new(&config, builder)?, len: 0 })
    }

    fn forward(&mut self, tokens: &[u32]) -> candle_core::Result<Vec<f32>> {
        let input = Tensor::new(tokens, &Device::Cpu)?.unsqueeze(0)?;
        let logits = self.model.forward(&input, self.len)?;
        self.len += tokens.len();
        logits.flatten_all()?.to_vec1()
    }
}

impl Model for Candle {
    fn begin(&mut self) -> Result<(), String> {
        self.model.clear_kv_cache();
        self.len = 0;
        Ok(())
    }

    fn extend(&mut self, tokens: &[u32]) -> Result<Vec<f32>, String> {
        self.forward(tokens).map_err(|e| e.to_string())
    }
}

pub fn measure(turns: usize, threads: usize) -> Result<(), String> {
    let folder = std::env::temp_dir().join(format!("steer-bench-{}", std::process::id()));
    let done = measure_in(&folder, turns, threads);
    let _ = std::fs::remove_dir_all(&folder);
    done
}

fn measure_in(folder: &Path, turns: usize, threads: usize) -> Result<(), String> {
    let shape = shape("starcoder2", None)?;
    let path = write::write(&shape, Format::F32, folder, false)?;
    let source = Source { arch: Some(here("starcoder2.steer")), ..Source::new(&path, "hooks.steer") };
    let plain = Steer::open(&source, &[], None)?;
    let mut models: Vec<(String, Box<dyn Model>)> = Vec::new();
    for hook in ["added", "rescaled"] {
        models.push((hook.into(), Box::new(Steer::open(&source, &[hook], Some(&plain))?)));
    }
    models.insert(0, ("steer".into(), Box::new(plain)));
    let candle = Candle::open(&path, &shape.config).map_err(|e| e.to_string())?;
    models.push(("candle".into(), Box::new(candle)));
    agree(&mut models, shape.vocab)?;

    let random = Random::named("tokens");
    let tokens: Vec<u32> = (0..512).map(|i| random.below(i, shape.vocab)).collect();
    for n in [128, 512] {
        let turns = prompts(&mut models, turns, threads, &tokens[..n])?;
        let figures = figures(&turns, n, |_| shape.operations(n));
        print(&format!("prompt of {n} tokens, of {:.0} GFLOP/s", limit(&turns) / 1e9), &models, &figures);
    }
    let turns = new_tokens(&mut models, turns, threads, &tokens, 64)?;
    let figures = figures(&turns, 64, |_| 64.0 * shape.bytes(Format::F32));
    print(&format!("64 new tokens after 16, of {:.1} GB/s", limit(&turns) / 1e9), &models, &figures);
    Ok(())
}

/// Checks that candle and steer compute the same.
fn agree(models: &mut Models, vocab: usize) -> Result<(), String> {
    let random = Random::named("agree");
    let tokens: Vec<u32> = (0..48).map(|i| random.below(i, vocab)).collect();
    let mut logits = Vec::new();
    for (_, m) in models.iter_mut().filter(|(name, _)| name == "steer" || name == "candle") {
        m.begin()?;
        m.extend(&tokens[..40])?;
        let mut last = Vec::new();
        for t in &tokens[40..] {
            last = m.extend(&[*t])?;
        }
        logits.push(last);
    }
    let most = logits[0].iter().fold(0.0f32, |m, x| m.max(x.abs()));
    let apart = logits[0].iter().zip(&logits[1]).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
    println!("logits of candle and steer are at most {apart:.1e} apart, of {most:.1}\n");
    if apart < 1e-4 * most { Ok(()) } else { Err("they do not compute the same".into()) }
}

fn print(title: &str, models: &Models, figures: &[Figures]) {
    println!("{title}");
    for ((name, _), f) in models.iter().zip(figures) {
        println!(
            "    {name:<12} {:>7.1} tokens/s, at best {:>7.1}   {:>3.0}% of the machine   time {:>6.1}%",
            f.tokens_per_second,
            f.best,
            100.0 * f.share,
            100.0 * f.time
        );
    }
    println!();
}
