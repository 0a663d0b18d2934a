//! Interrupted and resumed is uninterrupted, and shards joined are the whole, bit for bit.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use steer::experiment::{self, Done, Keeping, KeepingPlace, PhaseOptions, Session, SessionOptions, Shard, prepare_all};
use steer::report::{Output, Plain};
use steer_compiler::plan::generate::Lcg;
use steer_lang::{Sources, codes};

const STATEMENTS: &str = r#"
prompt clean = "When Mary and John went to the shop, John gave a drink to"
prompt corrupt = "When Mary and John went to the shop, Mary gave a drink to"
metric ld = logit(1000) - logit(1001) at seq[-1]
hook less(a = 0.5) at blocks[1].resid.post on prompt { h *= a }

sweep parts over b in blocks, t in tokens(corrupt)[8..], a in [0.5, 1] {
    hook b.resid.post on t from clean { h += a * (donor - h) }
    measure ld, kl(clean) on corrupt with less normalized by (corrupt, clean)
}
capture blocks[1].resid.post of corrupt with less to "OUT/captured.safetensors"
measure ld on clean, corrupt
generate clean with less { max: 6, stop: false, temperature: 0.9 }
generate corrupt { max: 6, stop: false }
"#;

const MODELS: &[&str] = &["tiny-llama", "tiny-gpt2", "tiny-mamba", "tiny-mixtral"];

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("steer-kept-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn script(model: &str, folder: &Folder) -> String {
    format!("model \"{model}\"\n{}", STATEMENTS.replace("OUT", folder.0.to_str().unwrap()))
}

fn session(model: &str, folder: &Folder) -> Session {
    let options = SessionOptions::default();
    Session::open_text(Path::new("kept.steer"), script(model, folder), &options, &mut Sources::default())
        .unwrap_or_else(|d| panic!("{d:#?}"))
}

/// Options under which the experiment is cut into several pieces.
fn tight(session: &Session) -> PhaseOptions {
    let needs = prepare_all(session, &PhaseOptions::default()).unwrap().needs(&PhaseOptions::default()).unwrap();
    let rows = needs.buffers + needs.caches + needs.outputs;
    PhaseOptions { memory: Some(needs.weights + needs.reading.max(rows / 2)), ..PhaseOptions::default() }
}

fn run(session: &Session, options: &PhaseOptions, keeping: &Keeping) -> Result<Done, steer_lang::Diagnostics> {
    experiment::run_on(session, options, keeping, &mut Plain(&mut |_| Ok(())))
}

/// What was given, every bit of it.
fn bits(done: &Done, folder: &Folder) -> (Vec<String>, Vec<u8>) {
    let one = |o: &Output| match o {
        Output::Table(f) => f.columns.iter().flat_map(|c| &c.values).map(|x| format!("{:x} ", x.to_bits())).collect(),
        other => format!("{other:?}"),
    };
    let given = done.outputs.iter().map(one).chain(done.receipts.iter().map(|r| format!("{r:?}")));
    (given.collect(), std::fs::read(folder.0.join("captured.safetensors")).unwrap())
}

#[test]
fn an_interrupted_run_goes_on() {
    for model in MODELS {
        let folder = Folder::new(&format!("resume-{model}"));
        let session = session(model, &folder);
        let whole = bits(&run(&session, &PhaseOptions::default(), &Keeping::default()).unwrap(), &folder);
        let options = tight(&session);
        let file = folder.0.join("cells.kept");
        let keeping = Keeping { place: KeepingPlace::File(file.clone()), ..Keeping::default() };
        assert_eq!(bits(&run(&session, &options, &keeping).unwrap(), &folder), whole, "{model} kept");
        let bytes = std::fs::read(&file).unwrap();
        let resume = Keeping { resume: true, ..keeping.clone() };
        let mut lcg = Lcg(7);
        let mut computed = Vec::new();
        for _ in 0..6 {
            // Killed in the middle of writing, anywhere behind the head of the file.
            let cut = 300 + lcg.below(bytes.len() - 300);
            std::fs::write(&file, &bytes[..cut]).unwrap();
            let done = run(&session, &options, &resume).unwrap_or_else(|d| panic!("{model} at {cut}: {d:#?}"));
            assert_eq!(bits(&done, &folder), whole, "{model} cut at {cut} of {}", bytes.len());
            computed.push(std::fs::metadata(&file).unwrap().len());
        }
        // A file that exists is not begun anew, and another experiment's is not used.
        let Err(found) = run(&session, &options, &keeping) else { panic!("it ran") };
        assert_eq!(found[0].code, codes::KEPT);
        let other = PhaseOptions { seed: Some(1), ..options.clone() };
        let Err(found) = run(&session, &other, &resume) else { panic!("it ran") };
        let differs = "was computed for another experiment: `--seed` was the script's there and is 1 here";
        assert!(found[0].message.ends_with(differs), "{found:#?}");
    }
}

