//! What runs together, on which rows, in which stretch.

use super::Plans;
use crate::plan::rules::{FUSE, NARROW, Options};
use crate::plan::*;
use crate::program::*;
use crate::schedule::schedule;

/// Attention layers over a residual stream; `hook` sees each layer's stream.
fn model(layers: u32, mut hook: impl FnMut(&mut Plans, u32, &'static str, NodeId) -> NodeId) -> Plan {
    let mut p = Plans::default();
    let d = || Axis::new("d_model", 16);
    let mut resid = p.embed(10, vec![d()]);
    for layer in 0..layers {
        p.layer = Some(layer);
        let gain = p.tensor(&format!("gain{layer}"), vec![d()]);
        let normed = p.norm(resid, "d_model", gain);
        let project = |p: &mut Plans, name: &str, head: &str, n: usize| {
            let axes = vec![Axis::new(head, n), Axis::new("d_head", 8), d()];
            let w = p.tensor(&format!("{name}{layer}"), axes);
            p.linear(normed, w, &["d_model"])
        };
        let (q, k, v) =
            (project(&mut p, "q", "head", 2), project(&mut p, "k", "kv_head", 1), project(&mut p, "v", "kv_head", 1));
        let q = hook(&mut p, layer, "q", q);
        let (z, _) = p.attention([q, k, v], |p, scores| hook(p, layer, "scores", scores));
        let w = p.tensor(&format!("o{layer}"), vec![d(), Axis::new("head", 2), Axis::new("d_head", 8)]);
        let out = p.linear(z, w, &["head", "d_head"]);
        resid = p.binary(Binary::Add, resid, out);
        resid = hook(&mut p, layer, "resid", resid);
    }
    p.layer = None;
    let gain = p.tensor("gain", vec![d()]);
    let normed = p.norm(resid, "d_model", gain);
    let w = p.tensor("unembed", vec![Axis::new("vocab", 10), d()]);
    let logits = p.linear(normed, w, &["d_model"]);
    p.output(logits);
    p.plan
}

fn shape(program: &Program) -> Vec<String> {
    let word = |i: &Instr| match i {
        Instr::Kernel(_) => 'K',
        Instr::Linear { .. } => 'L',
        Instr::Experts(_) => 'M',
        Instr::Lookup { .. } => 'E',
        Instr::Attention { body: None, .. } => 'A',
        Instr::Attention { .. } => 'B',
        Instr::Conv1d { .. } => 'C',
        Instr::Scan { .. } => 'S',
    };
    let stretch = |s: &Stretch| {
        let edits: String = s.edits.iter().map(|e| format!("{} ", e.0)).collect();
        let narrow = if s.narrow { "narrow " } else { "" };
        let past = if s.reads == Reads::Own { "" } else { "past " };
        format!("{edits}{narrow}{past}{}", s.instrs.iter().map(word).collect::<String>())
    };
    program.stretches.iter().map(stretch).collect()
}

#[test]
fn layers_share_their_kernels() {
    let count = |layers| schedule(&model(layers, |_, _, _, n| n), &Options::default()).unwrap().0.kernels.len();
    assert_eq!(count(3), count(12));
    assert_eq!(count(12), 3);
}

#[test]
fn scheduling_grows_with_the_model_and_no_faster() {
    let time = |layers| {
        let plan = model(layers, |_, _, _, n| n);
        let start = std::time::Instant::now();
        schedule(&plan, &Options::default()).unwrap();
        start.elapsed().as_secs_f64()
    };
    eprintln!("{:.1} and {:.1} ms", time(8) * 1e3, time(64) * 1e3);
    assert!(time(64) < 2.0);
}

#[test]
fn only_rows_that_are_read_go_through_what_follows_the_last_keys() {
    let (program, _) = schedule(&model(2, |_, _, _, n| n), &Options::default()).unwrap();
    assert_eq!(shape(&program), ["EKLLL", "past ALKLL", "narrow LALKL"]);
}

#[test]
fn an_edit_begins_a_stretch_and_is_fused_with_what_stands_around_it() {
    let plan = model(2, |p, layer, site, n| {
        if (layer, site) != (0, "resid") {
            return n;
        }
        let edit = p.edit(1);
        let alpha = p.param(edit, 0);
        let v = p.tensor("v", vec![Axis::new("d_model", 16)]);
        let step = p.binary(Binary::Mul, alpha, v);
        let value = p.binary(Binary::Add, n, step);
        let after = p.overlay(edit, n, value);
        p.receipts(edit, n, value);
        after
    });
    let (program, explain) = schedule(&plan, &Options::default()).unwrap();
    assert_eq!(shape(&program), ["EKLLL", "past AL", "0 KLL", "narrow L", "narrow past ALKL"]);
    let Instr::Kernel(call) = &program.stretches[2].instrs[0] else { panic!("a kernel") };
    let text = program.kernels[call.kernel.0 as usize].to_string();
    // The sum is made in place of the buffer that the next layers read; only edited rows do more.
    assert!(text.contains("axpy"), "{text}");
    assert_eq!(text.matches("if ").count(), 1, "{text}");
    assert_eq!(text.split("if ").next().unwrap().matches(" = ").count(), 1, "{text}");
    assert_eq!(explain.edits[0].stretch, Some(2));
    assert_eq!(explain.edits[0].instrs, [(2, 0)]);
    assert!(explain.beside(explain.edits[0].edit, (2, 0)).next().is_some());
}

#[test]
fn a_patch_of_a_whole_value_redirects_rows() {
    let patched = |wanted: &'static str, receipts: bool| {
        model(2, move |p, layer, site, n| {
            if (layer, site) != (1, wanted) {
                return n;
            }
            let edit = p.edit(0);
            let donor = p.push(Op::Donor(edit), p.plan.ty(n).axes.clone(), true);
            let after = p.overlay(edit, n, donor);
            if receipts {
                p.receipts(edit, n, donor);
            }
            after
        })
    };
    let (program, explain) = schedule(&patched("resid", false), &Options::default()).unwrap();
    // Only the rows that give and take are needed of the last layer.
    assert_eq!(shape(&program), ["EKLLL", "past ALKLL", "narrow LALK", "0 narrow KL"]);
    let patch = program.stretches[3].patches[0];
    assert!(patch.whole && explain.edits[0].whole);
    assert_eq!(program.buffers[patch.base.0 as usize].len, 16);
    assert!(!program.kernels.iter().any(|k| k.to_string().contains("if ")));

    let (program, _) = schedule(&patched("q", false), &Options::default()).unwrap();
    assert_eq!(shape(&program), ["EKLLL", "past ALKLL", "narrow L", "0 narrow ", "narrow past ALKL"]);

    let (program, _) = schedule(&patched("resid", true), &Options::default()).unwrap();
    assert_eq!(shape(&program), ["EKLLL", "past ALKLL", "narrow LALK", "0 narrow KL"]);
    assert!(!program.stretches[3].patches[0].whole);
}

