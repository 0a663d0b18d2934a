//! Routes: against transformers, against checkpoints without an expert, and against what they say of themselves.

use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::path::Path;
use steer::experiment::{ModelSession, PhaseOptions};
use steer::tensors::{Named, write_safetensors};
use steer_compiler::backend::DEFAULT;
use steer_compiler::plan::Stat;
use steer_tests::fixture::{TOLERANCE, distance, folder, model, size, stored};
use steer_tests::run::BACKENDS;
use steer_tests::run::{Outcome, all, engine, feed};
use steer_tests::script::{Scratch, compiled, feeds, generated, loaded, phase, session, words};

const TOKENS: &[u32] = &[5, 9, 33, 2, 44, 17, 41, 8, 3, 21];

/// What the runs of a script give at these sites.
fn outcome(checkpoint: &ModelSession, text: &str, sites: &[&str], cuts: &[usize], backend: &str) -> Outcome {
    let session = session(checkpoint, Path::new("."), text).unwrap_or_else(|d| panic!("{d:#?}\n{text}"));
    let runs = generated(&session.script);
    let prepared = phase(&session, &runs, sites, &PhaseOptions::default()).unwrap_or_else(|d| panic!("{d:#?}\n{text}"));
    let mut engine = engine(backend, &compiled(&prepared), &session.checkpoint, &loaded(&session));
    let feeds = feeds(&prepared, &|_| Vec::new());
    feed(engine.as_mut(), &feeds, cuts, sites.len(), &all).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

fn open(name: &str) -> ModelSession {
    model(&folder("parity").join(name))
}

fn prompt() -> String {
    format!("prompt p = \"{}\"\n", words(TOKENS))
}

/// `generate p with ...`, for the routes of a text.
fn generate(with: &str) -> String {
    let with = if with.is_empty() { String::new() } else { format!(" with {with}") };
    format!("generate p{with} {{ max: 1, stop: false }}\n")
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

/// `mask`, `drop`, `mute`, `force`, `bias` and `top_k` as hooks on transformers' routers do it.
#[test]
fn routes_do_what_hooks_on_transformers_do() {
    let mut worst = 0.0f32;
    let mut count = 0;
    let names = [
        "mixtral-top2",
        "olmoe-hub",
        "qwen2moe-shared",
        "qwen3moe-normed",
        "deepseek2-groups",
        "deepseek3-groups",
        "gptoss-plain",
    ];
    for name in names {
        let checkpoint = open(name);
        let file = folder("parity/routes").join(format!("{name}.json"));
        let about: Json = serde_json::from_str(&std::fs::read_to_string(&file).expect("a file")).expect("JSON");
        let expected = stored(&file.with_extension("safetensors")).tensors;
        let list = |v: &Json| v.as_array().expect("a list").clone();
        let tokens: Vec<u32> = list(&about["tokens"]).iter().map(|t| t.as_u64().expect("a token") as u32).collect();
        let vocab = expected["plain"].shape[1];
        for (i, case) in list(&about["cases"]).iter().enumerate() {
            let mut body: Vec<String> =
                list(&case["route"]).iter().map(|s| s.as_str().expect("a statement").to_owned()).collect();
            if body.iter().filter(|s| s.starts_with("mask")).count() > 1 {
                // By number, masks that leave fewer than are chosen are refused.
                body.iter_mut().for_each(|s| *s = s.replace("mask ", "mask index(expert) == "));
            }
            let text = format!(
                "prompt p = \"{}\"\nroute r at blocks[*].moe on [{}..] {{\n    {}\n}}\ngenerate p with r {{ max: 1, stop: false }}\n",
                words(&tokens),
                case["from"],
                body.join("\n    ")
            );
            let want = &expected[&i.to_string()].data;
            let scale = size(want);
            for (backend, cuts) in BACKENDS.iter().map(|b| (*b, vec![])).chain([(DEFAULT, (1..tokens.len()).collect())])
            {
                let got = outcome(&checkpoint, &text, &["logits"], &cuts, backend);
                for p in 0..tokens.len() {
                    let off = distance(got.value(0, 0, p), &want[p * vocab..(p + 1) * vocab], scale);
                    assert!(off <= TOLERANCE, "{name} {backend} {body:?}: row {p} is off by {off}");
                    worst = worst.max(off);
                    count += 1;
                }
            }
        }
    }
    println!("{count} rows, off by {worst:.1e} at most");
}

/// A copy of a checkpoint without one expert: its rows of the routers and its own tensors.
fn without_expert(name: &str, expert: usize, scratch: &Scratch) -> ModelSession {
    let from = folder("parity").join(name);
    let mut config: Json =
        serde_json::from_str(&std::fs::read_to_string(from.join("config.json")).expect("a file")).expect("JSON");
    let key = ["num_local_experts", "num_experts"].into_iter().find(|k| config.get(k).is_some()).expect("a count");
    let experts = config[key].as_u64().expect("a number") as usize;
    config[key] = (experts - 1).into();
    std::fs::write(scratch.0.join("config.json"), config.to_string()).expect("config.json");
    let mut tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)> = BTreeMap::new();
    for (key, array) in stored(&from.join("model.safetensors")).tensors {
        let numbered = key.split(".experts.").nth(1).and_then(|r| r.split('.').next()?.parse::<usize>().ok());
        let (mut shape, mut data) = (array.shape, array.data);
        let router = key.ends_with(".gate.weight") && shape[0] == experts;
        let key = match numbered {
            Some(n) if n == expert => continue,
            Some(n) if n > expert => key.replace(&format!(".experts.{n}."), &format!(".experts.{}.", n - 1)),
            _ => key,
        };
        if router || key.contains(".experts.") && numbered.is_none() {
            let each = data.len() / experts;
            data.drain(expert * each..(expert + 1) * each);
            shape[0] -= 1;
        }
        tensors.insert(key, (shape, data));
    }
    let named: Vec<Named> = tensors.iter().map(|(name, (shape, data))| Named { name, shape, data }).collect();
    write_safetensors(&scratch.0.join("model.safetensors"), &named, &BTreeMap::new()).unwrap_or_else(|e| panic!("{e}"));
    model(&scratch.0)
}

/// A masked expert is as good as none. Sums over the experts have other lengths, so that the last bits may differ.
#[test]
fn mask_equals_deleting_the_routers_row() {
    let mut worst = 0.0f32;
    for name in ["mixtral-top2", "olmoe-hub", "qwen3moe-normed"] {
        let whole = open(name);
        for expert in [0, 2] {
            let scratch = Scratch::new(&format!("without-{name}-{expert}"));
            let less = without_expert(name, expert, &scratch);
            let masked = format!("{}route r at blocks[*].moe {{ mask {expert} }}\n{}", prompt(), generate("r"));
            let plain = format!("{}{}", prompt(), generate(""));
            for backend in BACKENDS {
                let (a, b) = (
                    outcome(&whole, &masked, &["logits"], &[], backend),
                    outcome(&less, &plain, &["logits"], &[], backend),
                );
                for p in 0..TOKENS.len() {
                    let want = b.value(0, 0, p);
                    let off = distance(a.value(0, 0, p), want, size(want));
                    assert!(off <= 2e-6, "{name} {backend} without {expert}: row {p} is off by {off}");
                    worst = worst.max(off);
                }
            }
        }
    }
    println!("off by {worst:.1e} at most");
}

/// Three experts with shares of which the methods' sheet says what `drop` and `mask` make of two that are chosen.
#[test]
fn drop_is_not_mask() {
    // 0 is the likeliest; 1 and 2 are to one another as 0.62 to 0.38.
    let second = (0.62f64 / 0.38).ln();
    let text = format!(
        "{}route shares at blocks[0].moe {{\n    let i = index(expert)\n    router = select(i == 0, 3, select(i == 1, {second}, select(i == 2, 0, -9)))\n}}\n\
         route dropped at blocks[0].moe {{ drop 0 }}\nroute masked at blocks[0].moe {{ mask 0 }}\n\
         route muted at blocks[0].moe {{ mute 0 }}\n{}{}{}{}",
        prompt(),
        generate("shares"),
        generate("shares, dropped"),
        generate("shares, masked"),
        generate("shares, muted"),
    );
    let checkpoint = open("mixtral-top2");
    for backend in BACKENDS {
        let got = outcome(&checkpoint, &text, &["blocks[0].moe.gates"], &[], backend);
        let whole = 3f64.exp() / (3f64.exp() + second.exp());
        for (run, want) in [
            (0, [whole, 1.0 - whole, 0.0, 0.0]),
            (1, [0.0, 1.0, 0.0, 0.0]),
            (2, [0.0, 0.62, 0.38, 0.0]),
            (3, [0.0, 1.0 - whole, 0.0, 0.0]),
        ] {
            for p in 0..TOKENS.len() {
                let have = got.value(run, 0, p);
                let near = have.iter().zip(want).all(|(x, y)| (f64::from(*x) - y).abs() < 1e-6);
                assert!(near, "{backend}: run {run} has {have:?}, not {want:?}");
            }
        }
    }
}

/// Routes that name nobody, or nobody who is there.
#[test]
fn an_empty_set_changes_no_bit() {
    let statements = [
        "mask []",
        "drop []\n    mute []\n    force [] by max\n    bias [] by 3",
        "mask router < -1000",
        "mute scores < -1",
        "drop scores < -1",
        "force scores < -1 by 0.3",
        "bias scores > 2 by 0.5",
        "when position > 99 { mask 0\n    top_k = 1 }",
        "top_k = 2",
    ];
    for name in ["mixtral-top2", "olmoe-hub"] {
        let checkpoint = open(name);
        for statement in statements {
            let text = format!(
                "{}route r at blocks[*].moe {{\n    {statement}\n}}\n{}{}",
                prompt(),
                generate(""),
                generate("r")
            );
            let sites = ["logits", "blocks[0].moe.gates"];
            for backend in BACKENDS {
                let got = outcome(&checkpoint, &text, &sites, &[], backend);
                for p in 0..TOKENS.len() {
                    for (s, site) in sites.iter().enumerate() {
                        let (a, b) = (got.value(0, s, p), got.value(1, s, p));
                        assert_eq!(bits(a), bits(b), "{name} {backend} `{statement}`: {site} of row {p}");
                    }
                }
                let moved = |r: &&steer::engine::RowReceipt| {
                    [Stat::Changed, Stat::Moved, Stat::Entered, Stat::Left].iter().any(|s| r.of(*s) != 0.0)
                };
                assert_eq!(got.receipts.iter().find(moved), None, "{name} {backend} `{statement}`");
            }
        }
    }
}

#[test]
fn force_puts_the_expert_in_every_row() {
    for name in ["mixtral-top2", "olmoe-hub", "qwen2moe-shared", "qwen3moe-normed"] {
        let checkpoint = open(name);
        for by in ["", " by max", " by 0.3"] {
            let text = format!(
                "{}route r at blocks[*].moe on [2..] {{ force 3{by} }}\nroute often at blocks[*].moe {{ bias 3 by 9 }}\n{}{}",
                prompt(),
                generate("r"),
                generate("often"),
            );
            let sites = ["blocks[1].moe.chosen", "blocks[1].moe.gates", "blocks[1].moe.top_k"];
            for backend in BACKENDS {
                let got = outcome(&checkpoint, &text, &sites, &[], backend);
                for p in 0..TOKENS.len() {
                    let (chosen, gates) = (got.value(0, 0, p), got.value(0, 1, p));
                    let k = got.value(0, 2, p)[0];
                    assert_eq!(chosen.iter().sum::<f32>(), k, "{name} {backend}: row {p}");
                    if p >= 2 {
                        assert!(
                            chosen[3] == 1.0 && gates[3] > 0.0,
                            "{name} {backend}{by}: row {p} {chosen:?} {gates:?}"
                        );
                    }
                    if by == " by max" && p >= 2 {
                        assert_eq!(gates[3], size(gates), "{name} {backend}: row {p}");
                    }
                    assert_eq!(got.value(1, 0, p)[3], 1.0, "{name} {backend}: a large bias, row {p}");
                }
            }
        }
    }
}

/// Runs with different numbers of experts, masks and weights in one batch, and each by itself.
#[test]
fn routes_share_a_batch() {
    let declared = format!(
        "{}route count(k) at blocks[*].moe {{ top_k = k }}\nroute less(e, by) at blocks[*].moe on [1..] {{\n    mask e\n    bias 0 by by\n}}\n",
        prompt()
    );
    let uses = [
        "count(1)",
        "count(2)",
        "count(3)",
        "count(4)",
        "less(1, 0.1)",
        "less(3, -0.1)",
        "count(3), less(2, 0)",
        "less(2, 0), count(1)",
    ];
    for name in ["mixtral-top2", "olmoe-hub", "qwen2moe-shared"] {
        let checkpoint = open(name);
        let together = declared.clone() + &generate("") + &uses.map(generate).concat();
        let all = outcome(&checkpoint, &together, &["logits"], &[3, 4], DEFAULT);
        for (i, one) in uses.iter().enumerate() {
            let single = outcome(&checkpoint, &(declared.clone() + &generate(one)), &["logits"], &[7], DEFAULT);
            for p in 0..TOKENS.len() {
                let (a, b) = (all.value(i + 1, 0, p), single.value(0, 0, p));
                assert_eq!(bits(a), bits(b), "{name}: {one}, row {p}");
            }
        }
        // As many as the configuration says is nothing, and more is something.
        let k = outcome(&checkpoint, &together, &["blocks[0].moe.top_k"], &[], DEFAULT).value(0, 0, 0)[0] as usize;
        for n in 1..=4 {
            let same = bits(all.value(n, 0, 5)) == bits(all.value(0, 0, 5));
            assert_eq!(same, n == k, "{name}: {n} of {k}");
        }
    }
}

/// A computed mask may leave fewer than are chosen, or none: then those that are left are chosen, and nothing is no number.
#[test]
fn masks_that_leave_too_few_are_defined() {
    for (name, normed) in [("mixtral-top2", true), ("olmoe-hub", false), ("qwen3moe-normed", true)] {
        let checkpoint = open(name);
        let text = format!(
            "{}route nobody at blocks[*].moe {{ mask index(expert) >= 0 }}\n\
             route one at blocks[*].moe {{ mask index(expert) != 1 }}\n{}{}",
            prompt(),
            generate("nobody"),
            generate("one"),
        );
        let sites = ["logits", "blocks[1].moe.gates", "blocks[1].moe.chosen"];
        for backend in BACKENDS {
            let got = outcome(&checkpoint, &text, &sites, &[], backend);
            for p in 0..TOKENS.len() {
                assert!(got.value(0, 0, p).iter().all(|x| x.is_finite()), "{name} {backend}: row {p}");
                assert!(got.value(0, 1, p).iter().all(|x| *x == 0.0), "{name} {backend}: row {p}");
                let (gates, chosen) = (got.value(1, 1, p), got.value(1, 2, p));
                for e in 0..gates.len() {
                    assert_eq!(chosen[e], f32::from(u8::from(e == 1)), "{name} {backend}: row {p} {chosen:?}");
                    assert_eq!(gates[e] > 0.0, e == 1, "{name} {backend}: row {p} {gates:?}");
                }
                // A softmax over one expert alone is 1.
                assert!((gates[1] - 1.0).abs() < 1e-6 || !normed, "{name} {backend}: row {p} {gates:?}");
            }
        }
    }
}

/// What a receipt says, from the gates of runs with and without the route.
#[test]
fn receipts_compare_with_the_same_rows_without_the_route() {
    let routes = [
        "mask 1, 2",
        "drop 1",
        "mute 0",
        "force 3 by 0.4",
        "top_k = 3",
        "top_k = 1",
        "when position > 4 { mask 0 } else { bias 2 by 0.2 }",
        "gates *= 0.5",
        "scores = sigmoid(router)",
    ];
    // Other edits before, between and behind the route's own.
    let others = "hook a at blocks[1].moe.router { h *= 1.5 }\nhook b at blocks[1].moe.selection on [3..] { h[expert = 0] += 0.05 }\n\
                  hook c at blocks[1].moe.gates { h[expert = 1] *= 0.75 }\npatch d at blocks[1].moe.chosen_scores on [6] from p\n\
                  route e at blocks[1].moe on [..7] { bias 2 by 0.03 }\n";
    for name in ["mixtral-top2", "olmoe-hub"] {
        let checkpoint = open(name);
        for body in routes {
            // In the last layer nothing else tells the runs apart.
            let text = format!(
                "{}route r at blocks[1].moe on [1..9] {{\n    {body}\n}}\n{others}{}{}{}{}",
                prompt(),
                generate(""),
                generate("r"),
                generate("a, b, r, c, d, e"),
                generate("a, b, c, d, e"),
            );
            let session = session(&checkpoint, Path::new("."), &text).unwrap_or_else(|d| panic!("{d:#?}\n{text}"));
            let runs = generated(&session.script);
            let prepared = phase(&session, &runs, &["logits", "blocks[1].moe.gates"], &PhaseOptions::default())
                .unwrap_or_else(|d| panic!("{d:#?}\n{text}"));
            for backend in BACKENDS {
                let mut engine = engine(backend, &compiled(&prepared), &session.checkpoint, &loaded(&session));
                let feeds = feeds(&prepared, &|_| Vec::new());
                let got = feed(engine.as_mut(), &feeds, &[4], 2, &all).unwrap_or_else(|e| panic!("{e}"));
                for (run, plain) in [(1, 0), (2, 3)] {
                    let mine = |r: &&steer::engine::RowReceipt| {
                        r.run == run && prepared.plan.edits[r.edit.0 as usize].name == "r"
                    };
                    // One part of the route has its receipts; those of the others are empty.
                    let mut rows: BTreeMap<usize, Vec<_>> = BTreeMap::new();
                    for r in got.receipts.iter().filter(mine) {
                        rows.entry(r.position).or_default().push(r);
                    }
                    assert_eq!(rows.keys().copied().collect::<Vec<_>>(), (1..9).collect::<Vec<_>>(), "{body}");
                    for (p, receipts) in rows {
                        let (before, after) = (got.value(plain, 1, p), got.value(run, 1, p));
                        let pairs = || before.iter().zip(after);
                        let count = |f: &dyn Fn(f32, f32) -> bool| pairs().filter(|(x, y)| f(**x, **y)).count() as f32;
                        let more: f32 = pairs().map(|(x, y)| (y - x).max(0.0)).sum();
                        let less: f32 = pairs().map(|(x, y)| (x - y).max(0.0)).sum();
                        let of = |s: Stat| receipts.iter().map(|r| r.of(s)).sum::<f32>();
                        let near = |a: f32, b: f32| (a - b).abs() < 1e-5;
                        let about =
                            format!("{name} {backend} `{body}` run {run} row {p}: {before:?} {after:?} {receipts:?}");
                        assert_eq!(of(Stat::Chosen), count(&|x, _| x != 0.0), "{about}");
                        assert_eq!(of(Stat::Entered), count(&|x, y| x == 0.0 && y != 0.0), "{about}");
                        assert_eq!(of(Stat::Left), count(&|x, y| x != 0.0 && y == 0.0), "{about}");
                        assert!(near(of(Stat::Moved), more.max(less)), "{about}");
                        assert!(near(of(Stat::Before), before.iter().sum()), "{about}");
                    }
                }
            }
        }
    }
}
