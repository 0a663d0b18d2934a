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
    let page = text(&page.stdout);
    assert!(page.starts_with("E0203 (Diagnostics)") && page.contains("# fails with E0203") && !page.contains("```"));
    assert_eq!(page, text(&steer(&["doc", "E0203"]).stdout));
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
        assert!(said.contains("E0703") && said.contains(what) && said.contains("--features llvm"), "{said}");
    }
    assert!(!std::path::Path::new("out").exists());
}

/// What a command line of the shell says, standard output and standard error as they come; `$STEER` is the program.
#[cfg(unix)]
fn said(line: &str) -> String {
    let line = format!("({line}) 2>&1");
    let out = Command::new("sh").args(["-c", &line]).env("STEER", env!("CARGO_BIN_EXE_steer")).output().unwrap();
    text(&out.stdout)
}

#[cfg(unix)]
#[test]
fn warnings_that_are_known_before_a_run_are_said_before_it() {
    let folder = Folder::new("warnings");
    let script = b"model \"tiny-llama\"\nprint \"the run\"\nmeasure logit(1000) on \"Tom went to the park.\"\n";
    let script = folder.write("a.steer", script);
    let (file, path) = (script.display(), folder.path().display());
    let shard = format!("$STEER run {file} --shard 1/1 --keep {path}/a.kept --activations q8_0");
    for line in [
        format!("$STEER run {file} --activations q8_0"),
        format!("cat {file} | $STEER repl --activations q8_0"),
        format!("{shard} >/dev/null 2>&1; $STEER merge {file} {path}/a.kept --activations q8_0"),
    ] {
        let said = said(&line);
        let (warned, ran) = (said.find("rounds nothing"), said.find("the run"));
        assert!(warned.is_some() && ran.is_some() && warned < ran, "{line}\n{said}");
        assert_eq!(said.matches("rounds nothing").count(), 1, "{line}\n{said}");
    }
}

