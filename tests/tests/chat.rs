//! Conversations against what transformers makes of them: texts, tokens, and whose words they are.

use serde_json::Value;
use std::collections::BTreeSet;
use std::path::PathBuf;
use steer::tokens::Tokens;
use steer_compiler::elaborate::{Chat, Content, Message, RowSet, Sequence, Written};
use steer_lang::{FileId, Span};
use steer_tests::cases::{package, read};

struct Case {
    tokenizer: String,
    template: String,
    chat: Chat,
    json: Value,
}

fn chat(json: &Value) -> Chat {
    let text = |v: &Value| v.as_str().unwrap().into();
    let message = |m: &Value| Message { role: text(&m[0]), content: text(&m[1]) };
    Chat {
        messages: json["messages"].as_array().unwrap().iter().map(message).collect(),
        open: json["ending"] != "closed",
        span: Span { file: FileId(0), start: 0, end: 0 },
    }
}

fn cases() -> Vec<Case> {
    let all: Vec<Value> = serde_json::from_slice(&read(&package("chat/expected.json"))).unwrap();
    let text = |v: &Value| v.as_str().unwrap().to_string();
    all.into_iter()
        .map(|json| Case {
            tokenizer: text(&json["tokenizer"]),
            template: text(&json["template"]),
            chat: chat(&json),
            json,
        })
        .collect()
}

fn tokens(case: &Case) -> Tokens {
    let mut tokens = Tokens::open(&package("chat").join(&case.tokenizer)).unwrap().unwrap();
    let path: PathBuf = package("chat").join(format!("{}.jinja", case.template));
    let source = String::from_utf8(read(&path)).unwrap();
    tokens.set_chat_template(&path, &source).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    tokens
}

fn rows(written: &Written, role: &str) -> Vec<usize> {
    let e = &written.encoded;
    let seq = Sequence {
        prompt: e.tokens.len(),
        len: e.tokens.len(),
        bos: e.bos,
        text: &written.text,
        ranges: &e.ranges,
        turns: e.turns.as_deref(),
        fields: None,
    };
    let rows = RowSet::Role(role.into()).rows(&seq);
    rows.iter().enumerate().filter(|(_, b)| **b).map(|(i, _)| i).collect()
}

#[test]
fn texts_and_tokens_are_those_of_transformers() {
    let (mut wrong, mut refused, mut marked) = (Vec::new(), 0, 0);
    let cases = cases();
    for case in &cases {
        let result = tokens(case).chat(&case.chat);
        if let Some(why) = case.json["refused"].as_str() {
            refused += 1;
            match result {
                Err(e) if e.0.code.0 == "E0507" && e.0.message.ends_with(why) => {}
                Err(e) => wrong.push(format!("{}\nis refused with\n{e}", case.json)),
                Ok(_) => wrong.push(format!("{}\nis taken", case.json)),
            }
            continue;
        }
        let written = match result {
            Ok(w) => w,
            Err(e) => {
                wrong.push(format!("{}\nis refused: {e}", case.json));
                continue;
            }
        };
        let ids: Vec<u64> = written.encoded.tokens.iter().map(|t| u64::from(*t)).collect();
        let expected: Vec<u64> = case.json["tokens"].as_array().unwrap().iter().map(|t| t.as_u64().unwrap()).collect();
        if case.json["text"] != written.text.as_str() || ids != expected {
            wrong.push(format!("{}\nbecomes {:?}\n{ids:?}", case.json, written.text));
        }
        if let Some(mask) = case.json["assistant"].as_array() {
            marked += 1;
            let mask: Vec<usize> = mask.iter().map(|t| t.as_u64().unwrap() as usize).collect();
            let own = rows(&written, "assistant");
            if own != mask {
                wrong.push(format!("{}\nthe assistant's are {own:?}", case.json));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n\n"));
    assert!(refused > 5 && marked > 20, "{refused} refused, {marked} with a mask");
}

/// Whose words stand where: each place holds them, but for spaces, and messages that are found make up all of their role.
#[test]
fn places_hold_the_words_of_the_message() {
    let (mut found, mut out, mut changed) = (0, BTreeSet::new(), BTreeSet::new());
    for case in cases().iter().filter(|c| c.json.get("refused").is_none()) {
        let written = tokens(case).chat(&case.chat).unwrap();
        let text = &written.text;
        let turns = written.encoded.turns.as_ref().unwrap();
        assert_eq!(turns.len(), case.chat.messages.len());
        let mut end = 0;
        for (turn, message) in turns.iter().zip(&case.chat.messages) {
            assert_eq!(turn.role, message.role);
            match &turn.content {
                Content::At(places) => {
                    for &(a, b) in places {
                        let (held, words) = (text[a..b].trim(), message.content.trim());
                        // One writes a tool's words as JSON does, between quotes that are the template's.
                        let quoted = serde_json::to_string(words).unwrap();
                        let quoted = quoted.trim_matches('"');
                        let same = [words, quoted].contains(&held);
                        assert!(same, "{}\n{held:?}", case.json);
                        // In the order of the messages, unless the template moves the system's.
                        assert!(a >= end || case.template == "brackets", "{}\n{held:?}", case.json);
                        end = b;
                        found += 1;
                    }
                    assert!(!places.is_empty() || message.content.trim().is_empty(), "{}", case.json);
                }
                Content::LeftOut => drop(out.insert((case.template.clone(), message.role.to_string()))),
                Content::Changed => drop(changed.insert((case.template.clone(), message.content.to_string()))),
            }
        }
        // The beginning stands once, whatever the tokenizer adds to other texts.
        let begins = text.matches("<|begin|>").count();
        assert_eq!((written.encoded.bos, begins), (begins, usize::from(case.template != "turns")), "{text}");
    }
    assert!(found > 300, "{found}");
    let of =
        |set: &BTreeSet<(String, String)>| set.iter().map(|(t, w)| format!("{t}: {w}")).collect::<Vec<_>>().join("\n");
    // One writes the system's words into the user's last message, if that is the last of all; one writes them only where
    // they stand first.
    assert_eq!(of(&out), "brackets: system\nthoughts: system");
    assert_eq!(of(&changed), "thoughts: <think>\nThe sea.\n</think>\n\nWest.");
}
