//! A model's tokenizer: texts to tokens and back.
//!
//! The tokenizers crate does the work; it may panic on damaged files, which comes out as an error here.

mod chat;
mod class;
mod folder;
mod form;
mod gguf;
mod pieces;
mod sentencepiece;
mod settings;
mod stream;

pub use stream::Stream;

use crate::checkpoint::is_gguf;
use crate::error::Error;
use crate::files;
use crate::guard::caught;
use chat::{ChatFiles, Named};
use pieces::Spelling;
use serde_json::Value;
use settings::Settings;
use std::cell::OnceCell;
use std::ops::Range;
use std::path::{Path, PathBuf};
use steer_lang::{Diagnostic, codes};
use tokenizers::Tokenizer;

/// A model has at most one in so many entries beyond the tokens, but mostly some percent.
const PADDING: usize = 10;

/// A loaded tokenizer.
pub struct Tokens {
    tokenizer: Tokenizer,
    path: PathBuf,
    spelling: Spelling,
    settings: Settings,
    /// One more than the largest id.
    end: usize,
    chat_files: ChatFiles,
    /// The chat template, once a conversation needs it.
    template: OnceCell<Result<Option<Named>, Error>>,
}

/// A text as tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoding {
    pub ids: Vec<u32>,
    /// The bytes of the text that each token covers; `0..0` for a token that was added.
    pub offsets: Vec<Range<usize>>,
    /// Whether the tokenizer added the token, as it does a beginning of the sequence.
    pub special: Vec<bool>,
}

/// A text that is not exactly one token: those that it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokensSeen(pub Vec<(u32, String)>);

impl std::fmt::Display for TokensSeen {
    /// `2 tokens: "Ma", "ry"`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let pieces: Vec<String> = self.0.iter().take(12).map(|(_, p)| format!("{p:?}")).collect();
        let more = if self.0.len() > 12 { ", ..." } else { "" };
        match self.0.len() {
            0 => f.write_str("no token at all"),
            1 => write!(f, "a token that the vocabulary does not have, read as {}", pieces[0]),
            n => write!(f, "{n} tokens: {}{more}", pieces.join(", ")),
        }
    }
}

/// How a model, by its folder or file, gets the tokenizer that it lacks.
pub fn remedy(model: &Path) -> &'static str {
    match is_gguf(model) {
        true => "convert the model again with its tokenizer, which a GGUF file has in it",
        false => "put the model's tokenizer.json beside config.json",
    }
}

impl Tokens {
    /// The tokenizer of a model's folder or of its GGUF file; `None` where there is none.
    pub fn open(folder: &Path) -> Result<Option<Self>, Error> {
        if is_gguf(folder) {
            let Some(written) = gguf::read(folder)? else { return Ok(None) };
            let settings = Settings::of(&written.settings, &Value::Null, &written.ids);
            let mut tokens = Self::with_settings(folder, written.tokenizer.to_string().as_bytes(), settings)?;
            tokens.chat_files = ChatFiles { folder: Some(folder.to_path_buf()), config: written.settings };
            return Ok(Some(tokens));
        }
        let path = folder.join("tokenizer.json");
        let config = settings::optional(folder, "tokenizer_config.json")?;
        if path.symlink_metadata().is_err() {
            let Some(made) = folder::read(folder, &config)? else { return Ok(None) };
            let settings = Settings::read(folder, &made.settings)?;
            let mut tokens = Self::with_settings(&made.path, made.tokenizer.to_string().as_bytes(), settings)?;
            tokens.check_numbers(&made.added)?;
            tokens.chat_files = ChatFiles { folder: Some(folder.to_path_buf()), config: made.settings };
            return Ok(Some(tokens));
        }
        let bytes = files::read(&path)?;
        let settings = Settings::read(folder, &config)?;
        let mut tokens = Self::with_settings(&path, &bytes, settings)?;
        tokens.chat_files = ChatFiles { folder: Some(folder.to_path_buf()), config };
        Ok(Some(tokens))
    }

