//! The manual: whatever has a name is found by it, fits a terminal, and stands on the page.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use steer::manual::Manual;
use steer::report::{Color, width};
use steer_compiler::elaborate::{FUNCTIONS, STANDARD};
use steer_lang::ast::ItemKind;
use steer_lang::{FileId, codes};
use steer_tests::cases::{Folder, package, read};

fn reference() -> String {
    String::from_utf8(read(&package("../docs/LANGUAGE.md"))).unwrap()
}

/// What the manual says of a topic, in so many columns without colours.
fn said(manual: &Manual, topic: &str, columns: usize) -> String {
    let found = manual.find(topic).unwrap_or_else(|d| panic!("{topic}: {} {:?}", d.message, d.help));
    found.text(columns, Color::None)
}

#[test]
fn what_a_user_would_type_is_found() {
    let manual = Manual::new();
    for (topic, parts) in [
        ("hook", vec!["hook name(parameters) at SITES", "A body is written for one row", "donor"]),
        ("on", vec!["Positions", "prompt[-1]", "matching \"text\""]),
        ("sweep", vec!["sweep resid over b in blocks", "t in tokens(run)", "at most 100000 cells"]),
        ("softmax", vec!["fn softmax(x, over) {", "stdlib/blocks/functions.steer"]),
        ("unit()", vec!["fn unit(x, over = none)", "in the same direction"]),
        ("mean_diff", vec!["fn mean_diff(positive, negative)", "Marks and Tegmark, 2023", "stdlib/methods"]),
        ("e0301", vec!["axes do not fit together", "hook cheer at blocks[2].resid.post"]),
        ("positions", vec!["prompt[-1]", "maybe a"]),
        ("Attention patterns", vec!["attn.pattern", "sums to one"]),
        ("blocks", vec!["blocks layer in 0..n", "LAYERS"]),
        ("blocks[3].attn.z", vec!["before the output projection", "`attention`"]),
        ("attn", vec!["attn.q", "attn.sink", "Queries as projected."]),
        ("mean", vec!["mean(x, over)", "mean(data)", "the mean of the rows"]),
        ("llama", vec!["arch \"LlamaForCausalLM\" {", "stdlib/models/llama.steer"]),
        ("steer check", vec!["check [OPTIONS] <FILE>", "--model MODEL"]),
        ("run", vec!["steer run", "run steered = clean with cheer(alpha = 4), calm", "--resume"]),
        ("--memory", vec!["2GiB"]),
        ("??", vec!["lacks"]),
        ("with", vec!["edits after `with`"]),
        ("path patching", vec!["path_patching.steer"]),
        ("control vector", vec!["direction.i"]),
        ("temperature", vec!["0 is greedy"]),
        ("hf_token", vec!["login"]),
        ("gguf", vec!["GGUF"]),
        ("ablate", vec!["h = 0", "noise(h, seed = 1)"]),
        ("cosine", vec!["dot(unit(a), unit(b))"]),
        ("logit_lens", vec!["logit(\" Mary\", of = blocks[3].resid.post)"]),
        ("hook_resid_post", vec!["blocks[3].resid.post"]),
        ("hook_point", vec!["steer sites --model M"]),
        ("run_with_hooks", vec!["measure ld on clean with half"]),
        ("cache", vec!["capture blocks[*].resid.post of clean"]),
        ("nnsight", vec!["IntervenableModel", "hook half at site"]),
        ("repl", vec!["evaluates what is typed", "steer repl"]),
        ("prompt", vec!["evaluates what is typed", "rows of the prompt"]),
        ("diff", vec!["evaluates what is typed", "how far the residual stream moves"]),
        ("undo", vec!["evaluates what is typed"]),
    ] {
        let text = said(&manual, topic, 400).split_whitespace().collect::<Vec<_>>().join(" ");
        for part in parts {
            assert!(text.contains(part), "{topic}: no {part:?} in\n{text}");
        }
    }
}

