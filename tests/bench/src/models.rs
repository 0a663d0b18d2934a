//! Models of published shapes in several formats, plain and with hooks.

use crate::format::Format;
use crate::model::{self, Model, Source, Steer, activations};
use crate::random::Random;
use crate::shapes::{Cut, Shape};
use crate::turns::{Figures, Models, figures, limit, new_tokens, prompts};
use crate::write;
use std::path::{Path, PathBuf};
use steer_kernels::Activations;

/// What the command line says.
#[derive(clap::Args)]
pub struct Options {
    /// Shapes to measure
    #[arg(long, value_delimiter = ',', default_values_t = default_shapes())]
    shape: Vec<String>,
    /// Formats of their weights
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["f32", "bf16", "q8_0", "q4_k"])]
    format: Vec<Format>,
    /// Hooks beside the plain model
    #[arg(long, value_delimiter = ',', default_values = ["added", "rescaled", "projected", "feature"])]
    hooks: Vec<String>,
    /// What products read of rows: f32, bf16, or by quantized weights q8_0
    #[arg(long, value_parser = activations, default_value = "f32")]
    activations: Activations,
    /// Turns that the medians are over
    #[arg(long, default_value_t = 5)]
    turns: usize,
    /// Tokens of a prompt, 0 for none
    #[arg(long, default_value_t = 512)]
    prompt: usize,
    /// New tokens of a turn, 0 for none
    #[arg(long, default_value_t = 16)]
    new: usize,
    /// Layers, where not all of them are wanted
    #[arg(long, value_parser = model::layers)]
    layers: Option<usize>,
    /// Where checkpoints are written; they are deleted after use
    #[arg(long)]
    folder: Option<PathBuf>,
}

fn default_shapes() -> Vec<String> {
    ["qwen2.5-0.5b", "gpt2", "llama-3.2-1b", "mamba-130m"].map(String::from).to_vec()
}

pub fn measure(options: &Options, threads: usize) -> Result<(), String> {
    for name in &options.shape {
        let shape = shape(name, options.layers)?;
        for format in &options.format {
            let base = options.folder.clone().unwrap_or_else(std::env::temp_dir);
            let folder = base.join(format!("steer-bench-{}", std::process::id()));
            let done = one(options, threads, &shape, *format, &folder);
            let _ = std::fs::remove_dir_all(&folder);
            done?;
        }
    }
    Ok(())
}

/// A shape by its name.
pub fn shape(name: &str, layers: Option<usize>) -> Result<Shape, String> {
    let all = || Shape::names().collect::<Vec<_>>().join(", ");
    let cut = Cut { layers, vocab: None };
    Shape::named(name, cut).ok_or_else(|| format!("no shape `{name}`; there are {}", all()))
}

fn one(options: &Options, threads: usize, shape: &Shape, format: Format, folder: &Path) -> Result<(), String> {
    let path = write::write(shape, format, folder, false)?;
    let mut source = Source::new(&path, "hooks.steer");
    source.set.push(("middle".into(), shape.middle().to_string()));
    source.rounding.activations = options.activations;
    let plain = Steer::open(&source, &[], None)?;
    let mut models: Vec<(String, Box<dyn Model>)> = Vec::new();
    for hook in &options.hooks {
        models.push((hook.clone(), Box::new(Steer::open(&source, &[hook], Some(&plain))?)));
    }
    models.insert(0, ("plain".into(), Box::new(plain)));
    let random = Random::named("tokens");
    let tokens: Vec<u32> = (0..options.prompt.max(16 + options.new)).map(|i| random.below(i, shape.vocab)).collect();
    differ(&mut models, &tokens[..16])?;

    let extra = |models: &Models, i: usize| if models[i].0 == "feature" { shape.dictionary() } else { (0.0, 0.0) };
    let mut tables: [Option<(Vec<Figures>, f64)>; 2] = [None, None];
    if options.new > 0 {
        let turns = new_tokens(&mut models, options.turns, threads, &tokens, options.new)?;
        let work = |i: usize| (shape.bytes(format) + extra(&models, i).0) * options.new as f64;
        tables[0] = Some((figures(&turns, options.new, work), limit(&turns)));
    }
    if options.prompt > 0 {
        let turns = prompts(&mut models, options.turns, threads, &tokens[..options.prompt])?;
        let work = |i: usize| shape.operations(options.prompt) + extra(&models, i).1 * options.prompt as f64;
        tables[1] = Some((figures(&turns, options.prompt, work), limit(&turns)));
    }
    print(shape, format, options, &models, &tables);
    Ok(())
}

/// Each hook changes the logits, and all of them are numbers.
fn differ(models: &mut Models, tokens: &[u32]) -> Result<(), String> {
    let mut all: Vec<Vec<f32>> = Vec::new();
    for (name, m) in models.iter_mut() {
        m.begin()?;
        let logits = m.extend(tokens)?;
        if logits.iter().any(|x| !x.is_finite()) {
            return Err(format!("{name}: logits that are no numbers"));
        }
        if all.contains(&logits) {
            return Err(format!("{name}: the same logits as another"));
        }
        all.push(logits);
    }
    Ok(())
}

fn print(shape: &Shape, format: Format, options: &Options, models: &Models, tables: &[Option<(Vec<Figures>, f64)>; 2]) {
    println!(
        "{}, {}: {:.0} MB a new token, {:.0} GFLOP a prompt of {}",
        shape.name,
        format.name(),
        shape.bytes(format) / 1e6,
        shape.operations(options.prompt) / 1e9,
        options.prompt
    );
    let limits = tables.iter().map(|t| t.as_ref().map_or(0.0, |t| t.1 / 1e9)).collect::<Vec<_>>();
    println!(
        "    {:<12} {:>36}   {:>36}",
        "",
        format!("new tokens, of {:.1} GB/s", limits[0]),
        format!("prompt, of {:.0} GFLOP/s", limits[1])
    );
    for (i, (name, _)) in models.iter().enumerate() {
        let part = |t: &Option<(Vec<Figures>, f64)>| {
            let Some((all, _)) = t else { return format!("{:>36}", "") };
            let f = &all[i];
            format!(
                "{:>8.1}/s (best {:>7.1}) {:>4.0}% {:>7.1}%",
                f.tokens_per_second,
                f.best,
                100.0 * f.share,
                100.0 * f.time
            )
        };
        println!("    {name:<12} {}   {}", part(&tables[0]), part(&tables[1]));
    }
    println!();
}
