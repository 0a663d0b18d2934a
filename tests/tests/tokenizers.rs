//! Tokenizers of folders that have no tokenizer.json, against what transformers makes of texts there.

use serde_json::Value;
use steer::checkpoint::Checkpoint;
use steer::tokens::{Stream, Tokens};
use steer_tests::cases::{package, read};

/// A text, its tokens, and the text that comes back.
type Case = (String, Vec<u32>, String);

/// The folders with their cases.
fn expected() -> Vec<(String, Vec<Case>)> {
    let all: Value = serde_json::from_slice(&read(&package("tokenizers/expected.json"))).unwrap();
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    let case = |v: &Value| {
        let ids = v[1].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32);
        (text(&v[0]), ids.collect(), text(&v[2]))
    };
    let folder =
        |(name, cases): (&String, &Value)| (name.clone(), cases.as_array().unwrap().iter().map(case).collect());
    all.as_object().unwrap().iter().map(folder).collect()
}

fn open(name: &str) -> Tokens {
    let folder = package("tokenizers").join(name);
    Tokens::open(&folder).unwrap_or_else(|e| panic!("{name}: {e}")).unwrap()
}

#[test]
fn tokens_and_texts_are_those_of_transformers() {
    let (mut wrong, mut all) = (Vec::new(), 0);
    for (name, cases) in expected() {
        let tokens = open(&name);
        assert!(cases.len() > 30, "{name}");
        for (text, ids, back) in cases {
            all += 1;
            let own = tokens.encode(&text, true).unwrap();
            let decoded = tokens.decode(&ids).unwrap();
            let piece = |ids: &[u32]| ids.iter().map(|id| tokens.piece(*id)).collect::<Vec<_>>();
            if own.ids != ids {
                wrong.push(format!("{name} {text:?}:\n  {:?}\n  {:?}", piece(&own.ids), piece(&ids)));
            } else if decoded != back {
                wrong.push(format!("{name} {text:?} becomes {decoded:?}, not {back:?}"));
            }
            assert!(own.offsets.iter().all(|o| text.get(o.clone()).is_some()), "{name} {text:?}");
        }
    }
    assert!(wrong.is_empty(), "{} of {all}:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn texts_come_out_as_they_went_in() {
    // Those that change nothing in texts.
    let tokens = open("gemma");
    let whole = tokens.single("<tool>").unwrap();
    assert!(tokens.encode("a<tool>b", false).unwrap().ids.contains(&whole), "a piece that is no part of others");
    for name in ["opt", "gpt2", "llama", "mistral", "gemma"] {
        let tokens = open(name);
        let text = "Once upon a time,  there was é 日本 🙂\n\nx 12";
        let encoded = tokens.encode(text, false).unwrap();
        let mut stream = Stream::new(&tokens, &[]).unwrap();
        let mut out = String::new();
        encoded.ids.iter().for_each(|id| out.extend(stream.push(*id).unwrap()));
        out += &stream.finish().unwrap();
        assert_eq!(out, text, "{name}");
        assert!(tokens.single(" was").is_ok_and(|id| tokens.piece(id) == " was"), "{name}");
    }
}

#[test]
fn beginnings_and_endings_have_their_numbers() {
    let of = |name: &str| {
        let tokens = open(name);
        (tokens.bos(), tokens.eos().to_vec(), tokens.vocab_size())
    };
    assert_eq!(of("opt"), (Some(2), vec![2], 400));
    assert_eq!(of("gpt2"), (Some(0), vec![0], 402));
    assert_eq!(of("llama"), (Some(1), vec![2], 481));
    assert_eq!(of("gemma"), (Some(2), vec![1], 500));
    let hashes = Checkpoint::open(&package("tokenizers/opt")).unwrap().small_hashes().unwrap();
    let named: Vec<&str> = hashes.iter().map(|h| h.file.as_str()).collect();
    assert!(["vocab.json", "merges.txt", "special_tokens_map.json"].iter().all(|n| named.contains(n)), "{named:?}");
}

/// Files that are damaged, lack their other half, or do not say whose they are.
#[test]
fn what_cannot_be_read_is_one_error_that_names_the_file() {
    let cases: &[(&str, &str, Option<&[u8]>, &str)] = &[
        ("opt", "merges.txt", None, "merges.txt` is no vocabulary that can be read: there is no such file"),
        ("opt", "merges.txt", Some(b"#version: 0.2\nalone\n"), "a line of it is no pair"),
        ("opt", "merges.txt", Some(b"o zzz\n"), "is not a tokenizer that can be read"),
        ("opt", "vocab.json", Some(b"[1]"), "it is no JSON object"),
        ("opt", "vocab.json", Some(b"{\"a\": -1}"), "a token of it has no number"),
        (
            "opt",
            "tokenizer_config.json",
            Some(b"{\"tokenizer_class\": \"OddTokenizer\"}"),
            "of the class `OddTokenizer`",
        ),
        ("gpt2", "config.json", Some(b"{}"), "neither a tokenizer.json nor a class"),
        ("gpt2", "added_tokens.json", Some(b"{\"<tool>\": 9999}"), "leave no room for \"<tool>\" as number 9999"),
        ("bert", "vocab.txt", Some(&[b'a', 0xFF]), "it is not UTF-8"),
        ("llama", "tokenizer.model", Some(b"IQ== 0\nIg== 1\n"), "it is no model of SentencePiece"),
        ("llama", "tokenizer.model", Some(b""), "it has no pieces"),
    ];
    let own = std::env::temp_dir().join(format!("steer-tokenizers-{}", std::process::id()));
    for (name, file, bytes, what) in cases {
        let _ = std::fs::remove_dir_all(&own);
        std::fs::create_dir_all(&own).unwrap();
        for entry in std::fs::read_dir(package("tokenizers").join(name)).unwrap().flatten() {
            std::fs::copy(entry.path(), own.join(entry.file_name())).unwrap();
        }
        match bytes {
            Some(bytes) => std::fs::write(own.join(file), bytes).unwrap(),
            None => std::fs::remove_file(own.join(file)).unwrap(),
        }
        let e = Tokens::open(&own).err().unwrap_or_else(|| panic!("{name}/{file} is taken"));
        assert!(e.0.code.0 == "E0506" && e.0.message.contains(what) && e.0.help.is_some(), "{name}/{file}: {e}");
    }
    std::fs::remove_dir_all(&own).unwrap();
}
