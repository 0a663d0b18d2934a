//! Functions by name: of the standard library with their comments, and the language's own.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use steer_compiler::elaborate::{FUNCTIONS, FunctionGroup as Group, STANDARD};
use steer_lang::ast::{FnDecl, ItemKind};
use steer_lang::{FileId, Span};

/// A function that scripts can call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    pub name: String,
    /// `softmax(x, over)`
    pub signature: String,
    pub params: Vec<String>,
    pub doc: String,
    /// Where the standard library declares it: the file among [`STANDARD`], and the name's place.
    pub place: Option<(usize, Span)>,
    /// Reads what the model says of tokens: for metrics alone.
    pub metric: bool,
    /// Makes a data set.
    pub data: bool,
    /// For model files.
    pub model: bool,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Functions {
    by_name: BTreeMap<String, Function>,
}

impl Functions {
    /// Those that every script has.
    pub fn standard() -> &'static Functions {
        static ALL: OnceLock<Functions> = OnceLock::new();
        ALL.get_or_init(Functions::read)
    }

    pub fn get(&self, name: &str) -> Option<&Function> {
        self.by_name.get(name)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Function> {
        self.by_name.values()
    }

    fn read() -> Functions {
        let mut out = Functions::default();
        for (n, (name, text)) in STANDARD.iter().enumerate() {
            let file = FileId(n as u16);
            for item in steer_lang::parse(file, text).0.items {
                let ItemKind::Fn(f) = &item.kind else { continue };
                let doc = item.doc.clone().unwrap_or_default();
                out.add(Function {
                    place: Some((n, f.name.span)),
                    model: name.contains("/blocks/"),
                    ..of_library(f, text, doc)
                });
            }
        }
        // Functions of rows are for hooks, too.
        for f in out
            .by_name
            .values_mut()
            .filter(|f| f.place.is_some_and(|(n, _)| STANDARD[n].0.ends_with("functions.steer")))
        {
            f.model = false;
        }
        for f in FUNCTIONS {
            out.add(own(f));
        }
        out
    }

    fn add(&mut self, f: Function) {
        self.by_name.entry(f.name.clone()).or_insert(f);
    }
}

/// One of the language's own.
fn own(f: &steer_compiler::elaborate::Function) -> Function {
    let params = named(f);
    Function {
        name: f.name.into(),
        signature: f.forms.join(", "),
        params,
        doc: f.about.into(),
        place: None,
        metric: f.group == Group::Metrics,
        data: f.group == Group::Texts || f.group == Group::Data && f.name != "tokens",
        model: f.group == Group::Models,
    }
}

/// The arguments that can be given by name: of a function with several forms or a metric's only those that may be left out.
fn named(f: &steer_compiler::elaborate::Function) -> Vec<String> {
    let alone = f.forms.len() == 1 && f.group != Group::Metrics;
    let mut out: Vec<String> = Vec::new();
    for form in f.forms {
        let inner = form.split_once('(').map_or("", |(_, rest)| rest.strip_suffix(')').unwrap_or(rest));
        for written in inner.split(',').map(str::trim) {
            let (name, has_default) = written.split_once(" = ").map_or((written, false), |(name, _)| (name, true));
            let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
            if is_name && (alone || has_default || name == "over") && out.iter().all(|n| n != name) {
                out.push(name.to_owned());
            }
        }
    }
    out
}

fn of_library(f: &FnDecl, text: &str, doc: String) -> Function {
    let params: Vec<String> = f.params.iter().map(|p| p.name.name.clone()).collect();
    let written = f.params.iter().map(|p| match &p.default {
        Some(d) => format!("{} = {}", p.name.name, &text[d.span.start as usize..d.span.end as usize]),
        None => p.name.name.clone(),
    });
    let signature = format!("{}({})", f.name.name, written.collect::<Vec<_>>().join(", "));
    Function {
        name: f.name.name.clone(),
        signature,
        params,
        doc,
        place: None,
        metric: false,
        data: false,
        model: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_says_how_it_is_called() {
        let all = Functions::standard();
        for f in FUNCTIONS {
            assert!(all.get(f.name).is_some_and(|own| !own.doc.is_empty()), "{} is missing", f.name);
        }
        let unit = all.get("unit").unwrap();
        assert_eq!((unit.signature.as_str(), unit.params.len(), unit.model), ("unit(x, over = none)", 2, false));
        assert!(unit.doc.contains("length 1"));
        assert_eq!(all.get("min").unwrap().signature, "min(a, b), min(x, over)");
        assert_eq!(all.get("min").unwrap().params, ["over"]);
        assert_eq!(all.get("logit").unwrap().params, ["of", "norm"]);
        assert!(all.get("logit").unwrap().doc.contains("before the softmax"));
        assert!(all.get("attention").unwrap().model);
    }
}
