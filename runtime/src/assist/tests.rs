//! Places with what is said there. `▮` is the place.

use super::*;
use crate::experiment::ModelSession;
use crate::hub::Hub;
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use steer_lang::Sources;

fn model(name: &str) -> ModelFacts {
    let mut sources = Sources::default();
    let session = ModelSession::open(name, &[], &Hub::default(), &mut sources).unwrap();
    ModelFacts::of_model(name, &session).unwrap()
}

fn llama() -> &'static ModelFacts {
    static MODEL: OnceLock<ModelFacts> = OnceLock::new();
    MODEL.get_or_init(|| model("tiny-llama"))
}

fn mixtral() -> &'static ModelFacts {
    static MODEL: OnceLock<ModelFacts> = OnceLock::new();
    MODEL.get_or_init(|| model("tiny-mixtral"))
}

fn placed(text: &str) -> (String, usize) {
    let at = text.find('▮').unwrap_or_else(|| panic!("no place in {text}"));
    (text.replacen('▮', "", 1), at)
}

fn completed(text: &str, model: &ModelFacts) -> (Completion, String) {
    let (text, at) = placed(text);
    let done = complete(&text, at, &Known { model: Some(model), ..Known::default() });
    let typed = text[done.from..at].to_owned();
    (done, typed)
}

/// What stands before the place in all of them.
const DECLARED: &str = "model \"tiny-llama\"\ndata glad = [\"a\", \"b\"]\nprompt clean = \"x\"\n## How sure.\nmetric ld = logit(\" b\") at seq[-1]\n\
    vector mood[layer] = mean(glad) at blocks[layer].resid.post\nhook cheer(alpha = 4.0, bent = 1) at blocks[1..3].resid.post {\n    h += alpha * mood[layer]\n}\n\
    sweep resid over b in blocks {\n    patch b.resid.pre from clean\n    measure ld on clean\n}\n";