#[test]
fn what_is_not_there_has_neighbours() {
    let manual = Manual::new();
    for (topic, near) in [
        ("sofmax", "`softmax`"),
        ("mean_dif", "`mean_diff`"),
        ("atn.pattern", "`attn.pattern`"),
        ("E0309", "`E030"),
        ("hok", "`hook`"),
        ("nonsense", "`steer doc`"),
        ("", "`steer doc`"),
        ("\u{1b}[2J", "`steer doc`"),
    ] {
        let d = manual.find(topic).map(|t| t.text(80, Color::None)).unwrap_err();
        assert_eq!(d.code, codes::COMMAND);
        assert!(d.help.as_deref().is_some_and(|h| h.contains(near)), "{topic}: {:?}", d.help);
    }
}

#[test]
fn every_name_and_every_keyword_is_found() {
    let manual = Manual::new();
    let grammar = String::from_utf8(read(&package("../lang/src/grammar.pest"))).unwrap();
    let keywords: Vec<&str> =
        grammar.lines().filter(|l| l.starts_with("kw_")).filter_map(|l| l.split('"').nth(1)).collect();
    assert!(keywords.len() > 40, "{keywords:?}");
    let names: Vec<&str> = manual.names().map(|(name, _)| name).chain(keywords).collect();
    assert!(names.len() > 500, "{}", names.len());
    for name in names {
        let text = said(&manual, name, 80);
        assert!(text.lines().count() > 2, "{name}: {text}");
        assert!(!text.contains("ask for one of them"), "{name} is a list of others:\n{text}");
    }
}

/// Code keeps its lines; all else fits.
#[test]
fn texts_fit_the_terminal() {
    let manual = Manual::new();
    let mut texts: Vec<String> = Vec::new();
    for columns in [40, 72, 120] {
        for (name, _) in manual.names().step_by(3) {
            let text = said(&manual, name, columns);
            let code = |l: &str| {
                l.starts_with("    ") || l.starts_with("  ─") || l.starts_with(name) || l.starts_with("steer ")
            };
            for line in text.lines().filter(|l| !code(l)) {
                assert!(width::of(line) <= columns, "{name} in {columns}: {line}");
                assert_eq!(line.trim_end(), line, "{name}: spaces at the end");
            }
            texts.push(text);
        }
        let overview = manual.overview(columns, Color::None);
        for line in overview.lines() {
            assert!(width::of(line) <= columns, "{columns}: {line}");
        }
    }
    assert!(texts.iter().all(|t| !t.contains('\u{1b}')));
    assert!(manual.overview(100, Color::None).lines().count() < 90);
}

#[test]
fn colours_are_there_where_they_are_wanted() {
    let manual = Manual::new();
    let text = manual.find("softmax").unwrap().text(80, Color::Ansi16);
    assert!(text.starts_with("\u{1b}[1msoftmax\u{1b}[0m"), "{text:?}");
    assert!(text.contains("\u{1b}[35mlet\u{1b}[0m e = \u{1b}[34mexp\u{1b}[0m(x"), "{text:?}");
    assert!(manual.overview(80, Color::Ansi16).contains("\u{1b}[1m"));
}

/// The reference names every function of the language, and those that it calls functions are there.
#[test]
fn the_reference_and_the_list_of_functions_agree() {
    let text = reference();
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let code: BTreeSet<&str> = text.split('`').skip(1).step_by(2).flat_map(|c| c.split(|c| !is_word(c))).collect();
    for f in FUNCTIONS {
        assert!(code.contains(f.name), "docs/LANGUAGE.md has no `{}`", f.name);
    }
    let mut known: BTreeSet<String> = FUNCTIONS.iter().map(|f| f.name.to_owned()).collect();
    for (i, (_, text)) in STANDARD.iter().enumerate() {
        for item in steer_lang::parse(FileId(i as u16), text).0.items {
            if let ItemKind::Fn(f) = item.kind {
                known.insert(f.name.name);
            }
        }
    }
    let mut in_functions = false;
    let mut checked = 0;
    for line in text.lines() {
        if line.starts_with("| ") && !line.starts_with("| `") {
            in_functions = line.starts_with("| function");
        }
        if !in_functions || !line.starts_with("| `") {
            continue;
        }
        let first = line.trim_start_matches("| ").split(" | ").next().unwrap_or_default();
        for form in first.split('`').skip(1).step_by(2) {
            let calls: Vec<&str> = match form.split_once('(') {
                Some((name, _)) => vec![name],
                None => form.split(' ').collect(),
            };
            for name in calls {
                assert!(known.contains(name), "there is no function `{name}`: {line}");
                checked += 1;
            }
        }
    }
    assert!(checked > 60, "{checked}");
}

