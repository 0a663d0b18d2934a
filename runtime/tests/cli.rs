//! The command as a user meets it: what it prints where, and its exit codes.

mod common;

use common::Folder;
use std::io::Write;
use std::process::{Command, Output, Stdio};

fn steer(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_steer")).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn explain_prints_pages_and_knows_the_nearest_code() {
    let page = steer(&["explain", "e0203"]);
    assert_eq!(page.status.code(), Some(0));
    assert!(text(&page.stdout).starts_with("# E0203"));
    let near = steer(&["explain", "E0209"]);
    assert_eq!(near.status.code(), Some(1));
    assert!(text(&near.stderr).contains("the nearest code is E020"), "{}", text(&near.stderr));
    assert!(near.stdout.is_empty());
}

#[test]
fn usage_is_2_and_help_is_0() {
    let help = steer(&["--help"]);
    assert_eq!((help.status.code(), help.stderr.is_empty()), (Some(0), true));
    let wrong = steer(&["run"]);
    assert_eq!((wrong.status.code(), wrong.stdout.is_empty()), (Some(2), true));
    assert!(text(&wrong.stderr).contains("Usage: steer run"));
    let version = steer(&["--version"]);
    let kernels = if cfg!(feature = "llvm") { "(kernels by LLVM)" } else { "(kernels by Cranelift)" };
    assert_eq!(version.status.code(), Some(0));
    assert!(text(&version.stdout).contains(kernels), "{}", text(&version.stdout));
}

/// Without LLVM what needs it says how to have it.
#[cfg(not(feature = "llvm"))]
#[test]
fn what_needs_llvm_says_so() {
    let folder = Folder::new("no-llvm");
    let script = folder.write("a.steer", b"model \"tiny-llama\"\n");
    let script = script.to_str().unwrap();
    for (args, what) in [
        (vec!["run", script, "--backend", "llvm"], "cannot compile kernels with LLVM"),
        (vec!["run", script, "--emit", "llvm"], "cannot print LLVM's form of the kernels"),
        (vec!["build", script, "-o", "out"], "cannot build the hooks of a script"),
    ] {
        let out = steer(&args);
        assert_eq!(out.status.code(), Some(1), "{args:?}");
        let said = text(&out.stderr);
        assert!(said.contains("E0801") && said.contains(what) && said.contains("--features llvm"), "{said}");
    }
    assert!(!std::path::Path::new("out").exists());
}

#[test]
fn fmt_checks_writes_and_reads_standard_input() {
    let folder = Folder::new("fmt");
    let path = folder.write("a.steer", b"prompt   a=\"x\"\n");
    let name = path.to_str().unwrap();
    let check = steer(&["fmt", "--check", name]);
    assert_eq!(check.status.code(), Some(1));
    assert!(text(&check.stderr).contains("is not formatted"));
    assert_eq!(steer(&["fmt", name]).status.code(), Some(0));
    assert_eq!(steer(&["fmt", "--check", name]).status.code(), Some(0));
    let formatted = std::fs::read(&path).unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");

    let mut child = Command::new(env!("CARGO_BIN_EXE_steer"))
        .args(["fmt", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"prompt   a=\"x\"\n").unwrap();
    assert_eq!(child.wait_with_output().unwrap().stdout, formatted);

    let missing = steer(&["fmt", name, "nowhere.steer"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(
        text(&missing.stderr).contains("cannot read `nowhere.steer`: there is no such file"),
        "{}",
        text(&missing.stderr)
    );
    let broken = folder.write("b.steer", b"hook {{{\n");
    let e = steer(&["fmt", name, broken.to_str().unwrap()]);
    assert!(text(&e.stderr).contains("b.steer:1:"), "the place is in the second file: {}", text(&e.stderr));
    assert_eq!(std::fs::read(&broken).unwrap(), b"hook {{{\n");
}

#[cfg(unix)]
#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_steer"))
        .args(["explain", "E0101"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let out = child.wait_with_output().unwrap();
    assert_eq!(text(&out.stderr), "");
    assert_eq!(out.status.code(), Some(0));
}
