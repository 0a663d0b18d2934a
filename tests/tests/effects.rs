//! Interventions as scripts, against the same done on transformers by hooks.

use serde_json::Value as Json;
use std::path::{Path, PathBuf};
use steer::experiment::{PhaseOptions, Session};
use steer_compiler::backend::DEFAULT;
use steer_tests::fixture::{FAMILIES, Stored, TOLERANCE, distance, folder, model, site_of, size, stored};
use steer_tests::run::BACKENDS;
use steer_tests::run::{all, engine, feed};
use steer_tests::script::{compiled, feeds, generated, loaded, phase, session, words};

struct Effect {
    name: String,
    checkpoint: String,
    edits: Vec<Json>,
    prompt: Vec<u32>,
    generated: Vec<u32>,
    tensors: Stored,
    text: String,
}

fn tokens(value: &Json) -> Vec<u32> {
    value.as_array().expect("tokens").iter().map(|t| t.as_u64().expect("a token") as u32).collect()
}

fn number(edit: &Json, field: &str) -> f64 {
    edit[field].as_f64().unwrap_or_else(|| panic!("{field} of {edit}"))
}

fn text<'a>(edit: &'a Json, field: &str) -> &'a str {
    edit[field].as_str().unwrap_or_else(|| panic!("{field} of {edit}"))
}

fn sites(edit: &Json) -> Vec<String> {
    edit["sites"].as_array().expect("sites").iter().map(|s| site_of(s.as_str().expect("a site"))).collect()
}

fn positions(edit: &Json) -> String {
    let p = &edit["positions"];
    match (p.as_str(), p["from"].as_u64(), p["list"].as_array()) {
        (Some("all"), ..) => "all".into(),
        (_, Some(n), _) => format!("[{n}..]"),
        (.., Some(list)) => format!("[{}]", list.iter().map(Json::to_string).collect::<Vec<_>>().join(", ")),
        _ => panic!("positions {p}"),
    }
}

/// Whether an edit touches a position.
fn touches(edit: &Json, position: usize) -> bool {
    let p = &edit["positions"];
    match (p["from"].as_u64(), p["list"].as_array()) {
        (Some(n), _) => position as u64 >= n,
        (_, Some(list)) => list.contains(&position.into()),
        _ => true,
    }
}

/// What one edit does, in the language: its hooks as sites and body.
fn hooks(edit: &Json) -> Vec<(String, String)> {
    let at = sites(edit).join(", ");
    let body = match text(edit, "op") {
        "add" => format!("h += {} * {}", number(edit, "alpha"), text(edit, "vector")),
        "project_out" => format!("h -= dot(h, {v}) * {v}", v = text(edit, "vector")),
        "add_when_below" => format!(
            "when dot(h, {v}) < {} {{ h += {} * {v} }}",
            number(edit, "threshold"),
            number(edit, "alpha"),
            v = text(edit, "vector")
        ),
        "zero" => format!("h[head = {}] = 0", edit["head"]),
        "uniform" => format!("h[head = {}] = 1 / (position + 1)", edit["head"]),
        "clamp" => {
            format!("h[neuron = {}] = clamp(h, {}, {})", edit["neurons"], number(edit, "lo"), number(edit, "hi"))
        }
        "scale_state" => format!("h *= {}", number(edit, "factor")),
        // What the row reads of the state is a product with C: scaling that back leaves only what is carried on.
        "scale_carry" => {
            let f = number(edit, "factor");
            return vec![(at.clone(), format!("h *= {f}")), (at.replace("ssm.state", "ssm.C"), format!("h /= {f}"))];
        }
        "mask_expert" => format!("h[expert = {}] = -inf", edit["expert"]),
        "raise_expert" => {
            let (e, amount) = (&edit["expert"], number(edit, "amount"));
            format!("h[expert = {e}] = h[expert = {e}] + {amount}")
        }
        "scale_expert" => format!("h[expert = {e}] = {} * h[expert = {e}]", number(edit, "factor"), e = edit["expert"]),
        "scale" => format!("h *= {}", number(edit, "factor")),
        other => panic!("the op {other} is not known"),
    };
    vec![(at, body)]
}

fn script(effect: &str, prompt: &[u32], edits: &[Json]) -> String {
    let mut out = format!("prompt own = \"{}\"\n", words(prompt));
    let mut vectors: Vec<&str> = edits.iter().filter_map(|e| e["vector"].as_str()).collect();
    vectors.sort_unstable();
    vectors.dedup();
    for v in vectors {
        out.push_str(&format!("vector {v} = load(\"{effect}.safetensors\", \"{v}\")\n"));
    }
    let mut with = Vec::new();
    for (i, e) in edits.iter().enumerate() {
        let on = positions(e);
        if text(e, "op") == "patch" {
            // A patch takes the row of its own position.
            assert_eq!(e["positions"]["list"][0], e["other_position"]);
            out.push_str(&format!("prompt other = \"{}\"\n", words(&tokens(&e["other_tokens"]))));
            out.push_str(&format!("patch edit{i} at {} on {on} from other\n", sites(e).join(", ")));
            with.push(format!("edit{i}"));
            continue;
        }
        for (j, (at, body)) in hooks(e).into_iter().enumerate() {
            let name = if j == 0 { format!("edit{i}") } else { format!("edit{i}_{j}") };
            out.push_str(&format!("hook {name} at {at} on {on} {{ {body} }}\n"));
            with.push(name);
        }
    }
    let with = if with.is_empty() { String::new() } else { format!(" with {}", with.join(", ")) };
    out.push_str(&format!("generate own{with} {{ max: 20, stop: false }}\n"));
    out
}

