//! State space models and mixtures of experts, executed together and value by value: what else is read changes no bit, and an
//! expert that no row chose is never read.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use steer::checkpoint::Checkpoint;
use steer::engine::WeightSource;
use steer::error::Error;
use steer::experiment::{self, PhaseOptions};
use steer::report::Output;
use steer::rows::RowsEngine;
use steer_compiler::backend::{DEFAULT, row_backend};
use steer_compiler::plan::rules::Options;
use steer_compiler::plan::{Size, Weight};
use steer_compiler::program::Instr;
use steer_tests::fixture::{checkpoints, folder, model, site_of, stored};
use steer_tests::run::{Compiled, Feed, Outcome, all, compile_sites, engine, feed, no_tensors};
use steer_tests::script::{Scratch, session, words};

/// The checkpoints with a scan or with experts.
fn with_mixers() -> Vec<String> {
    let families = [
        "mamba",
        "falconmamba",
        "jamba",
        "mixtral",
        "olmoe",
        "qwen2moe",
        "qwen3moe",
        "deepseek2",
        "deepseek3",
        "gptoss",
    ];
    checkpoints().into_iter().filter(|n| families.iter().any(|f| n.starts_with(f))).collect()
}

fn logits(outcome: &Outcome, output: usize) -> Vec<(usize, Vec<u32>)> {
    let mut rows: Vec<(usize, Vec<u32>)> = Vec::new();
    for ((_, o, position), v) in &outcome.values {
        if *o == output {
            rows.push((*position, v.iter().map(|x| x.to_bits()).collect()));
        }
    }
    rows.sort();
    rows
}

#[test]
fn reading_everything_changes_no_bit() {
    let (mut recurrences, mut sums, mut bodies) = (0, 0, 0);
    for name in with_mixers() {
        let at = folder("parity").join(&name);
        let expected = stored(&at.join("expected.safetensors"));
        let session = model(&at);
        let run = |compiled: &Compiled, backend: &str| {
            let mut engine = engine(backend, compiled, &session.checkpoint, &no_tensors());
            let feeds = [Feed::plain(&expected.tokens)];
            feed(engine.as_mut(), &feeds, &[3], compiled.plan.outputs.len(), &all).unwrap_or_else(|e| panic!("{e}"))
        };
        let mut sites: Vec<String> = vec!["logits".into()];
        let alone = compile_sites(&session.model, &sites, &Options::default());
        for instr in alone.program.stretches.iter().flat_map(|s| &s.instrs) {
            match instr {
                Instr::Scan { body, recurrence, .. } => {
                    recurrences += usize::from(recurrence.is_some() && body.is_none());
                    bodies += usize::from(body.is_some());
                }
                Instr::Experts(_) => sums += 1,
                Instr::Linear { active, .. } => assert!(active.is_none(), "{name} stores what no row chose"),
                _ => {}
            }
        }
        let plain = logits(&run(&alone, DEFAULT), 0);
        sites.extend(expected.tensors.keys().map(|k| site_of(k)).filter(|s| s != "logits"));
        let everything = compile_sites(&session.model, &sites, &Options::default());
        assert!(plain == logits(&run(&everything, DEFAULT), 0), "{name}: reading more changed a bit");
        let apart = Options { disable: vec!["fuse".into()], ..Options::default() };
        let apart = compile_sites(&session.model, &sites[..1], &apart);
        assert!(plain == logits(&run(&apart, DEFAULT), 0), "{name}: one operation after another changed a bit");
        assert!(plain == logits(&run(&alone, "interp"), 0), "{name}: the interpreter changed a bit");
    }
    assert!(recurrences > 10 && sums > 10 && bodies == 0, "{recurrences} recurrences, {sums} sums, {bodies} bodies");
}

