//! The files of `tests/cases`, and inputs that are too odd or too large to stand in a file.
//!
//! `STEER_BLESS=1 cargo test --release -p steer-tests --test cases` writes what is printed into the files.

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};
use steer::experiment::{self, PhaseOptions, Session, SessionOptions};
use steer_lang::{Severity, Sources};
use steer_tests::cases::{self, Case, Folder, listed, package, read};

/// Runs every case of a folder. Paths are relative to this package, as `cargo test` has it.
fn all(kind: &str, test: fn(&Case) -> Result<(), String>) {
    steer::report::width::fix(100);
    let files = listed(&Path::new("cases").join(kind), "steer");
    assert!(!files.is_empty(), "there are no cases of {kind}");
    let mut failed = Vec::new();
    for path in files {
        if let Err(what) = test(&Case::read(&path)) {
            failed.push(format!("==== {}\n{what}\n", path.display()));
        }
    }
    assert!(failed.is_empty(), "{} cases failed; STEER_BLESS=1 accepts\n{}", failed.len(), failed.join("\n"));
}

#[test]
fn parse() {
    all("parse", cases::parse);
}

#[test]
fn check() {
    all("check", cases::check);
}

#[test]
fn sites() {
    all("sites", cases::listing);
}

#[test]
fn doc() {
    all("doc", cases::doc);
}

#[test]
fn plan() {
    all("plan", cases::plan);
}

#[test]
fn kernel() {
    all("kernel", cases::kernel);
}

#[test]
fn run() {
    all("run", cases::run);
}

#[cfg(feature = "llvm")]
#[test]
fn build() {
    all("build", cases::build);
}

#[test]
fn fmt() {
    all("fmt", cases::format);
}

/// What a script prints with a model; or its diagnostics' codes and messages.
fn printed(script: &Path, options: &SessionOptions) -> Result<String, String> {
    let mut sources = Sources::default();
    let mut out = String::new();
    let said = |found: Vec<steer_lang::Diagnostic>| {
        let lines: Vec<String> = found.iter().map(|d| format!("{} {}", d.code, d.message)).collect();
        lines.join("\n")
    };
    let session = Session::open(script, options, &mut sources).map_err(said)?;
    experiment::run(&session, &PhaseOptions::default(), &mut |text| {
        out.push_str(text);
        Ok(())
    })
    .map_err(said)?;
    Ok(out)
}

const SCRIPT: &str = "hook quiet at blocks[1].attn.z on prompt[-1] { h[head = 2] = 0 }\n\
                      generate \"When Mary and John went to the shop, John gave a drink to\" with quiet { max: 4 }\n";

/// Its weights with the name of an architecture that nobody knows.
fn unknown_model() -> Folder {
    let folder = Folder::new();
    let config = String::from_utf8(read(&package("models/tiny-llama/config.json"))).unwrap();
    folder.write("config.json", config.replace("LlamaForCausalLM", "MyTinyForCausalLM"));
    for name in ["tokenizer.json", "tokenizer_config.json", "model.safetensors"] {
        folder.copy("tiny-llama", name);
    }
    folder
}

#[test]
fn a_model_file_of_ones_own_works_without_a_rebuild() {
    let own = read(&package("cases/data/my_tiny.steer"));
    let model = unknown_model();
    let options = |arch: &[&Path]| SessionOptions {
        model: Some(model.text()),
        arch: arch.iter().map(|p| p.to_path_buf()).collect(),
        set: Vec::new(),
        ..SessionOptions::default()
    };
    let scripts = Folder::new();
    let script = scripts.write("a.steer", SCRIPT);
    let known = SessionOptions { model: Some("tiny-llama".into()), ..SessionOptions::default() };
    let expected = printed(&script, &known).unwrap();

    let refused = printed(&script, &options(&[])).unwrap_err();
    assert!(refused.starts_with("E0503 there is no model file for the architecture MyTinyForCausalLM"), "{refused}");

    let elsewhere = Folder::new();
    let file = elsewhere.write("my_tiny.steer", &own);
    assert_eq!(printed(&script, &options(&[&file])).as_ref(), Ok(&expected), "with --arch");

    std::fs::create_dir(scripts.path().join("models")).unwrap();
    scripts.write("models/my_tiny.steer", &own);
    let imports = scripts.write("b.steer", format!("import \"models/my_tiny.steer\"\n{SCRIPT}"));
    assert_eq!(printed(&imports, &options(&[])).as_ref(), Ok(&expected), "imported");

    scripts.write("my_tiny.steer", &own);
    assert_eq!(printed(&script, &options(&[])).as_ref(), Ok(&expected), "beside the script");

    model.write("my_tiny.steer", &own);
    let alone = Folder::new();
    let script = alone.write("a.steer", SCRIPT);
    assert_eq!(printed(&script, &options(&[])).as_ref(), Ok(&expected), "beside the weights");
}