#[test]
fn the_page_is_complete_and_needs_nothing_else() {
    let folder = Folder::new();
    let path = folder.path().join("manual.html");
    let out =
        Command::new(env!("CARGO_BIN_EXE_steer-cli")).args(["doc", "--html", path.to_str().unwrap()]).output().unwrap();
    assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    let text = String::from_utf8(read(&path)).unwrap();
    let manual = Manual::new();
    assert_eq!(text, manual.html());

    let text = text.strip_prefix("<!doctype html>\n").expect("a page");
    let page = roxmltree::Document::parse(text).unwrap_or_else(|e| panic!("{e}"));
    let mut ids: BTreeMap<&str, usize> = BTreeMap::new();
    for id in page.descendants().filter_map(|n| n.attribute("id")) {
        *ids.entry(id).or_default() += 1;
    }
    let twice: Vec<_> = ids.iter().filter(|(_, n)| **n > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    let mut links = 0;
    for link in page.descendants().filter_map(|n| n.attribute("href")) {
        let place = link.strip_prefix('#').unwrap_or_else(|| panic!("{link} leads elsewhere"));
        assert!(ids.contains_key(place), "{link} leads nowhere");
        links += 1;
    }
    assert!(links > 900, "{links}");
    for (name, id) in manual.names() {
        assert!(ids.contains_key(id), "{name} is not on the page: {id}");
    }
    for tag in ["script", "img", "link", "iframe", "object"] {
        assert!(!page.descendants().any(|n| n.has_tag_name(tag)), "{tag}");
    }
    assert!(!text.contains("url(") && !text.contains("@import"));
    // Its words are all there: every heading of the reference, and the first words of every page on a code.
    let shown: String = page.descendants().filter(|n| n.is_text()).filter_map(|n| n.text()).collect();
    for heading in reference().lines().filter_map(|l| l.strip_prefix("## ")) {
        assert!(shown.contains(heading), "{heading}");
    }
    for (code, page) in codes::PAGES {
        let title = page.lines().next().unwrap().split_once(": ").unwrap().1.replace('`', "");
        assert!(shown.contains(&title), "{code}: {title}");
    }
}

#[test]
fn the_command_shows_and_refuses() {
    let steer = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_steer-cli"));
        let out = command.args(args).env_remove("FORCE_COLOR").output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (out.status.code(), text(&out.stdout), text(&out.stderr))
    };
    let (code, shown, _) = steer(&["doc"]);
    assert_eq!(code, Some(0));
    assert!(shown.contains("Hook bodies") && shown.contains("steer doc NAME"), "{shown}");
    let (code, shown, _) = steer(&["doc", "attention", "patterns"]);
    assert_eq!(code, Some(0));
    assert!(shown.contains("attn.pattern"), "{shown}");
    let (code, shown, error) = steer(&["doc", "nonsense"]);
    assert_eq!((code, shown.as_str()), (Some(1), ""));
    assert!(error.contains("E0801") && error.contains("the manual has nothing on `nonsense`"), "{error}");
    let (code, _, error) = steer(&["doc", "--html", "/nowhere/manual.html"]);
    assert_eq!(code, Some(1));
    assert!(error.contains("E0601"), "{error}");
}