fn effects() -> Vec<Effect> {
    let at = folder("parity/effects");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(&at).expect("tests/parity/effects").flatten().map(|e| e.path()).collect();
    files.retain(|p| p.extension().is_some_and(|e| e == "json"));
    files.sort();
    let one = |path: &PathBuf| {
        let name = path.file_stem().and_then(|s| s.to_str()).expect("a name").to_owned();
        let json: Json = serde_json::from_str(&std::fs::read_to_string(path).expect("a file")).expect("JSON");
        let edits = json["edits"].as_array().expect("edits").clone();
        let prompt = tokens(&json["tokens"]);
        Effect {
            checkpoint: text(&json, "checkpoint").to_owned(),
            generated: tokens(&json["generated"]),
            tensors: stored(&path.with_extension("safetensors")),
            text: script(&name, &prompt, &edits),
            name,
            edits,
            prompt,
        }
    };
    files.iter().map(one).collect()
}

fn open(effect: &Effect) -> Session {
    let model = model(&folder("parity").join(&effect.checkpoint));
    session(&model, Path::new(&folder("parity/effects")), &effect.text)
        .unwrap_or_else(|d| panic!("{}: {d:?}\n{}", effect.name, effect.text))
}

fn argmax(row: &[f32]) -> u32 {
    (0..row.len()).rev().max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap_or(0) as u32
}

#[test]
fn every_kind_of_effect_is_there() {
    let all = effects();
    for family in FAMILIES {
        let mut ops: Vec<&str> = all
            .iter()
            .filter(|e| e.checkpoint.starts_with(&format!("{family}-")))
            .flat_map(|e| e.edits.iter().map(|x| text(x, "op")))
            .collect();
        ops.sort_unstable();
        ops.dedup();
        let own: &[&str] = match *family {
            "mamba" => &["scale_carry", "scale_state"],
            "mixtral" => &["mask_expert", "uniform", "zero"],
            _ => &["clamp", "uniform", "zero"],
        };
        let inner: &[&str] = if *family == "mamba" { &["ssm.state"] } else { &["attn.scores", "attn.pattern"] };
        for site in inner {
            let patched = |e: &Json| text(e, "op") == "patch" && sites(e).iter().any(|s| s.ends_with(site));
            let own = |e: &&Effect| e.checkpoint.starts_with(&format!("{family}-"));
            assert!(all.iter().filter(own).any(|e| e.edits.iter().any(patched)), "{family}: no patch of {site}");
        }
        for op in ["add", "add_when_below", "patch", "project_out"].iter().chain(own) {
            assert!(ops.contains(op), "{family} has no effect with {op}");
        }
        let several = |e: &&Effect| e.checkpoint.starts_with(&format!("{family}-")) && e.edits.len() > 3;
        assert!(all.iter().any(|e| several(&e)), "{family} has no effect of several edits");
    }
}

/// The prompt at once, then token by token under the fixture's own tokens: every row's logits.
#[test]
fn logits_equal_those_of_transformers() {
    for effect in effects() {
        let session = open(&effect);
        let runs = generated(&session.script);
        let (n, steps) = (effect.prompt.len(), effect.generated.len());
        let expected = [&effect.tensors.tensors["prefill"], &effect.tensors.tensors["steps"]];
        let scale = size(&expected[0].data).max(size(&expected[1].data));
        let vocab = expected[0].shape[1];
        let prepared =
            phase(&session, &runs, &["logits"], &PhaseOptions::default()).unwrap_or_else(|d| panic!("{d:?}"));
        let later = |run: usize| if run == 0 { effect.generated[..steps - 1].to_vec() } else { Vec::new() };
        let feeds = feeds(&prepared, &later);
        let cuts: Vec<usize> = (n..n + steps).collect();
        for backend in BACKENDS {
            let mut engine = engine(backend, &compiled(&prepared), &session.checkpoint, &loaded(&session));
            let outcome = feed(engine.as_mut(), &feeds, &cuts, 1, &all).unwrap_or_else(|e| panic!("{e}"));
            let mut worst = 0.0f32;
            let rows = (0..n).map(|p| (p, &expected[0].data[p * vocab..(p + 1) * vocab]));
            let later = (0..steps).map(|i| (n - 1 + i, &expected[1].data[i * vocab..(i + 1) * vocab]));
            for (p, want) in rows.chain(later) {
                let off = distance(outcome.value(0, 0, p), want, scale);
                assert!(off <= TOLERANCE, "{} {backend}: row {p} is off by {off}\n{}", effect.name, effect.text);
                worst = worst.max(off);
            }
            let chosen: Vec<u32> = (0..steps).map(|i| argmax(outcome.value(0, 0, n - 1 + i))).collect();
            assert_eq!(chosen, effect.generated, "{} {backend}\n{}", effect.name, effect.text);
            println!("{} {backend}: {worst:.1e}", effect.name);
        }
    }
}