/// An edit of what the recurrence computes on its way: the body takes the loop's place where it acts, and the loop has all
/// other rows.
#[test]
fn rows_that_no_edit_inside_acts_on_keep_the_loop() {
    let scratch = Scratch::new("loops");
    for name in ["mamba-hub", "falconmamba-hub", "mamba2-groups", "jamba-hub"] {
        let model = model(&folder("parity").join(name));
        let tokens = stored(&folder("parity").join(name).join("expected.safetensors")).tokens;
        let text = format!(
            "prompt p = \"{}\"\nhook less(by = 0.5) at blocks[*].ssm.decay on [2] | [3] {{ h *= by }}\n\
             hook more at blocks[*].ssm.state on [4] {{ h += 0.25 }}\n\
             metric m = logits at seq[-1]\nmeasure m on p, p with less, p with less(by = 0.9), more, p with less(by = 1)\n",
            words(&tokens)
        );
        let session = session(&model, &scratch.0, &text).unwrap_or_else(|d| panic!("{d:#?}"));
        let table = |disable: &[&str], backend: &str| {
            let rules = Options { disable: disable.iter().map(|r| r.to_string()).collect(), ..Options::default() };
            let options = PhaseOptions { rules, backend: backend.into(), ..PhaseOptions::default() };
            let done = experiment::run(&session, &options, &mut |_| Ok(())).unwrap_or_else(|d| panic!("{d:#?}"));
            let tables = done.outputs.into_iter().filter_map(|o| if let Output::Table(t) = o { Some(t) } else { None });
            tables.map(|t| t.to_csv().expect("a table")).collect::<String>()
        };
        let options = PhaseOptions::default();
        let prepared = experiment::prepare_all(&session, &options).unwrap_or_else(|d| panic!("{d:#?}")).prepared;
        let scans = prepared.program.stretches.iter().flat_map(|s| &s.instrs);
        let scans: Vec<bool> = scans
            .filter_map(|i| match i {
                Instr::Scan { body: Some(_), recurrence, .. } => Some(recurrence.as_ref().is_some_and(|r| r.instead)),
                _ => None,
            })
            .collect();
        assert!(!scans.is_empty() && scans.iter().all(|instead| *instead), "{name}: {scans:?}");
        let fused = table(&[], "cranelift");
        assert!(fused == table(&["fuse"], "cranelift"), "{name}: the loop changed a bit");
        assert!(fused == table(&[], "interp"), "{name}: the interpreter changed a bit");
        let lines: BTreeSet<&str> = fused.lines().collect();
        assert!(lines.len() > 40, "{name}: {fused}");
    }
}

/// What is done in one row of one expert before and behind the second product, with what is the expert's own.
#[test]
fn experts_with_biases_and_limits_are_one_instruction() {
    for (name, constants) in [("gptoss-plain", [2, 1]), ("gptoss-stacked", [2, 1]), ("gptoss-mxfp4", [2, 1])] {
        let session = model(&folder("parity").join(name));
        let compiled = compile_sites(&session.model, &["logits".into()], &Options::default());
        let sums: Vec<_> = compiled
            .program
            .stretches
            .iter()
            .flat_map(|s| &s.instrs)
            .filter_map(|i| if let Instr::Experts(e) = i { Some(e) } else { None })
            .collect();
        assert!(!sums.is_empty(), "{name}");
        for sum in sums {
            assert_eq!(sum.kernels().map(|k| k.constants.len()).collect::<Vec<_>>(), constants, "{name}");
        }
        // Nothing has room for each neuron, or each output, of each expert.
        let expert = session.checkpoint.config().value["num_local_experts"].as_u64().expect("a number") as usize;
        let buffers = &compiled.program.buffers;
        let wide = buffers.iter().filter(|b| b.per_row && b.name.contains("moe") && b.len > expert);
        let wide: Vec<&str> = wide.map(|b| b.name.as_str()).filter(|n| !n.ends_with("moe.out")).collect();
        assert!(wide.is_empty(), "{name}: {wide:?}");
    }
}

/// The pattern of heads with sinks is at hand only where something looks at it.
#[test]
fn attention_with_sinks_needs_no_pattern_at_hand() {
    for name in ["gptoss-plain", "gptoss-stacked", "gptoss-mxfp4"] {
        let session = model(&folder("parity").join(name));
        let attentions = |site: &str| -> Vec<(bool, bool)> {
            let compiled = compile_sites(&session.model, &["logits".into(), site.into()], &Options::default());
            let instrs = compiled.program.stretches.iter().flat_map(|s| &s.instrs);
            let one = |i: &Instr| match i {
                Instr::Attention { softmax, body, .. } => {
                    Some((softmax.as_ref().is_some_and(|s| s.sinks.is_some()), body.is_some()))
                }
                _ => None,
            };
            instrs.filter_map(one).collect()
        };
        assert!(attentions("blocks[0].attn.z").iter().all(|a| *a == (true, false)), "{name}");
        let looked_at = attentions("blocks[0].attn.sink");
        assert_eq!(looked_at[0], (false, true), "{name}");
        assert!(looked_at.len() > 1 && looked_at[1..].iter().all(|a| *a == (true, false)), "{name}");
    }
}