#[test]
fn shards_join_to_the_whole() {
    for model in MODELS {
        let folder = Folder::new(&format!("shards-{model}"));
        let session = session(model, &folder);
        let whole = bits(&run(&session, &PhaseOptions::default(), &Keeping::default()).unwrap(), &folder);
        std::fs::remove_file(folder.0.join("captured.safetensors")).unwrap();
        let of = 3;
        let file = |number: usize| folder.0.join(format!("{number}.kept"));
        for number in 1..=of {
            let shard = Some(Shard { number, of });
            let keeping = Keeping { place: KeepingPlace::File(file(number)), shard, ..Keeping::default() };
            let options = if number == 2 { tight(&session) } else { PhaseOptions::default() };
            let done = run(&session, &options, &keeping).unwrap();
            assert!(done.outputs.is_empty() && !folder.0.join("captured.safetensors").exists());
        }
        let merge = |files: &[PathBuf]| {
            experiment::merge_on(&session, &PhaseOptions::default(), files, &mut Plain(&mut |_| Ok(())))
        };
        let all: Vec<PathBuf> = (1..=of).map(file).collect();
        assert_eq!(bits(&merge(&all).unwrap(), &folder), whole, "{model}");
        let Err(found) = merge(&[file(3), file(1)]) else { panic!("it joined") };
        assert_eq!((found[0].code, found[0].help.as_deref()), (codes::KEPT, Some("2/3 is missing")));
        let bytes = std::fs::read(file(2)).unwrap();
        std::fs::write(file(2), &bytes[..bytes.len() - 1]).unwrap();
        let Err(found) = merge(&all) else { panic!("it joined") };
        assert_eq!(found[0].help.as_deref(), Some("2/3 is not complete: go on with --resume"));
    }
}

