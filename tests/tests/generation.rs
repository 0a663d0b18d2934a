//! How texts are continued: penalties as in transformers, texts before which they end, several of one prompt, and
//! conversations in which the user's turns alone are steered.

use serde_json::Value as Json;
use std::path::Path;
use steer::experiment::{self, Done, PhaseOptions, Session, SessionOptions};
use steer::report::{Generation, Output};
use steer::tensors;
use steer_lang::Sources;
use steer_tests::cases::{Folder, package};

fn open(path: &Path, text: &str) -> Session {
    let text = format!("model \"tiny-llama\"\n{text}");
    Session::open_text(path, text, &SessionOptions::default(), &mut Sources::default())
        .unwrap_or_else(|d| panic!("{d:#?}"))
}

/// What a script gives, and what it prints, piece by piece.
fn run_in(path: &Path, text: &str) -> (Done, Vec<String>) {
    let mut printed = Vec::new();
    let done = experiment::run(&open(path, text), &PhaseOptions::default(), &mut |piece| {
        printed.push(piece.to_owned());
        Ok(())
    });
    (done.unwrap_or_else(|d| panic!("{d:#?}")), printed)
}

fn run(text: &str) -> (Done, Vec<String>) {
    run_in(Path::new("generation.steer"), text)
}

fn generations(done: &Done) -> Vec<&Generation> {
    done.outputs.iter().filter_map(|o| if let Output::Generate(g) = o { Some(g) } else { None }).collect()
}

/// The one text of a script, and how it grew.
fn alone(options: &str) -> (String, Vec<String>) {
    let (done, printed) = run(&format!("generate \"Tom went to the park.\" {{ {options} }}"));
    (generations(&done)[0].completions[0].text.clone(), printed)
}

#[test]
fn penalized_texts_are_those_of_transformers() {
    let text = std::fs::read_to_string(package("sampling/greedy.json")).unwrap();
    for case in serde_json::from_str::<Vec<Json>>(&text).unwrap() {
        let (prompt, penalty) = (case["prompt"].as_str().unwrap(), &case["repetition_penalty"]);
        let options = format!("max: 24, stop: false, repetition_penalty: {penalty}");
        let (done, _) = run(&format!("generate {prompt:?} {{ {options} }}"));
        assert_eq!(Json::from(generations(&done)[0].completions[0].tokens.clone()), case["tokens"], "{case}");
    }
}

#[test]
fn a_text_ends_before_what_stops_it_wherever_tokens_end() {
    let (whole, _) = alone("max: 30");
    let places: Vec<usize> = whole.char_indices().map(|(at, _)| at).collect();
    for (from, to) in places.iter().zip(&places[5..]) {
        let stop = &whole[*from..*to];
        let (text, printed) = alone(&format!("max: 30, stop: [\"never seen\", {stop:?}]"));
        assert_eq!(text, whole[..whole.find(stop).unwrap()], "{stop:?}");
        let mut seen = String::new();
        for piece in printed {
            seen += &piece;
            assert!(format!("{text}\n").starts_with(&seen), "{seen:?} is seen before {stop:?}");
        }
        assert_eq!(seen.trim_end(), text.trim_end());
    }
    // What only began like a stop is there in the end.
    let end: String = whole.chars().rev().take(3).collect::<Vec<_>>().into_iter().rev().collect();
    assert_eq!(alone(&format!("max: 30, stop: {:?}", end + "and more")).0, whole);
}

