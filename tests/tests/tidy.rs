//! Habits that are easily lost, held by reading the sources.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use steer_compiler::plan::rules::{By, RULES};
use steer_lang::codes;
use steer_tests::cases::{listed, package};

/// Codes that no script and no model's folder alone produces, with where each is tested.
const ELSEWHERE: &[(&str, &str)] = &[
    ("E0702", "runtime/tests/memory.rs: no memory is a property of the machine"),
    ("E0703", "tests/tests/build.rs: hooks that cannot be built, and bugs in steer"),
    ("E0704", "ctrl-C"),
    ("E0705", "tests/tests/kept.rs: files of finished cells"),
    ("E0801", "tests/tests/cases.rs: the command line"),
];

/// All files below a folder of the repository, but for what is built or fetched.
fn below(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut out = Vec::new();
    let mut open = vec![package("..").join(folder)];
    while let Some(at) = open.pop() {
        for entry in std::fs::read_dir(&at).unwrap_or_else(|e| panic!("{}: {e}", at.display())).flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            if path.is_dir() {
                if name != "target" && !name.to_string_lossy().starts_with('.') {
                    open.push(path);
                }
            } else if path.extension().is_some_and(|e| e == extension) {
                out.push(path);
            }
        }
    }
    out.sort();
    out
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The part of a Rust file before its unit tests.
fn without_tests(path: &Path) -> String {
    let text = text(path);
    text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_string()
}

fn is_test(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    let own = path.strip_prefix(package("..")).unwrap_or(path);
    name == "tests.rs" || own.components().any(|c| c.as_os_str() == "tests")
}

/// The lines that have one of these words, of the files given.
fn having(files: &[PathBuf], words: &[&str]) -> Vec<String> {
    let mut out = Vec::new();
    for path in files {
        for (n, line) in without_tests(path).lines().enumerate() {
            if let Some(word) = words.iter().find(|w| line.contains(**w)) {
                out.push(format!("{}:{}: {word}: {}", path.display(), n + 1, line.trim()));
            }
        }
    }
    out
}

#[test]
fn the_language_and_the_compiler_know_no_files() {
    let files: Vec<PathBuf> =
        [below("lang/src", "rs"), below("compiler/src", "rs")].concat().into_iter().filter(|p| !is_test(p)).collect();
    assert!(files.len() > 50);
    let found = having(&files, &["std::fs", "std::io", "std::env::", "std::process", "println!", "eprintln!"]);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn architectures_are_named_in_model_files_only() {
    let files = [below("lang/src", "rs"), below("compiler/src", "rs"), below("runtime/src", "rs")].concat();
    let files: Vec<PathBuf> = files.into_iter().filter(|p| !is_test(p)).collect();
    let words = ["Llama", "GPT2", "GPTNeoX", "NeoX", "Mamba", "Mixtral", "Mistral", "Qwen"];
    let mut found = having(&files, &words);
    // The list of the model files that are built in, and what a help text or comment gives as an example.
    found.retain(|l| !l.contains("include_str!"));
    found.retain(|l| {
        let code = l.split(": ").skip(2).collect::<Vec<_>>().join(": ");
        !code.starts_with("//") && !code.contains(".help(")
    });
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn every_rule_has_a_case_and_a_test() {
    let cases = ["plan", "kernel"].map(|kind| listed(&package("cases").join(kind), "steer")).concat();
    let cases: String = cases.iter().map(|p| text(p)).collect();
    let tests = text(&package("../compiler/src/plan/rules/tests.rs"));
    for rule in RULES {
        let own = package("../compiler/src/plan/rules").join(format!("{}.rs", rule.name));
        let rewrites = matches!(rule.by, By::Rewrite(_));
        let tested = !rewrites || text(&own).contains("#[cfg(test)]") || tests.contains(rule.name);
        assert!(tested || cases.contains(rule.name), "the rule `{}` has no test", rule.name);
        assert!(cases.contains(rule.name), "no case in tests/cases turns off or names `{}`", rule.name);
    }
    let files = listed(&package("../compiler/src/plan/rules"), "rs");
    let named = |p: &&PathBuf| !["mod", "tests", "rewrite"].contains(&p.file_stem().unwrap().to_str().unwrap());
    let rewrites = RULES.iter().filter(|r| matches!(r.by, By::Rewrite(_))).count();
    assert_eq!(files.iter().filter(named).count(), rewrites, "a file a rewrite");
}

#[test]
fn every_code_has_a_page_and_a_case() {
    let pages: BTreeSet<String> = listed(&package("../lang/codes"), "md")
        .iter()
        .map(|p| p.file_stem().unwrap().to_str().unwrap().into())
        .collect();
    let known: BTreeSet<String> = codes::PAGES.iter().map(|(c, _)| c.0.to_string()).collect();
    assert_eq!(pages, known);
    let mut expected = String::new();
    for kind in ["parse", "check", "run"] {
        for path in listed(&package("cases").join(kind), "steer") {
            expected.extend(text(&path).split("# ---\n").nth(1).map(str::to_string));
        }
    }
    for (code, page) in codes::PAGES {
        assert!(page.starts_with(&format!("# {code}: ")), "{code}: its page begins otherwise");
        if let Some((_, why)) = ELSEWHERE.iter().find(|(c, _)| *c == code.0) {
            let place = why.split(": ").next().filter(|p| p.contains('/'));
            assert!(place.is_none_or(|p| package("..").join(p).exists()), "{why}");
            continue;
        }
        let shown = expected.lines().any(|l| l.trim_start_matches("# ").starts_with(code.0));
        assert!(shown, "no case shows {code}");
    }
}

#[test]
fn no_file_grows_out_of_sight() {
    let files = ["lang", "compiler", "runtime", "tests"].map(|f| below(f, "rs")).concat();
    let long: Vec<String> = files
        .iter()
        .map(|p| (text(p).lines().count(), p))
        .filter(|(n, _)| *n > 600)
        .map(|(n, p)| format!("{} has {n} lines", p.display()))
        .collect();
    assert!(long.is_empty(), "{}", long.join("\n"));
}

#[test]
fn nothing_is_left_to_do() {
    // Put together, so that this file is not found.
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:")];
    let rust = ["lang", "compiler", "runtime", "tests"].map(|f| below(f, "rs")).concat();
    let steer = ["stdlib", "examples", "tests/cases"].map(|f| below(f, "steer")).concat();
    for path in rust.iter().chain(&steer) {
        let text = text(path);
        for word in words {
            assert!(!text.contains(word), "{}: {word}", path.display());
        }
    }
}

#[test]
fn everything_shipped_is_formatted() {
    let mut wrong = Vec::new();
    for path in [below("stdlib", "steer"), below("examples", "steer")].concat() {
        let text = text(&path);
        match steer_lang::format(&text) {
            Ok(formatted) if formatted == text => {}
            Ok(_) => wrong.push(format!("steer fmt {}", path.display())),
            Err(d) => wrong.push(format!("{}: {d:?}", path.display())),
        }
    }
    for (code, page) in codes::PAGES {
        for block in page.split("```steer ok\n").skip(1) {
            let block = block.split("```").next().unwrap_or_default();
            if steer_lang::format(block).as_deref() != Ok(block) {
                wrong.push(format!("a block of the page on {code}"));
            }
        }
    }
    assert!(wrong.is_empty(), "not formatted:\n{}", wrong.join("\n"));
}
