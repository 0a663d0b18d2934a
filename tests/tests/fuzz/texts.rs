//! Tokenizers and chat templates.

use super::mutated;
use std::path::Path;
use steer::tokens::Tokens;
use steer_compiler::elaborate::{Chat, Content, Message};
use steer_lang::{FileId, Span};
use steer_tests::cases::{package, read};

#[test]
fn tokenizers_are_read_or_refused() {
    // One of the shipped kind with a small vocabulary, so that changes meet all of its parts, and one as it is.
    let whole = read(&package("models/tiny-llama/tokenizer.json"));
    let small = |vocab: usize| {
        let mut value: serde_json::Value = serde_json::from_slice(&whole).unwrap();
        let map = value["model"]["vocab"].as_object().unwrap().clone();
        let kept: serde_json::Map<String, serde_json::Value> = map.into_iter().take(vocab).collect();
        let known = |pair: &serde_json::Value| {
            let parts: Vec<String> = match pair {
                serde_json::Value::String(s) => s.split(' ').map(str::to_string).collect(),
                other => other.as_array().unwrap().iter().map(|p| p.as_str().unwrap().to_string()).collect(),
            };
            parts.iter().all(|p| kept.contains_key(p)) && kept.contains_key(&parts.concat())
        };
        let merges: Vec<serde_json::Value> =
            value["model"]["merges"].as_array().unwrap().iter().filter(|m| known(m)).cloned().collect();
        value["model"]["merges"] = merges.into();
        value["model"]["vocab"] = kept.into();
        value.to_string().into_bytes()
    };
    let seeds = vec![small(40), small(300)];
    let words = ["0", "-1", "99999", "null", "true", "\"\"", "\"BPE\"", "ByteLevel", "[]", "{}"];
    mutated("tokenizer", &seeds, &words, |i, bytes| {
        let Ok(tokens) = Tokens::parse(Path::new("tokenizer.json"), &bytes) else { return false };
        for text in ["", "Tom went to the park.\n é🙂", " a  b"] {
            if let Ok(e) = tokens.encode(text, i % 2 == 0) {
                assert!(e.offsets.iter().all(|o| text.get(o.clone()).is_some()));
                let _ = tokens.decode(&e.ids);
                e.ids.iter().for_each(|id| drop(tokens.piece(*id)));
            }
            let _ = tokens.single(text);
        }
        let _ = tokens.misfit(4);
        true
    });
}

/// Folders without a tokenizer.json, one file of each changed.
#[test]
fn vocabularies_are_read_or_refused() {
    let files = [
        ("llama", "tokenizer.model"),
        ("gemma", "tokenizer.model"),
        ("xlm-roberta", "sentencepiece.bpe.model"),
        ("opt", "merges.txt"),
        ("opt", "vocab.json"),
        ("opt", "tokenizer_config.json"),
        ("mistral", "tokenizer_config.json"),
        ("gpt2", "added_tokens.json"),
        ("bert", "vocab.txt"),
        ("roberta", "special_tokens_map.json"),
    ];
    let seeds: Vec<Vec<u8>> =
        files.iter().map(|(folder, file)| read(&package("tokenizers").join(folder).join(file))).collect();
    let own = std::env::temp_dir().join(format!("steer-fuzz-vocabularies-{}", std::process::id()));
    let folders: Vec<_> = (0..files.len()).map(|i| own.join(i.to_string())).collect();
    for ((folder, _), at) in files.iter().zip(&folders) {
        std::fs::create_dir_all(at).unwrap();
        for entry in std::fs::read_dir(package("tokenizers").join(folder)).unwrap().flatten() {
            std::fs::copy(entry.path(), at.join(entry.file_name())).unwrap();
        }
    }
    let words = [
        "0",
        "-1",
        "99999999999",
        "null",
        "true",
        "\"\"",
        "{}",
        "[]",
        "GPT2Tokenizer",
        "BertTokenizer",
        "\u{1}",
        "\u{0}\u{0}",
        "\u{a}",
        "<s>",
        "\u{2581}",
    ];
    mutated("vocabulary", &seeds, &words, |i, bytes| {
        let (at, (_, file)) = (&folders[i % files.len()], files[i % files.len()]);
        // A file that is written over waits for the disk, a new one does not.
        let path = at.join(file);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, &bytes).unwrap();
        let Ok(Some(tokens)) = Tokens::open(at) else { return false };
        for text in ["", "Tom went to the park.\n é🙂 <mask></s>", " a  b"] {
            if let Ok(e) = tokens.encode(text, i % 2 == 0) {
                assert!(e.offsets.iter().all(|o| text.get(o.clone()).is_some()));
                let _ = tokens.decode(&e.ids);
            }
            let _ = tokens.single(text);
        }
        true
    });
    std::fs::remove_dir_all(&own).unwrap();
}

#[test]
fn chat_templates_are_followed_or_refused() {
    let names = ["headers", "turns", "brackets", "thoughts"];
    let mut seeds: Vec<Vec<u8>> = names.iter().map(|n| read(&package("chat").join(format!("{n}.jinja")))).collect();
    let config: serde_json::Value =
        serde_json::from_slice(&read(&package("models/tiny-llama/tokenizer_config.json"))).unwrap();
    seeds.push(config["chat_template"].as_str().unwrap().into());
    // Some of these take time and room without end.
    seeds.push(
        b"{% macro f(x) %}{{ f(x + 'a') }}{% endmacro %}{% for m in messages %}{{ m.content[:1] }}{% endfor %}".into(),
    );
    seeds.push(
        b"{% for i in range(9999) %}{% for j in range(3) %}{{ i * j }}{% endfor %}{% endfor %}{{ 'a' * 9 }}".into(),
    );
    let words = [
        "messages",
        "message",
        "content",
        "role",
        "loop.last",
        "loop.index0",
        "bos_token",
        "none",
        "true",
        "0",
        "-1",
        "99999",
        "99999999999",
        "range",
        "namespace",
        "trim",
        "tojson",
        "length",
        "reverse",
        "upper",
        "for",
        "if",
        "endif",
        "set",
        "macro",
        "raise_exception",
        "split",
        "strip",
        "replace",
        "{{",
        "}}",
        "{%",
        "%}",
        "+",
        "*",
        "[::-1]",
        "generation",
    ];
    let mut tokens = Tokens::open(&package("chat/bytes")).unwrap().unwrap();
    let span = Span { file: FileId(0), start: 0, end: 0 };
    let said =
        [("system", "Be brief."), ("user", " Why? "), ("assistant", "So, "), ("user", "é🙂"), ("assistant", "Yes")];
    let message = |(role, content): &(&str, &str)| Message { role: (*role).into(), content: (*content).into() };
    let messages: Vec<Message> = said.iter().map(message).collect();
    mutated("template", &seeds, &words, |i, text| {
        let text = String::from_utf8_lossy(&text).into_owned();
        if tokens.set_chat_template(Path::new("chat_template.jinja"), &text).is_err() {
            return false;
        }
        let chat = Chat { messages: messages[i % 2..3 + i % 3].to_vec(), open: i % 5 < 3, span };
        let Ok(written) = tokens.chat(&chat) else { return false };
        let fits = |r: &(usize, usize)| written.text.get(r.0..r.1).is_some();
        assert!(written.encoded.ranges.iter().all(fits));
        let turns = written.encoded.turns.as_deref().unwrap_or_default();
        let places = turns.iter().flat_map(|t| match &t.content {
            Content::At(places) => places.as_slice(),
            _ => &[],
        });
        assert!(places.into_iter().all(fits));
        true
    });
}
