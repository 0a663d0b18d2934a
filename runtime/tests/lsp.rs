//! Conversations with `steer lsp` as an editor has them: a process, and messages with their headers.

mod common;

use common::Folder;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(60);

struct Client {
    process: Child,
    input: Option<ChildStdin>,
    messages: Receiver<Value>,
    /// Notifications that nobody has waited for yet.
    kept: Vec<Value>,
    next: i64,
}

impl Client {
    /// A server that has been greeted.
    fn start(cache: &Path, capabilities: Value, root: Option<&Path>) -> (Client, Value) {
        let mut client = Client::silent(cache, &["lsp"]);
        let folders = root.map(|r| json!([{ "uri": uri(r), "name": "work" }]));
        let params =
            json!({ "processId": null, "rootUri": null, "capabilities": capabilities, "workspaceFolders": folders });
        let answer = client.request("initialize", params).unwrap();
        client.notify("initialized", json!({}));
        (client, answer)
    }

    fn silent(cache: &Path, args: &[&str]) -> Client {
        let mut process = Command::new(env!("CARGO_BIN_EXE_steer"))
            .args(args)
            .env("STEER_CACHE", cache)
            .env("HF_HUB_CACHE", cache.join("hub"))
            .env_remove("HF_HUB_OFFLINE")
            .env_remove("TRANSFORMERS_OFFLINE")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, messages) = channel();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        std::thread::spawn(move || {
            while let Some(message) = read(&mut output) {
                if sender.send(message).is_err() {
                    break;
                }
            }
        });
        let input = process.stdin.take();
        Client { process, input, messages, kept: Vec::new(), next: 0 }
    }

    fn send(&mut self, message: Value) {
        let text = message.to_string();
        let input = self.input.as_mut().unwrap();
        write!(input, "Content-Length: {}\r\n\r\n{text}", text.len()).unwrap();
        input.flush().unwrap();
    }

    fn notify(&mut self, method: &str, params: Value) {
        self.send(json!({ "jsonrpc": "2.0", "method": method, "params": params }));
    }

    /// The result of a request, or its error.
    fn request(&mut self, method: &str, params: Value) -> Result<Value, Value> {
        self.next += 1;
        let id = self.next;
        self.send(json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }));
        loop {
            let message = self.messages.recv_timeout(SOON).unwrap_or_else(|e| panic!("no answer to {method}: {e}"));
            if message["id"] == json!(id) {
                return match message.get("error") {
                    Some(error) => Err(error.clone()),
                    None => Ok(message["result"].clone()),
                };
            }
            self.kept.push(message);
        }
    }

    fn open(&mut self, uri: &str, text: &str) {
        let document = json!({ "uri": uri, "languageId": "steer", "version": 1, "text": text });
        self.notify("textDocument/didOpen", json!({ "textDocument": document }));
    }

    fn change(&mut self, uri: &str, version: i32, changes: Value) {
        self.notify(
            "textDocument/didChange",
            json!({ "textDocument": { "uri": uri, "version": version }, "contentChanges": changes }),
        );
    }

    /// The diagnostics of a version of a text.
    fn diagnostics(&mut self, uri: &str, version: Value) -> Vec<Value> {
        loop {
            let fits = |m: &Value| {
                m["method"] == "textDocument/publishDiagnostics"
                    && m["params"]["uri"] == uri
                    && m["params"]["version"] == version
            };
            if let Some(n) = self.kept.iter().position(fits) {
                return self.kept.remove(n)["params"]["diagnostics"].as_array().unwrap().clone();
            }
            let message =
                self.messages.recv_timeout(SOON).unwrap_or_else(|e| panic!("no diagnostics of {uri} {version}: {e}"));
            self.kept.push(message);
        }
    }

    /// A request about a place, which is marked in the text by `▮`.
    fn ask(&mut self, what: &str, uri: &str, place: (usize, usize), more: Value) -> Result<Value, Value> {
        let mut params =
            json!({ "textDocument": { "uri": uri }, "position": { "line": place.0, "character": place.1 } });
        for (key, value) in more.as_object().into_iter().flatten() {
            params[key] = value.clone();
        }
        self.request(&format!("textDocument/{what}"), params)
    }

    fn end(mut self) -> Option<i32> {
        assert_eq!(self.request("shutdown", Value::Null), Ok(Value::Null));
        self.notify("exit", Value::Null);
        self.process.wait().unwrap().code()
    }
}

