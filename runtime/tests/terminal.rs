//! What is seen on a terminal: texts as they come, and in the end what plain output has.

#![cfg(unix)]

mod common;
#[path = "common/screen.rs"]
mod screen;

use common::Folder;
use nix::pty::{Winsize, openpty};
use screen::Screen;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

const COLUMNS: u16 = 100;

/// All that `steer` writes to a terminal of so many rows, and its exit code.
fn on_terminal(args: &[&str], rows: u16) -> (String, Option<i32>) {
    let size = Winsize { ws_row: rows, ws_col: COLUMNS, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = openpty(&size, None).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_steer"))
        .args(args)
        .env("TERM", "xterm")
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stdout(pty.slave.try_clone().unwrap())
        .stderr(pty.slave)
        .spawn()
        .unwrap();
    let mut seen = Vec::new();
    let mut master = File::from(pty.master);
    let mut piece = [0; 4096];
    // When nobody has the other side open any more, reading fails.
    while let Ok(n @ 1..) = master.read(&mut piece) {
        seen.extend_from_slice(&piece[..n]);
    }
    (String::from_utf8(seen).unwrap(), child.wait().unwrap().code())
}

/// The same without a terminal.
fn plain(args: &[&str]) -> String {
    let out = Command::new(env!("CARGO_BIN_EXE_steer")).args(args).output().unwrap();
    assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// A run leaves on a terminal what it prints elsewhere; what is seen on the way is returned.
fn same_in_the_end(args: &[&str], rows: u16) -> String {
    let (seen, code) = on_terminal(args, rows);
    assert_eq!(code, Some(0), "{seen}");
    let mut screen = Screen::new(COLUMNS.into(), rows.into());
    screen.write(&seen);
    let lines = |text: &str| text.lines().map(|l| l.trim_end().to_string()).collect::<Vec<_>>().join("\n");
    assert_eq!(screen.text().trim_end(), lines(&plain(args)).trim_end(), "{seen}");
    seen
}

fn example(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name).display().to_string()
}

#[test]
fn baseline_and_steered_grow_side_by_side() {
    let seen = same_in_the_end(&["run", &example("quickstart.steer")], 40);
    assert!(seen.contains("\x1b[J"), "there was no draft: {seen}");
    // Where there is no room for all of it, drafts are lower and all the same nothing of them remains.
    same_in_the_end(&["run", &example("quickstart.steer")], 4);
}

#[test]
fn all_kinds_of_statements_keep_their_order() {
    let folder = Folder::new("terminal");
    let script = folder.write(
        "a.steer",
        b"model \"tiny-llama\"\n\
          data openings = [\"Tom went to the park.\", \"Lily was so happy that\"]\n\
          metric ld = logit(\" Mary\") - logit(\" John\")\n\
          hook quiet at blocks[1].attn.z { h *= 0.5 }\n\
          print \"first\"\n\
          generate openings { max: 12 }\n\
          measure ld on \"Mary and John went to the\"\n\
          generate openings with quiet { max: 6 }\n\
          print \"last\"\n",
    );
    let seen = same_in_the_end(&["run", script.to_str().unwrap()], 50);
    let at = |part: &str| seen.find(part).unwrap_or_else(|| panic!("no {part:?} in {seen}"));
    let places = ["first", "Tom went", "Lily was", "\r\nrun ", "quiet", "last"].map(at);
    assert!(places.is_sorted(), "{places:?} in {seen}");
}

#[test]
fn one_text_alone_is_printed_as_it_is() {
    let folder = Folder::new("terminal-alone");
    let script = folder.write("a.steer", b"model \"tiny-llama\"\ngenerate \"Tom went to the park.\" { max: 20 }\n");
    let seen = same_in_the_end(&["run", script.to_str().unwrap()], 20);
    assert!(!seen.contains('\x1b'), "{seen:?}");
}

#[test]
fn an_error_leaves_no_draft_and_no_half_line() {
    let folder = Folder::new("terminal-error");
    // A sum that doubles with every token is infinite after some.
    let script = folder.write(
        "a.steer",
        b"model \"tiny-llama\"\n\
          hook grow at blocks[0].resid.post on generated { h *= 10 ^ (position * 2) }\n\
          generate \"Tom went to the park.\" with grow { max: 40, stop: false }\n",
    );
    let (seen, code) = on_terminal(&["run", script.to_str().unwrap()], 30);
    assert_eq!(code, Some(1), "{seen}");
    assert!(seen.contains("baseline"), "there was a draft before the error: {seen}");
    let mut screen = Screen::new(COLUMNS.into(), 30);
    screen.write(&seen);
    let text = screen.text();
    assert!(text.starts_with("E0701") && text.contains("is not a finite number"), "{text}");
    assert!(!text.contains("baseline"), "{text}");
}