#[test]
fn a_model_of_70b_is_checked_in_less_than_a_second() {
    let folder = Folder::new();
    folder.write("config.json", read(&package("cases/configs/llama-70b.json")));
    let script = folder.write(
        "a.steer",
        "param strength = 4.0\n\
         vector v: [d_model] = load(\"v.npy\")\n\
         hook push(alpha = 1.0) at blocks[*].resid.post on prompt[-1] | generated {\n\
         \x20   when dot(h, v) < 2.0 { h += alpha * strength * unit(v) }\n\
         \x20   h *= norm(h0) / norm(h)\n\
         }\n\
         hook heads at blocks[*].attn.z { h[head = 3] = 0 }\n\
         hook even at blocks[*].attn.pattern on prompt[-1] { h[head = 1] = 1 / sum(h - h + 1, key) }\n\
         hook clip at blocks[*].mlp.act { h[neuron = 0..4] = clamp(h[neuron = 0..4], -1, 1) }\n\
         generate \"Tom went to the park.\" with push(alpha = 2), heads, even, clip { max: 20 }\n",
    );
    let mut npy = b"\x93NUMPY\x01\x00\x46\x00".to_vec();
    npy.extend(format!("{:<69}\n", "{'descr': '<f4', 'fortran_order': False, 'shape': (8192,), }").bytes());
    npy.extend(std::iter::repeat_n(1.0f32.to_le_bytes(), 8192).flatten());
    folder.write("v.npy", npy);
    let options = SessionOptions { model: Some(folder.text()), ..SessionOptions::default() };
    // The best of several: other tests run beside this one.
    let once = || {
        let clock = Instant::now();
        let mut sources = Sources::default();
        let session = Session::open(&script, &options, &mut sources)
            .unwrap_or_else(|d| panic!("{}", steer::report::render(&d, &sources, false)));
        let checked = clock.elapsed();
        experiment::prepare_all(&session, &PhaseOptions::default())
            .unwrap_or_else(|d| panic!("{}", steer::report::render(&d, &sources, false)));
        (clock.elapsed(), checked)
    };
    let (total, checked) = (0..5).map(|_| once()).min().expect("five");
    println!("checked in {:.0} ms, compiled too in {:.0} ms", checked.as_secs_f64() * 1e3, total.as_secs_f64() * 1e3);
    assert!(total < Duration::from_secs(1), "{total:?}");
}

/// Sizes beyond reason are refused in no time and without the memory that they ask for.
#[test]
fn absurd_sizes_are_refused_at_once() {
    let base: serde_json::Value = serde_json::from_slice(&read(&package("models/tiny-llama/config.json"))).unwrap();
    let keys =
        ["hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim", "vocab_size"];
    let values = ["1e300", "1e12", "4294967296", "2147483648", "65537", "0", "-1", "2.5", "\"8\"", "[8]", "{}", "true"];
    let clock = Instant::now();
    for key in keys {
        for value in values {
            let mut config = base.clone();
            config[key] = serde_json::from_str(value).unwrap();
            let folder = Folder::new();
            folder.write("config.json", config.to_string());
            for name in ["tokenizer.json", "tokenizer_config.json", "model.safetensors"] {
                folder.copy("tiny-llama", name);
            }
            let script = folder.write("a.steer", SCRIPT);
            let options = SessionOptions { model: Some(folder.text()), ..SessionOptions::default() };
            let mut sources = Sources::default();
            match Session::open(&script, &options, &mut sources) {
                Ok(_) => panic!("{key}: {value} was taken"),
                Err(found) => {
                    let text = steer::report::render(&found, &sources, false);
                    assert!(found.iter().any(|d| d.severity == Severity::Error) && !text.contains("bug"), "{text}");
                }
            }
        }
    }
    assert!(clock.elapsed() < Duration::from_secs(20), "{:?}", clock.elapsed());
}

