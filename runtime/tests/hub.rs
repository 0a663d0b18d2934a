//! Models of a hub, served on this machine: downloads, what can go wrong with them, and the cache.

#![cfg(unix)]

mod common;
#[path = "common/hub.rs"]
mod served;

use common::Folder;
use served::{Answer, COMMIT, Files, Request, Served};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use steer::error::Error;
use steer::hub::{Hub, Id, Need};

/// A model that can be downloaded, though not run.
fn files() -> Files {
    let weights = (0..1_000_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    Files(vec![
        (".gitattributes", b"*.safetensors filter=lfs".to_vec(), false),
        ("config.json", b"{\"architectures\": [\"LlamaForCausalLM\"]}".to_vec(), false),
        ("tokenizer.json", b"{}".to_vec(), false),
        ("model.safetensors", weights, true),
        ("pytorch_model.bin", b"not wanted".to_vec(), true),
    ])
}

fn hub(cache: &Folder, endpoint: &str) -> Hub {
    let cache = Some(cache.path().to_path_buf());
    Hub { cache, endpoint: endpoint.into(), offline: None, pause: Duration::from_millis(1), ..Hub::default() }
}

fn fetch(hub: &Hub, need: Need) -> Result<PathBuf, Error> {
    hub.fetch(&Id::parse("org/name").unwrap(), need)
}

/// The message and the help of a failure of the hub.
fn failure(hub: &Hub, need: Need) -> String {
    let e = fetch(hub, need).unwrap_err().0;
    assert_eq!(e.code.0, "E0508", "{e:?}");
    format!("{} / {}", e.message, e.help.unwrap())
}

fn model(cache: &Folder) -> PathBuf {
    cache.path().join("models--org--name")
}

fn names(folder: &Path) -> Vec<String> {
    let mut out: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    out.sort();
    out
}

#[test]
fn a_model_is_downloaded_once_in_the_layout_of_transformers() {
    let (cache, files) = (Folder::new("hub-once"), files());
    let server = Served::new({
        let files = files.clone();
        move |r| files.answer(r)
    });
    let hub = hub(&cache, &server.endpoint);
    let folder = fetch(&hub, Need::Description).unwrap();
    assert_eq!(folder, model(&cache).join("snapshots").join(COMMIT));
    assert_eq!(names(&folder), ["config.json", "tokenizer.json"], "a check needs no weights");
    assert_eq!(fetch(&hub, Need::Weights).unwrap(), folder);
    assert_eq!(names(&folder), ["config.json", "model.safetensors", "tokenizer.json"], "and no pickle");
    assert_eq!(std::fs::read(folder.join("model.safetensors")).unwrap(), files.get("model.safetensors"));
    let link = std::fs::read_link(folder.join("config.json")).unwrap();
    assert_eq!(link, Path::new("../../blobs").join(files.etag("config.json")));
    assert_eq!(std::fs::read_to_string(model(&cache).join("refs/main")).unwrap(), COMMIT);
    assert_eq!(names(&model(&cache).join("blobs")).len(), 3, "nothing incomplete is left");
    let before = server.seen().len();
    fetch(&hub, Need::Weights).unwrap();
    assert_eq!(server.seen().len(), before, "what is there is used without asking");
}

#[test]
fn an_interrupted_download_goes_on() {
    let (cache, files) = (Folder::new("hub-resume"), files());
    let (count, answer) = (AtomicUsize::new(0), files.clone());
    let server = Served::new(move |r| {
        let whole = answer.answer(r);
        let part = r.method == "GET" && r.path.ends_with("model.safetensors");
        let cut = (part && count.fetch_add(1, Ordering::Relaxed) < 3).then_some(100_000);
        Answer { cut, ..whole }
    });
    let folder = fetch(&hub(&cache, &server.endpoint), Need::Weights).unwrap();
    assert_eq!(std::fs::read(folder.join("model.safetensors")).unwrap(), files.get("model.safetensors"));
    let from: Vec<_> = server.gets("model.safetensors").iter().map(|r| r.from).collect();
    assert_eq!(from, [None, Some(100_000), Some(200_000), Some(300_000)]);
}

/// Leaves the first bytes of the weights in the cache, as a download that was interrupted.
fn interrupted(cache: &Folder, files: &Files, bytes: &[u8]) {
    let blobs = model(cache).join("blobs");
    std::fs::create_dir_all(&blobs).unwrap();
    std::fs::write(blobs.join(files.etag("model.safetensors") + ".incomplete"), bytes).unwrap();
}

#[test]
fn what_an_earlier_process_has_left_is_used_and_checked() {
    let files = files();
    let whole = files.get("model.safetensors").to_vec();
    let mut damaged = whole[..5000].to_vec();
    damaged[77] ^= 1;
    let long = [&whole[..], b"more"].concat();
    for (name, left, from) in [
        ("right", &whole[..5000], vec![Some(5000)]),
        ("damaged", &damaged, vec![Some(5000), None]),
        ("too-long", &long, vec![None]),
        ("whole", &whole, vec![]),
    ] {
        let cache = Folder::new(&format!("hub-left-{name}"));
        interrupted(&cache, &files, left);
        let answer = files.clone();
        let server = Served::new(move |r| answer.answer(r));
        let folder = fetch(&hub(&cache, &server.endpoint), Need::Weights).unwrap();
        assert_eq!(std::fs::read(folder.join("model.safetensors")).unwrap(), whole, "{name}");
        assert_eq!(server.gets("model.safetensors").iter().map(|r| r.from).collect::<Vec<_>>(), from, "{name}");
    }
}

#[test]
fn a_server_that_knows_no_parts_begins_anew() {
    let (cache, files) = (Folder::new("hub-parts"), files());
    interrupted(&cache, &files, &files.get("model.safetensors")[..70_000]);
    let answer = files.clone();
    let server = Served::new(move |r| answer.answer(&Request { from: None, ..r.clone() }));
    let folder = fetch(&hub(&cache, &server.endpoint), Need::Weights).unwrap();
    assert_eq!(std::fs::read(folder.join("model.safetensors")).unwrap(), files.get("model.safetensors"));
}

#[test]
fn other_vocabularies_come_where_there_is_no_tokenizer_json() {
    let (cache, mut files) = (Folder::new("hub-vocabularies"), files());
    let others = ["vocab.json", "merges.txt", "added_tokens.json", "special_tokens_map.json", "tf_model.h5"];
    files.0.extend(others.map(|n| (n, b"{}".to_vec(), false)));
    let whole = files.clone();
    let server = Served::new(move |r| whole.answer(r));
    let folder = fetch(&hub(&cache, &server.endpoint), Need::Description).unwrap();
    assert_eq!(names(&folder), ["config.json", "special_tokens_map.json", "tokenizer.json"], "one is enough");
    let cache = Folder::new("hub-vocabularies-alone");
    files.0.retain(|f| f.0 != "tokenizer.json");
    let server = Served::new(move |r| files.answer(r));
    let hub = hub(&cache, &server.endpoint);
    let folder = fetch(&hub, Need::Description).unwrap();
    let wanted = ["added_tokens.json", "config.json", "merges.txt", "special_tokens_map.json", "vocab.json"];
    assert_eq!(names(&folder), wanted);
    let before = server.seen().len();
    assert_eq!(fetch(&hub, Need::Description).unwrap(), folder);
    assert_eq!(server.seen().len(), before, "what the hub does not have is not asked for again");
    std::fs::remove_file(folder.join("merges.txt")).unwrap();
    assert_eq!(names(&fetch(&hub, Need::Description).unwrap()), wanted, "one half alone is not enough");
}

#[test]
fn damaged_content_never_appears() {
    for name in ["tokenizer.json", "model.safetensors"] {
        let (cache, files) = (Folder::new(&format!("hub-damaged-{name}")), files());
        let server = Served::new(move |r| {
            let mut a = files.answer(r);
            if r.method == "GET" && r.path.ends_with(name) {
                a.body[0] ^= 1;
            }
            a
        });
        let said = failure(&hub(&cache, &server.endpoint), Need::Weights);
        assert!(said.starts_with(&format!("`{name}` of `org/name` came damaged")), "{said}");
        let blobs = names(&model(&cache).join("blobs"));
        assert!(!blobs.iter().any(|b| b.ends_with(".incomplete")), "{blobs:?}");
        let there = model(&cache).join("snapshots").join(COMMIT).join(name).exists();
        assert!(!there && !model(&cache).join("refs/main").exists());
    }
}

#[test]
fn a_token_does_not_follow_to_another_machine() {
    let (cache, files) = (Folder::new("hub-token"), files());
    let stored = files.get("model.safetensors").to_vec();
    let store = Served::new(move |r| {
        let (status, from) = (if r.from.is_some() { 206 } else { 200 }, r.from.unwrap_or(0));
        Answer {
            status,
            body: stored[from..].to_vec(),
            headers: vec![("etag", "\"other\"".into())],
            ..Answer::default()
        }
    });
    let (answer, place) = (files.clone(), store.endpoint.clone());
    let server = Served::new(move |r| match r.path.ends_with("model.safetensors") {
        false => answer.answer(r),
        true => {
            let mut a = Answer::to(format!("{place}/blob?signed"));
            a.headers.push(("x-linked-etag", format!("\"{}\"", answer.etag("model.safetensors"))));
            a.headers.push(("x-linked-size", answer.get("model.safetensors").len().to_string()));
            a
        }
    });
    let hub = Hub { token: Some("secret".into()), ..hub(&cache, &server.endpoint) };
    let folder = fetch(&hub, Need::Weights).unwrap();
    assert_eq!(std::fs::read(folder.join("model.safetensors")).unwrap(), files.get("model.safetensors"));
    assert!(server.seen().iter().all(|r| r.token.as_deref() == Some("Bearer secret")));
    assert!(!store.seen().is_empty() && store.seen().iter().all(|r| r.token.is_none()));
}

#[test]
fn a_renamed_model_is_followed() {
    let (cache, files) = (Folder::new("hub-renamed"), files());
    let server = Served::new(move |r| match r.path.strip_prefix("/new") {
        Some(path) => files.answer(&Request { path: path.into(), ..r.clone() }),
        None => Answer { status: 307, ..Answer::to(format!("/new{}", r.path)) },
    });
    fetch(&hub(&cache, &server.endpoint), Need::Weights).unwrap();
}

#[test]
fn refusals_say_what_to_do() {
    let cache = Folder::new("hub-refused");
    for (answer, token, parts) in [
        (Answer::code(404, "RepoNotFound"), false, ["the hub has no model", "check the name"]),
        (Answer::code(401, "RepoNotFound"), false, ["no folder `org/name`", "hf auth login"]),
        (Answer::code(404, "RevisionNotFound"), false, ["has no revision `main`", "/tree/main"]),
        (Answer::code(401, "GatedRepo"), false, ["accepted its terms", "hf auth login"]),
        (Answer::code(403, "GatedRepo"), true, ["does not give", "ask for access"]),
        (Answer::status(401), true, ["does not accept the token", "HF_TOKEN"]),
        (Answer::status(403), true, ["forbids", "HF_TOKEN"]),
        (Answer::status(418), false, ["answers 418", "name a folder"]),
        (Answer::status(503), false, ["503", "check the connection"]),
        (Answer::status(200), false, ["gives no list", "HF_ENDPOINT"]),
        (Answer::to("/".into()), false, ["redirects without end", "HF_ENDPOINT"]),
    ] {
        let shown = format!("{answer:?}");
        let server = Served::new(move |_| answer.clone());
        let hub = Hub { token: token.then(|| "t".into()), ..hub(&cache, &server.endpoint) };
        let said = failure(&hub, Need::Weights);
        assert!(parts.iter().all(|p| said.contains(p)), "{shown}: {said}");
    }
    let said = failure(&hub(&cache, "http://127.0.0.1:1"), Need::Description);
    assert!(said.contains("it cannot be downloaded from http://127.0.0.1:1: ") && said.contains("goes on"), "{said}");
    let said = failure(&hub(&cache, "huggingface.co"), Need::Description);
    assert!(said.contains("`huggingface.co` is no address"), "{said}");
    let said = failure(&Hub::default(), Need::Description);
    assert!(said.contains("set HF_HOME"), "{said}");
}

#[test]
fn a_repository_that_is_no_model_is_named() {
    let cache = Folder::new("hub-nothing");
    let server = Served::new(|r| Files(vec![("model.q4.gguf", Vec::new(), true)]).answer(r));
    let said = failure(&hub(&cache, &server.endpoint), Need::Description);
    assert!(said.contains("has no config.json") && said.contains("model.q4.gguf"), "{said}");
}

/// A model as huggingface_hub leaves it in the cache.
fn cached(cache: &Folder, files: &Files, which: &[&str]) -> PathBuf {
    cached_in(cache.path(), files, which)
}

fn cached_in(cache: &Path, files: &Files, which: &[&str]) -> PathBuf {
    let model = cache.join("models--org--name");
    let folder = model.join("snapshots").join(COMMIT);
    for part in ["blobs", "refs", &format!("snapshots/{COMMIT}")] {
        std::fs::create_dir_all(model.join(part)).unwrap();
    }
    std::fs::write(model.join("refs/main"), COMMIT).unwrap();
    for name in which {
        std::fs::write(model.join("blobs").join(files.etag(name)), files.get(name)).unwrap();
        std::os::unix::fs::symlink(Path::new("../../blobs").join(files.etag(name)), folder.join(name)).unwrap();
    }
    folder
}

#[test]
fn what_others_have_downloaded_is_used_as_it_is() {
    let (cache, files) = (Folder::new("hub-others"), files());
    let folder = cached(&cache, &files, &["config.json", "tokenizer.json", "model.safetensors"]);
    let nowhere = hub(&cache, "http://127.0.0.1:1");
    assert_eq!(fetch(&nowhere, Need::Weights).unwrap(), folder);
    let of_commit = Id::parse(&format!("org/name@{COMMIT}")).unwrap();
    assert_eq!(nowhere.fetch(&of_commit, Need::Weights).unwrap(), folder);
    assert_eq!(nowhere.cached(&of_commit, Need::Weights), Some(folder.clone()));
    let offline = Hub { offline: Some("HF_HUB_OFFLINE".into()), ..nowhere };
    assert_eq!(fetch(&offline, Need::Weights).unwrap(), folder);
    std::fs::remove_file(folder.join("tokenizer.json")).unwrap();
    assert_eq!(fetch(&offline, Need::Weights).unwrap(), folder, "what is there has to do");
}

#[test]
fn what_is_missing_comes_from_the_commit_that_is_there() {
    let (cache, files) = (Folder::new("hub-missing"), files());
    let folder = cached(&cache, &files, &["config.json"]);
    let answer = files.clone();
    let server = Served::new(move |r| answer.answer(r));
    let offline = Hub { offline: Some("TRANSFORMERS_OFFLINE".into()), ..hub(&cache, &server.endpoint) };
    let said = failure(&offline, Need::Weights);
    assert!(said.contains("does not have that model's weights, and TRANSFORMERS_OFFLINE forbids"), "{said}");
    assert!(server.seen().is_empty());
    assert_eq!(fetch(&hub(&cache, &server.endpoint), Need::Weights).unwrap(), folder);
    assert!(server.seen()[0].path.ends_with(&format!("/revision/{COMMIT}")), "not another commit of the branch");
    assert!(server.gets("/config.json").is_empty());
}

#[test]
fn an_index_appears_behind_its_files() {
    let cache = Folder::new("hub-index");
    let index =
        br#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-1.safetensors"}}"#;
    let mut files = Files(vec![
        ("config.json", b"{}".to_vec(), false),
        ("model.safetensors.index.json", index.to_vec(), false),
        ("model-1.safetensors", b"one".to_vec(), true),
        ("model-2.safetensors", b"two".to_vec(), true),
    ]);
    let folder = model(&cache).join("snapshots").join(COMMIT);
    let answer = files.clone();
    let server = Served::new(move |r| match r.path.ends_with("model-2.safetensors") {
        true => Answer::status(403),
        false => answer.answer(r),
    });
    failure(&hub(&cache, &server.endpoint), Need::Weights);
    assert_eq!(names(&folder), ["config.json"]);
    let answer = files.clone();
    let server = Served::new(move |r| answer.answer(r));
    fetch(&hub(&cache, &server.endpoint), Need::Weights).unwrap();
    let all = ["config.json", "model-1.safetensors", "model-2.safetensors", "model.safetensors.index.json"];
    assert_eq!(names(&folder), all);
    let before = server.seen().len();
    fetch(&hub(&cache, &server.endpoint), Need::Weights).unwrap();
    assert_eq!(server.seen().len(), before, "that there is no tokenizer was noted");

    files.0.pop();
    let (other, answer) = (Folder::new("hub-index-wrong"), files);
    let server = Served::new(move |r| answer.answer(r));
    let said = failure(&hub(&other, &server.endpoint), Need::Weights);
    assert!(said.contains("names `model-2.safetensors`, which the hub does not have"), "{said}");
}

#[test]
fn two_at_once_download_a_file_once() {
    let (cache, files) = (Folder::new("hub-two"), files());
    let server = Served::new(move |r| files.answer(r));
    let hub = hub(&cache, &server.endpoint);
    std::thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(|| fetch(&hub, Need::Weights).unwrap());
        }
    });
    assert_eq!(server.gets("model.safetensors").len(), 1);
    assert_eq!(server.gets("/config.json").len(), 1);
}