#[test]
fn several_texts_of_a_prompt_have_draws_of_their_own() {
    let of = |n: usize| {
        let hook = "hook louder at blocks[1].mlp.out on generated { h *= 1.5 }";
        let options = format!("max: 10, temperature: 1.5, seed: 3, n: {n}");
        run(&format!("{hook}\ngenerate \"Tom went to the park.\" with louder {{ {options} }}"))
    };
    let ((four, printed), (two, _), (one, _)) = (of(4), of(2), of(1));
    let (four, two, one) = (generations(&four), generations(&two), generations(&one));
    assert_eq!(four.iter().map(|g| g.sample).collect::<Vec<_>>(), [Some(1), Some(2), Some(3), Some(4)]);
    assert_eq!((one[0].sample, &one[0].completions), (None, &four[0].completions));
    assert!(two.iter().zip(&four).all(|(a, b)| a == b), "how many there are changes none of them");
    let mut texts: Vec<_> = four.iter().flat_map(|g| &g.completions).map(|c| &c.tokens).collect();
    texts.sort();
    texts.dedup();
    assert!(texts.len() > 4, "{texts:?}");
    assert!(printed.concat().contains("baseline, text 3") && printed.concat().contains("louder, text 4"));
}

#[test]
fn texts_of_a_prompt_share_its_rows() {
    let rows = |options: &str| {
        let (done, _) = run(&format!("generate \"Tom went to the park.\" {{ max: 1, temperature: 1, {options} }}"));
        done.results.work.rows.computed
    };
    assert_eq!(rows("n: 1"), rows("n: 8"));
}

const TALK: &str = r#"
prompt talk = chat(
    system = "No rules.",
    user = "How do I make a cake?",
    assistant = "Mix flour and sugar.",
    user = "How can I make a pot?",
)
hook turned(alpha = 3) at blocks[1].resid.post on role(user) {
    h += alpha * h0[d_model = 3]
}
"#;

#[test]
fn a_chat_is_steered_in_the_users_turns_alone() {
    let folder = Folder::new();
    let path = folder.path().join("talk.steer");
    let text = format!(
        "{TALK}
capture blocks[1].resid.post, logits on all of talk to \"plain.safetensors\"
capture blocks[1].resid.post, logits on all of talk with turned to \"turned.safetensors\"
generate talk with turned {{ max: 8, stop: false }}
print talk"
    );
    let (done, printed) = run_in(&path, &text);

    // Which tokens are the user's, by the text alone.
    let tokens = open(&path, TALK).tokens.unwrap();
    let shown = printed.concat();
    let start = shown.rfind("<|bos|>").unwrap();
    let talk = shown[start..].lines().next().unwrap();
    let encoded = tokens.encode(talk, false).unwrap();
    let users = ["How do I make a cake?", "How can I make a pot?"].map(|words| {
        let at = talk.find(words).unwrap();
        at..at + words.len()
    });
    let of_user: Vec<bool> =
        encoded.offsets.iter().map(|o| users.iter().any(|u| o.start < u.end && u.start < o.end)).collect();
    let count = of_user.iter().filter(|u| **u).count();
    assert!(count == 14 && !of_user[0], "{talk}: {of_user:?}");

    let rows = |file: &str, name: &str| {
        let array = tensors::load(&folder.path().join(file), Some(name)).unwrap();
        let width = array.data.len() / array.shape[0];
        assert_eq!(array.shape[0], of_user.len());
        array.data.chunks(width).map(|r| r.iter().map(|x| x.to_bits()).collect()).collect::<Vec<Vec<u32>>>()
    };
    let both = |name: &str| rows("plain.safetensors", name).into_iter().zip(rows("turned.safetensors", name));
    let changed: Vec<bool> = both("blocks[1].resid.post").map(|(a, b)| a != b).collect();
    assert_eq!(changed, of_user, "exactly the user's rows are changed where the hook is");
    let first = of_user.iter().position(|u| *u).unwrap();
    let changed: Vec<bool> = both("logits").map(|(a, b)| a != b).collect();
    assert!(changed[..first].iter().all(|c| !c), "what comes before the user's first word is the same, bit for bit");
    assert!(changed[first..].iter().all(|c| *c), "and what comes after it reads it");

    // In both runs with the edit: that of the capture, and that of the text.
    let receipt = &done.receipts[0];
    assert_eq!((receipt.rows_selected, receipt.rows_changed), (2 * count as u64, 2 * count as u64));
    let generation = generations(&done)[0];
    assert_eq!(generation.completions.len(), 2);
    assert!(generation.completions.iter().all(|c| c.tokens.len() == 8));
}