/// Whether nothing that later rows read is made from a site.
fn behind_the_last_keys(site: &str, layers: u32) -> bool {
    let mut late = [
        "attn.pattern",
        "attn.z",
        "resid.mid",
        "mlp.act",
        "moe.router",
        "moe.selection",
        "moe.gates",
        "moe.expert_out",
        "ssm.y",
        "resid.post",
    ]
    .iter();
    late.any(|s| site == format!("blocks[{}].{s}", layers - 1))
}

/// The script as a user runs it: its tokens, and receipts on exactly the rows that it names.
#[test]
fn scripts_generate_the_same_tokens_and_say_what_they_did() {
    for effect in effects() {
        let session = open(&effect);
        for backend in [DEFAULT, "candle"] {
            let options = PhaseOptions { backend: backend.into(), ..PhaseOptions::default() };
            let done = steer::experiment::run(&session, &options, &mut |_| Ok(()))
                .unwrap_or_else(|d| panic!("{} {backend}: {d:?}", effect.name));
            // Baseline first, where there are edits; donors come last.
            let steered = usize::from(!effect.edits.is_empty());
            assert_eq!(done.results.generated[steered], effect.generated, "{} {backend}", effect.name);
            assert_eq!(done.warnings.len(), 0, "{} {backend}: {:?}", effect.name, done.warnings);
            // The last token is chosen but not run.
            let rows = effect.prompt.len() + effect.generated.len() - 1;
            let mut expected = 0;
            for (i, e) in effect.edits.iter().enumerate() {
                for site in sites(e) {
                    let own = steer_compiler::elaborate::canonical(&site);
                    let hit = (0..rows).filter(|p| touches(e, *p)).count() as u64;
                    // Behind the last attention's keys only rows whose logits are read are computed.
                    let late = behind_the_last_keys(&own, session.script.layers);
                    let first = if late { effect.prompt.len() - 1 } else { 0 };
                    let computed = (first..rows).filter(|p| touches(e, *p)).count() as u64;
                    let receipt = done.receipts.iter().find(|r| r.edit == format!("edit{i}") && r.site == own);
                    let receipt = receipt.unwrap_or_else(|| panic!("{}: no receipt of edit{i} at {own}", effect.name));
                    assert_eq!(receipt.rows_selected, hit, "{} {backend}: {receipt:?}", effect.name);
                    let some = if backend == "candle" { hit } else { computed };
                    assert_eq!(receipt.rows_computed, some, "{} {backend}: {receipt:?}", effect.name);
                    // An expert that none of the computed rows has chosen has no output to change.
                    let idle = late && text(e, "op") == "scale_expert";
                    assert!(receipt.rows_changed > 0 || idle, "{} {backend}: {receipt:?}", effect.name);
                    expected += 1 + usize::from(text(e, "op") == "scale_carry");
                }
            }
            assert_eq!(done.receipts.len(), expected, "{} {backend}: {:?}", effect.name, done.receipts);
        }
    }
}

/// A patch takes what its donor has after the donor's own edits, wherever else these edits are used.
#[test]
fn a_patch_takes_the_edited_value() {
    let model = model(&folder("parity/llama-grouped"));
    let logits = |with: &str, others: &str| {
        let text = format!(
            "prompt a = \"t1 t2 t3 t4\"\nprompt b = \"t5 t6 t7 t8\"\n\
             hook half at blocks[1].resid.mid {{ h *= 0.5 }}\n\
             patch whole at blocks[1].resid.mid on prompt from b with half\n\
             patch plain at blocks[1].resid.mid on prompt from b\n\
             generate a with {with} {{ max: 1, stop: false }}\n{others}"
        );
        let session = session(&model, Path::new("."), &text).unwrap_or_else(|d| panic!("{d:#?}"));
        let runs = generated(&session.script);
        let prepared =
            phase(&session, &runs, &["logits"], &PhaseOptions::default()).unwrap_or_else(|d| panic!("{d:?}"));
        let mut engine = engine(DEFAULT, &compiled(&prepared), &session.checkpoint, &loaded(&session));
        let feeds = feeds(&prepared, &|_| Vec::new());
        let outcome = feed(engine.as_mut(), &feeds, &[], 1, &all).unwrap_or_else(|e| panic!("{e}"));
        (0..4).map(|p| outcome.value(0, 0, p).to_vec()).collect::<Vec<_>>()
    };
    let expected = logits("plain, half", "");
    assert_ne!(expected, logits("plain", ""));
    for others in ["", "generate a with whole, half\n", "generate a with half, whole\n"] {
        let all = others.replace('\n', " { max: 1, stop: false }\n");
        assert_eq!(logits("whole", &all), expected, "beside {others:?}");
    }
}