#[test]
fn a_cache_that_cannot_be_written_is_named() {
    let cache = Folder::new("hub-unwritable");
    let file = cache.write("file", b"");
    let server = Served::new(|r| files().answer(r));
    let hub = Hub { cache: Some(file), ..hub(&cache, &server.endpoint) };
    let e = fetch(&hub, Need::Description).unwrap_err().0;
    assert!(e.code.0 == "E0601" && e.message.contains("file/.locks"), "{e:?}");
}

/// The shipped model as a model of the hub.
fn shipped() -> Files {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/models/tiny-llama");
    let read = |name| (name, std::fs::read(from.join(name)).unwrap(), name == "model.safetensors");
    Files(["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"].map(read).to_vec())
}

fn steer(cache: &Folder, endpoint: &str, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_steer"));
    command.args(args).env("HF_HOME", cache.path()).env("HF_ENDPOINT", endpoint).env_remove("HF_HUB_CACHE");
    command.env_remove("HF_HUB_OFFLINE").env_remove("TRANSFORMERS_OFFLINE");
    command
}

#[test]
fn the_command_line_runs_a_model_of_the_hub() {
    let cache = Folder::new("hub-command");
    let server = Served::new(|r| shipped().answer(r));
    let run = |args: &[&str]| {
        let out = steer(&cache, &server.endpoint, args).output().unwrap();
        let text = [&out.stdout[..], &out.stderr[..]].concat();
        (out.status.code(), String::from_utf8(text).unwrap())
    };
    let script = cache.write("a.steer", b"model \"org/name\"\ngenerate \"Tom went\" { max: 4 }\n");
    let wrong =
        cache.write("b.steer", b"model \"org/name\"\nhook a at blocks[9].mlp.out { h = 0 }\ngenerate \"Tom\" with a\n");
    let script = script.to_str().unwrap();
    let (code, text) = run(&["run", wrong.to_str().unwrap()]);
    assert!(code == Some(1) && text.contains("E0207"), "{text}");
    assert!(server.gets("/config.json").len() == 1 && server.gets("model.safetensors").is_empty());
    let (code, text) = run(&["check", script]);
    assert!(code == Some(0) && text.contains("ok on org/name") && text.contains("no weights"), "{text}");
    let (code, text) = run(&["tokens", "--model", "org/name", "Tom"]);
    assert!(code == Some(0) && text.contains("\"Tom\""), "{text}");
    assert!(server.gets("model.safetensors").is_empty());
    let (code, text) = run(&["run", script]);
    assert_eq!((code, text.trim_end().is_empty()), (Some(0), false), "{text}");
    assert_eq!(server.gets("model.safetensors").len(), 1);
    let offline = steer(&cache, "http://127.0.0.1:1", &["run", script]).env("HF_HUB_OFFLINE", "1").output().unwrap();
    assert_eq!(String::from_utf8(offline.stdout).unwrap(), text);
    let lost = steer(&cache, "http://127.0.0.1:1", &["run", script, "--model", "org/other"])
        .env("HF_HUB_OFFLINE", "1")
        .output()
        .unwrap();
    let text = String::from_utf8(lost.stderr).unwrap();
    assert!(lost.status.code() == Some(1) && text.contains("E0508") && text.contains("HF_HUB_OFFLINE"), "{text}");
}