fn read(input: &mut impl BufRead) -> Option<Value> {
    let mut length = None;
    loop {
        let mut line = String::new();
        if input.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        // Anything but a header would be no part of the protocol.
        let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("not a header: {line:?}"));
        if name == "Content-Length" {
            length = value.parse().ok();
        }
    }
    let mut body = vec![0; length.expect("a message has a length")];
    input.read_exact(&mut body).ok()?;
    Some(serde_json::from_slice(&body).unwrap())
}

fn uri(path: &Path) -> String {
    format!("file://{}", path.canonicalize().unwrap_or_else(|_| path.to_path_buf()).display())
}

/// A text without its mark, and the line and character of the mark (in a text of ASCII).
fn marked(text: &str) -> (String, (usize, usize)) {
    let at = text.find('▮').unwrap();
    let before = &text[..at];
    let line = before.matches('\n').count();
    let column = before.rsplit('\n').next().unwrap().len();
    (text.replacen('▮', "", 1), (line, column))
}

fn labels(answer: &Value) -> Vec<String> {
    answer["items"].as_array().unwrap().iter().map(|i| i["label"].as_str().unwrap().to_owned()).collect()
}

fn range(line: usize, from: usize, to: usize) -> Value {
    json!({ "start": { "line": line, "character": from }, "end": { "line": line, "character": to } })
}

const SCRIPT: &str = "model \"tiny-llama\"\n\nprompt story = \"Tom went\"\nhook less at blocks[1].mlp.out {\n    h *= 0.5\n}\ngenerate story with less { max: 4 }\n";

#[test]
fn a_session_from_greeting_to_exit() {
    let folder = Folder::new("lsp-session");
    let (mut client, hello) = Client::start(&folder.path().join("cache"), json!({}), Some(folder.path()));
    assert_eq!(hello["serverInfo"]["name"], "steer");
    let can = &hello["capabilities"];
    assert_eq!(can["positionEncoding"], "utf-16");
    for what in ["hoverProvider", "definitionProvider", "documentFormattingProvider", "documentSymbolProvider"] {
        assert_eq!(can[what], json!(true), "{what}");
    }
    assert_eq!(can["renameProvider"]["prepareProvider"], json!(true));
    let unknown = client.request("textDocument/somethingElse", json!({})).unwrap_err();
    assert_eq!(unknown["code"], json!(-32601));
    let wrong = client.request("textDocument/hover", json!({ "textDocument": 3 })).unwrap_err();
    assert_eq!(wrong["code"], json!(-32602));
    client.notify("$/setTrace", json!({ "value": "off" }));
    client.notify("textDocument/didOpen", json!({ "nothing": true }));
    // A text that nobody has opened.
    assert_eq!(client.ask("hover", "file:///nowhere.steer", (0, 0), json!({})), Ok(Value::Null));
    assert_eq!(client.end(), Some(0));
}

#[test]
fn an_exit_without_shutdown_is_no_success() {
    let folder = Folder::new("lsp-exit");
    let (mut client, _) = Client::start(&folder.path().join("cache"), json!({}), None);
    client.notify("exit", Value::Null);
    assert_eq!(client.process.wait().unwrap().code(), Some(1));
    // Nor is an end in the middle of a message.
    let (mut client, _) = Client::start(&folder.path().join("cache"), json!({}), None);
    write!(client.input.as_mut().unwrap(), "Content-Length: 100\r\n\r\n{{").unwrap();
    drop(client.input.take());
    assert_eq!(client.process.wait().unwrap().code(), Some(1));
}

