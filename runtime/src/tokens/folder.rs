//! The tokenizer of a folder that has none in a `tokenizer.json`, as the one that transformers makes of its files.

use super::class::{Class, Form, class, class_of_model, classes};
use super::form::{self, Added, Parts, Pieces, Words};
use super::sentencepiece::{CONTROL, NORMAL, SentencePiece, USER};
use super::settings::{optional, text};
use crate::checkpoint::{Config, pre};
use crate::error::Error;
use crate::files;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use steer_lang::codes;

const BYTES: [&str; 2] = ["vocab.json", "merges.txt"];
const WORDS: &str = "vocab.txt";
const PIECES: &[&str] = &["tokenizer.model", "sentencepiece.bpe.model", "spiece.model"];

/// The tokens with a meaning that files name, in the order in which those that the vocabulary lacks are numbered.
const NAMED: &[&str] = &["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// Lists of further special tokens, by their old and their new name.
const FURTHER: &[&str] = &["additional_special_tokens", "extra_special_tokens"];

/// What the files of a folder stand for.
pub(super) struct Made {
    /// The file with the vocabulary.
    pub path: PathBuf,
    pub tokenizer: Value,
    /// `tokenizer_config.json` with what other files, and else the class, say of special tokens.
    pub settings: Value,
    pub added: Vec<Added>,
}

/// Makes the tokenizer of a folder; nothing, where it has no vocabulary. `config` is `tokenizer_config.json`.
pub(super) fn read(folder: &Path, config: &Value) -> Result<Option<Made>, Error> {
    let there = |name: &&&str| folder.join(name).is_file();
    let Some(first) = BYTES.iter().chain([&WORDS]).chain(PIECES).find(there) else { return Ok(None) };
    let class = class_of(folder, config, first)?;
    let from = Folder { folder, class, settings: settings(folder, config, class)? };
    let made = match class.form {
        Form::Bytes => from.bytes()?,
        Form::Words => from.words()?,
        Form::Pieces => from.pieces()?,
    };
    Ok(Some(made))
}

/// The class that the files name, or that belongs to the kind of model.
fn class_of(folder: &Path, tokenizer: &Value, vocabulary: &str) -> Result<&'static Class, Error> {
    // An unreadable config.json is reported by whoever needs it.
    let model = Config::read(folder).map(|c| c.value).unwrap_or_default();
    let named = |v: &Value| v.get("tokenizer_class").and_then(Value::as_str).map(str::to_owned);
    let kind = model.get("model_type").and_then(Value::as_str);
    let name = named(tokenizer).or_else(|| named(&model)).or_else(|| class_of_model(kind?).map(str::to_owned));
    let short = name.as_deref().map(|n| n.strip_suffix("Fast").unwrap_or(n));
    short.and_then(class).ok_or_else(|| {
        let known: Vec<&str> = classes().collect();
        let what = match name {
            Some(name) => format!("is of the class `{name}`, which is not made without a tokenizer.json"),
            None => "has neither a tokenizer.json nor a class that says how it is used".to_owned(),
        };
        let shown = folder.join(vocabulary);
        Error::new(codes::BAD_TOKENIZER, format!("the vocabulary `{}` {what}", shown.display())).help(format!(
            "known without it are {}; for others save the tokenizer again with transformers, which writes one",
            known.join(", ")
        ))
    })
}

/// What all files say together, the class where they say nothing.
fn settings(folder: &Path, config: &Value, class: &Class) -> Result<Value, Error> {
    let mut out = class.specials.clone();
    out.extend(config.as_object().cloned().unwrap_or_default());
    // Newer folders have all in one file; of older ones this one goes first.
    if !out.contains_key("added_tokens_decoder") {
        let map = optional(folder, "special_tokens_map.json")?;
        out.extend(map.as_object().cloned().unwrap_or_default());
    }
    out.entry("add_bos_token").or_insert(json!(class.add_bos_token));
    Ok(Value::Object(out))
}

/// A folder and what its files say.
struct Folder<'a> {
    folder: &'a Path,
    class: &'static Class,
    settings: Value,
}

