//! `steer new`: what it writes is formatted, and runs on models of several architectures.

use std::path::Path;
use std::process::{Command, Output};
use steer_tests::cases::{Folder, package, read};

fn steer(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_steer-cli"));
    command.args(args).current_dir(folder).env("HF_HUB_OFFLINE", "1").env("STEER_MODELS", package("models"));
    command.env("HF_HUB_CACHE", folder.join("hub")).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[track_caller]
fn done(out: &Output) -> String {
    assert_eq!(out.status.code(), Some(0), "{}{}", text(&out.stdout), text(&out.stderr));
    assert_eq!(text(&out.stderr), "");
    text(&out.stdout)
}

#[test]
fn the_script_checks_and_runs_on_several_architectures() {
    let folder = Folder::new();
    for model in ["tiny-llama", "tiny-gpt2", "tiny-mamba", "tiny-mixtral"] {
        let said = done(&steer(folder.path(), &["new", model, "--model", model]));
        assert_eq!(said.lines().count(), 2, "{said}");
        for (line, begins) in
            said.lines().zip([format!("steer check {model}.steer"), format!("steer run {model}.steer")])
        {
            assert!(line.starts_with(&begins), "{line}");
        }
        let file = format!("{model}.steer");
        let script = text(&read(&folder.path().join(&file)));
        assert!(script.contains(&format!("\nmodel \"{model}\"\n")) && script.lines().count() < 40, "{script}");
        done(&steer(folder.path(), &["fmt", "--check", &file]));
        assert!(done(&steer(folder.path(), &["check", &file])).contains(": ok on "));
        let report = done(&steer(folder.path(), &["run", &file]));
        for part in ["baseline", "cheer(alpha = -0.4)", "moved", "strength", "rows computed"] {
            assert!(report.contains(part), "{model}: no {part:?} in\n{report}");
        }
    }
}

#[test]
fn without_a_model_it_takes_one_that_ships_and_any_other_on_the_command_line() {
    let folder = Folder::new();
    done(&steer(folder.path(), &["new", "first.steer"]));
    let script = text(&read(&folder.path().join("first.steer")));
    assert!(script.contains("\nmodel \"tiny-llama\"\n"), "{script}");
    done(&steer(folder.path(), &["run", "first.steer"]));
    let family = package("../../shared/models/stories260k");
    for model in [package("models/tiny-mamba"), family].iter().filter(|m| m.is_dir()) {
        done(&steer(folder.path(), &["run", "first.steer", "--model", model.to_str().unwrap()]));
    }
}

#[test]
fn it_refuses_clearly() {
    let folder = Folder::new();
    let refuses = |args: &[&str], code: &str, part: &str| {
        let out = steer(folder.path(), args);
        let error = text(&out.stderr);
        let words = error.split_whitespace().filter(|w| *w != "│").collect::<Vec<_>>().join(" ");
        assert_eq!(out.status.code(), Some(1), "{args:?}\n{error}");
        assert!(error.contains(code) && words.contains(part), "{args:?}\n{error}");
    };
    folder.write("mine.steer", "print 1\n");
    refuses(&["new", "mine"], "E0601", "`mine.steer` is there already");
    refuses(&["new", "mine.steer"], "E0601", "nothing was written");
    assert_eq!(read(&folder.path().join("mine.steer")), b"print 1\n");
    refuses(&["new", "nowhere/a"], "E0601", "there is no folder `nowhere`");
    refuses(&["new", "a/"], "E0801", "names no file");
    refuses(&["new", "a", "--model", "tiny-lama"], "E0501", "did you mean the shipped model `tiny-llama`?");
    refuses(&["new", "a", "--model", "no-such/model"], "E0508", "HF_HUB_OFFLINE");
    let encoder = package("parity/bert-plain");
    if encoder.is_dir() {
        refuses(&["new", "a", "--model", encoder.to_str().unwrap()], "E0407", "continues texts");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing was written");
}
