//! What it costs to find equal rows, and what that saves: patches at every layer and position of the
//! GPT-2-small shape, without weights.

use serde_json::json;
use std::time::Instant;
use steer::engine::{Extend, Run, RunEdit};
use steer::rows;
use steer_compiler::elaborate::{EditBody, Instance, Library, Model, OutputSpec, Scope};
use steer_compiler::plan::EditId;
use steer_compiler::plan::rules::{Options, optimize};
use steer_compiler::program::Program;
use steer_compiler::schedule::schedule;
use steer_lang::{Sources, Span};

const LAYERS: u32 = 12;

pub fn measure() -> Result<(), String> {
    let program = program()?;
    println!("{} stretches", program.stretches.len());
    for (runs, tokens) in [(1, 1), (1, 128), (200, 15), (200, 128), (2000, 15), (2000, 128)] {
        let (runs, work) = sweep(runs, tokens);
        let mut times: Vec<f64> = (0..7)
            .map(|_| {
                let clock = Instant::now();
                std::hint::black_box(rows::count(&program, &runs, &work));
                clock.elapsed().as_secs_f64()
            })
            .collect();
        times.sort_by(f64::total_cmp);
        let (_, count) = rows::count(&program, &runs, &work);
        let each = count.computed as f64 / program.stretches.len() as f64;
        println!(
            "{:>5} runs of {tokens:>3} tokens: {:>8.2} ms, {:>5.1} ns a row and stretch; {:>8} of {:>8} rows computed, \
             some {:.0} ms at 100 GFLOP/s",
            runs.len() - 1,
            times[0] * 1e3,
            times[0] * 1e9 / count.naive as f64,
            count.computed,
            count.naive,
            each * 2.0 * 12.0 * 12.0 * 768.0 * 768.0 / 100e9 * 1e3,
        );
    }
    Ok(())
}

/// A patch of the residual stream before every layer, read by one logit.
fn program() -> Result<Program, String> {
    let config = json!({
        "architectures": ["GPT2LMHeadModel"], "vocab_size": 50257, "n_embd": 768, "n_layer": LAYERS, "n_head": 12,
        "n_positions": 1024, "n_ctx": 1024, "layer_norm_epsilon": 1e-5, "activation_function": "gelu_new",
    });
    let library = Library::standard(&mut Sources::default()).map_err(|d| d[0].message.clone())?;
    let model = Model::new(library, config).map_err(|d| d.message)?;
    let patch = |layer| Instance {
        name: format!("patch{layer}"),
        site: steer_compiler::elaborate::canonical(&format!("blocks[{layer}].resid.pre")),
        layer: Some(layer),
        params: Vec::new(),
        body: EditBody::Patch,
        bound: Default::default(),
        slot: 0,
        span: Span::default(),
    };
    let patches: Vec<Instance> = (0..LAYERS).map(patch).collect();
    let built = model.build(&patches, &[OutputSpec::Logit(7)], &Default::default(), &Scope::new());
    let mut plan = built.map_err(|d| d.message)?.plan;
    optimize(&mut plan, &Options::default(), &mut |_, _, _| {}).map_err(|e| e.to_string())?;
    Ok(schedule(&plan, &Options::default()).map_err(|d| d.message)?.0)
}

/// A donor, and runs on another prompt that are each patched at one layer and position.
fn sweep(runs: usize, tokens: usize) -> (Vec<Run>, Vec<Extend>) {
    let piece = |run: usize, text: u32, active: Vec<Vec<bool>>| Extend {
        run,
        tokens: (0..tokens as u32).map(|i| i % 50 + 50 * text).collect(),
        active,
        donor_positions: Vec::new(),
        reads: vec![if run == 0 { Vec::new() } else { vec![tokens - 1] }],
    };
    let (mut all, mut work) = (vec![Run::default()], vec![piece(0, 0, Vec::new())]);
    for i in 0..runs {
        let (layer, position) = (i as u32 % LAYERS, i / LAYERS as usize % tokens);
        all.push(Run { edits: vec![RunEdit { edit: EditId(layer), params: Vec::new(), donor: Some(0) }] });
        work.push(piece(i + 1, 1, vec![(0..tokens).map(|p| p == position).collect()]));
    }
    (all, work)
}