impl Folder<'_> {
    fn bad(&self, file: &str, what: &str) -> Error {
        let message = format!("`{}` is no vocabulary that can be read: {what}", self.folder.join(file).display());
        Error::new(codes::BAD_TOKENIZER, message)
            .help("download it again, or save the tokenizer again with transformers, which writes a tokenizer.json")
    }

    fn file(&self, name: &str) -> Result<Vec<u8>, Error> {
        let path = self.folder.join(name);
        files::read(&path).map_err(|e| match path.exists() {
            true => e,
            false => self.bad(name, "there is no such file beside the rest of the tokenizer"),
        })
    }

    fn lines(&self, name: &str) -> Result<String, Error> {
        String::from_utf8(self.file(name)?).map_err(|_| self.bad(name, "it is not UTF-8"))
    }

    fn flag(&self, key: &str, default: bool) -> bool {
        self.settings.get(key).and_then(Value::as_bool).unwrap_or(default)
    }

    /// The text of a token with a meaning.
    fn token(&self, key: &str) -> Option<String> {
        text(self.settings.get(key))
    }

    fn bytes(self) -> Result<Made, Error> {
        let [vocabulary, merges] = BYTES;
        let ids: Map<String, Value> = serde_json::from_slice(&self.file(vocabulary)?)
            .map_err(|e| self.bad(vocabulary, &format!("it is no JSON object: {e}")))?;
        let text = self.lines(merges)?;
        let pairs = text.lines().filter(|l| !l.starts_with("#version") && !l.trim().is_empty());
        let pairs: Option<Vec<(&str, &str)>> = pairs.map(|l| l.split_once(' ')).collect();
        let pairs = pairs.ok_or_else(|| self.bad(merges, "a line of it is no pair"))?;
        let pre =
            self.class.pre.as_deref().and_then(pre).ok_or_else(|| self.bad(vocabulary, "nothing splits texts"))?;
        let space = self.flag("add_prefix_space", false);
        let numbers = Numbers::of(&ids).ok_or_else(|| self.bad(vocabulary, "a token of it has no number"))?;
        let parts = form::bytes(Value::Object(ids), &pairs, pre, space);
        self.made(vocabulary, parts, numbers, Vec::new(), space)
    }

    fn words(self) -> Result<Made, Error> {
        let text = self.lines(WORDS)?;
        let mut ids = Map::new();
        for (id, word) in text.lines().enumerate() {
            ids.insert(word.into(), json!(id));
        }
        let words = Words {
            lower: self.flag("do_lower_case", true),
            strip_accents: self.settings.get("strip_accents").and_then(Value::as_bool),
            split_chinese: self.flag("tokenize_chinese_chars", true),
        };
        let unknown = self.token("unk_token").unwrap_or_default();
        let numbers = Numbers::of(&ids).ok_or_else(|| self.bad(WORDS, "a token of it has no number"))?;
        let parts = form::words(Value::Object(ids), &unknown, &words);
        self.made(WORDS, parts, numbers, Vec::new(), false)
    }

    fn pieces(self) -> Result<Made, Error> {
        let there = |name: &&&str| self.folder.join(name).is_file();
        let name = PIECES.iter().find(there).unwrap_or(&PIECES[0]);
        let bytes = self.file(name)?;
        let model = SentencePiece::parse(&bytes)
            .map_err(|what| self.bad(name, &format!("it is no model of SentencePiece: {what}")))?;
        if model.suffix || !model.escapes || !matches!(model.kind, 1 | 2) {
            return Err(self.bad(name, "it is of a kind of SentencePiece that no model here has"));
        }
        // In the order of the class: its own tokens, and the pieces from some place on.
        let whole = ["0..".to_owned()];
        let order = self.class.numbers.as_deref().unwrap_or(&whole);
        let named: Vec<Option<String>> = order.iter().map(|key| self.token(key)).collect();
        let (mut texts, mut scores, mut kinds) = (Vec::new(), Vec::new(), Vec::new());
        for (key, token) in order.iter().zip(&named) {
            let from = key.strip_suffix("..").and_then(|n| n.parse().ok());
            let pieces = from.and_then(|n: usize| model.pieces.get(n..)).unwrap_or(&[]);
            texts.extend(pieces.iter().map(|p| p.text).chain(token.as_deref()));
            scores.extend(pieces.iter().map(|p| f64::from(p.score)).chain(token.as_ref().map(|_| 0.0)));
            kinds.extend(pieces.iter().map(|p| p.kind).chain(token.as_ref().map(|_| CONTROL)));
        }
        let unknown = self.token("unk_token");
        let of_kind = |kind: u64| texts.iter().zip(&kinds).filter(move |(_, k)| **k == kind).map(|(t, _)| *t);
        let controls: Vec<(usize, String)> = kinds
            .iter()
            .enumerate()
            .filter(|(_, k)| **k == CONTROL)
            .map(|(id, _)| (id, texts[id].to_owned()))
            .collect();
        let numbers = Numbers::of_texts(&texts);
        let space = model.space && self.flag("add_prefix_space", true);
        let pieces = Pieces {
            unknown: texts.iter().position(|t| Some(*t) == unknown.as_deref()).unwrap_or(0),
            isolated: of_kind(USER).collect(),
            merged: kinds.iter().map(|k| *k == NORMAL).collect(),
            unigram: model.kind == 1,
            byte_fallback: model.byte_fallback,
            space,
            first_alone: !self.flag("legacy", true),
            squeeze: model.squeeze,
            characters: model.characters,
            texts,
            scores,
        };
        self.made(name, pieces.parts(), numbers, controls, space)
    }

    /// The whole of it. `controls` are tokens of the vocabulary that are found before the others.
    fn made(
        self,
        vocabulary: &str,
        parts: Parts,
        mut numbers: Numbers,
        controls: Vec<(usize, String)>,
        space: bool,
    ) -> Result<Made, Error> {
        let added = self.added(&mut numbers, controls)?;
        let token = |key: &str| {
            let text = self.token(key)?;
            let id = numbers.get(&text)?;
            Some((text, id))
        };
        let frame = match &self.class.around {
            Some([begin, end]) => match (self.class.form, token(begin), token(end)) {
                (Form::Bytes, Some(begin), Some(end)) => json!({
                    "type": "RobertaProcessing", "sep": end, "cls": begin,
                    "trim_offsets": self.flag("trim_offsets", true), "add_prefix_space": space,
                }),
                (_, begin, end) => framed(begin, end),
            },
            None => {
                let bos = token("bos_token").filter(|_| self.flag("add_bos_token", false));
                let eos = token("eos_token").filter(|_| self.flag("add_eos_token", false));
                framed(bos, eos)
            }
        };
        let tokenizer = parts.file(&added, frame);
        Ok(Made { path: self.folder.join(vocabulary), tokenizer, settings: self.settings, added })
    }

    /// Tokens that are found in texts before all others, by their numbers: those that files list, and those with a meaning.
    fn added(&self, numbers: &mut Numbers, controls: Vec<(usize, String)>) -> Result<Vec<Added>, Error> {
        let mut out: BTreeMap<String, Added> = BTreeMap::new();
        for (id, text) in controls {
            out.entry(text.clone()).or_insert_with(|| Added::plain(id, &text, true));
        }
        let named: Vec<&Value> = NAMED.iter().filter_map(|key| self.settings.get(*key)).collect();
        let further = FURTHER.iter().filter_map(|key| self.settings.get(*key)?.as_array()).flatten();
        let special: Vec<&Value> = named.into_iter().chain(further).filter(|v| text(Some(v)).is_some()).collect();
        let names: HashSet<String> = special.iter().filter_map(|v| text(Some(v))).collect();
        let is_special = |t: &str| names.contains(t);
        let mut listed: Vec<Added> = Vec::new();
        match self.settings.get("added_tokens_decoder").and_then(Value::as_object) {
            Some(decoder) => {
                for (id, value) in decoder {
                    let entry = id.parse().ok().zip(text(Some(value)));
                    let (id, text) =
                        entry.ok_or_else(|| self.bad("tokenizer_config.json", "an added token has no number"))?;
                    listed.push(described(id, &text, value, is_special(&text)));
                }
            }
            None => {
                for (text, id) in optional(self.folder, "added_tokens.json")?.as_object().into_iter().flatten() {
                    let id = id.as_u64().and_then(|id| usize::try_from(id).ok());
                    let id = id.ok_or_else(|| self.bad("added_tokens.json", "a token of it has no number"))?;
                    let special = is_special(text);
                    listed.push(Added { normalized: !special, ..Added::plain(id, text, special) });
                }
            }
        }
        listed.sort_by_key(|a| a.id);
        for a in listed {
            numbers.take(&a.text, a.id);
            out.insert(a.text.clone(), a);
        }
        for value in special {
            let Some(text) = text(Some(value)).filter(|t| !t.is_empty()) else { continue };
            let id = numbers.get(&text).unwrap_or_else(|| numbers.next());
            numbers.take(&text, id);
            // What a list says of a token goes before what stands beside its meaning.
            if !out.contains_key(&text) || value.is_object() {
                let described = described(id, &text, value, true);
                out.insert(text, described);
            }
        }
        let mut out: Vec<Added> = out.into_values().collect();
        out.sort_by_key(|a| a.id);
        Ok(out)
    }
}