#[test]
fn diagnostics_as_a_text_is_written() {
    let folder = Folder::new("lsp-diagnostics");
    let (mut client, _) = Client::start(&folder.path().join("cache"), json!({}), Some(folder.path()));
    let file = uri(&folder.write("a.steer", SCRIPT.as_bytes()));
    client.open(&file, SCRIPT);
    assert_eq!(client.diagnostics(&file, json!(1)), Vec::<Value>::new());
    // A site that is not there, with a page behind its code.
    client.change(&file, 2, json!([{ "range": range(3, 23, 30), "text": "mlp.outt" }]));
    let found = client.diagnostics(&file, json!(2));
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(
        (&found[0]["code"], &found[0]["severity"], &found[0]["source"]),
        (&json!("E0203"), &json!(1), &json!("steer"))
    );
    assert_eq!(found[0]["range"], range(3, 13, 31));
    let message = found[0]["message"].as_str().unwrap();
    assert!(
        message.contains("no site `mlp.outt`") && message.contains("help: did you mean `blocks[1].mlp.out`?"),
        "{message}"
    );
    let page = found[0]["codeDescription"]["href"].as_str().unwrap().strip_prefix("file://").unwrap();
    assert!(std::fs::read_to_string(page).unwrap().starts_with("# E0203"));
    // Broken, then repaired.
    client.change(&file, 3, json!([{ "range": range(3, 31, 34), "text": " {{" }]));
    let found = client.diagnostics(&file, json!(3));
    assert!(found.iter().all(|d| d["code"] == "E0102" || d["code"] == "E0101") && !found.is_empty(), "{found:?}");
    client.change(&file, 4, json!([{ "text": SCRIPT }]));
    assert_eq!(client.diagnostics(&file, json!(4)), Vec::<Value>::new());
    // A warning, and a place that belongs to it.
    let twice = SCRIPT.replace(" with less", "").replace("generate", "prompt story = \"x\"\ngenerate");
    client.change(&file, 5, json!([{ "text": twice }]));
    let found = client.diagnostics(&file, json!(5));
    let again = found.iter().find(|d| d["code"] == "E0202").unwrap();
    assert_eq!(again["relatedInformation"][0]["location"]["range"], range(2, 7, 12), "{again}");
    assert_eq!(again["relatedInformation"][0]["location"]["uri"], json!(file));
    client.change(&file, 6, json!([{ "text": SCRIPT.replace(" with less", "") }]));
    let found = client.diagnostics(&file, json!(6));
    assert_eq!((found.len(), &found[0]["severity"]), (1, &json!(2)), "{found:?}");
    // A model that is nowhere is one diagnostic, at its name.
    client.change(&file, 7, json!([{ "text": SCRIPT.replace("tiny-llama", "tiny-lama") }]));
    let found = client.diagnostics(&file, json!(7));
    assert_eq!(
        (found.len(), &found[0]["code"], &found[0]["range"]),
        (1, &json!("E0501"), &range(0, 6, 17)),
        "{found:?}"
    );
    client.change(&file, 8, json!([{ "text": SCRIPT.replace("tiny-llama", "some-org/some-model") }]));
    let found = client.diagnostics(&file, json!(8));
    let message = found[0]["message"].as_str().unwrap();
    assert!(found.len() == 1 && message.contains("`steer check` downloads"), "{found:?}");
    client.notify("textDocument/didClose", json!({ "textDocument": { "uri": file } }));
    assert_eq!(client.diagnostics(&file, Value::Null), Vec::<Value>::new());
    assert_eq!(client.end(), Some(0));
}

#[test]
fn without_a_model_syntax_and_names_are_checked() {
    let folder = Folder::new("lsp-no-model");
    let (mut client, _) = Client::start(&folder.path().join("cache"), json!({}), None);
    client.open("untitled:one", "prompt p = \"x\"\ngenerate p with nobody\n");
    let found = client.diagnostics("untitled:one", json!(1));
    assert_eq!(
        (found.len(), &found[0]["code"], &found[0]["range"]),
        (1, &json!("E0201"), &range(1, 16, 22)),
        "{found:?}"
    );
    client.change("untitled:one", 2, json!([{ "text": "prompt p = \"x\ngenerate p" }]));
    assert_eq!(client.diagnostics("untitled:one", json!(2))[0]["code"], "E0102");
    assert_eq!(client.end(), Some(0));
    // Unless one is named for all.
    let mut client = Client::silent(&folder.path().join("cache"), &["lsp", "--model", "tiny-llama", "--stdio"]);
    client.request("initialize", json!({ "capabilities": {} })).unwrap();
    client.notify("initialized", json!({}));
    client.open("untitled:one", "hook a at blocks[9].mlp.out {\n    h *= 2\n}\n");
    assert_eq!(client.diagnostics("untitled:one", json!(1))[0]["code"], "E0207");
    assert_eq!(client.end(), Some(0));
}

