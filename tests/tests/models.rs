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
