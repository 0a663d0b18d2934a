//! Keys and values stored in fewer bits: everyone reads what is stored, so nothing else changes a bit.

use std::collections::HashMap;
use std::sync::Arc;
use steer::engine::Engine;
use steer::rows::chooses;
use steer_compiler::plan::rules::Options;
use steer_kernels::attention::CacheFormat;
use steer_tests::fixture::{TOLERANCE, distance, folder, model, size};
use steer_tests::run::{Compiled, Feed, Outcome, all, compile_sites, engine, feed, no_tensors, rows_engine};

/// Grouped heads, a window, latent attention, experts, sinks with the pattern at hand, recurrences between attentions.
const MODELS: &[&str] = &[
    "models/tiny-llama",
    "models/tiny-gpt2",
    "parity/mistral-window",
    "parity/deepseek2-greedy",
    "parity/mixtral-top2",
    "parity/gptoss-plain",
    "parity/jamba-hub",
];

const SHORT: [CacheFormat; 2] = [CacheFormat::F16, CacheFormat::Q8];

type Values = HashMap<(usize, usize, usize), Arc<[f32]>>;

/// Two texts that begin alike.
fn feeds() -> Vec<Feed> {
    let tokens = |n: u32, last: u32| (0..n).map(|i| if i + 4 < n { 3 + (i * 7) % 40 } else { last + i }).collect();
    let texts: [Vec<u32>; 2] = [tokens(23, 1), tokens(27, 9)];
    texts.iter().map(|t| Feed::plain(t)).collect()
}

fn run(engine: &mut dyn Engine, compiled: &Compiled, format: CacheFormat, feeds: &[Feed], cuts: &[usize]) -> Values {
    engine.store_in(format);
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
    for name in MODELS {
        let session = model(&folder(name));
        let compiled = compile_sites(&session.model, &["logits".into()], &Options::default());
        let (weights, none) = (&session.checkpoint, no_tensors());
        let fresh = || rows_engine("cranelift", &compiled, weights, &none);
        for format in SHORT {
            let what = |how: &str| format!("{name}, {} {how}", format.name());
            let (mut engine, feeds) = (fresh(), feeds());
            let whole = run(&mut engine, &compiled, format, &feeds, &[]);
            let single: Vec<usize> = (1..27).collect();
            same(&run(&mut engine, &compiled, format, &feeds, &single), &whole, &what("token by token"));
            same(&run(&mut engine, &compiled, format, &feeds, &[5, 6, 20]), &whole, &what("in chunks"));
            engine.share = false;
            same(&run(&mut engine, &compiled, format, &feeds, &[8]), &whole, &what("without shared rows"));
            for (i, text) in feeds.iter().enumerate() {
                let alone = run(&mut fresh(), &compiled, format, std::slice::from_ref(text), &[]);
                let mine = whole.iter().filter(|(at, _)| at.0 == i).map(|(at, v)| ((0, at.1, at.2), v.clone()));
                same(&alone, &mine.collect(), &what("alone"));
            }
            for pool in &pools {
                let on = pool.install(|| run(&mut fresh(), &compiled, format, &feeds, &[26]));
                same(&on, &whole, &what("on other threads"));
            }
            // Another format and back.
            let mut engine = fresh();
            let plain = run(&mut engine, &compiled, CacheFormat::F32, &feeds, &[]);
            assert!(plain.iter().any(|(at, v)| v != &whole[at]), "{}", what("is not float32"));
            same(&run(&mut engine, &compiled, format, &feeds, &[]), &whole, &what("after float32"));
        }
    }
}

#[test]
fn the_reference_rounds_alike() {
    for name in MODELS {
        let session = model(&folder(name));
        let compiled = compile_sites(&session.model, &["logits".into()], &Options::default());
        let weights = &session.checkpoint;
        for format in SHORT {
            let of = |backend: &str, format: CacheFormat| {
                run(engine(backend, &compiled, weights, &no_tensors()).as_mut(), &compiled, format, &feeds(), &[9])
            };
            let (rows, reference) = (of("cranelift", format), of("candle", format));
            let plain = of("candle", CacheFormat::F32);
            let scale = plain.values().map(|v| size(v)).fold(0.0, f32::max);
            // A number next to the middle of two steps may go either way, where the sums before it differ in their last
            // bit: such a one is a step off. Of all others there are many more.
            let step = if format == CacheFormat::F16 { 1.0 / 1024.0 } else { 1.0 / 127.0 };
            let mut far = 0;
            for (at, have) in &rows {
                let off = distance(have, &reference[at], scale);
                far += usize::from(off > TOLERANCE);
                assert!(off <= step, "{name}, {} at {at:?}: {off} from the reference", format.name());
                let error = distance(have, &plain[at], scale);
                // Where experts are chosen, a little may choose others.
                let near = error <= 8.0 * step || chooses(&compiled.program);
                assert!(near, "{name}, {} at {at:?}: {error} from float32", format.name());
            }
            assert!(far * 4 <= rows.len(), "{name}, {}: {far} of {} rows", format.name(), rows.len());
        }
    }
}

#[test]
fn sites_show_keys_and_values_before_they_are_stored() {
    let session = model(&folder("models/tiny-llama"));
    let sites = ["blocks[0].attn.k_rot".to_string(), "blocks[0].attn.v".to_string(), "blocks[0].attn.z".to_string()];
    let compiled = compile_sites(&session.model, &sites, &Options::default());
    let mut engine = rows_engine("cranelift", &compiled, &session.checkpoint, &no_tensors());
    let [plain, short] =
        [CacheFormat::F32, CacheFormat::Q8].map(|format| run(&mut engine, &compiled, format, &feeds(), &[]));
    let of = |values: &Values, sites: std::ops::Range<usize>| -> Values {
        values.iter().filter(|(at, _)| sites.contains(&at.1)).map(|(at, v)| (*at, v.clone())).collect()
    };
    same(&of(&plain, 0..2), &of(&short, 0..2), "keys and values");
    assert!(of(&plain, 2..3) != of(&short, 2..3), "what is read of them differs");
}