#[test]
fn shards_that_somebody_has_not_finished_are_completed() {
    let cache = Folder::new("hub-shards");
    let mut files = shipped();
    let weights = files.get("model.safetensors");
    let header = 8 + u64::from_le_bytes(weights[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&weights[8..header]).unwrap();
    let names = header.as_object().unwrap().keys().filter(|n| *n != "__metadata__");
    let map: serde_json::Map<_, _> = names.map(|n| (n.clone(), "part.safetensors".into())).collect();
    let index = serde_json::json!({ "weight_map": map }).to_string().into_bytes();
    files.0.iter_mut().filter(|f| f.2).for_each(|f| f.0 = "part.safetensors");
    files.0.push(("model.safetensors.index.json", index, false));
    let hub = cache.path().join("hub");
    std::fs::create_dir_all(&hub).unwrap();
    let folder = cached_in(&hub, &files, &["config.json", "tokenizer.json", "model.safetensors.index.json"]);
    let answer = files.clone();
    let server = Served::new(move |r| answer.answer(r));
    let script = cache.write("a.steer", b"model \"org/name\"\ngenerate \"Tom went\" { max: 4 }\n");
    let run = |command: &str| {
        let out = steer(&cache, &server.endpoint, &[command, script.to_str().unwrap()]).output().unwrap();
        assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    };
    assert!(run("check").contains("(no weights: only the configuration was checked)"));
    assert!(!folder.join("part.safetensors").exists());
    assert!(run("run").contains(" to the"));
}

#[test]
fn ctrl_c_keeps_what_has_come() {
    let cache = Folder::new("hub-stopped");
    let server = Served::new(|r| {
        let slow = r.method == "GET" && r.path.ends_with("model.safetensors") && r.from.is_none();
        let whole = shipped().answer(r);
        Answer { cut: slow.then_some(50_000), wait: Duration::from_secs(if slow { 2 } else { 0 }), ..whole }
    });
    let script = cache.write("a.steer", b"model \"org/name\"\ngenerate \"Tom went\" { max: 4 }\n");
    let command = || steer(&cache, &server.endpoint, &["run", script.to_str().unwrap()]);
    let child = command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let blobs = cache.path().join("hub/models--org--name/blobs");
    let part = blobs.join(shipped().etag("model.safetensors") + ".incomplete");
    let clock = Instant::now();
    while std::fs::metadata(&part).map_or(0, |m| m.len()) < 50_000 {
        assert!(clock.elapsed() < Duration::from_secs(60), "nothing is downloaded");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let out = child.wait_with_output().unwrap();
    let text = String::from_utf8(out.stderr).unwrap();
    assert!(out.status.code() == Some(130) && text.contains("goes on from there"), "{text}");
    assert_eq!(std::fs::metadata(&part).unwrap().len(), 50_000);
    assert_eq!(command().output().unwrap().status.code(), Some(0));
    assert_eq!(server.gets("model.safetensors").last().unwrap().from, Some(50_000));
}
