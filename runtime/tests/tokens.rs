//! Tokenizers: encoding, single tokens, streaming, and damaged files.

mod common;

use common::{Folder, stories260k};
use serde_json::{Value, json};
use steer::tokens::{Stream, Tokens};
use steer_compiler::elaborate::{Chat, Message};
use steer_lang::{FileId, Severity, Span};

/// A byte-level vocabulary of all bytes and a few words, as GPT-2's.
fn byte_level() -> Value {
    let mut vocab = serde_json::Map::new();
    let mut n = 0u32;
    for b in 0..=255u8 {
        let c = match b {
            b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => char::from(b),
            _ => {
                n += 1;
                char::from_u32(0xFF + n).unwrap()
            }
        };
        vocab.insert(c.to_string(), json!(b));
    }
    for (i, word) in ["Ma", "ry", "Mary", "ĠMary"].iter().enumerate() {
        vocab.insert(word.to_string(), json!(256 + i));
    }
    json!({
        "version": "1.0",
        "added_tokens": [{ "id": 260, "content": "<|end|>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true }],
        "normalizer": null,
        "pre_tokenizer": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true },
        "post_processor": null,
        "decoder": { "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true },
        "model": { "type": "BPE", "vocab": vocab, "merges": ["M a", "r y", "Ma ry", "Ġ Mary"] },
    })
}

fn open(folder: &Folder, tokenizer: &Value) -> Tokens {
    folder.write("tokenizer.json", tokenizer.to_string().as_bytes());
    folder.write("tokenizer_config.json", br#"{"eos_token": "<|end|>"}"#);
    Tokens::open(folder.path()).unwrap().unwrap()
}

#[test]
fn single_tokens_are_looked_up_as_they_stand() {
    let folder = Folder::new("single");
    let tokens = open(&folder, &byte_level());
    assert_eq!(tokens.single("Mary"), Ok(258));
    assert_eq!(tokens.single(" Mary"), Ok(259));
    assert_eq!(tokens.single("<|end|>"), Ok(260));
    assert_eq!(tokens.single("\n"), Ok(10));
    assert_eq!(tokens.single("Maryx").unwrap_err().to_string(), "2 tokens: \"Mary\", \"x\"");
    assert_eq!(tokens.single("").unwrap_err().to_string(), "no token at all");
    assert_eq!((tokens.eos(), tokens.bos(), tokens.vocab_size()), (&[260][..], None, 261));
    assert!(tokens.misfit(280).is_none() && tokens.misfit(261).is_none());
    let few = tokens.misfit(260).unwrap();
    assert!(few.message.contains("the token 260 (\"<|end|>\"), and the model's vocabulary has 260 entries"), "{few:?}");
    assert_eq!(few.severity, Severity::Error);
    let many = tokens.misfit(512).unwrap();
    assert!(many.message.ends_with("has 261 tokens, and the model's vocabulary has 512 entries"), "{many:?}");
    assert_eq!(many.severity, Severity::Warning);
    assert_eq!(tokens.piece(259), " Mary");
    assert_eq!(tokens.piece(9999), "<id 9999>");
}

#[test]
fn offsets_are_bytes_of_the_text() {
    let folder = Folder::new("offsets");
    let tokens = open(&folder, &byte_level());
    let text = "Mary é Mary";
    let e = tokens.encode(text, true).unwrap();
    let covered: Vec<&str> = e.offsets.iter().filter_map(|o| text.get(o.clone())).collect();
    assert_eq!(covered.first(), Some(&"Mary"));
    assert_eq!(covered.last(), Some(&" Mary"));
    assert_eq!(e.ids.len(), e.offsets.len());
    let text = "é🙂 你";
    let e = tokens.encode(text, false).unwrap();
    assert!(e.offsets.iter().all(|o| text.get(o.clone()).is_some_and(|t| !t.is_empty())), "{:?}", e.offsets);
}

#[test]
fn a_stream_holds_back_half_characters_and_loses_none() {
    let folder = Folder::new("stream");
    let tokens = open(&folder, &byte_level());
    let text = "Mary 🙂 é, 你好你好你好你好你好你好你好你好 Mary!";
    let ids = tokens.encode(text, false).unwrap().ids;
    for split in 0..ids.len() {
        let mut stream = Stream::new(&tokens, &ids[..split]).unwrap();
        let mut out = String::new();
        for id in &ids[split..] {
            let piece = stream.push(*id).unwrap().unwrap_or_default();
            assert!(!piece.contains('\u{FFFD}'));
            out += &piece;
        }
        out += &stream.finish().unwrap();
        assert!(text.ends_with(&out), "{split}: {out:?}");
        let before = tokens.decode(&ids[..split]).unwrap();
        assert_eq!(format!("{}{out}", before.trim_end_matches('\u{FFFD}')), text);
    }
    // What never becomes a character comes out at the end.
    assert_eq!(tokens.decode_after(&[258], &[0xE4]).unwrap(), "\u{FFFD}");
}

#[test]
fn damaged_tokenizers_are_errors_that_name_the_file() {
    let folder = Folder::new("damaged-tokenizer");
    assert!(Tokens::open(folder.path()).unwrap().is_none());
    let good = byte_level();
    let mut no_model = good.clone();
    no_model["model"] = json!({ "type": "BPE", "vocab": {}, "merges": ["a b"] });
    let mut bad_type = good.clone();
    bad_type["decoder"] = json!({ "type": "Sideways" });
    let mut bad_regex = good.clone();
    bad_regex["pre_tokenizer"] =
        json!({ "type": "Split", "pattern": { "Regex": "(" }, "behavior": "Isolated", "invert": false });
    let cases = [
        "".to_string(),
        "{".into(),
        "[]".into(),
        "{}".into(),
        no_model.to_string(),
        bad_type.to_string(),
        bad_regex.to_string(),
    ];
    for text in cases {
        folder.write("tokenizer.json", text.as_bytes());
        let e = Tokens::open(folder.path()).err().unwrap_or_else(|| panic!("accepted: {text:.80}"));
        assert_eq!(e.0.code.0, "E0506");
        assert!(e.0.message.contains("tokenizer.json") && e.0.help.is_some(), "{e}");
    }
    folder.write("tokenizer.json", good.to_string().as_bytes());
    folder.write("tokenizer_config.json", b"{,}");
    assert!(Tokens::open(folder.path()).err().unwrap().0.message.contains("tokenizer_config.json` is not JSON"));
}

fn ask() -> Chat {
    let message = Message { role: "user".into(), content: "Mary".into() };
    Chat { messages: vec![message], open: true, span: Span { file: FileId(0), start: 0, end: 0 } }
}

#[test]
fn a_chat_template_of_its_own_goes_before_the_configuration() {
    let folder = Folder::new("chat-files");
    let template = |name: &str| format!("{name} {{{{ eos_token }}}} {{{{ messages[0].content }}}}");
    folder.write("tokenizer.json", byte_level().to_string().as_bytes());
    let read = || Tokens::open(folder.path()).unwrap().unwrap().chat(&ask()).map(|w| w.text);
    let e = read().unwrap_err();
    assert!(
        e.0.code.0 == "E0507" && e.0.message.ends_with("has no chat template, so it reads no conversations"),
        "{e}"
    );
    folder.write("chat_template.json", json!({ "chat_template": template("c") }).to_string().as_bytes());
    assert_eq!(read().unwrap(), "c  Mary");
    // Old folders name special tokens in a file of their own.
    folder.write("special_tokens_map.json", br#"{"eos_token": {"content": "<|end|>"}}"#);
    assert_eq!(read().unwrap(), "c <|end|> Mary");
    let config = json!({ "eos_token": "<e>", "chat_template": [{ "name": "default", "template": template("b") }] });
    folder.write("tokenizer_config.json", config.to_string().as_bytes());
    assert_eq!(read().unwrap(), "b <e> Mary");
    folder.write("chat_template.jinja", template("a").as_bytes());
    assert_eq!(read().unwrap(), "a <e> Mary");
    folder.write("chat_template.jinja", &[b'a', 0xFF]);
    assert!(read().unwrap_err().0.message.contains("is not UTF-8"));
}

#[test]
fn special_tokens_of_a_template_are_special_and_no_other_is_added() {
    let folder = Folder::new("chat-specials");
    let mut tokenizer = byte_level();
    tokenizer["post_processor"] = json!({
        "type": "TemplateProcessing",
        "single": [{ "SpecialToken": { "id": "<|end|>", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } }],
        "pair": [],
        "special_tokens": { "<|end|>": { "id": "<|end|>", "ids": [260], "tokens": ["<|end|>"] } },
    });
    folder.write("tokenizer.json", tokenizer.to_string().as_bytes());
    let config = json!({ "bos_token": "<|end|>", "chat_template": "{{ bos_token }}:{{ messages[0].content }}" });
    folder.write("tokenizer_config.json", config.to_string().as_bytes());
    let tokens = Tokens::open(folder.path()).unwrap().unwrap();
    assert_eq!(tokens.encode("Mary", true).unwrap().ids, [260, 258]);
    let written = tokens.chat(&ask()).unwrap();
    assert_eq!((written.text.as_str(), written.encoded.bos), ("<|end|>:Mary", 1));
    assert_eq!(written.encoded.tokens, [260, u32::from(b':'), 258]);
    assert_eq!(written.encoded.ranges, [(0, 7), (7, 8), (8, 12)]);
}

#[test]
fn sentencepiece_spaces_are_kept() {
    let Some(folder) = stories260k() else { return };
    let tokens = Tokens::open(&folder).unwrap().unwrap();
    assert_eq!(tokens.bos(), Some(1));
    assert_eq!(tokens.eos(), [2]);
    assert_eq!(tokens.vocab_size(), 512);
    let e = tokens.encode("Once upon a time", true).unwrap();
    assert_eq!((e.ids[0], e.special[0], e.offsets[0].clone()), (1, true, 0..0));
    let was = tokens.single(" was").unwrap();
    assert_eq!(tokens.piece(was), " was");
    assert_eq!(tokens.single("was"), Ok(was), "no such piece without a space, so it is the word");
    assert_eq!(tokens.piece(tokens.single("\n").unwrap()), "\n");
    assert!(tokens.single(" Mary").is_err());
    let e = tokens.encode("é🙂", false).unwrap();
    assert!(e.offsets.iter().all(|o| "é🙂".get(o.clone()).is_some()), "{:?}", e.offsets);
    // A whole text through the stream, from every place on: nothing is lost, nothing comes twice.
    let text = std::fs::read_to_string(folder.join("greedy200.txt")).unwrap();
    let text = format!("{} 你好, 🙂!", text.trim_end());
    let ids = tokens.encode(&text, true).unwrap().ids;
    assert_eq!(tokens.decode_after(&ids[..1], &ids[1..]).unwrap(), text);
    for split in 1..ids.len() {
        let before = tokens.decode(&ids[..split]).unwrap();
        if !before.ends_with('\u{FFFD}') {
            assert_eq!(before + &tokens.decode_after(&ids[..split], &ids[split..]).unwrap(), text);
        }
    }
}
