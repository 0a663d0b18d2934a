//! The language server: what editors ask of scripts, over standard input and output.
//!
//! Requests are answered at once, from the texts that are open and from what the last check of each has found; checks
//! run on a thread of their own. Nothing but the protocol is written to standard output.

mod check;
mod diagnose;
mod documents;
mod lines;
mod rename;
mod requests;
mod shelf;
mod uri;

use crate::experiment::SessionOptions;
use check::{Checker, Found, Job};
use documents::Documents;
use lines::Encoding;
use lsp_server::{Connection, ErrorCode, Message, Notification, Request, Response};
use lsp_types::notification::{Notification as _, PublishDiagnostics};
use lsp_types::{
    CompletionOptions, DidChangeTextDocumentParams, DidCloseTextDocumentParams, DidOpenTextDocumentParams,
    HoverProviderCapability, InitializeParams, OneOf, PositionEncodingKind, PublishDiagnosticsParams, RenameOptions,
    SemanticTokensFullOptions, SemanticTokensLegend, SemanticTokensOptions, SemanticTokensServerCapabilities,
    ServerCapabilities, TextDocumentSyncCapability, TextDocumentSyncKind, TextDocumentSyncOptions,
    TextDocumentSyncSaveOptions, Uri,
};
use serde::de::DeserializeOwned;
use shelf::Shelf;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

/// Who forbids downloads where no variable does: half a name must not be asked of the hub while it is being typed.
pub const OFFLINE: &str = "steer lsp";

/// How a conversation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// As the protocol has it: `shutdown`, then `exit`.
    Agreed,
    /// Without `shutdown`, or in the middle of a message.
    Sudden,
}

/// Where messages to the client go, until the server ends.
pub struct Outbox(Mutex<Option<Send>>);

type Send = Box<dyn Fn(Message) + std::marker::Send>;

