//! Sessions at the prompt: on a pseudo-terminal as they are typed, and from standard input.

#![cfg(unix)]

mod common;

use common::Folder;
use nix::pty::{Winsize, openpty};
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Nothing that is typed takes so long.
const PATIENCE: Duration = Duration::from_secs(120);

/// A session on a terminal.
struct Typed {
    child: Child,
    keys: File,
    pieces: Receiver<Vec<u8>>,
    /// What was seen and not yet expected.
    seen: String,
}

fn steer(args: &[&str], folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_steer"));
    command
        .args(args)
        .current_dir(folder)
        .env("TERM", "xterm")
        .env("NO_COLOR", "1")
        .env("STEER_CACHE", folder.join("cache"));
    command
}

impl Typed {
    fn new(args: &[&str], folder: &Path) -> Self {
        let size = Winsize { ws_row: 50, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(&size, None).unwrap();
        let child = steer(args, folder)
            .stdin(pty.slave.try_clone().unwrap())
            .stdout(pty.slave.try_clone().unwrap())
            .stderr(pty.slave)
            .spawn()
            .unwrap();
        let mut master = File::from(pty.master);
        let keys = master.try_clone().unwrap();
        let (to, pieces) = channel();
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(n @ 1..) = master.read(&mut piece) {
                if to.send(piece[..n].to_vec()).is_err() {
                    break;
                }
            }
        });
        let mut typed = Typed { child, keys, pieces, seen: String::new() };
        typed.expect("steer> ");
        typed
    }

    /// Waits for a text and gives what stands before it.
    fn expect(&mut self, text: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.seen.find(text) {
                let before = self.seen[..at].to_owned();
                self.seen.drain(..at + text.len());
                return before;
            }
            let left = end.saturating_duration_since(Instant::now());
            match self.pieces.recv_timeout(left) {
                Ok(piece) => self.seen += &bare(&String::from_utf8_lossy(&piece)),
                Err(e) => panic!("no {text:?} ({e}) in {:?}", self.seen),
            }
        }
    }

    fn keys(&mut self, text: &str) {
        self.keys.write_all(text.as_bytes()).unwrap();
    }

    /// Types a line, and gives what is shown until the next prompt.
    fn line(&mut self, text: &str) -> String {
        self.keys(&format!("{text}\r"));
        // The line is drawn again and again while it is typed; its end is seen when all of it is.
        self.expect(&text[text.len().saturating_sub(6)..]);
        self.expect("\n");
        self.shown()
    }

    /// What is shown until the next prompt.
    fn shown(&mut self) -> String {
        self.expect("steer> ")
    }

    fn end(mut self) {
        self.keys("\x04");
        assert_eq!(self.child.wait().unwrap().code(), Some(0), "{}", self.seen);
    }
}

/// Without what moves the cursor.
fn bare(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('\x1b') {
        out += &rest[..at];
        rest = &rest[at + 1..];
        if let Some(escape) = rest.strip_prefix('[') {
            let end = escape.find(|c: char| c.is_ascii_alphabetic()).map_or(escape.len(), |i| i + 1);
            rest = &escape[end..];
        }
    }
    out + rest
}

/// What a session from standard input prints, and whether it ended well.
fn piped(text: &str, args: &[&str], folder: &Path) -> (String, String, Option<i32>) {
    let mut child =
        steer(args, folder).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (text(out.stdout), text(out.stderr), out.status.code())
}

const HOOK: &str = "hook cheer(alpha = 4) at blocks[1].resid.post {\n    h += alpha * 0.1\n}\n";

