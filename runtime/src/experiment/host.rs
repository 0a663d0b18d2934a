//! What the compiler asks of the world outside: files beside the script, and the model's tokenizer.

use super::inputs::{Input, InputKind};
use super::session::folder_in;
use crate::checkpoint::sha256;
use crate::files;
use crate::parquet::parse_parquet;
use crate::tensors::{SAE_CONFIG, SAE_WEIGHTS, read_dictionary};
use crate::tokens::{self, Tokens};
use serde_json::{Map, Value};
use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use steer_compiler::elaborate::{Chat, Dictionary, Directions, Encoded, Host, Written};
use steer_lang::{Diagnostic, FileId};

/// The script's folder and the model's tokenizer, as the compiler asks of them.
pub struct Files {
    pub folder: PathBuf,
    pub folders: Vec<(FileId, PathBuf)>,
    /// The model's folder or file.
    pub model: PathBuf,
    pub tokens: Option<Rc<Tokens>>,
    /// The data that was read: what it is called, and its hash.
    pub read: RefCell<Vec<(String, String)>>,
    /// The files themselves.
    pub named: RefCell<Vec<Input>>,
}

impl Files {
    fn note(&self, name: &str, bytes: &[u8]) {
        self.read.borrow_mut().push((format!("the data `{name}`"), sha256(bytes)));
    }

    fn path(&self, name: &str, from: FileId, kind: InputKind) -> PathBuf {
        let path = folder_in(&self.folders, from, &self.folder).join(name);
        let mut named = self.named.borrow_mut();
        if named.iter().all(|i| i.path != path) {
            named.push(Input { kind, path: path.clone() });
        }
        path
    }
}

impl Host for Files {
    fn text(&self, path: &str, from: FileId) -> Result<String, String> {
        let text = files::read_text(&self.path(path, from, InputKind::Data)).map_err(|e| e.0.message.clone())?;
        self.note(path, text.as_bytes());
        Ok(text)
    }

    fn rows(&self, path: &str, from: FileId) -> Result<Vec<Map<String, Value>>, Box<Diagnostic>> {
        let file = self.path(path, from, InputKind::Data);
        let bytes = files::read(&file).map_err(|e| e.0)?;
        self.note(path, &bytes);
        parse_parquet(bytes, &file).map_err(|e| e.0)
    }

    fn tensor_shape(&self, path: &str, key: Option<&str>, from: FileId) -> Result<Vec<usize>, Box<Diagnostic>> {
        crate::tensors::load(&self.path(path, from, InputKind::Tensors), key).map(|a| a.shape).map_err(|e| e.0)
    }

    fn directions(&self, path: &str, from: FileId) -> Option<Result<Directions, Box<Diagnostic>>> {
        let path = self.path(path, from, InputKind::Tensors);
        (crate::tensors::ending(&path) == "gguf").then(|| crate::tensors::read_directions(&path).map_err(|e| e.0))
    }

    fn dictionary(&self, folder: &str, from: FileId) -> Result<Dictionary, Box<Diagnostic>> {
        let config = self.path(&format!("{folder}/{SAE_CONFIG}"), from, InputKind::Data);
        let file = format!("{folder}/{SAE_WEIGHTS}");
        let weights = self.path(&file, from, InputKind::Tensors);
        let read = read_dictionary(&config, &weights).map_err(|e| e.0)?;
        Ok(Dictionary { file, ..read })
    }

    fn encode(&self, text: &str) -> Option<Result<Encoded, String>> {
        let tokens = self.tokens.as_ref()?;
        Some(tokens.encode(text, true).map_err(|e| e.0.message.clone()).map(|e| Encoded {
            bos: e.special.iter().take_while(|s| **s).count(),
            tokens: e.ids,
            ranges: e.offsets.into_iter().map(|r| (r.start, r.end)).collect(),
            turns: None,
        }))
    }

    fn without_tokenizer(&self) -> &'static str {
        tokens::remedy(&self.model)
    }

    fn chat(&self, chat: &Chat) -> Option<Result<Written, Box<Diagnostic>>> {
        Some(self.tokens.as_ref()?.chat(chat).map_err(|e| e.0))
    }

    fn piece(&self, token: u32) -> String {
        self.tokens.as_ref().map_or_else(|| token.to_string(), |t| t.piece(token))
    }

    fn single_token(&self, text: &str) -> Option<Result<u32, Vec<String>>> {
        let tokens = self.tokens.as_ref()?;
        Some(tokens.single(text).map_err(|seen| seen.0.into_iter().map(|(_, piece)| piece).collect()))
    }
}