impl Outbox {
    fn send(&self, message: Message) {
        if let Some(send) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            send(message);
        }
    }

    fn close(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// Talks to a client until it ends.
pub fn serve(options: SessionOptions) -> End {
    let (connection, threads) = Connection::stdio();
    let end = talk(&connection, options).unwrap_or(End::Sudden);
    drop(connection);
    // The writer has ended when everything is written.
    match threads.join() {
        Ok(()) => end,
        Err(_) => End::Sudden,
    }
}

fn talk(connection: &Connection, options: SessionOptions) -> Option<End> {
    let (id, params) = connection.initialize_start().ok()?;
    let params: InitializeParams = match serde_json::from_value(params) {
        Ok(params) => params,
        Err(e) => {
            let response = Response::new_err(id, ErrorCode::InvalidParams as i32, e.to_string());
            connection.sender.send(response.into()).ok()?;
            return None;
        }
    };
    let encoding = encoding(&params);
    let answer = serde_json::json!({
        "capabilities": capabilities(encoding),
        "serverInfo": { "name": "steer", "version": env!("CARGO_PKG_VERSION") },
    });
    connection.initialize_finish(id, answer).ok()?;
    let sender = connection.sender.clone();
    let out = Arc::new(Outbox(Mutex::new(Some(Box::new(move |m| drop(sender.send(m)))))));
    let (jobs, waiting) = channel();
    let (found, shelf) = (Arc::new(Found::default()), Arc::new(Shelf::new()));
    let checker = Checker {
        options,
        encoding,
        found: Arc::clone(&found),
        shelf: Arc::clone(&shelf),
        out: Arc::clone(&out),
        models: HashMap::new(),
    };
    let thread =
        std::thread::Builder::new().name("check".into()).stack_size(STACK).spawn(move || checker.run(&waiting));
    if thread.is_err() {
        return None;
    }
    let mut server =
        Server { documents: Documents::default(), encoding, workspace: workspace(&params), found, shelf, out, jobs };
    let end = server.run(connection);
    server.out.close();
    Some(end)
}

/// Checks recurse into trees; a thread has less room for that than the process itself.
const STACK: usize = 64 << 20;

/// Bytes where the client knows them, since the texts are such; else units of UTF-16.
fn encoding(params: &InitializeParams) -> Encoding {
    let offered = params.capabilities.general.as_ref().and_then(|g| g.position_encodings.as_ref());
    match offered.is_some_and(|kinds| kinds.contains(&PositionEncodingKind::UTF8)) {
        true => Encoding::Utf8,
        false => Encoding::Utf16,
    }
}

/// The folders that the client works in.
fn workspace(params: &InitializeParams) -> Vec<PathBuf> {
    let folders = params.workspace_folders.iter().flatten().map(|f| &f.uri);
    #[allow(deprecated)]
    let root = params.root_uri.iter();
    folders.chain(root).filter_map(uri::path_of).map(|p| uri::own(&p)).collect()
}

fn capabilities(encoding: Encoding) -> ServerCapabilities {
    let words = |w: &[&str]| Some(w.iter().map(|s| (*s).to_owned()).collect());
    ServerCapabilities {
        position_encoding: Some(match encoding {
            Encoding::Utf8 => PositionEncodingKind::UTF8,
            Encoding::Utf16 => PositionEncodingKind::UTF16,
        }),
        text_document_sync: Some(TextDocumentSyncCapability::Options(TextDocumentSyncOptions {
            open_close: Some(true),
            change: Some(TextDocumentSyncKind::INCREMENTAL),
            // What is saved may be what another script imports.
            save: Some(TextDocumentSyncSaveOptions::Supported(true)),
            ..TextDocumentSyncOptions::default()
        })),
        hover_provider: Some(HoverProviderCapability::Simple(true)),
        completion_provider: Some(CompletionOptions {
            trigger_characters: words(&[".", "[", "(", "\"", "/"]),
            ..CompletionOptions::default()
        }),
        definition_provider: Some(OneOf::Left(true)),
        references_provider: Some(OneOf::Left(true)),
        document_symbol_provider: Some(OneOf::Left(true)),
        document_formatting_provider: Some(OneOf::Left(true)),
        rename_provider: Some(OneOf::Right(RenameOptions {
            prepare_provider: Some(true),
            work_done_progress_options: Default::default(),
        })),
        semantic_tokens_provider: Some(SemanticTokensServerCapabilities::SemanticTokensOptions(
            SemanticTokensOptions {
                legend: SemanticTokensLegend {
                    token_types: requests::SHADES.map(|(_, t)| t).to_vec(),
                    token_modifiers: Vec::new(),
                },
                full: Some(SemanticTokensFullOptions::Bool(true)),
                ..SemanticTokensOptions::default()
            },
        )),
        ..ServerCapabilities::default()
    }
}

/// The state of a conversation.
struct Server {
    documents: Documents,
    encoding: Encoding,
    workspace: Vec<PathBuf>,
    found: Arc<Found>,
    shelf: Arc<Shelf>,
    out: Arc<Outbox>,
    jobs: Sender<Job>,
}

impl Server {
    fn run(&mut self, connection: &Connection) -> End {
        for message in &connection.receiver {
            match message {
                Message::Request(request) => match connection.handle_shutdown(&request) {
                    Ok(true) => return End::Agreed,
                    Ok(false) => {
                        let response = self.answered(request);
                        self.out.send(response.into());
                    }
                    Err(_) => return End::Sudden,
                },
                Message::Notification(n) if n.method == "exit" => return End::Sudden,
                Message::Notification(n) => self.notified(n),
                // Nothing is asked of the client.
                Message::Response(_) => {}
            }
        }
        End::Sudden
    }

    /// A bug in one answer is that request's error, and not the end of all.
    fn answered(&mut self, request: Request) -> Response {
        let id = request.id.clone();
        let answer = catch_unwind(AssertUnwindSafe(|| self.answer(&request.method, request.params)));
        match answer {
            Ok(Ok(value)) => Response::new_ok(id, value),
            Ok(Err((code, message))) => Response::new_err(id, code as i32, message),
            Err(_) => {
                Response::new_err(id, ErrorCode::InternalError as i32, "a bug in steer, see its standard error".into())
            }
        }
    }

    fn notified(&mut self, n: Notification) {
        match n.method.as_str() {
            "textDocument/didOpen" => {
                let Some(p) = read::<DidOpenTextDocumentParams>(n.params) else { return };
                let (uri, version) = (p.text_document.uri, p.text_document.version);
                self.documents.open(uri.clone(), version, p.text_document.text);
                self.changed(&uri);
            }
            "textDocument/didChange" => {
                let Some(p) = read::<DidChangeTextDocumentParams>(n.params) else { return };
                self.documents.change(&p.text_document.uri, p.text_document.version, p.content_changes, self.encoding);
                self.changed(&p.text_document.uri);
            }
            "textDocument/didClose" => {
                let Some(p) = read::<DidCloseTextDocumentParams>(n.params) else { return };
                let uri = p.text_document.uri;
                self.documents.close(&uri);
                self.found.forget(uri.as_str());
                let nothing = PublishDiagnosticsParams { uri, diagnostics: Vec::new(), version: None };
                self.out.send(Message::Notification(Notification::new(PublishDiagnostics::METHOD.into(), nothing)));
            }
            // What is on disk may have changed: models, data, imports.
            "textDocument/didSave" | "workspace/didChangeWatchedFiles" => {
                let all: Vec<Uri> = self.documents.iter().map(|d| d.uri.clone()).collect();
                all.iter().for_each(|uri| self.check(uri));
            }
            _ => {}
        }
    }

    /// A text is another one: it is to be checked, as are those that import it.
    fn changed(&mut self, uri: &Uri) {
        self.check(uri);
        let path = self.documents.get(uri).and_then(|d| d.path.as_deref()).map(uri::own);
        let importing = path.map(|p| self.found.importing(&p)).unwrap_or_default();
        for other in importing.iter().filter(|o| *o != uri.as_str()) {
            if let Ok(other) = other.parse() {
                self.check(&other);
            }
        }
    }

    fn check(&self, uri: &Uri) {
        let Some(document) = self.documents.get(uri) else { return };
        self.found.want(uri.as_str(), document.version);
        let job = Job { document: document.clone(), unsaved: self.documents.unsaved() };
        // The thread ends with the server alone.
        let _ = self.jobs.send(job);
    }
}

fn read<T: DeserializeOwned>(params: serde_json::Value) -> Option<T> {
    serde_json::from_value(params).ok()
}