#[test]
fn a_session_is_typed() {
    let folder = Folder::new("repl-typed");
    let mut s = Typed::new(&["repl", "--model", "tiny-llama"], folder.path());
    assert!(s.line("1 + 2").contains('3'));
    // A definition goes on until its bracket closes.
    s.keys("hook cheer(alpha = 4) at blocks[1].resid.post {\r    h += alpha * 0.1\r}\r");
    s.expect("}");
    s.shown();
    let text = s.line("generate \"Tom went to the park.\" with cheer { max: 4 }");
    assert!(text.contains("baseline") && text.contains("cheer"), "{text}");
    // A mistake in the middle of a definition leaves what there was.
    s.keys("hook cheer at blocks[1].resid.post {\r    h += * 2\r}\r");
    let wrong = s.expect("E0");
    assert!(!wrong.contains("panicked"));
    s.shown();
    let again = s.line("generate \"Tom went to the park.\" with cheer { max: 4 }");
    assert_eq!(text.lines().last(), again.lines().last());
    // ctrl-C takes a line away and nothing else.
    s.keys("generate \"x\x03");
    s.expect(":quit ends the session");
    s.shown();
    assert!(s.line(":type cheer").contains("hook cheer(alpha = 4)"));
    // Names, sites and commands are completed.
    s.keys(":rec\t\r");
    s.expect("selected");
    s.shown();
    s.keys("generate \"Tom went\" with ch\t { max: 2 }\r");
    s.expect("baseline");
    s.shown();
    s.keys("blocks[1].attn.pat\t of \"Tom\"\r");
    s.expect("[head 8, key] of Tom");
    s.shown();
    // What was typed before comes back, also by a search.
    s.keys("\x1b[A\r");
    s.expect("[head 8, key] of Tom");
    s.shown();
    s.keys("\x12:type\r");
    s.expect("hook cheer(alpha = 4)");
    s.shown();
    s.end();
}

#[test]
fn ctrl_c_stops_a_computation_and_keeps_the_session() {
    let folder = Folder::new("repl-stop");
    let mut s = Typed::new(&["repl", "--model", "tiny-llama"], folder.path());
    s.line("param alpha = 3");
    s.keys("generate \"Tom went to the park.\" { max: 400000, stop: false }\r");
    // Some of the text is there.
    s.expect("park.");
    s.expect(".");
    Command::new("kill").args(["-INT", &s.child.id().to_string()]).status().unwrap();
    let said = s.shown();
    assert!(said.contains("stopped"), "{said}");
    assert!(s.line("alpha + 1").contains('4'));
    // It is forgotten: what comes next is run.
    assert!(s.line("generate \"Tom went to the park.\" { max: 3 }").contains("He found a"));
    s.end();
}

#[test]
fn every_command_answers() {
    let folder = Folder::new("repl-commands");
    folder.write("hooks.steer", format!("param alpha = 2\n{HOOK}").as_bytes());
    let session = "model \"tiny-llama\"\n:load hooks.steer\n:set\n:set alpha 7\nalpha\n:type cheer\n:type blocks[1].attn.pattern\n\
         :type 2 * alpha\ndata happy = [\"Tom was happy.\"]\nvector mood = mean(happy) at blocks[1].resid.post\n:type mood\n\
         :receipts\ngenerate \"Tom went\" with cheer { max: 2 }\n:receipts\n:time\n:explain cheer\n:explain E0203\n\
         fn twice(x) = 2 * x\ntwice(4)\nfn twice(x) = 3 * x\ntwice(4)\n:undo\ntwice(4)\n:sites blocks[*].mlp\n:help\n:help softmax\n:save s\n:quit\n\
         print 1 / 0\n";
    let (out, errors, code) = piped(session, &["repl"], folder.path());
    assert_eq!((code, errors.as_str()), (Some(0), ""), "{out}");
    let mut rest = out.as_str();
    for part in [
        "alpha      2",
        "7\n",
        "hook cheer(alpha = 4) at blocks[1].resid.post",
        "blocks[1].attn.pattern",
        "number",
        "tensor [d_model",
        "nothing was run yet",
        "baseline",
        "cheer",
        "selected",
        "generate",
        "Edits\n",
        "E0203",
        "8\n",
        "12\n",
        "undone: twice",
        "8\n",
        "blocks[0..4].mlp.out",
        ":sites [PATTERN]",
        "softmax",
        "saved to s.steer",
    ] {
        let at = rest.find(part).unwrap_or_else(|| panic!("no {part:?} in {rest}"));
        rest = &rest[at + part.len()..];
    }
    for (line, says) in [
        (":stes", "did you mean `:sites`?"),
        (":set beta 1", "there is no parameter `beta`"),
        (":set", "there are no parameters"),
        (":load nothing.steer", "nothing.steer"),
        (":undo", "nothing to undo"),
        (":explain foo", "nothing that can be explained"),
        (":type", "nothing is named"),
        (":save", "no file is named"),
        ("diff \"x\"", "diff with cheer"),
        ("blocks[1].attn.pattern", "of \"some text\""),
        ("x = 3", "param x = 3"),
        ("hook a at embed {\n    h = h / 0\n}\ndiff with a \"Tom\"", "no finite numbers"),
        ("data two = [\"a b\", \"c d\"]\nhook a at embed {\n    h *= 2\n}\ndiff two with a", "of one text"),
        ("blocks[1].attn.pattern[hed = 1] of \"a b\"", "no axis `hed`"),
        ("blocks[1].attn.pattern[head = 99] of \"a b\"", "no entry 99"),
        ("blocks[9].attn.pattern of \"a b\"", "E0"),
        ("generate \"a\" with nothing", "E0"),
    ] {
        let (out, errors, code) = piped(line, &["repl", "--model", "tiny-llama"], folder.path());
        assert!(format!("{out}{errors}").contains(says), "{line}: {out}{errors}");
        assert_eq!(code, Some(if says == "there are no parameters" { 0 } else { 1 }), "{line}: {errors}");
    }
}