#[test]
fn positions_are_in_utf_16_or_in_what_is_agreed() {
    let folder = Folder::new("lsp-utf16");
    let text = "model \"tiny-llama\"\nprompt p = \"\u{1F600}\u{1F600}é\"; generate nobody\n"
        .replace("; generate", "\nprint \"\u{1F600}\", nobody #");
    let utf8 = json!({ "general": { "positionEncodings": ["utf-8", "utf-16"] } });
    for (capabilities, encoding, column) in [(json!({}), "utf-16", 12), (utf8, "utf-8", 14)] {
        let (mut client, hello) = Client::start(&folder.path().join("cache"), capabilities, None);
        assert_eq!(hello["capabilities"]["positionEncoding"], encoding);
        let file = uri(&folder.write("a.steer", b""));
        client.open(&file, &text);
        let found = client.diagnostics(&file, json!(1));
        assert_eq!(found[0]["range"], range(2, column, column + 6), "{encoding}: {found:?}");
        // What is typed behind it goes where it is meant.
        client.change(&file, 2, json!([{ "range": range(2, column, column + 6), "text": "p" }]));
        assert_eq!(client.diagnostics(&file, json!(2)), Vec::<Value>::new());
        let hover = client.ask("hover", &file, (2, column), json!({})).unwrap();
        assert!(hover["contents"]["value"].as_str().unwrap().contains("prompt p ="), "{hover}");
        assert_eq!(hover["range"], range(2, column, column + 1));
        assert_eq!(client.end(), Some(0));
    }
}

#[test]
fn completion_hover_and_symbols() {
    let folder = Folder::new("lsp-completion");
    let (mut client, _) = Client::start(&folder.path().join("cache"), json!({}), Some(folder.path()));
    let file = uri(&folder.write("a.steer", b""));
    let (text, place) = marked(&format!("{SCRIPT}hook more at blocks[3].attn.pa▮"));
    client.open(&file, &text);
    // The check of a text that is broken still finds its model.
    assert!(!client.diagnostics(&file, json!(1)).is_empty());
    let answer = client.ask("completion", &file, place, json!({})).unwrap();
    assert_eq!(labels(&answer), ["pattern"]);
    let item = &answer["items"][0];
    assert_eq!((&item["detail"], &item["textEdit"]["range"]), (&json!("[head 8, key]"), &range(place.0, 28, 30)));
    let hover = client.ask("hover", &file, (3, 25), json!({})).unwrap();
    let said = hover["contents"]["value"].as_str().unwrap();
    assert!(said.contains("`blocks[1].mlp.out` `[d_model 128]`") && said.contains("LlamaForCausalLM"), "{said}");
    // The best of some, since others use this machine, too.
    let mut soonest = Duration::MAX;
    for _ in 0..10 {
        let begun = Instant::now();
        client.ask("completion", &file, place, json!({})).unwrap();
        client.ask("hover", &file, (3, 25), json!({})).unwrap();
        soonest = soonest.min(begun.elapsed());
    }
    assert!(soonest < Duration::from_millis(50), "{soonest:?}");
    let with = client.ask("completion", &file, (6, 20), json!({})).unwrap();
    assert_eq!(labels(&with), ["less", "more"]);
    // A `/` outside of a text is a division.
    let key = json!({ "context": { "triggerKind": 2, "triggerCharacter": "/" } });
    assert_eq!(client.ask("completion", &file, (6, 20), key), Ok(Value::Null));
    let outline = client.request("textDocument/documentSymbol", json!({ "textDocument": { "uri": file } })).unwrap();
    let names: Vec<&str> = outline.as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["story", "less"]);
    assert_eq!(outline[1]["selectionRange"], range(3, 5, 9));
    let tokens =
        client.request("textDocument/semanticTokens/full", json!({ "textDocument": { "uri": file } })).unwrap();
    // `model`, the first word, and the text behind it.
    assert_eq!(tokens["data"].as_array().unwrap()[..10], [0, 0, 5, 0, 0, 0, 6, 12, 3, 0].map(|n| json!(n)));
    assert_eq!(client.end(), Some(0));
}

