//! Cases: a script and what is expected of it, in one file.
//!
//! ```text
//! # config: tiny-llama            options, one a line
//! # change: {"head_dim": 0}
//! model "tiny-llama"              the script
//! ...
//!
//! # ---
//! # what it should print, as comments
//! ```
//!
//! `STEER_BLESS=1` writes what was printed in place of what was expected.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use steer::cli::sites;
use steer::engine::Rounding;
use steer::experiment::{self, PhaseOptions, Session, SessionOptions};
use steer::hub::Hub;
use steer::manual::Manual;
use steer::report;
use steer_compiler::plan::rules;
use steer_kernels::Activations;
use steer_kernels::attention::CacheFormat;
use steer_lang::{Diagnostic, FileId, Sources};

/// Options that a case can begin with.
const OPTIONS: &[&str] = &[
    // A model by name, in place of the script's.
    "model",
    // A folder with this `config.json` (a file of `cases/configs`, or a shipped model's, or one of `parity`) is the model.
    "config",
    // JSON laid over that configuration.
    "change",
    // Which of `tokenizer` and `weights` of tiny-llama lie beside it.
    "keep",
    // A file with a chat template that lies there, too.
    "template",
    // A damage to one of these files, by its name in `damage`.
    "damage",
    // As on the command line.
    "set",
    "cache",
    "activations",
    "weights",
    "arch",
    "disable-rule",
    "stop-after",
    "backend",
    // Which sites to list.
    "pattern",
    // What to look up in the manual.
    "topic",
];

/// The line between a script and what is expected.
const RULER: &str = "# ---";