/// What a run is refused for is what `explain` says of it with the same options.
#[test]
fn explain_says_what_memory_a_run_takes() {
    let folder = Folder::new("explain-memory");
    let one = "model \"tiny-llama\"\ngenerate \"Lily was so glad that she sang.\" { max: 200 }\n";
    let two = format!("{one}measure logit(1000) on \"Tom went to the park. He found a dog.\"\n");
    let (one, two) = (folder.write("one.steer", one.as_bytes()), folder.write("two.steer", two.as_bytes()));
    let (one, two) = (one.to_str().unwrap(), two.to_str().unwrap());
    let mut totals = std::collections::BTreeSet::new();
    let each = [&[][..], &["--weights", "f32"], &["--cache", "q8_0"], &["--backend", "candle"], &["--chunk", "2"]];
    for options in each {
        let with = |command: &'static str| steer(&[&[command, one, "--memory", "10kB"], options].concat());
        let (explained, refused) = (with("explain"), text(&with("run").stderr));
        let (out, warned) = (text(&explained.stdout), text(&explained.stderr));
        let total = out.lines().find_map(|l| l.trim().strip_suffix(" in all, at most, beside the program itself"));
        let total = total.unwrap_or_else(|| panic!("{options:?}: {out}"));
        for said in [&refused, &warned] {
            assert!(
                said.contains("E0702") && said.contains(&format!("the run needs {total} of memory")),
                "{total} {said}"
            );
        }
        totals.insert(total.to_string());
    }
    assert_eq!(totals.len(), each.len(), "each option changes it: {totals:?}");
    let cut = text(&steer(&["explain", two, "--memory", "10kB"]).stdout);
    assert!(cut.contains(" in all, at most, beside the program itself, in the largest of 2 pieces\n"), "{cut}");
    let whole = steer(&["explain", two]);
    assert!(text(&whole.stdout).contains(" in all, at most, beside the program itself\n") && whole.stderr.is_empty());
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

/// The most threads that a process has while it runs, and the ticks of processor time that it took.
#[cfg(target_os = "linux")]
fn threads_of(args: &[&str]) -> (usize, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_steer"))
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let tasks = format!("/proc/{}/task", child.id());
    let mut most = 0;
    while child.try_wait().unwrap().is_none() {
        most = most.max(std::fs::read_dir(&tasks).map_or(0, |tasks| tasks.count()));
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let out = child.wait_with_output().unwrap();
    (most, text(&out.stderr))
}

#[cfg(target_os = "linux")]
#[test]
fn there_is_one_pool_of_threads_and_one_team() {
    let folder = Folder::new("threads");
    // Products and attention that are worth sharing, texts to tokenize, and pieces that are kept.
    let words = "Tom went to the park and saw a dog and a cat. ".repeat(4);
    let script = format!(
        "model \"tiny-llama\"\nmetric loss = cross_entropy()\ndata all = [\"{words}\", \"{words} Tom\"]\n\
         measure mean loss on all\ngenerate \"Tom went\" {{ max: 20 }}\n"
    );
    let script = folder.write("a.steer", script.as_bytes());
    let kept = folder.path().join("a.kept");
    for backend in ["cranelift", "candle"] {
        for threads in [1, 3] {
            let _ = std::fs::remove_file(&kept);
            let count = threads.to_string();
            let args = ["run", script.to_str().unwrap(), "--threads", &count, "--backend", backend];
            let keep = ["--keep", kept.to_str().unwrap(), "--memory", "200MB"];
            let (most, errors) = threads_of(&[&args[..], &keep[..]].concat());
            assert_eq!(errors, "");
            // A pool, beside which the others of the team work on passes while it sleeps.
            let work = if backend == "cranelift" { 2 * threads - 1 } else { threads };
            // The one that waits for them or leads them, and the one that writes what is kept.
            assert!((work + 1..=work + 2).contains(&most), "{backend}, {threads} threads: {most}");
        }
    }
}

/// Each number as `#`, and spaces and lines of tables as one.
fn without_numbers(text: &str) -> String {
    let mut out = String::new();
    for word in text.split_whitespace().filter(|w| !w.starts_with('─')) {
        let number = word.chars().next().is_some_and(|c| c.is_ascii_digit());
        out.push_str(if number && word.len() > 1 || word.parse::<u32>().is_ok() { "#" } else { word });
        out.push(' ');
    }
    out
}

#[test]
fn time_tells_where_a_pass_goes() {
    let folder = Folder::new("time");
    let script = folder.write("a.steer", b"model \"tiny-mixtral\"\ngenerate \"Tom went to the park.\" { max: 3 }\n");
    let json = folder.path().join("a.json");
    let args = ["run", script.to_str().unwrap(), "--time", "--threads", "1", "--json", json.to_str().unwrap()];
    let out = steer(&args);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let shown = text(&out.stdout);
    let prompts = shown.find("\nprompts: ").unwrap();
    let generate = shown.find("\ngenerate: ").unwrap();
    assert!(
        shown[prompts..].contains(" rows in 1 pass\n")
            && shown[generate..].contains("\ngenerate: 2 rows in 2 passes\n")
    );
    let head = "generate: # rows in # passes work of calls seconds time GB GB/s GFLOP GFLOP/s of machine ";
    assert!(without_numbers(&shown[generate..]).starts_with(head), "{shown}");
    let part = |line: &str| line.split("  ").find(|w| !w.is_empty()).unwrap_or_default().trim().to_string();
    let mut kinds: Vec<String> = shown[generate..].lines().skip(4).map(part).collect();
    let last = kinds.pop().unwrap();
    assert_eq!(without_numbers(&last), "this machine, # thread: reads # GB/s, # GFLOP/s in float32 ");
    kinds.sort();
    kinds.dedup();
    assert_eq!(kinds, ["attention", "between", "experts", "kernel", "lookup", "product", "rest"]);

    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    let timings = &report["timings"];
    assert_eq!(report["cache"], "f32");
    assert_eq!(timings["machine"]["threads"], 1);
    for (stage, passes) in [("prompts", 1), ("generate", 2)] {
        let steps = &timings["steps"][stage];
        assert_eq!(steps["passes"], passes);
        let all: f64 = steps["work"].as_array().unwrap().iter().map(|w| w["seconds"].as_f64().unwrap()).sum();
        assert!((all / steps["seconds"].as_f64().unwrap() - 1.0).abs() < 0.01, "the parts are all of it");
        let keys: Vec<&String> = steps["work"][0].as_object().unwrap().keys().collect();
        let first = ["kind", "name", "calls", "seconds", "bytes", "operations"];
        assert_eq!(keys[..6], first);
        let names: Vec<&str> = steps["work"].as_array().unwrap().iter().filter_map(|w| w["name"].as_str()).collect();
        let product = "model.layers.*.self_attn.q_proj.weight [";
        assert!(names.iter().any(|n| n.starts_with(product)), "{names:?}");
    }
    // Nothing is measured where nobody asks.
    let plain = steer(&["run", script.to_str().unwrap(), "--json", json.to_str().unwrap()]);
    assert!(!text(&plain.stdout).contains("this machine"));
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert!(report["timings"].get("steps").is_none() && report["timings"].get("machine").is_none());
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

/// Experts are read while threads share a pass, and none of them may wait for another that waits for it.
#[test]
fn more_threads_than_cores_read_experts_to_the_end() {
    let folder = Folder::new("experts");
    let script =
        folder.write("a.steer", b"model \"tiny-mixtral\"\ngenerate \"Tom went to the park and saw\" { max: 8 }\n");
    for threads in ["2", "7", "16"] {
        for _ in 0..4 {
            let args = ["run", script.to_str().unwrap(), "--threads", threads];
            let mut steer = Command::new(env!("CARGO_BIN_EXE_steer"));
            let mut child = steer.args(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            let begun = std::time::Instant::now();
            while child.try_wait().unwrap().is_none() {
                if begun.elapsed().as_secs() > 120 {
                    child.kill().unwrap();
                    panic!("{threads} threads wait for one another");
                }
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            assert!(child.wait().unwrap().success(), "{threads} threads");
        }
    }
}