#[test]
fn every_command_answers_on_a_terminal() {
    let folder = Folder::new("repl-commands-typed");
    folder.write("hooks.steer", format!("param alpha = 2\n{HOOK}").as_bytes());
    let mut s = Typed::new(&["repl", "--model", "tiny-llama"], folder.path());
    for (typed, shown) in [
        (":load hooks.steer", ""),
        (":set", "alpha"),
        (":set alpha 7", ""),
        ("alpha", "7"),
        (":type cheer", "hook cheer(alpha = 4) at blocks[1].resid.post"),
        (":type 2 * alpha", "number"),
        ("generate \"Tom went\" with cheer { max: 2 }", "baseline"),
        (":receipts", "selected"),
        (":time", "compile"),
        (":explain cheer", "Edits"),
        (":explain E0203", "E0203"),
        (":undo", "undone: `:set alpha 7`"),
        (":sites blocks[*].mlp", "blocks[0..4].mlp.out"),
        (":help", ":sites [PATTERN]"),
        (":help softmax", "softmax"),
        (":save session", "saved to session.steer"),
        ("diff with cheer \"Tom went\"", "KL(without"),
        ("blocks[1].attn.pattern[head = 1] of \"Tom went\"", "in percent"),
        ("sweep grid over b in blocks, k in 0..2 { measure norm(b.resid.post) * k on \"Tom\" }", "grid"),
    ] {
        let seen = s.line(typed);
        assert!(seen.contains(shown), "{typed}: {seen}");
    }
    s.keys(":quit\r");
    assert_eq!(s.child.wait().unwrap().code(), Some(0));
}

/// What statements print, without what only a script says at its end.
fn results(text: &str) -> Vec<&str> {
    let ours = |line: &&str| line.contains("0.") || line.contains("Tom") || line.contains("norm");
    text.lines().filter(ours).collect()
}

#[test]
fn a_saved_session_gives_the_same_results() {
    let folder = Folder::new("repl-saved");
    folder.write("openings.txt", b"Tom went to the park.\nLily was happy.\n");
    let session = format!(
        "param beta = 0.5\ndata openings = lines(\"openings.txt\")\nvector mood = mean(openings) at blocks[1].resid.post on [-1]\n\
         {HOOK}metric ld = logit(\" Mary\") - logit(\" John\")\nfn half(x) = x / 2\nmeasure ld on openings with cheer\n\
         print norm(mood)\nmeasure ld on \"Mary and John went to the\" with cheer(half(3))\n:set beta 0.25\n\
         sweep s over a in [0, 1] {{\n    measure ld on \"Mary and John went to the\" with cheer(a * beta)\n}}\nplot s as bar\nfn half(x) = x / 4\n\
         generate \"Tom went to the park.\" with cheer {{ max: 8 }}\n:save again.steer\n"
    );
    let (first, errors, code) = piped(&session, &["repl", "--model", "tiny-llama"], folder.path());
    assert_eq!((code, errors.as_str()), (Some(0), ""), "{first}");
    let saved = std::fs::read_to_string(folder.path().join("again.steer")).unwrap();
    assert!(saved.starts_with("model \"tiny-llama\"\n") && saved.contains("param beta = 0.25"), "{saved}");
    // What was run with another definition is no part of it.
    assert!(saved.contains("#   measure ld on \"Mary and John went to the\" with cheer(half(3))"), "{saved}");
    let out = steer(&["run", "again.steer"], folder.path()).output().unwrap();
    assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
    let again = String::from_utf8(out.stdout).unwrap();
    let again = results(&again);
    let missing: Vec<&str> = results(&first).into_iter().filter(|line| !again.contains(line)).collect();
    // The one that is a comment by now.
    assert_eq!(missing.len(), 1, "{missing:?}\nof\n{first}\nin\n{again:?}");
}