#[test]
fn what_else_reads_a_patched_value_reads_it_from_elsewhere() {
    let mut before = None;
    let mut plan = model(1, |p, _, site, n| {
        if site != "resid" {
            return n;
        }
        before = Some(n);
        let edit = p.edit(0);
        let donor = p.push(Op::Donor(edit), p.plan.ty(n).axes.clone(), true);
        p.overlay(edit, n, donor)
    });
    plan.outputs.push(Output { name: "before".into(), node: before.unwrap() });
    let (program, _) = schedule(&plan, &Options::default()).unwrap();
    let patch = program.stretches.iter().flat_map(|s| &s.patches).next().unwrap();
    let OutputPlace::Buffer { buffer, .. } = program.outputs[1] else { panic!("a buffer") };
    assert!(patch.whole && patch.base != buffer);
}

#[test]
fn a_hook_on_scores_becomes_the_body() {
    let plan = model(2, |p, layer, site, n| {
        if (layer, site) != (1, "scores") {
            return n;
        }
        let edit = p.edit(1);
        let key = p.push(Op::Iota, vec![Axis::key()], false);
        let first = p.param(edit, 0);
        let hidden = p.binary(Binary::Lt, key, first);
        let low = p.number(f32::NEG_INFINITY);
        let value = p.select(hidden, low, n);
        p.overlay(edit, n, value)
    });
    let (program, explain) = schedule(&plan, &Options::default()).unwrap();
    assert_eq!(shape(&program), ["EKLLL", "past ALKLL", "narrow L", "0 narrow past BLKL"]);
    let Some(Instr::Attention { body: Some(body), .. }) = program.stretches[3].instrs.first() else { panic!("a body") };
    assert!(body.call.args.contains(&KernelArg::FirstKey) && body.call.args.contains(&KernelArg::Result(0)));
    assert_eq!(explain.edits[0].instrs, [(3, 0)]);
}

