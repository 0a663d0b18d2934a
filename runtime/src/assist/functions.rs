//! Functions by name: of the standard library with their comments, and the language's own.

use super::language;
use std::collections::BTreeMap;
use std::sync::OnceLock;
use steer_compiler::elaborate::{BUILTINS, METRIC_FUNCTIONS, STANDARD};
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

/// What no table of the reference has a line of its own for.
const OTHERS: &[(&str, &str)] = &[
    ("logit(t, of = SITE)", "The score of a token at the next position."),
    ("log_prob(t, of = SITE)", "The natural logarithm of a token's probability at the next position."),
    ("prob(t, of = SITE)", "The probability of a token at the next position."),
    ("rank(t, of = SITE)", "How many tokens are likelier at the next position: 0 is the likeliest."),
    (
        "direct_logit(x, t)",
        "What a value with the axis `d_model` adds to the logit of a token by itself, through the last norm.",
    ),
    (
        "load(\"file\", \"key\")",
        "Reads a tensor from safetensors, npy, npz, GGUF or PyTorch's files; the key where there are several.",
    ),
    ("weight(\"name\", [axes])", "A tensor of the weight files by its name, with its axes."),
    ("given(config.key)", "Whether the configuration has a key at all."),
    ("fail(\"message\")", "Refuses a configuration."),
    ("axes(x)", "The axes of a value."),
    ("held(x)", "In a direct effect, the value that the last norm has in the model itself; else `x`."),
    (
        "chat(ROLE = text, ...)",
        "A conversation: its messages in their order, as the model's own chat template writes them.",
    ),
    ("tokens(run)", "The positions of a run, labelled by their tokens: what a sweep goes over."),
    ("top(n, family)", "The `n` entries with the largest values, over all layers together."),
    ("bottom(n, family)", "The `n` entries with the smallest values, over all layers together."),
    ("random(n, family, seed = 0)", "Any `n` entries, by a seed, as a control."),
];

/// Functions that make data sets, and where the reference explains them.
const OF_DATA: &[&str] = &["lines", "jsonl", "csv", "parquet", "template", "chat"];

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
        for (signature, doc) in OTHERS {
            let model = ["weight(", "fail(", "given(", "axes(", "held("].iter().any(|m| signature.starts_with(m));
            out.own(signature, doc, model);
        }
        for row in language::rows() {
            let wanted = ["Functions", "Metrics", "Tensors", "Data sets", "Model files"].contains(&&*row.section);
            for head in row.heads.iter().filter(|_| wanted) {
                let model = row.section == "Model files";
                if head.ends_with(')') && head.contains('(') {
                    out.own(head, &row.text, model);
                } else if head.split(' ').all(|w| BUILTINS.contains(&w)) {
                    head.split(' ').for_each(|w| out.own(&format!("{w}(x)"), &row.text, model));
                }
            }
        }
        for name in BUILTINS.iter().chain(METRIC_FUNCTIONS) {
            out.own(&format!("{name}(...)"), "", false);
        }
        out
    }

    /// One of the language's own. What is said first counts; of tables, a second form of the call stands behind the first.
    fn own(&mut self, signature: &str, doc: &str, model: bool) {
        let Some((name, rest)) = signature.split_once('(') else { return };
        let known =
            BUILTINS.contains(&name) || METRIC_FUNCTIONS.contains(&name) || OF_DATA.contains(&name) || name == "tokens";
        if !known {
            return;
        }
        if let Some(before) = self.by_name.get_mut(name) {
            // `min(a, b)` and `min(x, over)` are one name with two meanings.
            if before.place.is_none()
                && OTHERS.iter().all(|(o, _)| o.split('(').next() != Some(name))
                && !signature.ends_with("(...)")
                && !before.signature.contains(signature)
                && !doc.is_empty()
            {
                before.signature = format!("{}, {signature}", before.signature);
                if !before.doc.contains(doc) {
                    before.doc = format!("{}\n\n{doc}", before.doc);
                }
            }
            return;
        }
        let params =
            rest.trim_end_matches(')').split(',').map(|p| p.trim().split(' ').next().unwrap_or_default().to_owned());
        let params =
            params.filter(|p| !p.is_empty() && p.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')).collect();
        let metric = METRIC_FUNCTIONS.contains(&name);
        let data = OF_DATA.contains(&name);
        self.add(Function {
            name: name.into(),
            signature: signature.into(),
            params,
            doc: doc.into(),
            place: None,
            metric,
            data,
            model,
        });
    }

    fn add(&mut self, f: Function) {
        self.by_name.entry(f.name.clone()).or_insert(f);
    }
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
        for name in BUILTINS.iter().chain(METRIC_FUNCTIONS).chain(OF_DATA) {
            let f = all.get(name).unwrap_or_else(|| panic!("{name} is missing"));
            assert!(!f.doc.is_empty() && !f.signature.ends_with("(...)"), "{name} has no description: {f:?}");
        }
        let unit = all.get("unit").unwrap();
        assert_eq!((unit.signature.as_str(), unit.params.len(), unit.model), ("unit(x, over = none)", 2, false));
        assert!(unit.doc.contains("length 1"));
        assert!(all.get("min").unwrap().signature.contains("min(x, over)"));
        assert!(all.get("attention").unwrap().model);
    }
}