/// A folder of this package.
pub fn package(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A folder that vanishes with its owner.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("steer-case-{}-{n}", std::process::id()));
        fs::create_dir_all(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Folder(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn text(&self) -> String {
        self.0.display().to_string()
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        path
    }

    /// Copies a file of a shipped model.
    pub fn copy(&self, model: &str, name: &str) {
        self.write(name, read(&package("models").join(model).join(name)));
    }
}

impl Default for Folder {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The files of a folder that end so, in order.
pub fn listed(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let found = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut out: Vec<PathBuf> = found.flatten().map(|e| e.path()).collect();
    out.retain(|p| p.extension().is_some_and(|e| e == extension));
    out.sort();
    out
}

/// One file.
pub struct Case {
    pub path: PathBuf,
    options: Vec<(String, String)>,
    pub script: String,
    pub expected: Vec<String>,
}

impl Case {
    pub fn read(path: &Path) -> Self {
        let text = String::from_utf8(read(path)).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let lines: Vec<&str> = text.lines().collect();
        let ruler = lines.iter().position(|l| *l == RULER);
        let script = lines[..ruler.unwrap_or(lines.len())].join("\n");
        let expected = lines[ruler.map_or(lines.len(), |r| r + 1)..].iter();
        let expected = expected.map(|l| l.strip_prefix("# ").or(l.strip_prefix('#')).unwrap_or(l).to_string());
        let mut options = Vec::new();
        for line in &lines {
            let Some((key, value)) = line.strip_prefix("# ").and_then(|l| l.split_once(": ")) else { break };
            assert!(OPTIONS.contains(&key), "{}: there is no option `{key}`", path.display());
            options.push((key.to_string(), value.trim().to_string()));
        }
        let script = format!("{}\n", script.trim_end());
        Case { path: path.to_path_buf(), options, script, expected: expected.collect() }
    }

    pub fn option<'a>(&'a self, key: &'a str) -> Option<&'a str> {
        self.options.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.options.iter().filter(move |(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// Compares, or with `STEER_BLESS` writes; what differs is said.
    pub fn compare(&self, got: &str) -> Result<(), String> {
        let got: Vec<&str> = got.lines().map(str::trim_end).collect();
        if self.expected == got {
            return Ok(());
        }
        if std::env::var_os("STEER_BLESS").is_some() {
            let comments: String = got.iter().map(|l| format!("# {l}").trim_end().to_string() + "\n").collect();
            fs::write(&self.path, format!("{}\n{RULER}\n{comments}", self.script)).map_err(|e| e.to_string())?;
            return Ok(());
        }
        Err(format!("expected\n{}\n\ngot\n{}", self.expected.join("\n"), got.join("\n")))
    }

    /// The lines `contains: ...` and `lacks: ...` of the expectation, held against a text.
    pub fn hold(&self, text: &str) -> Result<(), String> {
        assert!(!self.expected.is_empty(), "{}: nothing is expected", self.path.display());
        let mut wrong = Vec::new();
        for line in &self.expected {
            let fits = match line.split_once(": ") {
                Some(("contains", part)) => text.contains(part),
                Some(("lacks", part)) => !text.contains(part),
                _ => panic!("{}: neither `contains: ` nor `lacks: ` begins {line:?}", self.path.display()),
            };
            if !fits {
                wrong.push(line.as_str());
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(format!("{}\n\nin\n{text}", wrong.join("\n"))) }
    }

    /// The model's folder that the options describe.
    fn folder(&self) -> Option<Folder> {
        let name = self.option("config")?;
        let file = package("cases/configs").join(name);
        let of_model = |of: &str| package(of).join(name).join("config.json");
        let mut found = [file, of_model("models"), of_model("parity")].into_iter().filter(|f| f.is_file());
        let mut config = read(&found.next().unwrap_or_else(|| panic!("{}: there is no {name}", self.path.display())));
        if let Some(change) = self.option("change") {
            let parse = |bytes: &[u8]| -> serde_json::Value {
                serde_json::from_slice(bytes).unwrap_or_else(|e| panic!("{}: {e}", self.path.display()))
            };
            let (mut base, change) = (parse(&config), parse(change.as_bytes()));
            for (key, value) in change.as_object().into_iter().flatten() {
                match value.as_str() {
                    Some("remove this key") => drop(base.as_object_mut().map(|o| o.remove(key))),
                    _ => base[key] = value.clone(),
                }
            }
            config = base.to_string().into_bytes();
        }
        let folder = Folder::new();
        folder.write("config.json", config);
        let keep = self.option("keep").unwrap_or_default();
        if keep.contains("tokenizer") {
            folder.copy("tiny-llama", "tokenizer.json");
            folder.copy("tiny-llama", "tokenizer_config.json");
        }
        if keep.contains("weights") {
            folder.copy("tiny-llama", "model.safetensors");
        }
        if let Some(template) = self.option("template") {
            folder.write("chat_template.jinja", read(&package("cases").join(template)));
        }
        for damage in self.all("damage") {
            self::damage(&folder, damage);
        }
        Some(folder)
    }

    fn phase(&self) -> PhaseOptions {
        let cache = self.option("cache").map(|name| CacheFormat::from_name(name).expect("a format of caches"));
        let activations = self.option("activations").map(|name| Activations::from_name(name).expect("activations"));
        PhaseOptions {
            backend: self.option("backend").unwrap_or(steer_compiler::backend::DEFAULT).into(),
            rounding: Rounding { cache: cache.unwrap_or_default(), activations: activations.unwrap_or_default() },
            rules: rules::Options {
                disable: self.all("disable-rule").map(str::to_string).collect(),
                stop_after: self.option("stop-after").map(str::to_string),
            },
            widen: self.option("weights") == Some("f32"),
            ..PhaseOptions::default()
        }
    }

    fn open(&self, folder: Option<&Folder>, sources: &mut Sources) -> Result<Session, Vec<Diagnostic>> {
        let here = self.path.parent().unwrap_or(Path::new("."));
        let options = SessionOptions {
            model: folder.map(Folder::text).or(self.option("model").map(str::to_string)),
            arch: self.all("arch").map(|a| here.join(a)).collect(),
            set: self.all("set").filter_map(|s| s.split_once('=')).map(|(n, v)| (n.into(), v.into())).collect(),
            hub: Hub { cache: Some("hub".into()), ..Hub::default() },
            ..SessionOptions::default()
        };
        Session::open_text(&self.path, self.script.clone(), &options, sources)
    }
}

/// Names of temporary folders differ from run to run.
fn rendered(mut found: Vec<Diagnostic>, sources: &Sources, folders: &[(&str, Option<&Folder>)]) -> String {
    for (name, folder) in folders.iter().filter_map(|(n, f)| f.map(|f| (n, f.text()))) {
        for d in &mut found {
            d.message = d.message.replace(&folder, name);
            d.help = d.help.as_ref().map(|h| h.replace(&folder, name));
            d.labels.iter_mut().for_each(|l| l.text = l.text.replace(&folder, name));
        }
    }
    report::render(&found, sources, false).trim_end().to_string()
}

/// The diagnostics of the parser, or that there are none.
pub fn parse(case: &Case) -> Result<(), String> {
    let mut sources = Sources::default();
    let file = sources.add(case.path.display().to_string(), case.script.as_str());
    let (tree, found) = steer_lang::parse(file, &case.script);
    let text = match found.is_empty() {
        true => format!("ok: {} items", tree.items.len()),
        false => rendered(found, &sources, &[]),
    };
    case.compare(&text)
}

/// What `check` says.
pub fn check(case: &Case) -> Result<(), String> {
    let folder = case.folder();
    let mut sources = Sources::default();
    let found = match case.open(folder.as_ref(), &mut sources) {
        Err(found) => found,
        Ok(session) => {
            let mut found = session.warnings.clone();
            match experiment::prepare_all(&session, &case.phase()) {
                Ok(e) => found.extend(e.prepared.warnings),
                Err(more) => found.extend(more),
            }
            found
        }
    };
    let text = if found.is_empty() { "ok".into() } else { rendered(found, &sources, &[("MODEL", folder.as_ref())]) };
    case.compare(&text)
}

/// What a run prints; files that it writes go to a folder of its own.
pub fn run(case: &Case) -> Result<(), String> {
    let folder = case.folder();
    let place = Folder::new();
    let folders = [("MODEL", folder.as_ref()), ("OUT", Some(&place))];
    let mut sources = Sources::default();
    let mut out = String::new();
    let done = case.open(folder.as_ref(), &mut sources).and_then(|mut session| {
        // Loaded tensors lie beside the case.
        if case.script.contains("\ncapture ") {
            session.folder = place.path().to_path_buf();
        }
        let done = experiment::run(&session, &case.phase(), &mut |text| {
            out.push_str(text);
            Ok(())
        })?;
        Ok((session.warnings, done))
    });
    match done {
        Ok((mut found, done)) => {
            found.extend(done.warnings);
            if !done.receipts.is_empty() {
                out.push('\n');
                out.push_str(&report::receipts_table(&done.receipts));
            }
            if !found.is_empty() {
                out.push('\n');
                out.push_str(&rendered(found, &sources, &folders));
            }
        }
        Err(found) => out.push_str(&rendered(found, &sources, &folders)),
    }
    case.compare(out.replace(&place.text(), "OUT").trim_end())
}

/// The Plan, and what is said of each edit.
pub fn plan(case: &Case) -> Result<(), String> {
    case.hold(&compiled(case, |e| e.prepared.plan.to_string())?)
}

/// The kernels, and what is said of each edit.
pub fn kernel(case: &Case) -> Result<(), String> {
    case.hold(&compiled(case, |e| e.prepared.program.to_string())?)
}

fn compiled(case: &Case, text: impl Fn(&experiment::Experiment) -> String) -> Result<String, String> {
    let folder = case.folder();
    let mut sources = Sources::default();
    let made = case.open(folder.as_ref(), &mut sources).and_then(|session| {
        let e = experiment::prepare_all(&session, &case.phase())?;
        Ok(format!("{}\n{}", text(&e), experiment::explanation(&session, &e)))
    });
    made.map_err(|found| rendered(found, &sources, &[]))
}

/// The functions that a script is built as, as its header has them.
#[cfg(feature = "llvm")]
pub fn build(case: &Case) -> Result<(), String> {
    let folder = case.folder();
    let mut sources = Sources::default();
    let made = case.open(folder.as_ref(), &mut sources).and_then(|session| {
        let isa = steer_kernels::Isa::buildable().next().expect("this architecture has one");
        experiment::library(&session, &case.phase(), isa, "case")
    });
    let text = match made {
        Ok(built) => {
            let declared = built.header.split("#ifdef __cplusplus\n").nth(1).unwrap_or_default();
            declared.trim_start_matches("extern \"C\" {\n#endif\n").trim().to_string()
        }
        Err(found) => rendered(found, &sources, &[("MODEL", folder.as_ref())]),
    };
    case.compare(&text)
}

/// The sites of the model that the script names.
pub fn listing(case: &Case) -> Result<(), String> {
    let folder = case.folder();
    let name = folder.as_ref().map(Folder::text).or(case.option("model").map(str::to_string));
    let name = name.unwrap_or_else(|| panic!("{}: which model?", case.path.display()));
    let mut sources = Sources::default();
    let text = match sites::rows(&name, &[], &mut sources) {
        Ok(mut rows) => {
            rows.retain(|r| case.option("pattern").is_none_or(|p| sites::selects(p, &r.name)));
            sites::table(&rows)
        }
        Err(found) => rendered(found, &sources, &[("MODEL", folder.as_ref())]),
    };
    case.compare(&text)
}

/// What the manual says of a topic.
pub fn doc(case: &Case) -> Result<(), String> {
    let topic = case.option("topic").unwrap_or_else(|| panic!("{}: which topic?", case.path.display()));
    let text = match Manual::new().find(topic) {
        Ok(found) => found.text(report::width::terminal(100), report::Color::None),
        Err(d) => rendered(vec![d], &Sources::default(), &[]),
    };
    case.compare(text.trim_end())
}

/// The formatted script, which formatting does not change again.
pub fn format(case: &Case) -> Result<(), String> {
    let text = steer_lang::format(&case.script).map_err(|d| format!("{d:?}"))?;
    if steer_lang::format(&text).as_deref() != Ok(&text) {
        return Err(format!("formatting changes this again:\n{text}"));
    }
    let (a, b) = (steer_lang::parse(FileId(0), &case.script).0, steer_lang::parse(FileId(0), &text).0);
    if !steer_lang::eq_ignoring_spans(&a, &b) {
        return Err(format!("formatting changes the meaning:\n{text}"));
    }
    case.compare(&text)
}

/// Damages a file of a model's folder.
fn damage(folder: &Folder, kind: &str) {
    let weights = folder.path().join("model.safetensors");
    let change = |f: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = read(&weights);
        f(&mut bytes);
        folder.write("model.safetensors", bytes);
    };
    let in_header = |from: &'static str, to: &'static str| {
        assert_eq!(from.len(), to.len());
        change(&|b| {
            let at = b.windows(from.len()).position(|w| w == from.as_bytes()).expect("it is in the header");
            b[at..at + to.len()].copy_from_slice(to.as_bytes());
        });
    };
    match kind {
        "truncated" => change(&|b| b.truncate(b.len() / 2)),
        "header cut" => change(&|b| b.truncate(100)),
        "empty" => change(&|b| b.clear()),
        "header length" => change(&|b| b[..8].copy_from_slice(&u64::MAX.to_le_bytes())),
        "header text" => change(&|b| b[8..40].fill(b'x')),
        "git lfs" => drop(folder.write(
            "model.safetensors",
            "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22e\nsize 3347400\n",
        )),
        // The last bytes of the file belong to the last tensor.
        "nan" => change(&|b| {
            let n = b.len();
            b[n - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
        }),
        "shape" => in_header("\"shape\":[344,128]", "\"shape\":[128,344]"),
        "name" => in_header("model.norm.weight", "model.nrom.weight"),
        "element type" => in_header("\"dtype\":\"F32\"", "\"dtype\":\"I32\""),
        "no beginning" => {
            let text = String::from_utf8(read(&folder.path().join("tokenizer.json"))).expect("it is text");
            let mut value: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
            value["post_processor"] = serde_json::Value::Null;
            folder.write("tokenizer.json", value.to_string());
            folder.write("tokenizer_config.json", "{}");
        }
        "no chat template" => drop(folder.write("tokenizer_config.json", "{}")),
        "tokenizer text" => drop(folder.write("tokenizer.json", "{\"model\": ")),
        "tokenizer of nothing" => drop(folder.write("tokenizer.json", "{}")),
        "no configuration" => fs::remove_file(folder.path().join("config.json")).expect("it was there"),
        _ => panic!("there is no damage `{kind}`"),
    }
}