/// A place; candidates that are there, the first ones first; candidates that are not.
const PLACES: &[(&str, &[&str], &[&str])] = &[
    ("▮", &["hook", "generate"], &["mask", "heat"]),
    ("ho▮", &["hook"], &["generate"]),
    ("HO▮", &["hook"], &[]),
    ("hook a at ▮", &["blocks", "embed", "logits"], &["hook", "glad"]),
    ("hook a at bl▮", &["blocks"], &["embed"]),
    ("hook a at blocks[▮", &["*", "0", "3", "-1"], &["4"]),
    ("hook a at blocks[3].▮", &["resid.pre", "attn.q", "mlp.out"], &["embed"]),
    ("hook a at blocks[3].at▮", &["attn.in", "attn.pattern"], &["mlp.out"]),
    ("hook a at blocks[3].attn.▮", &["q", "pattern"], &["attn.q"]),
    ("hook a at blocks[3].attn.q ▮", &["at", "on", "from"], &["glad"]),
    ("hook a ▮", &["at"], &["blocks"]),
    ("hook a at embed on ▮", &["prompt", "prompt[-1]", "generated", "role(", "maybe"], &["glad", "hook"]),
    ("hook a at embed on prompt | gen▮", &["generated"], &["prompt"]),
    ("hook a at embed on role(▮", &["user", "assistant"], &[]),
    ("hook a at embed on mask(▮", &["glad"], &["clean"]),
    ("patch a at embed from ▮", &["clean", "glad"], &["ld", "cheer"]),
    ("patch a at embed from clean by ▮", &["index", "end", "token", "glad"], &["clean"]),
    ("generate ▮", &["clean", "glad", "\""], &["ld", "chat"]),
    ("generate ch▮", &["chat"], &["clean"]),
    ("\n▮", &["hook", "measure"], &["on", "clean", "over"]),
    ("measure ld\n    ▮", &["on", "with"], &[]),
    ("metric m = ▮", &["ld", "logit"], &["m"]),
    ("blocks[1].resid.post of ▮", &["clean", "glad", "\""], &["ld", "unit", "softmax"]),
    ("diff ▮", &["clean"], &["unit", "hook"]),
    ("generate clean ▮", &["with"], &["clean"]),
    ("generate clean with ▮", &["cheer"], &["clean", "ld"]),
    ("generate clean with ch▮", &["cheer"], &[]),
    ("generate clean with cheer(▮", &["alpha = ", "bent = "], &["clean", "glad"]),
    ("generate clean with cheer(alpha = 1, b▮", &["bent = "], &["alpha = "]),
    ("generate clean { ▮", &["max: ", "temperature: ", "stop: "], &["clean"]),
    ("generate clean { max: 3, te▮", &["temperature: "], &["max: "]),
    ("generate clean { score: ▮", &["ld", "cross_entropy"], &["max: "]),
    ("measure ▮", &["ld", "mean", "logit"], &["cheer", "unit", "blocks", "head", "clean"]),
    ("measure no▮", &["norm"], &["ld"]),
    ("measure ld on ▮", &["clean", "glad"], &["ld", "prompt"]),
    ("measure ld on clean, clean with ▮", &["cheer"], &[]),
    ("measure mean ld ▮", &["on", "with", "normalized by"], &[]),
    ("metric m = lo▮", &["log_prob", "logit", "log"], &["load"]),
    ("metric m = logit(\" a\") at ▮", &["prompt", "seq[-1]"], &["blocks"]),
    ("vector v = mean_diff(glad, gl▮", &["glad"], &[]),
    ("vector v = me▮", &["mean", "mean_diff"], &[]),
    ("vector v[layer] = mean(glad) at blocks[▮", &["layer", "*"], &[]),
    ("data d = ▮", &["lines", "csv", "glad"], &["softmax"]),
    ("param p: ▮", &["number", "int", "bool", "text"], &["clean"]),
    ("plot ▮", &["resid"], &["clean"]),
    ("plot resid ▮", &["as", "to"], &[]),
    ("plot resid as ▮", &["heat", "line", "bar", "scatter"], &["hook"]),
    ("plot resid { ▮", &["column: ", "x: "], &["max: 3"]),
    ("save ▮", &["resid", "mood"], &["clean"]),
    ("sweep s over b in ▮", &["blocks", "tokens(", "head", "glad"], &[]),
    ("sweep s over b in blocks {\n    ▮", &["patch", "measure"], &["generate", "data"]),
    ("sweep s over b in blocks, t in tokens(clean) {\n    patch b.▮", &["resid.pre", "attn.z"], &["embed"]),
    ("sweep s over b in blocks, t in tokens(clean) {\n    patch b.resid.pre on ▮", &["t", "prompt"], &["clean"]),
    (
        "sweep s over b in blocks {\n    hook half at embed {\n        h *= 0.5\n    }\n    measure ld on clean with ▮",
        &["cheer", "half"],
        &[],
    ),
    ("capture ▮", &["blocks", "logits", "before"], &["clean"]),
    ("capture logits on prompt of ▮", &["clean", "glad"], &["logits"]),
    ("top acts of blocks[2].mlp.act[▮", &["neuron = "], &["head = "]),
    ("hook a at blocks[1].attn.z {\n    ▮", &["let", "when", "h"], &["hook", "mask"]),
    ("hook a at blocks[1].attn.z {\n    h[▮", &["head = ", "d_head = "], &["neuron = "]),
    (
        "hook a(k = 1) at blocks[1].attn.z {\n    let u = unit(h)\n    h += ▮",
        &["u", "k", "h", "mood", "unit"],
        &["attention", "donor", "logit"],
    ),
    ("hook a at blocks[1].attn.z from clean {\n    h = do▮", &["donor", "dot"], &[]),
    ("hook a at blocks[1].mlp.out {\n    h += attn.▮", &["out", "pattern"], &[]),
    ("hook a at blocks[1].mlp.out {\n    h += mood[▮", &["layer"], &[]),
    ("hook a at blocks[1].mlp.out {\n    h += clamp(h, ▮", &["x = ", "lo = ", "h"], &["unit", "head"]),
    ("hook a at blocks[1].mlp.out {\n    h += clamp(h, p▮", &["pi"], &[]),
    ("hook a at blocks[1].mlp.out {\n    h += max(h, ▮", &["over = "], &["a = "]),
    ("fn f(x, y = 2) {\n    let z = x\n    z + ▮", &["z", "x", "y", "exp"], &["clean"]),
    ("print \"a {▮", &["clean"], &["hook"]),
    ("prompt p = \"plain ▮", &[], &["clean"]),
    ("# comment ▮", &[], &["hook"]),
    ("metric m = 0.▮", &[], &["ld"]),
    ("hook a at blocks[1..▮", &["3"], &["embed"]),
    ("metric m(b) = norm(b.attn.▮", &["z", "pattern"], &["embed"]),
    ("sweep s over b in blocks {\n    hook b.attn.z {\n        h[▮", &["head = ", "d_head = "], &["neuron = "]),
    ("model \"tiny-▮", &["tiny-llama", "tiny-mixtral"], &[]),
];