/// A token with what an object says of it.
fn described(id: usize, text: &str, value: &Value, special: bool) -> Added {
    let flag = |key: &str| value.get(key).and_then(Value::as_bool);
    Added {
        id,
        text: text.into(),
        special: special || flag("special").unwrap_or(false),
        spaces: [flag("lstrip").unwrap_or(false), flag("rstrip").unwrap_or(false)],
        whole_words: flag("single_word").unwrap_or(false),
        normalized: flag("normalized").unwrap_or(false),
    }
}

fn framed(begin: Option<(String, usize)>, end: Option<(String, usize)>) -> Value {
    form::frame(begin.as_ref().map(|(t, id)| (t.as_str(), *id)), end.as_ref().map(|(t, id)| (t.as_str(), *id)))
}

/// Tokens with their numbers, and the first that is free behind them.
struct Numbers {
    of: HashMap<String, usize>,
    /// How many the vocabulary itself has.
    next: usize,
}

impl Numbers {
    fn of(ids: &Map<String, Value>) -> Option<Self> {
        let one = |(text, id): (&String, &Value)| Some((text.clone(), u32::try_from(id.as_u64()?).ok()? as usize));
        Some(Numbers { of: ids.iter().map(one).collect::<Option<_>>()?, next: ids.len() })
    }

    fn of_texts(texts: &[&str]) -> Self {
        let of: HashMap<_, _> = texts.iter().enumerate().rev().map(|(id, text)| ((*text).to_owned(), id)).collect();
        Numbers { next: of.len(), of }
    }

    fn get(&self, text: &str) -> Option<usize> {
        self.of.get(text).copied()
    }

    fn next(&self) -> usize {
        self.next
    }

    fn take(&mut self, text: &str, id: usize) {
        self.of.entry(text.to_owned()).or_insert(id);
        self.next = self.next.max(id.saturating_add(1));
    }
}