#[test]
fn requests_do_not_wait_for_checks() {
    let folder = Folder::new("lsp-waiting");
    let (mut client, _) = Client::start(&folder.path().join("cache"), json!({}), None);
    let file = uri(&folder.write("a.steer", b""));
    // A check that takes long: many prompts.
    let prompts: String = (0..3000).map(|n| format!("prompt p{n} = \"Tom went to the park {n}\"\n")).collect();
    client.open(&file, &format!("{SCRIPT}{prompts}"));
    for version in 2..20 {
        client.change(&file, version, json!([{ "range": range(0, 0, 0), "text": "\n" }]));
    }
    let begun = Instant::now();
    client.ask("hover", &file, (0, 0), json!({})).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2));
    // Of all versions the last is checked.
    assert_eq!(client.diagnostics(&file, json!(19)), Vec::<Value>::new());
    let published = client.kept.iter().filter(|m| m["method"] == "textDocument/publishDiagnostics").count();
    assert!(published < 10, "{published} of 18 versions were checked");
    assert_eq!(client.end(), Some(0));
}

#[test]
fn formatting_changes_what_is_to_be_changed() {
    let folder = Folder::new("lsp-format");
    let (mut client, _) = Client::start(&folder.path().join("cache"), json!({}), None);
    let options = json!({ "tabSize": 4, "insertSpaces": true });
    let mut format = |text: &str| {
        client.open("untitled:one", text);
        let edits = client.request(
            "textDocument/formatting",
            json!({ "textDocument": { "uri": "untitled:one" }, "options": options }),
        );
        edits.unwrap().as_array().unwrap().clone()
    };
    assert_eq!(format(SCRIPT), Vec::<Value>::new());
    let edits = format(&SCRIPT.replace("    h *= 0.5", "h*=0.5"));
    assert_eq!(edits.len(), 1);
    assert_eq!(edits[0]["newText"], "    h *= 0.5\n");
    assert_eq!(
        edits[0]["range"],
        json!({ "start": { "line": 4, "character": 0 }, "end": { "line": 5, "character": 0 } })
    );
    assert_eq!(format("hook {{{"), Vec::<Value>::new());
    assert_eq!(client.end(), Some(0));
}

/// A script with a file that it imports: `(library, script)`.
const LIBRARY: &str =
    "## Half of it.\nfn half(x) = x / 2\n\nhook calm(k = 1) at blocks[1].mlp.out {\n    h = half(h) * k\n}\n";
const IMPORTING: &str = "import \"lib.steer\"\nmodel \"tiny-llama\"\n\nprint half(3), unit([1])\ngenerate \"Tom\" with calm(k = 2) { max: 4 }\n";

#[test]
fn definitions_and_names_of_other_files() {
    let folder = Folder::new("lsp-import");
    let (mut client, _) = Client::start(&folder.path().join("cache"), json!({}), Some(folder.path()));
    let library = uri(&folder.write("lib.steer", LIBRARY.as_bytes()));
    let importing = IMPORTING.replace(", unit([1])", "");
    let script = uri(&folder.write("a.steer", importing.as_bytes()));
    client.open(&script, &importing);
    assert_eq!(client.diagnostics(&script, json!(1)), Vec::<Value>::new());
    let there = client.ask("definition", &script, (3, 8), json!({})).unwrap();
    assert_eq!(there, json!({ "uri": library, "range": range(1, 3, 7) }));
    let file = client.ask("definition", &script, (0, 10), json!({})).unwrap();
    assert_eq!(file["uri"], json!(library));
    let hover = client.ask("hover", &script, (3, 8), json!({})).unwrap();
    assert!(hover["contents"]["value"].as_str().unwrap().contains("Half of it."), "{hover}");
    let with = client.ask("completion", &script, (4, 20), json!({})).unwrap();
    assert_eq!(labels(&with), ["calm"]);
    // What is in the editor counts before what is on disk.
    client.open(&library, LIBRARY);
    let unsaved = LIBRARY.replace("blocks[1]", "blocks[9]");
    client.change(&library, 2, json!([{ "text": unsaved }]));
    let found = client.diagnostics(&script, json!(1));
    let found = if found.is_empty() { client.diagnostics(&script, json!(1)) } else { found };
    assert_eq!((&found[0]["code"], &found[0]["range"]), (&json!("E0207"), &range(0, 7, 18)), "{found:?}");
    assert!(found[0]["message"].as_str().unwrap().starts_with("in lib.steer: there is no block 9"), "{found:?}");
    assert_eq!(found[0]["relatedInformation"][0]["location"]["uri"], json!(library));
    assert_eq!(client.end(), Some(0));
}

