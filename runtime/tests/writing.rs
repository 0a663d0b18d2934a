//! Files and output that cannot be written: a diagnostic with the path, and nothing half-written.

#![cfg(unix)]

mod common;

use common::Folder;
use std::path::Path;
use std::process::{Command, Output};

/// Runs a command line of the shell, in which `$STEER` is the program.
fn shell(line: &str) -> Output {
    Command::new("sh").args(["-c", line]).env("STEER", env!("CARGO_BIN_EXE_steer")).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// One diagnostic on a file, exit code 1.
fn refused(out: &Output, part: &str) {
    let text = text(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{text}");
    let words = text.split_whitespace().filter(|w| *w != "│").collect::<Vec<_>>().join(" ");
    assert!(words.starts_with("E0601") && words.contains(part), "no {part:?} in {text}");
    assert_eq!(text.matches("see `steer explain").count(), 1, "{text}");
}

fn fine(out: &Output) {
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
}

/// The names in a folder.
fn names(folder: &Path) -> Vec<String> {
    let mut out: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    out.sort();
    out
}

const CAPTURE: &str = "model \"tiny-llama\"\n\
                       print \"before\"\n\
                       capture blocks[*].mlp.act, logits of \"Tom went to the park.\" to \"values.safetensors\"\n\
                       print \"behind\"\n";

/// A file size that nothing may pass, as on a full disk: the write in which it is reached fails.
const FULL: &str = "ulimit -f 16; exec";

#[test]
fn a_capture_that_does_not_fit_leaves_the_old_file() {
    let folder = Folder::new("full-capture");
    let script = folder.write("a.steer", CAPTURE.as_bytes());
    let run = |before: &str| shell(&format!("{before} $STEER run {}", script.display()));
    let out = run(FULL);
    refused(&out, "values.safetensors`: it would be larger than files may be here");
    assert!(text(&out.stderr).contains("nothing was left half-written"));
    assert_eq!(text(&out.stdout), "before\n", "what comes before is printed");
    assert_eq!(names(folder.path()), ["a.steer"]);
    let old = folder.write("values.safetensors", b"old");
    let out = run(FULL);
    refused(&out, "values.safetensors`: it would be larger");
    assert!(text(&out.stderr).contains("the file is as it was before"));
    assert_eq!(std::fs::read(&old).unwrap(), b"old");
    fine(&run("exec"));
    assert!(std::fs::metadata(&old).unwrap().len() > 16 * 512);
    assert_eq!(names(folder.path()), ["a.steer", "values.safetensors"]);
}

#[test]
fn a_report_that_does_not_fit_leaves_the_old_file() {
    let folder = Folder::new("full-json");
    let prints = "print \"a line of the report, many times over\"\n".repeat(400);
    let script = folder.write("a.steer", format!("model \"tiny-llama\"\n{prints}").as_bytes());
    let old = folder.write("report.json", b"{}");
    let line = format!("$STEER run {} --json {}", script.display(), old.display());
    refused(&shell(&format!("{FULL} {line}")), "report.json`: it would be larger");
    assert_eq!(std::fs::read(&old).unwrap(), b"{}");
    assert_eq!(names(folder.path()), ["a.steer", "report.json"]);
    fine(&shell(&line));
    assert!(std::fs::read(&old).unwrap().len() > 16 * 512);
}

#[test]
fn a_script_that_does_not_fit_is_not_formatted() {
    let folder = Folder::new("full-fmt");
    let line = "prompt   a=\"x\"\n".repeat(2000);
    let script = folder.write("a.steer", line.as_bytes());
    refused(&shell(&format!("{FULL} $STEER fmt {}", script.display())), "a.steer`: it would be larger");
    assert_eq!(std::fs::read(&script).unwrap(), line.as_bytes());
    assert_eq!(names(folder.path()), ["a.steer"]);
}

#[test]
fn finished_cells_that_do_not_fit_leave_no_file() {
    let folder = Folder::new("full-kept");
    let cells = "prompt a = \"When Mary and John went to the shop, John gave a drink to\"\n\
                 sweep parts over b in blocks, t in tokens(a)[8..] {\n\
                 \x20   hook b.resid.post on t { h *= 0.5 }\n\
                 \x20   measure logit(1000) on a\n\
                 }\n";
    let script = folder.write("a.steer", format!("model \"tiny-llama\"\n{cells}").as_bytes());
    let kept = folder.path().join("a.kept");
    let run = |blocks: usize| {
        let full = format!("ulimit -f {blocks}; exec");
        shell(&format!("{full} $STEER run {} --shard 1/1 --keep {}", script.display(), kept.display()))
    };
    fine(&run(1000));
    let whole = std::fs::metadata(&kept).unwrap().len() as usize;
    std::fs::remove_file(&kept).unwrap();
    // Nothing fits, or a part of the head, or all but the end of the cells.
    for blocks in [0, 1, (whole - 1) / 512] {
        refused(&run(blocks), "a.kept`: it would be larger than files may be here");
        assert_eq!(names(folder.path()), ["a.steer"], "{blocks}");
    }
}

#[test]
fn where_nothing_can_be_written_is_said_before_the_work() {
    let folder = Folder::new("targets");
    let script = folder.write("a.steer", CAPTURE.as_bytes());
    let out = shell(&format!("$STEER run {} --json {}/no/report.json", script.display(), folder.path().display()));
    refused(&out, "no/report.json`: there is no folder");
    assert!(out.stdout.is_empty(), "{}", text(&out.stdout));
    let nowhere = CAPTURE.replace("values", "no/values");
    let script = folder.write("b.steer", nowhere.as_bytes());
    let out = shell(&format!("$STEER run {}", script.display()));
    refused(&out, "no/values.safetensors`: there is no folder");
    assert!(out.stdout.is_empty(), "{}", text(&out.stdout));
    assert_eq!(names(folder.path()), ["a.steer", "b.steer"]);
}

#[test]
fn devices_and_pipes_are_written_and_not_replaced() {
    use std::os::unix::fs::FileTypeExt;
    let folder = Folder::new("devices");
    let script = folder.write("a.steer", b"model \"tiny-llama\"\nprint \"text\"\n");
    let run = |target: &str| shell(&format!("$STEER run {} --json {target}", script.display()));
    fine(&run("/dev/null"));
    assert!(std::fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    let out = run("/dev/stdout");
    fine(&out);
    assert!(text(&out.stdout).starts_with("text\n{\n") && text(&out.stdout).ends_with("}\n"), "{}", text(&out.stdout));
    let file = folder.path().join("all.txt");
    fine(&shell(&format!("$STEER run {} --json /dev/stdout > {}", script.display(), file.display())));
    assert!(std::fs::read_to_string(&file).unwrap().starts_with("text\n{\n"));
}

#[test]
fn a_link_is_kept() {
    let folder = Folder::new("links");
    let script = folder.write("a.steer", b"prompt   a=\"x\"\n");
    let link = folder.path().join("link.steer");
    std::os::unix::fs::symlink(&script, &link).unwrap();
    fine(&shell(&format!("$STEER fmt {}", link.display())));
    assert!(link.symlink_metadata().unwrap().is_symlink());
    assert_eq!(std::fs::read(&script).unwrap(), b"prompt a = \"x\"\n");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_device_is_an_error() {
    let folder = Folder::new("dev-full");
    let script = folder.write("a.steer", b"model \"tiny-llama\"\ngenerate \"Tom went to the park.\" { max: 3 }\n");
    let script = script.display();
    for line in [
        format!("$STEER run {script}"),
        format!("$STEER check {script}"),
        format!("$STEER explain {script}"),
        "$STEER explain E0203".to_string(),
        "$STEER sites --model tiny-llama".to_string(),
        "$STEER --help".to_string(),
        format!("$STEER fmt - < {script}"),
    ] {
        refused(&shell(&format!("{line} > /dev/full")), "cannot write to `standard output`: the disk is full");
    }
    refused(&shell(&format!("$STEER run {script} --json /dev/full")), "cannot write to `/dev/full`: the disk is full");
}

#[test]
fn a_reader_of_a_run_may_leave_early() {
    let folder = Folder::new("head");
    let script = folder.write(
        "a.steer",
        b"model \"tiny-llama\"\n\
          print \"first\"\n\
          generate \"Tom went to the park.\" { max: 200, stop: false }\n\
          generate \"Lily was so happy that\" { max: 200, stop: false }\n",
    );
    let out = shell(&format!("$STEER run {} | head -1", script.display()));
    assert_eq!((text(&out.stdout), text(&out.stderr)), ("first\n".into(), String::new()));
}