#[test]
fn candidates_by_place() {
    for (text, wanted, unwanted) in PLACES {
        let (done, typed) = completed(&format!("{DECLARED}{text}"), llama());
        let texts: Vec<&str> = done.candidates.iter().map(|c| c.text.as_str()).collect();
        for w in *wanted {
            assert!(texts.contains(w), "`{w}` is missing at\n{text}\nbehind {typed:?} in {texts:?}");
        }
        for u in *unwanted {
            assert!(!texts.contains(u), "`{u}` is offered at\n{text}\nin {texts:?}");
        }
        if wanted.is_empty() {
            assert!(texts.is_empty(), "{text}: {texts:?}");
        }
    }
}

#[test]
fn routes_know_their_mixture() {
    let head = "model \"tiny-mixtral\"\nroute r at blocks[*].moe {\n    ";
    let texts = |text: &str| completed(&format!("{head}{text}"), mixtral()).0.candidates;
    let named = |text: &str, name: &str| texts(text).into_iter().find(|c| c.text == name);
    for word in ["mask", "force", "top_k", "gates", "when"] {
        assert!(named("▮", word).is_some(), "{word}");
    }
    assert_eq!(named("▮", "gates").unwrap().detail, "[expert 8]");
    let at = |text: &str| {
        let done = completed(&format!("model \"tiny-mixtral\"\nroute r at {text}"), mixtral()).0.candidates;
        done.into_iter().map(|c| c.text).collect::<Vec<_>>()
    };
    assert_eq!(at("▮"), ["blocks"]);
    assert_eq!(at("blocks[*].▮"), ["moe"]);
    assert!(named("mask to▮", "top").is_some() && named("force 0 by ▮", "max").is_some());
    assert!(named("bias ▮", "scores").is_some());
}

#[test]
fn candidates_say_what_they_are() {
    let (done, _) = completed(&format!("{DECLARED}hook a at blocks[0].attn.pa▮"), llama());
    let c = &done.candidates[0];
    assert_eq!((c.text.as_str(), c.detail.as_str(), c.kind), ("pattern", "[head 8, key]", Kind::Site));
    assert!(c.doc.contains("sum"), "{}", c.doc);
    let (done, _) = completed(&format!("{DECLARED}measure l▮"), llama());
    let ld = done.candidates.iter().find(|c| c.text == "ld").unwrap();
    assert_eq!((ld.detail.as_str(), ld.doc.as_str()), ("metric ld = logit(\" b\") at seq[-1]", "How sure."));
    let (done, _) = completed(&format!("{DECLARED}generate clean with ch▮"), llama());
    assert_eq!(done.candidates[0].detail, "hook cheer(alpha = 4.0, bent = 1) at blocks[1..3].resid.post");
    let (done, _) = completed(&format!("{DECLARED}hook a at embed {{\n    h = softm▮"), llama());
    assert_eq!(done.candidates[0].detail, "softmax(x, over)");
}

#[test]
fn texts_are_told_apart() {
    for (text, inside) in [
        ("print \"a▮b\"", true),
        ("print \"ab\"▮", false),
        ("print ▮\"ab\"", false),
        ("print \"ab▮", true),
        ("a / ▮b", false),
    ] {
        let (text, at) = placed(text);
        assert_eq!(is_quoted(&text, at), inside, "{text}");
    }
}