/// Scripts that grow without end are stopped, and none exhausts the stack.
#[test]
fn scripts_that_grow_without_end_are_refused() {
    let deep = |open: &str, close: &str, n: usize| format!("print {}1{}\n", open.repeat(n), close.repeat(n));
    let chain: String = (0..60).map(|i| format!("fn f{}(x) = f{i}(x) + f{i}(x)\n", i + 1)).collect();
    let doubling = "    let x = \"{x}{x}\"\n".repeat(60);
    let doubled = "    let x = x + x\n".repeat(60);
    let many: String = (0..2000).map(|i| format!("hook h{i} at blocks[*].resid.post {{ h *= 1.0 }}\n")).collect();
    let cases = [
        (deep("(", ")", 20_000), "E0101"),
        (deep("[", "]", 20_000), "E0101"),
        (deep("-", "", 20_000), "E0101"),
        (format!("fn f0(x) = x\n{chain}print f60(1)\n"), "E0204"),
        ("fn f(x) = f(x)\nprint f(1)\n".into(), "E0204"),
        ("fn f(x) = g(x)\nfn g(x) = f(x)\nprint f(1)\n".into(), "E0204"),
        (format!("fn f(x) {{\n{doubling}    x\n}}\nprint f(\"ab\")\n"), "E0303"),
        (format!("fn f(x) {{\n{doubled}    x\n}}\nprint f(\"ab\")\n"), "E0303"),
        ("metric a = b\nmetric b = a\nmeasure a on \"Tom went\"\n".into(), "E0201"),
        ("run a = b\nrun b = a\ngenerate a\n".into(), "E0201"),
        ("generate \"Tom\" { max: 1e300 }\n".into(), "E0206"),
        ("hook a at blocks[1e18].resid.post { h = 0 }\ngenerate \"Tom\" with a\n".into(), "E0303"),
        ("hook a at blocks[1].attn.z { h[head = 4294967297] = 0 }\ngenerate \"Tom\" with a\n".into(), "E0207"),
        ("hook a at blocks[1].attn.z { h[head = 0..1e15] = 0 }\ngenerate \"Tom\" with a\n".into(), "E0207"),
        ("hook a at blocks[1].resid.post { h *= 1e39 }\ngenerate \"Tom\" with a\n".into(), "E0701"),
        ("hook a at blocks[1].resid.post on prompt[999999999999] { h = 0 }\ngenerate \"Tom\" with a\n".into(), "E0404"),
        (format!("{many}generate \"Tom\" {{ max: 1 }}\n"), "ok"),
    ];
    let folder = Folder::new();
    for (text, code) in cases {
        let shown: String = text.chars().take(80).collect();
        let clock = Instant::now();
        let mut sources = Sources::default();
        let options = SessionOptions { model: Some("tiny-llama".into()), ..SessionOptions::default() };
        let path = folder.path().join("a.steer");
        match Session::open_text(&path, text, &options, &mut sources) {
            Ok(_) => assert_eq!(code, "ok", "{shown}"),
            Err(found) => {
                let text = steer::report::render(&found, &sources, false);
                assert!(found.iter().any(|d| d.code.0 == code), "{shown}: {text}");
            }
        }
        assert!(clock.elapsed() < Duration::from_secs(20), "{shown}: {:?}", clock.elapsed());
    }
}

fn steer(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_steer-cli")).args(args).env("HF_HUB_OFFLINE", "1").output().unwrap()
}