#[test]
fn what_is_known_is_not_computed_again_and_what_changed_is() {
    let folder = Folder::new("repl-warm");
    let one = "measure ld on \"Mary and John went to the\" with cheer\n:time\n";
    let session = format!(
        "metric ld = logit(\" Mary\") - logit(\" John\")\n{HOOK}{one}{one}hook cheer(alpha = 4) at blocks[1].resid.post {{\n    h *= 2\n}}\n\
         {one}:undo\n{one}"
    );
    let (out, errors, code) = piped(&session, &["repl", "--model", "tiny-llama"], folder.path());
    assert_eq!((code, errors.as_str()), (Some(0), ""), "{out}");
    let numbers: Vec<&str> = out.lines().filter(|l| l.contains("with cheer")).collect();
    assert!(
        numbers.len() == 4 && numbers[0] == numbers[1] && numbers[0] != numbers[2] && numbers[0] == numbers[3],
        "{out}"
    );
    let loads = out.lines().filter(|l| l.starts_with("load ")).filter(|l| !l.contains("0.000")).count();
    assert_eq!(loads, 2, "{out}");
}

#[test]
fn sites_are_seen_at_once() {
    let folder = Folder::new("repl-look");
    let session = format!(
        "{HOOK}blocks[1].attn.pattern of \"Tom went to\"\nblocks[1].attn.pattern[head = 1] of \"Tom went to\" with cheer\n\
         blocks[2].resid.post of \"Tom went to\" with cheer\nlogits on [-1] of \"Tom went to\"\n\
         data happy = [\"Tom was happy.\"]\nvector mood[layer] = mean(happy) at blocks[layer].resid.post\nmood[1]\nnorm(mood[1])\n\
         diff with cheer(2) \"Tom went to the park.\"\ndiff \"Tom went to the park.\" with cheer(2)\n"
    );
    let (out, errors, code) = piped(&session, &["repl", "--model", "tiny-llama"], folder.path());
    assert_eq!((code, errors.as_str()), (Some(0), ""), "{out}");
    for part in ["head 0", "Tom", "went", "logit lens", "next tokens", "%", "largest entries", "raises", "lowers"] {
        assert!(out.contains(part), "no {part:?} in {out}");
    }
    // Both ways of writing it say the same, and nothing moves before the edit.
    let diffs: Vec<&str> = out.split("The residual stream behind each block").skip(1).collect();
    assert!(diffs.len() == 2 && diffs[0] == diffs[1], "{out}");
    assert!(diffs[0].contains("KL(without") && diffs[0].contains("next token"), "{out}");
}

#[test]
fn the_session_of_the_readme_is_what_is_printed() {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")).unwrap();
    let session = readme.split("```\n").find(|block| block.starts_with("steer> ")).expect("it has one");
    let (typed, shown): (Vec<&str>, Vec<&str>) = session.lines().partition(|line| line.starts_with("steer> "));
    let typed: String = typed.iter().map(|line| format!("{}\n", &line["steer> ".len()..])).collect();
    let folder = Folder::new("repl-readme");
    let (out, errors, code) = piped(&typed, &["repl", "--model", "tiny-llama"], folder.path());
    assert_eq!((code, errors.as_str()), (Some(0), ""), "{out}");
    let shown: Vec<&str> = shown.into_iter().map(str::trim_end).collect();
    assert_eq!(out.lines().map(str::trim_end).collect::<Vec<_>>(), shown);
}

