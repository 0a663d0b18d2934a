//! Numbers kept in fewer bits than they are computed in, keys and values when they are stored and rows where products read
//! them: everyone reads the same, so nothing else changes a bit.

use std::collections::HashMap;
use std::sync::Arc;
use steer::engine::{Engine, Rounding};
use steer::rows::chooses;
use steer_compiler::backend::DEFAULT;
use steer_compiler::plan::rules::Options;
use steer_kernels::Activations;
use steer_kernels::attention::CacheFormat;
use steer_tests::fixture::{distance, folder, model, size};
use steer_tests::run::{Compiled, Feed, Outcome, all, compile_sites, engine, feed, no_tensors, rows_engine};

/// Grouped heads, a window, latent attention, experts, sinks, recurrences between attentions.
const MODELS: &[&str] = &[
    "models/tiny-llama",
    "models/tiny-gpt2",
    "parity/mistral-window",
    "parity/deepseek2-greedy",
    "parity/mixtral-top2",
    "parity/gptoss-plain",
    "parity/jamba-hub",
];

/// Models with blocks of whole numbers, every kind among them.
const QUANTIZED: &[&str] = &["gguf/quantized.gguf", "gguf/stored.gguf"];

/// Each rounding with a step of it, as a part of what is rounded: a number next to the middle of two steps may go either way.
const CACHES: [(Rounding, f32); 2] = [
    (Rounding { cache: CacheFormat::F16, activations: Activations::F32 }, 1.0 / 1024.0),
    (Rounding { cache: CacheFormat::Q8, activations: Activations::F32 }, 1.0 / 127.0),
];
const BF16: (Rounding, f32) = (Rounding { cache: CacheFormat::F32, activations: Activations::Bf16 }, 1.0 / 128.0);
const Q8: (Rounding, f32) = (Rounding { cache: CacheFormat::F32, activations: Activations::Q8 }, 1.0 / 127.0);

/// Models, and what is rounded in them.
fn cases() -> impl Iterator<Item = (&'static str, (Rounding, f32))> {
    let of = |models: &'static [&'static str], roundings: Vec<(Rounding, f32)>| {
        models.iter().flat_map(move |m| roundings.clone().into_iter().map(move |r| (*m, r)))
    };
    of(MODELS, [&CACHES[..], &[BF16]].concat()).chain(of(QUANTIZED, vec![BF16, Q8]))
}

type Values = HashMap<(usize, usize, usize), Arc<[f32]>>;

/// Two texts that begin alike.
fn feeds() -> Vec<Feed> {
    let tokens = |n: u32, last: u32| (0..n).map(|i| if i + 4 < n { 3 + (i * 7) % 36 } else { last + i }).collect();
    let texts: [Vec<u32>; 2] = [tokens(23, 1), tokens(27, 9)];
    texts.iter().map(|t| Feed::plain(t)).collect()
}

fn run(engine: &mut dyn Engine, compiled: &Compiled, rounding: Rounding, feeds: &[Feed], cuts: &[usize]) -> Values {
    engine.round(rounding);
    let outcome: Outcome = feed(engine, feeds, cuts, compiled.plan.outputs.len(), &all).unwrap();
    outcome.values
}

fn same(a: &Values, b: &Values, what: &str) {
    assert!(!a.is_empty() && a.len() == b.len(), "{what}");
    for (at, x) in a {
        let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert!(bits(x) == bits(&b[at]), "{what}: run, output and position {at:?}");
    }
}