#[test]
fn files_are_found_beside_the_script() {
    let folder = std::env::temp_dir().join(format!("steer-assist-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("lib")).unwrap();
    for name in ["a.steer", "lib/b.steer", "sad.txt", "v.gguf", "x.csv"] {
        std::fs::write(folder.join(name), "").unwrap();
    }
    let texts = |text: &str| {
        let (text, at) = placed(text);
        let done = complete(&text, at, &Known { folder: Some(&folder), ..Known::default() });
        done.candidates.into_iter().map(|c| c.text).collect::<Vec<_>>()
    };
    assert_eq!(texts("import \"▮"), ["a.steer", "lib/"]);
    assert_eq!(texts("import \"▮\"\nprint 1"), ["a.steer", "lib/"]);
    assert_eq!(texts("import \"lib/▮"), ["b.steer"]);
    assert_eq!(texts("data d = lines(\"s▮"), ["sad.txt"]);
    assert_eq!(texts("vector v = load(\"▮"), ["v.gguf", "lib/"]);
    assert!(texts("model \"▮").contains(&"v.gguf".to_owned()));
    std::fs::remove_dir_all(&folder).unwrap();
}

/// A text with the place, what is in the answer; nothing: no answer.
const HOVERS: &[(&str, &[&str])] = &[
    (
        "hook a at blocks[1..3].resid.po▮st {}",
        &["`blocks[1..3].resid.post` `[d_model 128]`", "in all 4 blocks", "LlamaForCausalLM"],
    ),
    ("hook a at em▮bed {}", &["`embed` `[d_model 128]`", "token embedding"]),
    ("hook a at blocks[0].attn.pattern {\n    ▮h = h\n}", &["`attn.pattern` `[head 8, key]`"]),
    ("hook a at embed on pro▮mpt {\n    h = h\n}", &["`prompt`: rows of the prompt"]),
    ("hook a at embed on prompt[-▮1] {\n    h = h\n}", &[]),
    ("hook a at embed on pro▮mpt[-1] {\n    h = h\n}", &["`prompt[...]`: parts, counted in that part"]),
    ("hook a at embed on gen▮erated {\n    h = h\n}", &["`generated`: rows whose input token was generated"]),
    ("metric m = lo▮git(\" a\")", &["before the softmax"]),
    ("generate clean with ch▮eer", &["hook cheer(alpha = 4.0, bent = 1) at blocks[1..3].resid.post"]),
    ("generate clean with cheer(al▮pha = 2)", &["alpha = 4.0", "parameter of the hook `cheer`"]),
    ("generate clean { m▮ax: 3 }", &["new tokens at most"]),
    ("measure l▮d on clean", &["metric ld = logit", "How sure."]),
    ("print uni▮t(mood[1])", &["unit(x, over = none)", "length 1", "stdlib/blocks/functions.steer"]),
    ("print mo▮od[1]", &["vector mood[layer] = mean(glad)"]),
    ("print siz▮e(head)", &["size(axis)"]),
    ("print size(he▮ad)", &["axis `head`: 8 entries"]),
    ("gene▮rate clean", &["baseline and steered side by side"]),
    ("print \"{cle▮an}\"", &["prompt clean = \"x\""]),
    ("print \"cle▮an\"", &[]),
    ("model \"tiny-▮llama\"", &["LlamaForCausalLM with 4 blocks"]),
    ("# hook ▮hook", &[]),
];

#[test]
fn hovers_by_place() {
    for (text, wanted) in HOVERS {
        let (text, at) = placed(&format!("{DECLARED}{text}"));
        let found = hover(&text, at, &Known { model: Some(llama()), ..Known::default() });
        match (&found, wanted) {
            (None, []) => {}
            (Some(h), [_, ..]) => {
                assert!(h.range.start <= at && at <= h.range.end, "{text}");
                wanted.iter().for_each(|w| assert!(h.text.contains(w), "`{w}` is not in\n{}\nof\n{text}", h.text));
            }
            _ => panic!("{text}: {found:?}"),
        }
    }
}

/// Whatever is typed so far: an answer in few milliseconds, and no panic.
#[test]
fn every_place_of_a_text_has_an_answer_soon() {
    let text = format!(
        "{DECLARED}route r at blocks[*].moe {{\n    mask top(2, mood)\n}}\nprint \"é{{clean}}\", \u{1F600} \"open\nhook x at blocks[1].attn.z on (prompt & !bos {{"
    );
    let known = Known { model: Some(llama()), ..Known::default() };
    let mut longest = Duration::ZERO;
    for at in 0..=text.len() {
        let begun = Instant::now();
        let done = complete(&text, at, &known);
        assert!(done.from <= at.max(1) && text.is_char_boundary(done.from.min(text.len())));
        let part = text.get(..at).map(|p| complete(p, at, &known));
        drop(part);
        let _ = hover(&text, at, &known);
        let _ = definition(&text, at, &known);
        longest = longest.max(begun.elapsed());
    }
    assert!(longest < Duration::from_millis(250), "{longest:?}");
}

#[test]
fn names_without_a_model() {
    let text = "fn f(x) = x\nprint f(1), g(2), unit(3)\ngenerate nobody with nothing\nplot nowhere\nfn f(y) = y\n";
    let found = unknown_names(text, &Known::default());
    let said: Vec<&str> = found.iter().map(|d| d.message.as_str()).collect();
    assert_eq!(
        said,
        [
            "there is no function `g` in this file",
            "there is no prompt, data set or run `nobody` in this file",
            "there is no hook, patch or route `nothing` in this file",
            "there is no table `nowhere` in this file",
            "`f` is declared twice",
        ]
    );
    assert!(unknown_names(DECLARED, &Known::default()).is_empty());
}
