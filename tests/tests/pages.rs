//! The pages on codes and the examples: each does what it says.

use std::fs;
use std::path::Path;
use steer::experiment::{self, PhaseOptions, Session, SessionOptions};
use steer::report::render;
use steer_lang::ast::ItemKind;
use steer_lang::{Diagnostic, Sources, codes};
use steer_tests::cases::{Folder, listed, package};

/// What `check` finds in a text, with the sources that it points into.
fn found(text: &str) -> (Vec<Diagnostic>, Sources) {
    let mut sources = Sources::default();
    let folder = Folder::new();
    folder.write("names.csv", "a,b,place\nMary,John,shop\nTom,Anna,park\n");
    let path = folder.path().join("page.steer");
    let found = match Session::open_text(&path, text.to_string(), &SessionOptions::default(), &mut sources) {
        Err(found) => found,
        Ok(session) => {
            let mut found = session.warnings.clone();
            match experiment::prepare_all(&session, &PhaseOptions::default()) {
                Ok(e) => found.extend(e.prepared.warnings),
                Err(more) => found.extend(more),
            }
            found
        }
    };
    (found, sources)
}

/// The scripts of a page: what follows `steer ` on the line that opens one, and the text.
fn blocks(page: &str) -> Vec<(&str, &str)> {
    let parts = page.split("```steer ").skip(1);
    parts.filter_map(|p| p.split_once('\n')).map(|(tag, rest)| (tag, rest.split("```").next().unwrap_or(""))).collect()
}

#[test]
fn every_example_of_a_page_does_what_it_says() {
    let mut wrong = Vec::new();
    for (code, page) in codes::PAGES {
        assert!(!page.contains("error["), "{code}: a terminal shows diagnostics in another form");
        for (tag, text) in blocks(page) {
            let (diagnostics, sources) = found(text);
            let expected = tag.strip_prefix("fails=");
            let right = match expected {
                Some(c) => !diagnostics.is_empty() && diagnostics.iter().all(|d| d.code.0 == c),
                None => diagnostics.is_empty(),
            };
            if !right {
                wrong.push(format!("{code} {tag}\n{}", render(&diagnostics, &sources, false)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The documents' scripts are held to the same.
#[test]
fn every_example_of_a_document_does_what_it_says() {
    for name in ["README.md", "docs/LANGUAGE.md"] {
        let text = fs::read_to_string(package("..").join(name)).unwrap();
        assert!(!blocks(&text).is_empty(), "{name} has no script");
        for (tag, script) in blocks(&text) {
            let (diagnostics, sources) = found(script);
            let right = match tag.strip_prefix("fails=") {
                Some(code) => diagnostics.iter().any(|d| d.code.0 == code),
                None => diagnostics.is_empty() && steer_lang::format(script).as_deref() == Ok(script),
            };
            assert!(right, "{name}:\n{script}\n{}", render(&diagnostics, &sources, false));
        }
    }
}

/// The architectures of the standard library, as the README lists them.
fn architectures() -> String {
    let mut out = String::from("| | `architectures` in config.json | model file |\n|---|---|---|\n");
    for (name, text) in steer_compiler::elaborate::STANDARD.iter().filter(|(n, _)| n.starts_with("stdlib/models/")) {
        let file = Sources::default().add(*name, *text);
        for item in steer_lang::parse(file, text).0.items {
            let ItemKind::Arch(arch) = &item.kind else { continue };
            let doc = item.doc.unwrap_or_default().replace('\n', " ");
            let names: Vec<&str> = arch.names.iter().map(|n| n.value.as_str()).collect();
            let about = doc.split(':').next().unwrap_or_default();
            out += &format!("| {} | {} | `{name}` |\n", about.trim(), names.join(", "));
        }
    }
    out
}

/// `STEER_BLESS=1` writes the list.
#[test]
fn the_readme_lists_the_architectures() {
    let path = package("../README.md");
    let text = fs::read_to_string(&path).unwrap();
    let want = architectures();
    let head = want.lines().next().unwrap();
    let (before, list) = text.split_once(head).expect("the README has the list");
    let end = list.find("\n\n").expect("something follows the list");
    let whole = format!("{before}{}{}", want.trim_end(), &list[end..]);
    if std::env::var_os("STEER_BLESS").is_some() {
        fs::write(path, whole).unwrap();
    } else {
        assert_eq!(text, whole, "STEER_BLESS=1 writes the list");
    }
}

/// Copies the files of a folder and of those in it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        match entry.path().is_dir() {
            true => copy(&entry.path(), &to.join(entry.file_name())),
            false => drop(fs::copy(entry.path(), to.join(entry.file_name())).unwrap()),
        }
    }
}

/// They run in a copy of their folder, so that what they write is not left there.
#[test]
fn every_example_runs_without_a_warning() {
    let folder = Folder::new();
    copy(&package("../examples"), folder.path());
    let examples = listed(folder.path(), "steer");
    assert!(!examples.is_empty());
    for path in examples {
        let mut sources = Sources::default();
        let session = Session::open(&path, &SessionOptions::default(), &mut sources)
            .unwrap_or_else(|d| panic!("{}", render(&d, &sources, false)));
        assert!(session.warnings.is_empty(), "{}", render(&session.warnings, &sources, false));
        let mut out = String::new();
        let done = experiment::run(&session, &PhaseOptions::default(), &mut |text| {
            out.push_str(text);
            Ok(())
        });
        let done = done.unwrap_or_else(|d| panic!("{}", render(&d, &sources, false)));
        assert!(done.warnings.is_empty(), "{}", render(&done.warnings, &sources, false));
        assert!(!out.is_empty(), "{} prints nothing", path.display());
    }
}