#[test]
fn prompts_tokens_chunks_texts_and_threads_give_the_same_bits() {
    let pool = |n| rayon::ThreadPoolBuilder::new().num_threads(n).build().expect("threads");
    let pools = [pool(1), pool(3)];
    for (name, (rounding, _)) in cases() {
        let session = model(&folder(name));
        let compiled = compile_sites(&session.model, &["logits".into()], &Options::default());
        let (weights, none) = (&session.checkpoint, no_tensors());
        let fresh = || rows_engine(DEFAULT, &compiled, weights, &none);
        let what = |how: &str| format!("{name}, {rounding:?} {how}");
        let (mut engine, feeds) = (fresh(), feeds());
        let whole = run(&mut engine, &compiled, rounding, &feeds, &[]);
        let single: Vec<usize> = (1..27).collect();
        same(&run(&mut engine, &compiled, rounding, &feeds, &single), &whole, &what("token by token"));
        same(&run(&mut engine, &compiled, rounding, &feeds, &[5, 6, 20]), &whole, &what("in chunks"));
        engine.share = false;
        same(&run(&mut engine, &compiled, rounding, &feeds, &[8]), &whole, &what("without shared rows"));
        for (i, text) in feeds.iter().enumerate() {
            let alone = run(&mut fresh(), &compiled, rounding, std::slice::from_ref(text), &[]);
            let mine = whole.iter().filter(|(at, _)| at.0 == i).map(|(at, v)| ((0, at.1, at.2), v.clone()));
            same(&alone, &mine.collect(), &what("alone"));
        }
        for pool in &pools {
            let on = pool.install(|| run(&mut fresh(), &compiled, rounding, &feeds, &[26]));
            same(&on, &whole, &what("on other threads"));
        }
        // Another rounding and back.
        let mut engine = fresh();
        let plain = run(&mut engine, &compiled, Rounding::default(), &feeds, &[]);
        assert!(plain.iter().any(|(at, v)| v != &whole[at]), "{}", what("is not float32"));
        same(&run(&mut engine, &compiled, rounding, &feeds, &[]), &whole, &what("after float32"));
    }
}

#[test]
fn the_reference_rounds_alike() {
    for (name, (rounding, step)) in cases() {
        let session = model(&folder(name));
        let compiled = compile_sites(&session.model, &["logits".into()], &Options::default());
        let weights = &session.checkpoint;
        let of = |backend: &str, rounding: Rounding| {
            run(engine(backend, &compiled, weights, &no_tensors()).as_mut(), &compiled, rounding, &feeds(), &[9])
        };
        let (rows, reference) = (of(DEFAULT, rounding), of("candle", rounding));
        let plain = of("candle", Rounding::default());
        let scale = plain.values().map(|v| size(v)).fold(0.0, f32::max);
        // A number next to the middle of two steps may go either way, where the sums before it differ in their last
        // bit, and is a step off. That is seldom: in the mean both are much nearer to one another than to float32.
        let mut mean = [0.0, 0.0];
        for (at, have) in &rows {
            let off = distance(have, &reference[at], scale);
            assert!(off <= step, "{name}, {rounding:?} at {at:?}: {off} from the reference");
            let error = distance(have, &plain[at], scale);
            mean = [mean[0] + off, mean[1] + error];
            // Where experts are chosen, a little may choose others.
            let near = error <= 8.0 * step || chooses(&compiled.program);
            assert!(near, "{name}, {rounding:?} at {at:?}: {error} from float32");
        }
        assert!(
            mean[0] * 3.0 <= mean[1],
            "{name}, {rounding:?}: {} from the reference, {} from float32",
            mean[0],
            mean[1]
        );
    }
}

#[test]
fn sites_show_keys_and_values_before_they_are_stored() {
    let session = model(&folder("models/tiny-llama"));
    let sites = ["blocks[0].attn.k_rot".to_string(), "blocks[0].attn.v".to_string(), "blocks[0].attn.z".to_string()];
    let compiled = compile_sites(&session.model, &sites, &Options::default());
    let mut engine = rows_engine(DEFAULT, &compiled, &session.checkpoint, &no_tensors());
    let [plain, short] =
        [Rounding::default(), CACHES[1].0].map(|rounding| run(&mut engine, &compiled, rounding, &feeds(), &[]));
    let of = |values: &Values, sites: std::ops::Range<usize>| -> Values {
        values.iter().filter(|(at, _)| sites.contains(&at.1)).map(|(at, v)| (*at, v.clone())).collect()
    };
    same(&of(&plain, 0..2), &of(&short, 0..2), "keys and values");
    assert!(of(&plain, 2..3) != of(&short, 2..3), "what is read of them differs");
}