/// Sinks by head need no body; what they come from by row does, and an edit does where it acts.
#[test]
fn sinks_of_heads_are_the_attentions() {
    let attention = |by_row: bool, edited: bool| {
        let mut p = Plans::default();
        let [head, kv, dim] = [("head", 4), ("kv_head", 2), ("d_head", 8)].map(|(name, n)| Axis::new(name, n));
        let q = p.embed(10, vec![head.clone(), dim.clone()]);
        let [k, v] = [(); 2].map(|()| p.embed(10, vec![kv.clone(), dim.clone()]));
        let sinks = if by_row { p.embed(10, vec![head]) } else { p.tensor("sinks", vec![head]) };
        let (z, _) = p.attention_with([q, k, v], Some(sinks), |p, scores| {
            if !edited {
                return scores;
            }
            let edit = p.edit(1);
            let alpha = p.param(edit, 0);
            let value = p.binary(Binary::Mul, scores, alpha);
            p.overlay(edit, scores, value)
        });
        p.output(z);
        let (program, _) = schedule(&p.plan, &Options::default()).unwrap();
        let mut found = program.stretches.into_iter().flat_map(|s| s.instrs).filter_map(|i| match i {
            Instr::Attention { softmax, body, .. } => {
                Some((softmax.map(|s| s.sinks.map(|s| s.dims.len())), body.is_some()))
            }
            _ => None,
        });
        found.next().unwrap()
    };
    assert_eq!(attention(false, false), (Some(Some(1)), false));
    assert_eq!(attention(true, false), (None, true));
    // On the rows that the edit is not on.
    assert_eq!(attention(false, true), (Some(Some(1)), true));
}

#[test]
fn an_output_of_a_body_is_handed_out_by_it() {
    let mut scores = None;
    let mut plan = model(1, |_, _, site, n| {
        if site == "scores" {
            scores = Some(n);
        }
        n
    });
    let pattern = plan.regions[1].results[0];
    plan.outputs.push(Output { name: "scores".into(), node: scores.unwrap() });
    plan.outputs.push(Output { name: "pattern".into(), node: pattern });
    let (program, _) = schedule(&plan, &Options::default()).unwrap();
    assert!(matches!(program.outputs[1], OutputPlace::Body { result: 1, .. }));
    // The pattern itself is the attention's; whoever reads it gets a copy.
    assert!(matches!(program.outputs[2], OutputPlace::Body { result: 2, .. }));
}

#[test]
fn rows_are_told_apart_by_earlier_ones_where_these_are_read() {
    // Between edits of a value that keys are made from, one attention tells rows apart for all behind it.
    let edited = |at: &'static [(u32, &'static str)]| {
        model(4, move |p, layer, site, n| {
            if !at.contains(&(layer, site)) {
                return n;
            }
            let edit = p.edit(1);
            let alpha = p.param(edit, 0);
            let value = p.binary(Binary::Mul, alpha, n);
            p.overlay(edit, n, value)
        })
    };
    let shape = |at| shape(&schedule(&edited(at), &Options::default()).unwrap().0);
    assert_eq!(shape(&[]), ["EKLLL", "past ALKLLLALKLLLALKLL", "narrow LALKL"]);
    assert_eq!(shape(&[(0, "resid")]), ["EKLLL", "past AL", "0 KLLL", "past ALKLLLALKLL", "narrow LALKL"]);
    // What an edit makes of scores is its own row's until the next attention reads it.
    assert_eq!(shape(&[(1, "scores")]), ["EKLLL", "past ALKLLL", "0 past BLKLLL", "past ALKLL", "narrow LALKL"]);
}

#[test]
fn a_patch_inside_of_a_body_is_handed_a_result_of_the_donors_row() {
    let mut base = None;
    let plan = model(2, |p, layer, site, n| {
        if (layer, site) != (1, "scores") {
            return n;
        }
        base = Some(n);
        let edit = p.edit(0);
        let donor = p.push(Op::Donor(edit), p.plan.ty(n).axes.clone(), true);
        p.overlay(edit, n, donor)
    });
    let (program, explain) = schedule(&plan, &Options::default()).unwrap();
    assert_eq!(shape(&program), ["EKLLL", "past ALKLL", "narrow L", "0 narrow past BLKL"]);
    let Some(Instr::Attention { body: Some(body), .. }) = program.stretches[3].instrs.first() else { panic!("a body") };
    assert_eq!(body.patches, [BodyPatch { edit: EditId(0), result: 1, node: base.unwrap() }]);
    assert!(body.call.args.contains(&KernelArg::Donor(EditId(0))) && body.call.args.contains(&KernelArg::Result(1)));
    assert!(program.stretches[3].patches.is_empty() && explain.edits[0].given.is_some());
}

#[test]
fn rules_of_the_scheduler_can_be_left_out() {
    let plan = model(2, |_, _, _, n| n);
    let without = |name: &str| {
        let options = Options { disable: vec![name.to_owned()], stop_after: None };
        schedule(&plan, &options).unwrap().0
    };
    let program = without(NARROW.name);
    assert!(program.stretches.iter().all(|s| !s.narrow));
    let fused = schedule(&plan, &Options::default()).unwrap().0;
    let program = without(FUSE.name);
    let one = |k: &crate::kernel::Kernel| k.to_string().lines().count();
    assert!(program.kernels.iter().map(one).max() < fused.kernels.iter().map(one).max());
}