#[test]
fn the_date_of_a_chat_template_can_be_fixed() {
    let folder = Folder::new();
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        folder.copy("tiny-llama", name);
    }
    folder.write("chat_template.jinja", "{{ strftime_now('%-d %B %Y') }}: {{ messages[0].content }}");
    let script = folder.write("a.steer", "print chat(user = \"Why?\")\n");
    let mut command = Command::new(env!("CARGO_BIN_EXE_steer-cli"));
    command.args(["run", &script.display().to_string(), "--model", &folder.text()]);
    let out = command.env("SOURCE_DATE_EPOCH", "1709214400").output().unwrap();
    assert_eq!(String::from_utf8(out.stdout).unwrap(), "29 February 2024: Why?\n");
}

/// One clear diagnostic of this code on standard error, and exit code 1.
fn refuses(args: &[&str], code: &str, part: &str) {
    let out = steer(args);
    let text = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(1), "{args:?}\n{text}");
    assert_eq!(text.matches("see `steer explain").count(), 1, "{args:?}\n{text}");
    let words = text.split_whitespace().filter(|w| *w != "│").collect::<Vec<_>>().join(" ");
    assert!(text.contains(code) && words.contains(part), "{args:?}\n{text}");
}

#[test]
fn the_command_line_refuses_clearly() {
    let folder = Folder::new();
    let script = folder.write("a.steer", format!("param strength = 2.0 in 0..10\n{SCRIPT}"));
    let script = script.to_str().unwrap();
    let with = |more: &[&'static str]| [&["run", script, "--model", "tiny-llama"][..], more].concat();
    refuses(&with(&["--json", "/nowhere/out.json"]), "E0601", "cannot write `/nowhere/out.json`");
    refuses(&with(&["--json", "/"]), "E0601", "it is a folder");
    refuses(&with(&["--set", "strenght=3"]), "E0801", "did you mean `strength`?");
    refuses(&with(&["--set", "strength=30"]), "E0206", "from 0 to 10");
    refuses(&with(&["--set", "strength=much"]), "E0206", "a number is wanted");
    refuses(&with(&["--stop-after", "erase"]), "E0801", "there is no rule `erase`");
    refuses(&with(&["--arch", "nowhere.steer"]), "E0601", "cannot read `nowhere.steer`");
    refuses(&["run", "nowhere.steer"], "E0601", "cannot read `nowhere.steer`");
    refuses(&["check", folder.path().to_str().unwrap()], "E0601", "it is a folder");
    refuses(&["check", script], "E0501", "names no model");
    refuses(&["check", script, "--model", "tiny-lama"], "E0501", "did you mean the shipped model `tiny-llama`?");
    refuses(&["check", script, "--model", "meta-llama/Llama-3-70B"], "E0508", "HF_HUB_OFFLINE forbids");
    refuses(&["sites"], "E0501", "no model is named");
    refuses(&["sites", "--model", "tiny-llama", "blocks[*].atn"], "E0203", "no site");
    folder.write("b.steer", [0xff, 0xfe, 0x00]);
    let bytes = folder.path().join("b.steer");
    refuses(&["check", bytes.to_str().unwrap()], "E0601", "is not UTF-8 text");
    refuses(&["fmt", bytes.to_str().unwrap()], "E0601", "is not UTF-8 text");
}

#[test]
fn a_report_as_json_is_the_same_each_time() {
    let folder = Folder::new();
    let script = folder.write("a.steer", SCRIPT);
    let one = |name: &str| {
        let path = folder.path().join(name);
        let out = steer(&["run", script.to_str().unwrap(), "--model", "tiny-llama", "--json", path.to_str().unwrap()]);
        assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
        let mut value: serde_json::Value = serde_json::from_slice(&read(&path)).unwrap();
        value.as_object_mut().unwrap().remove("timings").expect("timings");
        value.to_string()
    };
    assert_eq!(one("a.json"), one("b.json"));
    // `-` is standard output, which then has nothing else.
    let out = steer(&["run", script.to_str().unwrap(), "--model", "tiny-llama", "--json", "-"]);
    let mut value: serde_json::Value = serde_json::from_slice(&out.stdout).expect("nothing but JSON");
    value.as_object_mut().unwrap().remove("timings").expect("timings");
    assert_eq!(value.to_string(), one("c.json"));
}