    /// An error where a token that stands outside of the vocabulary cannot have the number that is said of it.
    fn check_numbers(&self, added: &[form::Added]) -> Result<(), Error> {
        let Some(wrong) = added.iter().find(|a| self.tokenizer.token_to_id(&a.text).map(|n| n as usize) != Some(a.id))
        else {
            return Ok(());
        };
        let message = format!(
            "the tokens of `{}` leave no room for {:?} as number {}",
            self.path.display(),
            wrong.text,
            wrong.id
        );
        Err(Error::new(codes::BAD_TOKENIZER, message)
            .help("do added_tokens.json and tokenizer_config.json belong to this vocabulary? Download them again"))
    }

    /// The tokenizer that the text of a `tokenizer.json` is; `path` is named in errors.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self, Error> {
        Self::with_settings(path, bytes, Settings::default())
    }

    fn with_settings(path: &Path, bytes: &[u8], settings: Settings) -> Result<Self, Error> {
        let bad = |what: String| {
            let message = format!("`{}` is not a tokenizer that can be read: {what}", path.display());
            Error::new(codes::BAD_TOKENIZER, message)
                .help("download it again, or load an old one with transformers and save it as a fast tokenizer")
        };
        let spelling = Spelling::of(bytes).map_err(|e| bad(e.to_string()))?;
        let loaded = caught(|| {
            let mut tokenizer = Tokenizer::from_bytes(bytes).map_err(|e| e.to_string())?;
            // Sequences are never cut or padded here.
            tokenizer.with_padding(None);
            tokenizer.with_truncation(None).map_err(|e| e.to_string())?;
            let end = tokenizer.get_vocab(true).values().max().map_or(0, |id| *id as usize + 1);
            Ok((tokenizer, end))
        });
        let (tokenizer, end) = loaded.and_then(|r| r).map_err(bad)?;
        let mut settings = settings;
        settings.resolve(|text| tokenizer.token_to_id(text));
        let (path, chat_files, template) = (path.to_path_buf(), ChatFiles::default(), OnceCell::new());
        Ok(Tokens { tokenizer, path, spelling, settings, end, chat_files, template })
    }

    /// Takes another chat template than the folder's; `path` is named in errors.
    pub fn set_chat_template(&mut self, path: &Path, source: &str) -> Result<(), Error> {
        let named = Named::new(source, path, self.settings.specials.clone())?;
        self.template = OnceCell::from(Ok(Some(named)));
        Ok(())
    }

    /// The tokens of a text; with `special`, those included that the tokenizer adds.
    pub fn encode(&self, text: &str, special: bool) -> Result<Encoding, Error> {
        let encoded = caught(|| self.tokenizer.encode(text, special).map_err(|e| e.to_string())).and_then(|r| r);
        let encoded = encoded.map_err(|what| {
            let message =
                format!("the tokenizer `{}` fails on the text {:?}: {what}", self.path.display(), excerpt(text));
            Error::new(codes::BAD_TOKENIZER, message)
                .help("the tokenizer is damaged, or needs a feature that is not built in")
        })?;
        let added: Vec<bool> = encoded.get_special_tokens_mask().iter().map(|m| *m != 0).collect();
        let offsets = encoded.get_offsets().iter().zip(&added);
        let offsets = offsets.map(|(o, added)| if *added { 0..0 } else { characters(o.0..o.1, text) });
        let offsets = offsets.collect();
        let mut out = Encoding { ids: encoded.get_ids().to_vec(), offsets, special: added };
        if special {
            self.settings.adjust_bos(&mut out);
        }
        Ok(out)
    }

    /// The text of a whole sequence, special tokens left out.
    pub fn decode(&self, ids: &[u32]) -> Result<String, Error> {
        self.decode_with(ids, true)
    }

    /// The text of a whole sequence; special tokens are left out or written as they are called.
    pub fn decode_with(&self, ids: &[u32], skip_special: bool) -> Result<String, Error> {
        caught(|| self.tokenizer.decode(ids, skip_special).map_err(|e| e.to_string())).and_then(|r| r).map_err(|what| {
            let message =
                format!("the tokenizer `{}` fails to decode {} tokens: {what}", self.path.display(), ids.len());
            Error::new(codes::BAD_TOKENIZER, message)
                .help("the tokenizer is damaged, or needs a feature that is not built in")
        })
    }

    /// The text that `ids` add after `before`, as a [`Stream`] would print it.
    pub fn decode_after(&self, before: &[u32], ids: &[u32]) -> Result<String, Error> {
        let mut stream = Stream::new(self, before)?;
        let mut out = String::new();
        for &id in ids {
            out.extend(stream.push(id)?);
        }
        out.push_str(&stream.finish()?);
        Ok(out)
    }

    /// One token as a person should see it: its text with its spaces, or `<id 7>` where there is none.
    pub fn piece(&self, id: u32) -> String {
        match self.tokenizer.id_to_token(id) {
            Some(token) if self.tokenizer.get_added_vocabulary().is_special_token(&token) => token,
            Some(token) => self.spelling.text(&token),
            None => format!("<id {id}>"),
        }
    }

    /// The token that a text is, alone and as it stands: `" Mary"` is the word after a space.
    pub fn single(&self, text: &str) -> Result<u32, TokensSeen> {
        for spelled in self.spelling.spell(text) {
            if let Some(id) = self.tokenizer.token_to_id(&spelled) {
                return Ok(id);
            }
        }
        let seen = match self.encode(text, false) {
            Ok(encoding) => encoding.ids,
            Err(_) => Vec::new(),
        };
        match seen[..] {
            [id] if Some(id) != self.unknown() => Ok(id),
            _ => Err(TokensSeen(seen.iter().map(|id| (*id, self.piece(*id))).collect())),
        }
    }

    /// One more than the largest token: the vocabulary that a model needs at least.
    pub fn vocab_size(&self) -> usize {
        self.end
    }

    /// The token that begins a sequence.
    pub fn bos(&self) -> Option<u32> {
        self.settings.bos
    }

    /// The tokens that end a generation.
    pub fn eos(&self) -> &[u32] {
        &self.settings.eos
    }

    /// An error where a model of this vocabulary cannot take every token, and a warning where it has so many more that they
    /// are hardly padding.
    pub fn misfit(&self, vocab: usize) -> Option<Diagnostic> {
        let (shown, help) =
            (self.path.display(), format!("this is the tokenizer of another model: {}", remedy(&self.path)));
        if self.end > vocab {
            let last = self.end as u32 - 1;
            let piece = self.piece(last);
            let message =
                format!("`{shown}` has the token {last} ({piece:?}), and the model's vocabulary has {vocab} entries");
            return Some(Diagnostic::error(codes::BAD_TOKENIZER, message).help(help));
        }
        (self.end < vocab - vocab / PADDING).then(|| {
            let message = format!("`{shown}` has {} tokens, and the model's vocabulary has {vocab} entries", self.end);
            Diagnostic::warning(codes::BAD_TOKENIZER, message).help(format!("perhaps {help}"))
        })
    }

    fn unknown(&self) -> Option<u32> {
        self.spelling.unknown.as_deref().and_then(|t| self.tokenizer.token_to_id(t))
    }
}

/// The whole characters of a text that a range touches: a token may be a part of one.
fn characters(range: Range<usize>, text: &str) -> Range<usize> {
    let mut start = range.start.min(text.len());
    while !text.is_char_boundary(start) {
        start -= 1;
    }
    let mut end = range.end.clamp(start, text.len());
    while !text.is_char_boundary(end) {
        end += 1;
    }
    start..end
}

/// The beginning of a text, for a message.
fn excerpt(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_string(),
    }
}
