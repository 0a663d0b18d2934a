//! What editors are given: the extension's files, and names that can be other ones.

use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use steer::experiment::{Session, SessionOptions};
use steer_lang::symbols::{Part, SymbolKind, Symbols};
use steer_lang::{FileId, Sources, Span, keywords, parse};
use steer_tests::cases::{listed, package};

fn vscode(name: &str) -> Value {
    let path = package("../docs/editors/vscode").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn the_extension_has_what_it_names() {
    let package_json = vscode("package.json");
    let brings = &package_json["contributes"];
    assert_eq!(brings["languages"][0]["extensions"], serde_json::json!([".steer"]));
    for path in [&package_json["main"], &brings["languages"][0]["configuration"], &brings["grammars"][0]["path"]] {
        assert!(package("../docs/editors/vscode").join(path.as_str().unwrap()).is_file(), "{path}");
    }
    assert_eq!(vscode("language-configuration.json")["comments"]["lineComment"], "#");
    let grammar = vscode("syntaxes/steer.tmLanguage.json");
    assert_eq!(grammar["scopeName"], brings["grammars"][0]["scopeName"]);
    for include in grammar["patterns"].as_array().unwrap() {
        let name = include["include"].as_str().unwrap().trim_start_matches('#');
        assert!(grammar["repository"].get(name).is_some(), "{name}");
    }
}

#[test]
fn the_grammar_has_the_words_of_the_language() {
    let grammar = vscode("syntaxes/steer.tmLanguage.json");
    let pattern = grammar["repository"]["keywords"]["match"].as_str().unwrap();
    let words = pattern.split("(?<![.A-Za-z0-9_])(").nth(1).and_then(|p| p.split(")(?![A-Za-z0-9_])").next()).unwrap();
    let written: BTreeSet<&str> = words.split('|').collect();
    assert_eq!(written, keywords::all().into_iter().collect());
    assert!(keywords::all().into_iter().all(keywords::is_keyword));
}

/// Whether a script is right, as an editor asks.
fn mistakes(path: &Path, text: &str) -> Vec<String> {
    let mut sources = Sources::default();
    let options = SessionOptions { keep: true, ..SessionOptions::default() };
    let found = match Session::open_text(path, text.to_owned(), &options, &mut sources) {
        Ok(session) => session.warnings,
        Err(found) => found,
    };
    found.into_iter().map(|d| d.message).collect()
}

fn renamed(text: &str, mut places: Vec<Span>, name: &str) -> String {
    places.sort_by_key(|s| std::cmp::Reverse(s.start));
    let mut out = text.to_owned();
    places.iter().for_each(|s| out.replace_range(s.start as usize..s.end as usize, name));
    out
}

/// Every name that an example declares can be another one, and the example still means something: no use is missed.
#[test]
fn examples_stay_right_under_other_names() {
    let mut count = 0;
    let examples: Vec<PathBuf> = listed(&package("../examples"), "steer");
    assert!(examples.len() > 10);
    for path in examples {
        let text = std::fs::read_to_string(&path).unwrap();
        let (tree, _) = parse(FileId(0), &text);
        let symbols = Symbols::of(&[Part { file: FileId(0), tree: &tree, text: &text }]);
        let before = mistakes(&path, &text).len();
        for (n, d) in symbols.definitions.iter().enumerate() {
            if matches!(d.kind, SymbolKind::Axis | SymbolKind::Site | SymbolKind::Family) {
                continue;
            }
            let new = renamed(&text, symbols.places(n), "fresh_name");
            let after = mistakes(&path, &new);
            assert_eq!(after.len(), before, "{}: `{}`: {after:?}\n{new}", path.display(), d.name);
            count += 1;
        }
    }
    assert!(count > 100, "{count} names");
}