/// What a session prints of a statement is what a script with the definitions of that moment prints, with its receipts, whatever
/// was said before.
#[test]
fn a_statement_prints_what_a_script_prints() {
    let definitions: &[&[&str]] = &[
        &["param n = 1", "param n = 2", "param n = 3"],
        &["fn f(x) = x", "fn f(x) = 2 * x"],
        &["data d = [\"Tom was happy.\"]", "data d = [\"Lily was sad.\", \"Ben went.\"]"],
        &["vector v = mean(d) at blocks[1].resid.post", "vector v = mean(d) at blocks[2].resid.post on [1]"],
        &[
            "hook push(a = 1) at blocks[1].resid.post {\n    h += f(a) * n * 0.1 * v\n}",
            "# Another.\nhook push(a = 1) at blocks[2].resid.mid on [1..3] {\n    h *= f(a) / n\n}",
            "hook push(a = 1) at blocks[*].attn.z {\n    h[head = 0] = a\n}",
        ],
        &["run r = \"Lily went to\" with push", "run r = \"Lily went to\" with push(a = 3)", "run r = \"Ben went to\""],
        &["patch pt at blocks[2].resid.pre on [1] from r", "patch pt at blocks[3].resid.pre on [2] from r"],
        &["metric m = norm(blocks[3].resid.post) - n", "metric m = dot(blocks[2].resid.post, v) at [0..2]"],
        &[
            "sweep resid over k in 0..2 {\n    measure m on \"Tom went to\" with push(k)\n}",
            "sweep resid over t in tokens(r) {\n    hook blocks[1].mlp.out on t {\n        h *= n\n    }\n    measure m on r\n}",
        ],
    ];
    let statements = [
        "measure m, log_prob(\" the\") on \"Tom went to\" with push",
        "measure m, log_prob(\" a\") on r, \"Tom went to\"",
        "measure m on \"Tom went to\" with pt",
        "measure norm(blocks[2].resid.post) on \"Tom went to\" with push(2), pt",
        "print norm(v), n",
        "measure norm(blocks[1].resid.post), m on \"Tom went to\"",
        "plot resid as bar",
        "generate \"Tom went to\" with push { max: 3 }",
        "measure mean m on d with push",
    ];
    let mut state = 88172645463325252u64;
    let mut below = |n: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % n as u64) as usize
    };
    let folder = Folder::new("repl-fresh");
    let mut now: Vec<&str> = definitions.iter().map(|d| d[0]).collect();
    let mut session = now.join("\n") + "\n";
    let mut expected = Vec::new();
    for step in 0..40 {
        for _ in 0..below(3) {
            let which = below(definitions.len());
            now[which] = definitions[which][below(definitions[which].len())];
            session += &format!(":type 1\n{}\n", now[which]);
        }
        let statement = statements[below(statements.len())];
        session += &format!(":type 1\n{statement}\n:receipts\nprint \"step {step}\"\n");
        // Of sweeps a script runs all; here only the one that is named counts.
        let needed = now.iter().filter(|d| !d.starts_with("sweep") || statement.starts_with("plot"));
        let script: String = needed.map(|d| format!("{d}\n")).collect();
        folder.write("fresh.steer", format!("model \"tiny-llama\"\n{script}{statement}\n").as_bytes());
        let out = steer(&["run", "fresh.steer"], folder.path()).output().unwrap();
        assert_eq!(out.status.code(), Some(0), "{script}{statement}: {}", String::from_utf8_lossy(&out.stderr));
        expected.push((script + statement, String::from_utf8(out.stdout).unwrap()));
    }
    let (out, errors, code) = piped(&session, &["repl", "--model", "tiny-llama"], folder.path());
    assert_eq!(code, Some(0), "{out}{errors}");
    let mut rest = out.as_str();
    for (step, (script, fresh)) in expected.iter().enumerate() {
        let (own, behind) = rest.split_once(&format!("step {step}\n")).expect("every step is printed");
        rest = behind;
        // Sweeps were printed where they were defined.
        let own = own.rsplit_once("number\n").map_or(own, |(_, own)| own);
        let own = own.replace("the last statement had no edits\n", "");
        // Behind it stands what was computed, which in a session is less.
        let same = fresh.starts_with(&own);
        assert!(same, "step {step}: {own}\nis not the beginning of\n{fresh}\nof\n{script}\nin\n{session}");
    }
}