#[test]
fn the_library_can_be_opened() {
    let folder = Folder::new("lsp-library");
    let (mut client, _) = Client::start(&folder.path().join("cache"), json!({}), None);
    let (text, place) = marked("model \"tiny-llama\"\ndata d = [\"a\"]\nvector v = mean(d) at embed\nprint u▮nit(v)\n");
    client.open("untitled:one", &text);
    let there = client.ask("definition", "untitled:one", place, json!({})).unwrap();
    let uri = there["uri"].as_str().unwrap();
    let path = uri.strip_prefix("file://").unwrap();
    assert!(path.ends_with("stdlib/blocks/functions.steer"), "{path}");
    let library = std::fs::read_to_string(path).unwrap();
    let line = there["range"]["start"]["line"].as_u64().unwrap() as usize;
    assert!(library.lines().nth(line).unwrap().starts_with("fn unit("));
    assert!(std::fs::metadata(path).unwrap().permissions().readonly());
    // Opened in the editor it is right as it stands.
    client.open(uri, &library);
    assert_eq!(client.diagnostics(uri, json!(1)), Vec::<Value>::new());
    let refused = client.ask("prepareRename", "untitled:one", place, json!({})).unwrap_err();
    assert!(refused["message"].as_str().unwrap().contains("of the standard library"), "{refused}");
    assert_eq!(client.end(), Some(0));
}

/// A text with the edits of one file applied.
fn applied(text: &str, edits: &Value) -> String {
    let mut edits: Vec<(usize, usize, usize, String)> = edits
        .as_array()
        .unwrap()
        .iter()
        .map(|e| {
            let n = |p: &str, c: &str| e["range"][p][c].as_u64().unwrap() as usize;
            (
                n("start", "line"),
                n("start", "character"),
                n("end", "character"),
                e["newText"].as_str().unwrap().to_owned(),
            )
        })
        .collect();
    edits.sort_by(|a, b| b.cmp(a));
    let mut lines: Vec<String> = text.split('\n').map(str::to_owned).collect();
    for (line, from, to, new) in edits {
        lines[line].replace_range(from..to, &new);
    }
    lines.join("\n")
}

