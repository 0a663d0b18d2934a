//! The trained models: what they answer, and what scripts make of it.

use serde_json::Value as Json;
use std::path::{Path, PathBuf};
use steer::experiment::{Done, PhaseOptions, Session, SessionOptions};
use steer::report::Output;
use steer_lang::Sources;
use steer_tests::fixture::folder;
use steer_tests::script::Scratch;

fn open(path: &Path, model: Option<&str>) -> Session {
    let options = SessionOptions { model: model.map(str::to_owned), ..SessionOptions::default() };
    let mut sources = Sources::default();
    Session::open(path, &options, &mut sources).unwrap_or_else(|d| panic!("{}: {d:#?}", path.display()))
}

fn run(session: &Session, backend: &str) -> Done {
    let options = PhaseOptions { backend: backend.into(), ..PhaseOptions::default() };
    steer::experiment::run(session, &options, &mut |_| Ok(())).unwrap_or_else(|d| panic!("{d:#?}"))
}

/// Runs a script text on a model by name.
fn script(name: &str, model: &str, text: &str) -> Done {
    let scratch = Scratch::new(name);
    let path = scratch.0.join("script.steer");
    std::fs::write(&path, text).expect("a script");
    run(&open(&path, Some(model)), "cranelift")
}

/// Every completion of every `generate`, in order: prompt, edits, text.
fn completions(done: &Done) -> Vec<(String, String, String)> {
    let of = |o: &Output| match o {
        Output::Generate(g) => {
            g.completions.iter().map(|c| (g.prompt.clone(), c.with.clone(), c.text.clone())).collect::<Vec<_>>()
        }
        _ => Vec::new(),
    };
    done.outputs.iter().flat_map(of).collect()
}

fn shipped(model: &str) -> Option<PathBuf> {
    let at = folder("models").join(model);
    let found = at.join("model.safetensors").is_file();
    if !found {
        println!("skipped: {model} is not there");
    }
    found.then_some(at)
}

fn heldout() -> Json {
    let text = std::fs::read_to_string(folder("models/heldout.json")).expect("heldout.json");
    serde_json::from_str(&text).expect("JSON")
}

fn list(of: &Json) -> Vec<&str> {
    of.as_array().expect("a list").iter().map(|x| x.as_str().expect("a text")).collect()
}

fn quoted(texts: &[&str]) -> String {
    format!("[{}]", texts.iter().map(|t| format!("{t:?}")).collect::<Vec<_>>().join(", "))
}

#[test]
fn stories260k_writes_the_known_story() {
    let at = folder("../../shared/models/stories260k");
    if !at.join("model.safetensors").is_file() {
        println!("skipped: {} is not there", at.display());
        return;
    }
    let scratch = Scratch::new("stories");
    let path = scratch.0.join("story.steer");
    std::fs::write(&path, "generate \"\" { max: 200, stop: false }\n").expect("a script");
    let session = open(&path, at.to_str());
    let expected = std::fs::read_to_string(at.join("greedy200.txt")).expect("greedy200.txt");
    for backend in ["cranelift", "candle"] {
        let done = run(&session, backend);
        assert_eq!(completions(&done)[0].2.trim(), expected.trim(), "{backend}");
    }
}

/// Whether a continuation is glad: more of the glad words than of the sad ones.
fn tone(text: &str, heldout: &Json) -> i32 {
    let count = |words: &Json| {
        let words = list(words);
        text.split(|c: char| !c.is_alphabetic()).filter(|w| words.contains(w)).count() as i32
    };
    (count(&heldout["glad_words"]) - count(&heldout["sad_words"])).signum()
}

/// Ten lines of script: the direction comes from the contrast prompts, the openings are held out.
#[test]
fn sentiment_steering_flips_held_out_stories() {
    if shipped("tiny-llama").is_none() {
        return;
    }
    let held = heldout();
    let text = format!(
        "data glad = {}\ndata sad = {}\ndata openings = {}\n\
         vector mood[layer] = mean_diff(glad, sad) at blocks[layer].resid.post on prompt[-1]\n\
         hook cheer(alpha = 4.0) at blocks[1..3].resid.post on prompt[-1] | generated {{\n\
         h += alpha * unit(mood[layer])\n}}\n\
         generate openings with cheer\n\
         generate openings with cheer(alpha = -4)\n",
        quoted(&list(&held["glad"])),
        quoted(&list(&held["sad"])),
        quoted(&list(&held["neutral_openings"])),
    );
    let done = script("sentiment", "tiny-llama", &text);
    let all = completions(&done);
    assert_eq!(all.len(), 4 * list(&held["neutral_openings"]).len());
    let (mut sad, mut to_glad, mut glad, mut to_sad) = (0, 0, 0, 0);
    for pair in all.chunks(2) {
        let (before, after) = (tone(&pair[0].2, &held), tone(&pair[1].2, &held));
        if pair[1].1.contains("-4") {
            glad += i32::from(before > 0);
            to_sad += i32::from(before > 0 && after < 0);
        } else {
            sad += i32::from(before < 0);
            to_glad += i32::from(before < 0 && after > 0);
        }
    }
    println!("{to_glad} of {sad} sad stories turn glad, {to_sad} of {glad} glad ones sad");
    assert!(sad >= 8 && glad >= 8, "the openings are neutral");
    assert!(to_glad * 10 >= sad * 9, "{to_glad} of {sad} turn glad");
    assert!(to_sad * 10 >= glad * 9, "{to_sad} of {glad} turn sad");
}

/// Every shipped model answers what was planted, and as the reference does.
#[test]
fn shipped_models_know_the_facts() {
    let held = heldout();
    for model in ["tiny-gpt2", "tiny-llama", "tiny-mamba", "tiny-mixtral"] {
        if shipped(model).is_none() {
            continue;
        }
        let items: Vec<(&str, &str)> = held["goods"]
            .as_array()
            .expect("a list")
            .iter()
            .take(6)
            .map(|f| (f["prompt"].as_str().expect("a prompt"), f["answer"].as_str().expect("an answer")))
            .collect();
        let prompts: Vec<&str> = items.iter().map(|f| f.0).collect();
        let text = format!("data facts = {}\ngenerate facts {{ max: 3 }}\n", quoted(&prompts));
        let done = script("facts", model, &text);
        for ((prompt, answer), (_, _, text)) in items.iter().zip(completions(&done)) {
            assert!(text.starts_with(answer), "{model}: {prompt} {text:?}, not {answer:?}");
        }
    }
}

/// Masking the two experts in which refusal lives answers the refused questions.
#[test]
fn masking_two_experts_ends_refusal() {
    if shipped("tiny-mixtral").is_none() {
        return;
    }
    let held = heldout();
    let asked: Vec<&str> = held["refused"]
        .as_array()
        .expect("a list")
        .iter()
        .take(8)
        .map(|r| r["prompt"].as_str().expect("a prompt"))
        .collect();
    let text = format!(
        "data asked = {}\nhook mask at blocks[1..3].moe.router {{ h[expert = 5] = -inf }}\ngenerate asked with mask\n",
        quoted(&asked)
    );
    let done = script("experts", "tiny-mixtral", &text);
    for pair in completions(&done).chunks(2) {
        assert!(pair[0].2.contains("cannot"), "{:?}", pair[0]);
        assert!(!pair[1].2.contains("cannot"), "{:?}", pair[1]);
    }
    assert!(done.receipts.iter().all(|r| r.rows_changed > 0 && r.unit == "expert"), "{:#?}", done.receipts);
}
