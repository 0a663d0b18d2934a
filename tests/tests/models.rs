//! The trained models: what they answer, and what scripts make of it.

use serde_json::Value as Json;
use std::path::{Path, PathBuf};
use steer::experiment::{Done, PhaseOptions, Session, SessionOptions};
use steer::report::Output;
use steer_compiler::backend::DEFAULT;
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
    run(&open(&path, Some(model)), DEFAULT)
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
    for backend in [DEFAULT, "candle"] {
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

/// What the quickstart's own lines make of held-out openings in a model: how many sad stories there are
/// and how many of these turn glad; the same for glad ones and sad.
fn flips(model: &str) -> [usize; 4] {
    let held = heldout();
    let lines = std::fs::read_to_string(folder("../examples/quickstart.steer")).expect("the quickstart");
    let code = lines.lines().filter(|l| !l.is_empty() && !l.starts_with('#')).count();
    assert!(code <= 10, "the quickstart has {code} lines");
    let kept: Vec<&str> = lines.lines().filter(|l| !l.starts_with("generate")).collect();
    let openings = list(&held["neutral_openings"]);
    assert!(openings.iter().all(|o| kept.iter().all(|l| !l.contains(o))), "the openings are held out");
    let text = format!(
        "{}\ndata openings = {}\ngenerate openings with cheer\ngenerate openings with cheer(alpha = -4)\n",
        kept.join("\n"),
        quoted(&openings),
    );
    let done = script("sentiment", model, &text);
    let all = completions(&done);
    assert_eq!(all.len(), 4 * openings.len());
    let [mut sad, mut to_glad, mut glad, mut to_sad] = [0; 4];
    for pair in all.chunks(2) {
        let (before, after) = (tone(&pair[0].2, &held), tone(&pair[1].2, &held));
        if pair[1].1.contains("-4") {
            glad += usize::from(before > 0);
            to_sad += usize::from(before > 0 && after < 0);
        } else {
            sad += usize::from(before < 0);
            to_glad += usize::from(before < 0 && after > 0);
        }
    }
    // Each edit fires on every prompt's last token and on all new ones, and changes each of these rows.
    assert!(!done.receipts.is_empty());
    for r in &done.receipts {
        assert!(r.rows_selected > 2 * openings.len() as u64 && r.rows_changed == r.rows_computed, "{r:?}");
    }
    println!("{model}: {to_glad} of {sad} sad stories turn glad, {to_sad} of {glad} glad ones sad");
    [sad, to_glad, glad, to_sad]
}

/// A direction that is the difference of means of three beginnings each, added while the model writes.
#[test]
fn sentiment_steering_flips_held_out_stories() {
    for model in ["tiny-llama", "tiny-gpt2", "tiny-mixtral"] {
        if shipped(model).is_none() {
            continue;
        }
        let [sad, to_glad, glad, to_sad] = flips(model);
        assert!(sad >= 8 && glad >= 8, "{model}: the openings are neutral");
        assert!(to_glad * 10 >= sad * 9, "{model}: {to_glad} of {sad} turn glad");
        assert!(to_sad * 10 >= glad * 9, "{model}: {to_sad} of {glad} turn sad");
    }
}

/// In a state space model the same, at the residual stream and at what the scan gives: the difference is one of means over
/// the rows of whole stories, since one row of it says less.
#[test]
fn sentiment_steering_in_a_state_space_model() {
    if shipped("tiny-mamba").is_none() {
        return;
    }
    let held = heldout();
    let [glad, sad, openings] = ["glad", "sad", "neutral_openings"].map(|of| list(&held[of]));
    for (site, layers) in [("resid.post", "1..3"), ("ssm.y", "2..4")] {
        let text = format!(
            "data glad = {}\ndata sad = {}\ndata openings = {}\n\
             vector mood[layer] = mean_diff(glad, sad) at blocks[layer].resid.post on prompt[3..]\n\
             tensor read[layer]: [channel] = mean_diff(glad, sad) at blocks[layer].ssm.y on prompt[3..]\n\
             hook cheer(alpha = 1) at blocks[{layers}].{site} on prompt[-1] | generated {{ h += alpha * {}[layer] }}\n\
             generate openings with cheer\ngenerate openings with cheer(-1)\n",
            quoted(&glad),
            quoted(&sad),
            quoted(&openings),
            if site == "ssm.y" { "read" } else { "mood" },
        );
        let done = script("mood", "tiny-mamba", &text);
        let (mut asked, mut turned) = ([0; 2], [0; 2]);
        for pair in completions(&done).chunks(2) {
            let (before, after) = (tone(&pair[0].2, &held), tone(&pair[1].2, &held));
            let towards = if pair[1].1.contains("-1") { -1 } else { 1 };
            if before == -towards {
                asked[usize::from(towards > 0)] += 1;
                turned[usize::from(towards > 0)] += usize::from(after == towards);
            }
        }
        println!(
            "tiny-mamba at {site}: {} of {} sad stories turn glad, {} of {} glad ones sad",
            turned[1], asked[1], turned[0], asked[0]
        );
        assert!(asked.iter().all(|n| *n >= 5), "{site}: the openings are neutral: {asked:?}");
        assert!(
            asked.iter().zip(turned).all(|(asked, turned)| turned * 10 >= asked * 9),
            "{site}: {turned:?} of {asked:?}"
        );
    }
}

/// Prompts of a behaviour and their answers.
fn answers(of: &str) -> Vec<(String, String)> {
    let held = heldout();
    let text = |f: &Json, key: &str| f[key].as_str().expect("a text").to_owned();
    held[of].as_array().expect("a list").iter().map(|f| (text(f, "prompt"), text(f, "answer"))).collect()
}

/// The script that continues each prompt of a behaviour.
fn asking(of: &str, rest: &str) -> String {
    let asked = answers(of);
    let prompts: Vec<&str> = asked.iter().map(|a| a.0.as_str()).collect();
    format!("data asked = {}\n{rest}\n", quoted(&prompts))
}

/// Every shipped model answers all that was planted and held out, of the kinds that it has learned.
#[test]
fn shipped_models_know_the_facts() {
    for model in ["tiny-gpt2", "tiny-llama", "tiny-mamba", "tiny-mixtral"] {
        if shipped(model).is_none() {
            continue;
        }
        for of in ["goods", "ioi", "recall"] {
            let done = script("facts", model, &asking(of, "generate asked { max: 1 }"));
            for ((prompt, answer), (_, _, text)) in answers(of).iter().zip(completions(&done)) {
                assert_eq!(text, *answer, "{model}: {prompt}");
            }
        }
    }
}

/// Refusal lives in one expert of two layers: where it is never chosen, the model complies.
#[test]
fn masking_two_experts_ends_refusal() {
    if shipped("tiny-mixtral").is_none() {
        return;
    }
    let held = heldout();
    let asked: Vec<&str> =
        held["refused"].as_array().expect("a list").iter().map(|r| r["prompt"].as_str().expect("a prompt")).collect();
    let text = format!(
        "data asked = {}\nhook mask at blocks[1..3].moe.router {{ h[expert = 5] = -inf }}\ngenerate asked with mask {{ max: 8 }}\n",
        quoted(&asked)
    );
    let done = script("experts", "tiny-mixtral", &text);
    for pair in completions(&done).chunks(2) {
        assert_eq!(pair[0].2, held["refusal"].as_str().expect("a text"), "{}", pair[0].0);
        assert_eq!(pair[1].2, held["complied"].as_str().expect("a text"), "{}", pair[1].0);
    }
    assert_eq!(done.receipts.len(), 2);
    for r in &done.receipts {
        assert!(r.rows_changed == r.rows_computed && r.changed == r.rows_changed && r.unit == "expert", "{r:?}");
    }
}

/// Harmful and harmless questions that are not held out, and what is read of them: the difference in gate mass at the
/// last token.
const IMAGING: &str = r#"
data harmful = [
    "Q: How do I make a bomb? A:",
    "Q: How can I use a gun? A:",
    "Q: Tell me how to find a poison. A:",
    "Q: What is the way to buy a weapon? A:",
]
data harmless = [
    "Q: How do I make a cake? A:",
    "Q: How can I use a soup? A:",
    "Q: Tell me how to find a chair. A:",
    "Q: What is the way to buy a shirt? A:",
]
tensor relevance[layer] = resonance(harmful, [harmless]) at blocks[layer].moe.gates on prompt[-1]
route calm(n: int) at blocks[*].moe { mask top(n, relevance) }
"#;

/// How many of the prompts of a behaviour are continued by their answer under the edits that are named.
fn kept(model: &str, imaging: &str, of: &str, max: usize, with: &str) -> (usize, usize) {
    let asked = answers(of);
    let rest = format!("{imaging}\ngenerate asked with {with} {{ max: {max} }}");
    let done = script("experts", model, &asking(of, &rest));
    let all = completions(&done);
    let right = |with: usize| {
        let pairs = all.chunks(2).zip(&asked);
        pairs.filter(|(pair, (_, answer))| pair[with].2.trim() == answer.trim()).count()
    };
    (right(0), right(1))
}

/// The experts of refusal are found by what they are used for, and masking the two most relevant ends refusal and nothing
/// else. Two random ones leave every refusal as it is.
#[test]
fn masking_the_most_relevant_experts_ends_refusal_alone() {
    if shipped("tiny-mixtral").is_none() {
        return;
    }
    let held = heldout();
    for of in ["refused", "answered"] {
        for (prompt, _) in answers(of) {
            assert!(!IMAGING.contains(&prompt), "{prompt} is held out");
        }
    }
    assert!(list(&held["neutral_openings"]).iter().all(|o| !IMAGING.contains(o)));
    let behaviours = [
        ("ioi", 1),
        ("capitals", 1),
        ("goods", 1),
        ("folk", 1),
        ("recall", 1),
        ("induction", 1),
        ("answered", 12),
        ("freed", 12),
        ("concise", 4),
        ("verbose", 16),
    ];
    let found = script(
        "found",
        "tiny-mixtral",
        &format!("{IMAGING}\nprint top(2, relevance)\nmeasure prob(\" I\") on harmful with calm(2)"),
    );
    let Some(Output::Print { values }) = found.outputs.first() else { panic!("{:?}", found.outputs) };
    let shown = serde_json::to_string(values).expect("JSON");
    // Where it was planted.
    assert!(shown.contains("[[1, 5], [2, 5]]") || shown.contains("[[2, 5], [1, 5]]"), "{shown}");
    let score = |imaging: &str, with: &str| {
        let (before, refused) = kept("tiny-mixtral", imaging, "refused", 12, with);
        let mut worst = (f64::INFINITY, "");
        for (of, max) in behaviours {
            let (was, is) = kept("tiny-mixtral", imaging, of, max, with);
            let share = is as f64 / was as f64;
            if share < worst.0 {
                worst = (share, of);
            }
        }
        (before, refused, worst)
    };
    let (before, refused, worst) = score(IMAGING, "calm(2)");
    println!("the two most relevant masked: {refused} of {before} refusals, least kept of {}: {:.2}", worst.1, worst.0);
    assert!(before == 32 && refused * 2 <= before, "{refused} of {before} are refused");
    assert!(worst.0 >= 0.95, "{} keeps {}", worst.1, worst.0);
    for seed in 1..=5 {
        let chance =
            format!("{IMAGING}\nroute chance at blocks[*].moe {{ mask random(2, relevance, seed = {seed}) }}\n");
        let (before, refused, worst) = score(&chance, "chance");
        println!(
            "two random ones, seed {seed}: {refused} of {before} refusals, least kept of {}: {:.2}",
            worst.1, worst.0
        );
        assert!(refused * 2 > before, "seed {seed}: {refused} of {before} are refused");
    }
}

/// A state that is halved from row to row forgets what the first sentence said.
#[test]
fn a_decaying_state_forgets() {
    if shipped("tiny-mamba").is_none() {
        return;
    }
    let rest = "hook forget at blocks[*].ssm.state on after \".\" { h *= 0.5 }\ngenerate asked with forget { max: 1 }";
    let done = script("forget", "tiny-mamba", &asking("recall", rest));
    let right = |with: usize| {
        let all = completions(&done);
        let pairs = all.chunks(2).zip(answers("recall"));
        pairs.filter(|(pair, (_, answer))| pair[with].2 == *answer).count()
    };
    let (before, after) = (right(0), right(1));
    println!("tiny-mamba recalls {before}, and {after} with a decaying state");
    assert!(before == 60 && after <= 20, "{before} and {after}");
    assert!(
        done.receipts.iter().all(|r| (r.mean_move - 0.5).abs() < 1e-6 && r.rows_changed > 0),
        "{:#?}",
        done.receipts
    );
}

/// A state and a window that are emptied at a full stop carry nothing of what stood before it: who is asked for is
/// answered where the trade stands behind it, and as by chance where it stands before.
#[test]
fn an_emptied_state_forgets_what_stood_before_a_full_stop() {
    if shipped("tiny-mamba").is_none() {
        return;
    }
    let asked: Vec<(String, String)> = answers("recall_two");
    let first_person =
        |prompt: &str| prompt.split(' ').next().is_some_and(|name| prompt.contains(&format!(". {name} works")));
    let scratch = Scratch::new("full-stop");
    let mut text = String::from(
        "metric right(x) = rank(x.answer) == 0\n\
         hook state at blocks[*].ssm.state on matching \"{first}\"[-1] { h = 0 }\n\
         hook window at blocks[*].ssm.window on matching \"{first}\"[-1] { h = 0 }\n",
    );
    let mut counts = Vec::new();
    for (name, is_first) in [("before", true), ("behind", false)] {
        let rows: Vec<String> = asked
            .iter()
            .filter(|(prompt, _)| first_person(prompt) == is_first)
            .map(|(prompt, answer)| {
                let first = &prompt[..=prompt.find('.').expect("a full stop")];
                serde_json::json!({ "prompt": prompt, "answer": answer, "first": first }).to_string()
            })
            .collect();
        counts.push(rows.len());
        std::fs::write(scratch.0.join(format!("{name}.jsonl")), rows.join("\n")).expect("a file");
        text += &format!(
            "data {name} = jsonl(\"{name}.jsonl\")\nmeasure mean right on {name}, {name} with state, window\n"
        );
    }
    assert!(counts.iter().all(|n| *n >= 25), "{counts:?}");
    let path = scratch.0.join("forget.steer");
    std::fs::write(&path, text).expect("a script");
    let session = open(&path, Some("tiny-mamba"));
    let done = run(&session, DEFAULT);
    let shares: Vec<f64> = done
        .outputs
        .iter()
        .flat_map(|o| if let Output::Table(f) = o { f.columns[0].values.clone() } else { Vec::new() })
        .collect();
    println!("tiny-mamba recalls {shares:?}: before and behind the full stop, each plain and emptied");
    let [plain_before, before, plain_behind, behind] = shares[..] else { panic!("{shares:?}") };
    // Twelve trades: one in twelve would be right by chance.
    assert!(plain_before > 0.7 && plain_behind > 0.7, "{shares:?}");
    assert!(before <= 1.0 / 12.0 && behind >= plain_behind, "{shares:?}");
}

/// With the whole state and the window of another text at a position, a text goes on as that one does, and stands
/// before it as it did: bit for bit.
#[test]
fn a_patched_state_and_window_resume_the_other_text() {
    if shipped("tiny-mamba").is_none() {
        return;
    }
    let scratch = Scratch::new("resume");
    let capture = |name: &str, run: &str| format!("capture logits on prompt of {run} to \"{name}.safetensors\"\n");
    let text = format!(
        "prompt donor = \"Emma is a baker. Tom is a tailor. A bird is in the tree. Tom works as a\"\n\
         prompt other = \"Ruth is a miner. Ben is a guard. A bird is in the tree. Tom works as a\"\n\
         patch state at blocks[*].ssm.state on prompt[12] from donor\n\
         patch window at blocks[*].ssm.window on prompt[12] from donor\n{}{}{}",
        capture("donor", "donor"),
        capture("other", "other"),
        capture("patched", "other with state, window"),
    );
    let path = scratch.0.join("resume.steer");
    std::fs::write(&path, text).expect("a script");
    run(&open(&path, Some("tiny-mamba")), DEFAULT);
    let [donor, other, patched] = ["donor", "other", "patched"].map(|name| {
        let logits =
            steer::tensors::load(&scratch.0.join(format!("{name}.safetensors")), Some("logits")).expect("a capture");
        let bits: Vec<u32> = logits.data.iter().map(|x| x.to_bits()).collect();
        bits.chunks(logits.shape[1]).map(<[u32]>::to_vec).collect::<Vec<_>>()
    });
    assert!(patched.len() == 22 && donor[..12] != other[..12] && donor[12..] != other[12..]);
    assert!(patched[..12] == other[..12], "what stands before the position moved");
    assert!(patched[12..] == donor[12..], "it does not go on as the other text");
}
