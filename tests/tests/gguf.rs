//! Models in GGUF files: what transformers computes in the checkpoints that they were made of, and their texts.

use std::path::{Path, PathBuf};
use steer::checkpoint::Checkpoint;
use steer::cli::tokens::rows;
use steer::experiment::{self, PhaseOptions, Session, SessionOptions};
use steer::hub::Hub;
use steer::tensors::gguf::Gguf;
use steer::tokens::Tokens;
use steer_compiler::backend::DEFAULT;
use steer_compiler::elaborate::{Chat, Message};
use steer_compiler::plan::rules::Options;
use steer_lang::{Sources, Span};
use steer_tests::fixture::{TOLERANCE, distance, folder, model, size, stored};
use steer_tests::run::{Feed, all, compile_sites, engine, feed, no_tensors};

/// The files that have logits beside them.
fn files() -> Vec<PathBuf> {
    let found = std::fs::read_dir(folder("gguf")).unwrap().flatten().map(|e| e.path());
    let with_logits =
        |p: &PathBuf| p.extension().is_some_and(|e| e == "gguf") && p.with_extension("safetensors").exists();
    let mut out: Vec<PathBuf> = found.filter(with_logits).filter(|p| !p.ends_with("blocks.gguf")).collect();
    out.sort();
    out
}

fn logits(path: &std::path::Path, backend: &str) -> Vec<Vec<f32>> {
    let expected = stored(&folder("gguf").join(path.file_stem().unwrap()).with_extension("safetensors"));
    let session = model(path);
    let compiled = compile_sites(&session.model, &["logits".to_owned()], &Options::default());
    let mut engine = engine(backend, &compiled, &session.checkpoint, &no_tensors());
    let outcome = feed(engine.as_mut(), &[Feed::plain(&expected.tokens)], &[], 1, &all).unwrap();
    (0..expected.tokens.len()).map(|p| outcome.value(0, 0, p).to_vec()).collect()
}

#[test]
fn logits_are_those_of_transformers() {
    let files = files();
    assert!(files.len() >= 20, "{files:?}");
    for path in files {
        let expected = stored(&path.with_extension("safetensors"));
        let array = &expected.tensors["logits"];
        for backend in [DEFAULT, "candle"] {
            let have = logits(&path, backend).concat();
            let off = distance(&have, &array.data, size(&array.data));
            println!("{} {backend}: {off:.1e}", path.file_stem().unwrap().display());
            assert!(off <= TOLERANCE, "{}: off by {off}", path.display());
        }
    }
}

/// Files that hold the same numbers as a folder give the same bits.
#[test]
fn the_same_model_from_both_files_is_the_same_bit_for_bit() {
    for name in ["llama-grouped", "llama-wide", "mixtral-top2", "gpt2-inner", "neox-parallel", "olmo2-grouped"] {
        let of_file = logits(&folder("gguf").join(format!("{name}.gguf")), DEFAULT);
        let of_folder = logits(&folder("parity").join(name), DEFAULT);
        assert_eq!(of_file, of_folder, "{name}");
    }
}

/// Bit for bit: the order of operations is ggml's.
#[test]
fn quantized_blocks_are_those_of_ggml() {
    let bytes = std::fs::read(folder("gguf/blocks.gguf")).unwrap();
    let gguf = Gguf::parse(&bytes).unwrap();
    let expected = stored(&folder("gguf/blocks.safetensors"));
    assert!(gguf.tensors.len() >= 11);
    for t in &gguf.tensors {
        let have = t.info().read(&bytes).unwrap().unwrap();
        let want = &expected.tensors[t.name].data;
        let apart = have.iter().zip(want).position(|(a, b)| a.to_bits() != b.to_bits());
        assert_eq!((have.len(), apart), (want.len(), None), "{}", t.name);
    }
}

const TEXTS: &[&str] = &[
    "Once upon a time, there was a big dog.",
    " two  spaces\n\nand lines\t",
    "numbers 123 and é, 日本, 🙂!",
    "",
    "It's we're <|end|> <s> x",
];