/// Whatever differs has its name.
#[test]
fn what_does_not_belong_together_says_what_differs() {
    let folder = Folder::new("differs");
    let path = folder.0.join("a.steer");
    let pairs = folder.0.join("pairs.txt");
    let write = |texts: &str, more: &str| {
        let script = "param strength = 0.5\ndata pairs = lines(\"pairs.txt\")\n\
                      hook less at blocks[1].resid.post { h *= strength }\n\
                      measure logit(1000) on pairs with less\n";
        std::fs::write(&path, format!("model \"tiny-llama\"\n{script}{more}")).unwrap();
        std::fs::write(&pairs, texts).unwrap();
    };
    let steer = |args: &[&str]| {
        let mut c = Command::new(env!("CARGO_BIN_EXE_steer-cli"));
        let out =
            c.args(args).arg("--no-color").current_dir(&folder.0).env("STEER_CACHE", folder.0.join("cache")).output();
        let out = out.unwrap();
        let said = String::from_utf8(out.stderr).unwrap();
        (out.status.success(), said.split_whitespace().filter(|w| *w != "│").collect::<Vec<_>>().join(" "))
    };
    let shard = ["run", "a.steer", "--shard", "1/2", "--resume"];
    let with = |more: &[&'static str]| steer(&[&shard[..], more].concat());
    write("Tom went.\nLily was glad.\n", "");
    assert!(with(&["--activations", "bf16"]).0);
    let cases: [(&[&'static str], &str); 4] = [
        (&[], "`--activations` was bf16 there and is f32 here"),
        (&["--activations", "bf16", "--cache", "f16"], "`--cache` was f32 there and is f16 here"),
        (&["--activations", "bf16", "--set", "strength=2"], "the parameter `strength` was 0.5 there and is 2 here"),
        (&["--activations", "bf16", "--model", "tiny-gpt2"], "the model's `config.json` is not the same"),
    ];
    for (options, what) in cases {
        let (done, said) = with(options);
        assert!(!done && said.starts_with("E0705") && said.contains(what), "{options:?}: {said}");
    }
    let same = ["--activations", "bf16"];
    write("Tom went.\nLily was sad.\n", "");
    assert!(
        with(&same).1.contains("another experiment: the data `pairs.txt` is not the same help:"),
        "{}",
        with(&same).1
    );
    write("Tom went.\nLily was glad.\n", "# more\n");
    assert!(with(&same).1.contains("another experiment: the script is not the same help:"), "{}", with(&same).1);
    write("Tom went.\nLily was glad.\n", "");
    let merged = steer(&["merge", "a.steer", "a.1-of-2.kept", "--cache", "q8_0"]).1;
    assert!(merged.contains("`--cache` was f32 there and is q8_0 here; `--activations` was bf16"), "{merged}");
    let other =
        steer(&["run", "a.steer", "--shard", "2/2", "--resume", "--keep", "a.1-of-2.kept", "--activations", "bf16"]).1;
    assert!(other.contains("it is shard 1/2, and shard 2/2 is wanted here"), "{other}");
    assert!(with(&same).0, "and the same is");
}

/// A run that fails before anything is finished leaves no file that would stand in the way of the next.
#[test]
fn a_failure_without_a_finished_piece_leaves_no_file() {
    let folder = Folder::new("nothing-kept");
    let script = "model \"tiny-llama\"\nhook large at blocks[1].resid.post on prompt { h = h / 0 }\n\
                  measure logit(1000) on \"Tom went to the park.\" with large\n";
    let session =
        Session::open_text(Path::new("a.steer"), script.into(), &SessionOptions::default(), &mut Sources::default());
    let session = session.unwrap_or_else(|d| panic!("{d:#?}"));
    let file = folder.0.join("a.kept");
    let shard = Some(Shard { number: 1, of: 1 });
    let keeping = Keeping { place: KeepingPlace::File(file.clone()), shard, ..Keeping::default() };
    let Err(found) = run(&session, &PhaseOptions::default(), &keeping) else { panic!("it ran") };
    assert!(found[0].code == codes::NOT_FINITE && !found[0].help.as_ref().unwrap().contains("kept"), "{found:#?}");
    assert!(!file.exists());
}

/// The command itself, killed at some moment and started again.
#[cfg(unix)]
#[test]
fn a_killed_process_loses_what_it_was_at_and_nothing_else() {
    let folder = Folder::new("killed");
    let path = folder.0.join("experiment.steer");
    std::fs::write(&path, script("tiny-llama", &folder)).unwrap();
    let memory = tight(&session("tiny-llama", &folder)).memory.unwrap().to_string();
    let command = |more: &[&str]| {
        let mut c = Command::new(env!("CARGO_BIN_EXE_steer-cli"));
        c.arg("run").arg(&path).args(["--memory", &memory, "--no-color"]).args(more);
        c.env("STEER_CACHE", folder.0.join("cache")).stdout(Stdio::piped()).stderr(Stdio::piped());
        c
    };
    let result = |o: std::process::Output| {
        assert!(o.status.success(), "{}", String::from_utf8_lossy(&o.stderr));
        let text = String::from_utf8(o.stdout).unwrap();
        // What was computed depends on how it was cut.
        text.lines().filter(|l| !l.contains("rows computed")).collect::<Vec<_>>().join("\n")
    };
    let whole = result(command(&[]).output().unwrap());
    let left = || std::fs::read_dir(folder.0.join("cache")).map_or(0, |d| d.count());
    assert_eq!(left(), 0, "what is kept goes away in the end");
    for wait in [20, 60, 100, 150, 250] {
        let mut child = command(&[]).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(wait));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(result(command(&["--resume"]).output().unwrap()), whole, "killed after {wait} ms");
        assert_eq!(left(), 0, "killed after {wait} ms");
    }
}