/// Notes what is read of each weight.
struct Noting {
    checkpoint: Arc<Checkpoint>,
    read: Mutex<Vec<(Weight, Range<usize>)>>,
}

impl WeightSource for Noting {
    fn read(&self, weight: &Weight) -> Result<Vec<f32>, Error> {
        self.read_range(weight, 0..length(weight))
    }

    fn read_range(&self, weight: &Weight, range: Range<usize>) -> Result<Vec<f32>, Error> {
        self.read.lock().expect("no panic").push((weight.clone(), range.clone()));
        self.checkpoint.read_range(weight, range)
    }
}

fn length(weight: &Weight) -> usize {
    weight.axes().iter().map(|a| if let Size::Fixed(n) = a.size { n } else { 0 }).product()
}

/// The layer of a weight, by its name.
fn layer_of(weight: &Weight) -> usize {
    weight.name.split('.').find_map(|part| part.parse().ok()).expect("a layer")
}

#[test]
fn an_expert_that_no_row_chose_is_never_read() {
    let mut left = 0;
    for name in with_mixers() {
        let at = folder("parity").join(&name);
        let session = model(&at);
        let sites = &session.model;
        let gated: Vec<(usize, String)> = stored(&at.join("expected.safetensors"))
            .tensors
            .keys()
            .map(|k| site_of(k))
            .filter(|s| s.ends_with(".moe.gates"))
            .map(|s| (s["blocks[".len()..s.find(']').expect("a block")].parse().expect("a layer"), s))
            .collect();
        let mut outputs: Vec<String> = gated.iter().map(|(_, s)| s.clone()).collect();
        outputs.push("logits".into());
        let compiled = compile_sites(sites, &outputs, &Options::default());
        let tokens = stored(&at.join("expected.safetensors")).tokens;
        let noting = Arc::new(Noting { checkpoint: Arc::clone(&session.checkpoint), read: Mutex::default() });
        let backend = row_backend(DEFAULT).expect("a backend");
        let (plan, program) = (Arc::clone(&compiled.plan), Arc::clone(&compiled.program));
        let mut engine = RowsEngine::new(plan, program, backend, Arc::clone(&noting) as _, no_tensors().as_ref())
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(engine.experts_read().0, 0, "{name}: experts were read before a row chose them");
        let feeds = [Feed::plain(&tokens[..2])];
        let outcome = feed(&mut engine, &feeds, &[1], outputs.len(), &all).unwrap_or_else(|e| panic!("{name}: {e}"));
        let mut chosen: BTreeSet<(usize, usize)> = BTreeSet::new();
        for ((_, output, _), values) in &outcome.values {
            if let Some((layer, _)) = gated.get(*output) {
                chosen.extend(values.iter().enumerate().filter(|(_, g)| **g != 0.0).map(|(e, _)| (*layer, e)));
            }
        }
        let mut read: BTreeSet<(usize, usize)> = BTreeSet::new();
        for (weight, range) in noting.read.lock().expect("no panic").iter() {
            let expert =
                weight.dims.first().filter(|d| d.len() == 1 && &*d[0].name == "expert" && weight.dims.len() > 2);
            let Some(Size::Fixed(experts)) = expert.map(|d| d[0].size) else { continue };
            let each = length(weight) / experts;
            assert_eq!(range.start / each, (range.end - 1) / each, "{name}: {} of {}", range.len(), weight.name);
            read.insert((layer_of(weight), range.start / each));
        }
        assert_eq!(read, chosen, "{name}: (layer, expert)");
        let (there, of) = engine.experts_read();
        assert!(gated.is_empty() || there > 0, "{name}: no expert was read");
        left += of - there;
    }
    assert!(left > 50, "{left} matrices were not read");
}