#[test]
fn texts_have_the_tokens_of_the_tokenizer_that_the_file_was_made_of() {
    for (file, source) in [("vocabulary-bytes.gguf", "chat/bytes"), ("vocabulary-pieces.gguf", "chat/pieces")] {
        let own = Tokens::open(&folder("gguf").join(file)).unwrap().unwrap();
        let other = Tokens::open(&folder(source)).unwrap().unwrap();
        for text in TEXTS {
            let (a, b) = (own.encode(text, true).unwrap(), other.encode(text, true).unwrap());
            assert_eq!(a.ids, b.ids, "{file}: {text:?}");
            assert_eq!(a.offsets, b.offsets, "{file}: {text:?}");
            assert_eq!(own.decode(&a.ids).unwrap(), other.decode(&b.ids).unwrap(), "{file}: {text:?}");
            let pieces = |t: &Tokens| a.ids.iter().map(|id| t.piece(*id)).collect::<Vec<_>>();
            assert_eq!(pieces(&own), pieces(&other));
        }
        assert_eq!((own.bos(), own.vocab_size()), (other.bos(), other.vocab_size()));
    }
}

#[test]
fn conversations_are_written_by_the_files_own_template() {
    let own = Tokens::open(&folder("gguf/vocabulary-bytes.gguf")).unwrap().unwrap();
    let mut other = Tokens::open(&folder("chat/bytes")).unwrap().unwrap();
    let path = folder("chat/turns.jinja");
    other.set_chat_template(&path, &std::fs::read_to_string(&path).unwrap()).unwrap();
    let message = |role: &str, text: &str| Message { role: role.into(), content: text.into() };
    let chat = Chat {
        messages: vec![message("user", "Hello."), message("assistant", "Yes?"), message("user", "Why?")],
        open: true,
        span: Span::default(),
    };
    assert_eq!(own.chat(&chat).unwrap().text, other.chat(&chat).unwrap().text);
}

#[test]
fn a_damaged_file_is_one_error() {
    let bytes = std::fs::read(folder("gguf/llama-grouped.gguf")).unwrap();
    let path = std::env::temp_dir().join(format!("steer-damaged-{}.gguf", std::process::id()));
    for cut in [0, 3, 8, 100, 700, 2000, bytes.len() - 5] {
        std::fs::write(&path, &bytes[..cut]).unwrap();
        let e = Checkpoint::open(&path).unwrap_err();
        assert!(e.0.message.contains("not a sound GGUF file") && e.0.help.is_some(), "{cut}: {}", e.0.message);
    }
    std::fs::remove_file(&path).unwrap();
}

/// A tensor that is not there is named as the model file and as the file itself would.
#[test]
fn errors_name_tensors_as_the_file_does() {
    let mut bytes = std::fs::read(folder("gguf/llama-grouped.gguf")).unwrap();
    let (name, other) = (b"blk.1.attn_q.weight", b"blk.1.attn_z.weight");
    let at = bytes.windows(name.len()).position(|w| w == name).unwrap();
    bytes[at..at + name.len()].copy_from_slice(other);
    let path = std::env::temp_dir().join(format!("steer-renamed-{}.gguf", std::process::id()));
    std::fs::write(&path, &bytes).unwrap();
    let checkpoint = Checkpoint::open(&path).unwrap();
    let e = checkpoint.read_f32("model.layers.1.self_attn.q_proj.weight").unwrap_err();
    let said = "have no tensor `model.layers.1.self_attn.q_proj.weight` (`blk.1.attn_q.weight` in GGUF)";
    assert!(e.0.message.contains(said), "{}", e.0.message);
    std::fs::remove_file(&path).unwrap();
}

/// Such a file is no folder that something could be put into.
#[test]
fn a_file_without_a_tokenizer_says_what_a_file_needs() {
    let path = folder("gguf").join("llama-wide.gguf");
    let options = SessionOptions { model: Some(path.display().to_string()), ..SessionOptions::default() };
    let run = |text: &str| {
        let opened = Session::open_text(Path::new("a.steer"), text.into(), &options, &mut Sources::default());
        opened
            .and_then(|s| experiment::run(&s, &PhaseOptions::default(), &mut |_| Ok(())))
            .err()
            .expect("no text is run")
    };
    for text in ["generate \"Tom\" { max: 3 }\n", "print chat(user = \"Tom\")\n"] {
        let found = run(text);
        let help = found[0].help.as_deref().unwrap_or_default();
        assert!(found[0].code.0 == "E0506" && help.contains("a GGUF file has in it"), "{text}{found:#?}");
    }
    let e = rows(&path.display().to_string(), "Tom", &Hub::default()).expect_err("no text has tokens").0;
    assert!(e.code.0 == "E0506" && e.help.is_some_and(|h| h.contains("a GGUF file has in it")));
}
