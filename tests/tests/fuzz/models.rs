//! Configurations, and files that are whole models.

use super::mutated;
use std::path::Path;
use steer::checkpoint::{Checkpoint, Config};
use steer::tokens::Tokens;
use steer_compiler::elaborate::{Library, Model, Scope};
use steer_lang::Sources;
use steer_tests::cases::{package, read};

#[test]
fn configurations_are_built_or_refused() {
    let mut seeds: Vec<Vec<u8>> = Vec::new();
    for folder in ["models", "parity"] {
        for entry in std::fs::read_dir(package(folder)).unwrap().flatten() {
            let path = entry.path().join("config.json");
            if path.is_file() {
                seeds.push(read(&path));
            }
        }
    }
    seeds.push(read(&package("cases/configs/llama-70b.json")));
    seeds.sort();
    let words = [
        "0",
        "1",
        "-1",
        "2.5",
        "1e12",
        "1e300",
        "99999999999999999999",
        "null",
        "true",
        "[]",
        "{}",
        "\"x\"",
        "4096",
        "NaN",
    ];
    let library = Library::standard(&mut Sources::default()).unwrap();
    mutated("config", &seeds, &words, |_, bytes| {
        let Ok(config) = Config::parse(Path::new("config.json"), bytes) else { return false };
        let Ok(model) = Model::new(library.clone(), config.value) else { return false };
        match model.build(&[], &[], &Default::default(), &Scope::new()) {
            Ok(built) => {
                let lengths = built.plan.nodes.iter().filter_map(|n| n.ty.len());
                lengths.max().is_some()
            }
            Err(d) => {
                assert!(d.help.as_deref().is_none_or(|h| !h.contains("bug in steer")), "{d:?}");
                false
            }
        }
    });
}

#[test]
fn models_in_one_file_are_read_or_refused() {
    let names = ["qwen2-hub", "gemma2-caps", "olmo2-grouped", "phi3-long", "mixtral-top2", "mamba-conv", "blocks"];
    let mut seeds: Vec<Vec<u8>> = names.iter().map(|n| read(&package("gguf").join(format!("{n}.gguf")))).collect();
    seeds.extend(["bytes", "pieces"].map(|n| read(&package("gguf").join(format!("vocabulary-{n}.gguf")))));
    let words = [
        "llama",
        "gemma3",
        "gptneox",
        "block_count",
        "head_count",
        "attn_q",
        "attn_qkv",
        "ffn_up_exps",
        "general.alignment",
        "split.count",
        "tokenizer.ggml.pre",
        "qwen2",
        "\u{0}\u{0}",
        "\u{1}",
        "\u{8}",
        "\u{c}",
    ];
    let path = std::env::temp_dir().join(format!("steer-fuzz-{}.gguf", std::process::id()));
    mutated("model", &seeds, &words, |_, bytes| {
        std::fs::write(&path, &bytes).unwrap();
        if let Ok(Some(tokens)) = Tokens::open(&path) {
            let _ = tokens.encode("Tom went to the park.\n é🙂", true);
        }
        let Ok(checkpoint) = Checkpoint::open(&path) else { return false };
        for name in checkpoint.names() {
            let _ = checkpoint.read_f32(name);
        }
        true
    });
    std::fs::remove_file(&path).unwrap();
}