#[test]
fn another_name_in_all_files() {
    let folder = Folder::new("lsp-rename");
    let (mut client, _) = Client::start(&folder.path().join("cache"), json!({}), Some(folder.path()));
    let library = uri(&folder.write("lib.steer", LIBRARY.as_bytes()));
    let text = IMPORTING.replace(", unit([1])", "");
    let script = uri(&folder.write("a.steer", text.as_bytes()));
    client.open(&script, &text);
    client.diagnostics(&script, json!(1));
    let prepared = client.ask("prepareRename", &script, (3, 8), json!({})).unwrap();
    assert_eq!(prepared, json!({ "range": range(3, 6, 10), "placeholder": "half" }));
    let renamed = client.ask("rename", &script, (3, 8), json!({ "newName": "halved" })).unwrap();
    assert_eq!(applied(&text, &renamed["changes"][&script]), text.replace("half(", "halved("));
    assert_eq!(applied(LIBRARY, &renamed["changes"][&library]), LIBRARY.replace("half(", "halved("));
    // A parameter, by the name of an argument.
    let renamed = client.ask("rename", &script, (4, 26), json!({ "newName": "strength" })).unwrap();
    assert_eq!(applied(&text, &renamed["changes"][&script]), text.replace("k = 2", "strength = 2"));
    assert_eq!(
        applied(LIBRARY, &renamed["changes"][&library]),
        LIBRARY.replace("k = 1", "strength = 1").replace("* k", "* strength")
    );
    // From the file that is imported, the script follows.
    client.open(&library, LIBRARY);
    client.diagnostics(&library, json!(1));
    let renamed = client.ask("rename", &library, (3, 6), json!({ "newName": "quiet" })).unwrap();
    assert_eq!(applied(&text, &renamed["changes"][&script]), text.replace("calm", "quiet"));
    assert_eq!(applied(LIBRARY, &renamed["changes"][&library]), LIBRARY.replace("calm", "quiet"));
    let uses =
        client.ask("references", &library, (3, 6), json!({ "context": { "includeDeclaration": true } })).unwrap();
    assert_eq!(uses.as_array().unwrap().len(), 1);
    for (name, what) in [
        ("when", "word of the language"),
        ("3a", "is no name"),
        ("h", "meaning of its own"),
        ("calm", "already"),
        ("unit", ""),
    ] {
        let refused = client.ask("rename", &script, (4, 26), json!({ "newName": name }));
        match what {
            "" => assert!(refused.is_ok(), "{name}"),
            _ => assert!(
                refused.as_ref().is_err_and(|e| e["message"].as_str().unwrap().contains(what)),
                "{name}: {refused:?}"
            ),
        }
    }
    // Names in what cannot be read would be missed.
    client.change(&script, 2, json!([{ "range": range(4, 0, 0), "text": "print half(\n" }]));
    let refused = client.ask("rename", &script, (3, 8), json!({ "newName": "halved" })).unwrap_err();
    assert!(refused["message"].as_str().unwrap().contains("mistakes of syntax"), "{refused}");
    let site = client.ask("prepareRename", &library, (3, 32), json!({})).unwrap_err();
    assert_eq!(site["code"], json!(-32803));
    assert_eq!(client.end(), Some(0));
    // A file that is outside of the workspace stays as it is.
    let inner = folder.path().join("inner");
    std::fs::create_dir_all(&inner).unwrap();
    let text = text.replace("lib.steer", "../lib.steer");
    let script = uri(&folder.write("inner/a.steer", text.as_bytes()));
    let (mut client, _) = Client::start(&folder.path().join("cache"), json!({}), Some(&inner));
    client.open(&script, &text);
    let refused = client.ask("rename", &script, (3, 8), json!({ "newName": "halved" })).unwrap_err();
    assert!(refused["message"].as_str().unwrap().contains("outside of the workspace"), "{refused}");
    assert_eq!(client.end(), Some(0));
}

#[test]
fn a_configuration_that_changes_is_read_again() {
    let folder = Folder::new("lsp-config");
    let (mut client, _) = Client::start(&folder.path().join("cache"), json!({}), Some(folder.path()));
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/models/tiny-llama/config.json");
    let config = std::fs::read_to_string(shipped).unwrap();
    std::fs::create_dir_all(folder.path().join("m")).unwrap();
    folder.write("m/config.json", config.as_bytes());
    let file = uri(&folder.write("a.steer", b""));
    let (text, place) = marked("model \"m\"\nhook a at blocks[1].attn.▮");
    client.open(&file, &text);
    client.diagnostics(&file, json!(1));
    let detail = |client: &mut Client| {
        let answer = client.ask("completion", &file, place, json!({})).unwrap();
        let items = answer["items"].as_array().unwrap();
        items.iter().find(|i| i["label"] == "z").unwrap()["detail"].as_str().unwrap().to_owned()
    };
    assert_eq!(detail(&mut client), "[head 8, d_head 16]");
    folder
        .write("m/config.json", config.replace("\"num_attention_heads\": 8", "\"num_attention_heads\": 4").as_bytes());
    client.notify("workspace/didChangeWatchedFiles", json!({ "changes": [] }));
    client.diagnostics(&file, json!(1));
    assert_eq!(detail(&mut client), "[head 4, d_head 16]");
    assert_eq!(client.end(), Some(0));
}
