//! The names that a value, a run, an edit or a position can be made of.

use super::complete::MIXTURE;
use super::declared::{Declared, declared, locals};
use super::functions::{Function, Functions};
use super::language;
use super::model::SiteFacts;
use super::path::site_of_item;
use super::place::{Holds, Place};
use super::{Candidate, Kind, Known};
use std::cell::OnceCell;
use steer_lang::symbols::SymbolKind;

/// Collects candidates, the best first.
pub struct Collect<'a, 't> {
    pub place: &'a Place<'t>,
    pub known: &'a Known<'a>,
    pub out: Vec<Candidate>,
    declared: OnceCell<Vec<Declared>>,
}

/// Names that a hook's body has.
const HOOK: &[&str] = &["h", "h0", "donor", "layer", "position", "token"];

/// Values of a mixture, by which a route's body names them.
pub const ROUTE: &[&str] = &["router", "scores", "selection", "top_k", "chosen", "chosen_scores", "gates"];

impl<'a, 't> Collect<'a, 't> {
    pub fn new(place: &'a Place<'t>, known: &'a Known<'a>) -> Self {
        Collect { place, known, out: Vec::new(), declared: OnceCell::new() }
    }

    pub fn add(&mut self, candidate: Candidate) {
        self.out.push(candidate);
    }

    pub fn words(&mut self, words: &[&str], kind: Kind) {
        for w in words {
            let doc = language::keyword(w).map_or("", |r| r.of(w));
            self.add(Candidate::new(*w, kind).doc(doc));
        }
    }

    /// What the text and its imports declare.
    pub fn declared(&self) -> &[Declared] {
        self.declared.get_or_init(|| {
            let imported = self.known.imports.iter().flat_map(|s| declared(&s.text));
            declared(self.place.text).into_iter().chain(imported).collect()
        })
    }

    fn of_kinds(&mut self, kinds: &[SymbolKind], kind: Kind) {
        let found: Vec<Candidate> = self
            .declared()
            .iter()
            // Nothing is made from itself.
            .filter(|d| kinds.contains(&d.kind) && self.place.item.is_none_or(|i| self.place.word(i + 1) != d.name))
            .map(|d| Candidate::new(&d.name, kind).detail(&d.head).doc(&d.doc))
            .collect();
        self.out.extend(found);
    }

    pub fn edits(&mut self) {
        self.of_kinds(&[SymbolKind::Hook, SymbolKind::Patch, SymbolKind::Route], Kind::Edit);
    }

    /// Whether a part of a word is there, so that there may be more to choose from.
    pub fn typed(&self) -> bool {
        self.place.from < self.place.at
    }

    /// What can be run. Functions give conversations, too: they follow where a part of their name is there.
    pub fn runs(&mut self) {
        self.of_kinds(&[SymbolKind::Prompt, SymbolKind::Run, SymbolKind::Data], Kind::Run);
        self.locals();
        self.add(Candidate::new("\"", Kind::Value).detail("a text"));
        if self.typed() {
            self.functions(|f| f.name == "chat");
        }
        self.of_kinds(&[SymbolKind::Param], Kind::Param);
    }

    pub fn data(&mut self) {
        self.of_kinds(&[SymbolKind::Data], Kind::Run);
    }

    pub fn tables(&mut self) {
        self.of_kinds(&[SymbolKind::Sweep, SymbolKind::Top], Kind::Table);
    }

    pub fn tensors(&mut self) {
        self.of_kinds(&[SymbolKind::Tensor], Kind::Tensor);
    }

    pub fn params(&mut self) {
        self.of_kinds(&[SymbolKind::Param], Kind::Param);
    }

    pub fn metrics(&mut self) {
        self.of_kinds(&[SymbolKind::Metric], Kind::Metric);
    }

    pub fn locals(&mut self) {
        for (name, detail) in locals(self.place) {
            self.add(Candidate::new(name, Kind::Local).detail(detail));
        }
    }

    pub fn functions(&mut self, wanted: impl Fn(&Function) -> bool) {
        let own = self.declared().iter().filter(|d| d.kind == SymbolKind::Function);
        let mut found: Vec<Candidate> = own
            .map(|d| Candidate::new(&d.name, Kind::Function).detail(d.head.trim_start_matches("fn ")).doc(&d.doc))
            .collect();
        let others = Functions::standard().iter().filter(|f| wanted(f));
        found.extend(others.map(|f| Candidate::new(&f.name, Kind::Function).detail(&f.signature).doc(&f.doc)));
        self.out.extend(found);
    }

    pub fn axes(&mut self, suffix: &str) {
        let Some(model) = self.known.model else { return };
        for (name, size) in &model.axes {
            let detail = size.map_or("as many as the row has keys".to_owned(), |n| format!("{n} entries"));
            self.out.push(Candidate::new(format!("{name}{suffix}"), Kind::Axis).detail(detail));
        }
    }

    /// A site, or what is left of its name behind `done`.
    pub fn site(&mut self, site: &SiteFacts, done: usize) {
        if let Some(rest) = site.name.get(done..) {
            self.add(Candidate::new(rest, Kind::Site).detail(site.shape()).doc(&site.contract));
        }
    }

    /// What may stand first in the name of a site.
    pub fn site_roots(&mut self) {
        // A route acts on mixtures alone, which are in blocks.
        let route = self.place.declaration() == "route" && self.place.clause == "at";
        let layers = self.known.model.map(|m| m.layers);
        let detail =
            layers.map_or("blocks of the model".to_owned(), |n| format!("{n} blocks, 0 to {}", n.saturating_sub(1)));
        self.add(
            Candidate::new("blocks", Kind::Site)
                .detail(detail)
                .doc("Sites of blocks: `blocks[3].resid.post`, `blocks[*].attn.z`"),
        );
        if route {
            return;
        }
        if let Some(model) = self.known.model {
            model.outside().for_each(|s| self.site(s, 0));
        }
        let saes: Vec<String> =
            self.declared().iter().filter(|d| d.kind == SymbolKind::Sae).map(|d| format!("{}.site", d.name)).collect();
        saes.into_iter()
            .for_each(|s| self.add(Candidate::new(s, Kind::Site).detail("the site of a sparse autoencoder")));
    }

    /// Sites of the hook's own block, which a body names without it.
    fn own_block(&mut self) {
        let Some(model) = self.known.model else { return };
        if site_of_item(self.place, model).is_some_and(|s| !s.layers.is_empty()) {
            model.of_block(None).into_iter().for_each(|s| self.site(s, 0));
        }
    }

    /// Whether what is written here is a metric.
    pub fn in_metric(&self) -> bool {
        match self.place.declaration() {
            "metric" => self.place.clause == "=",
            "measure" => self.place.clause == "measure",
            "top" => self.place.clause == "of",
            _ => false,
        }
    }

    /// Anything that a value can be made of.
    pub fn values(&mut self) {
        let item = self.place.declaration();
        self.locals();
        match item {
            "hook" | "route" => {
                let donor =
                    self.place.item.is_some_and(|i| (i..self.place.before).any(|n| self.place.word(n) == "from"));
                for name in
                    HOOK.iter().filter(|n| **n != "donor" || donor).filter(|n| item == "hook" || !n.starts_with('h'))
                {
                    let doc = language::about(name, &["Hook bodies"]).map_or("", |r| r.of(name));
                    self.add(Candidate::new(*name, Kind::Local).doc(doc));
                }
                if item == "route" {
                    self.route_values();
                }
            }
            "arch" => self.words(&["config", "resid", "layer", "token", "position"], Kind::Local),
            _ => {}
        }
        if self.in_metric() {
            self.metrics();
            self.functions(|f| f.metric || f.name == "direct_logit");
        }
        // What is measured is mostly a metric.
        let measured = item == "measure" && self.place.open.iter().all(|o| o.holds == Holds::Sweep);
        if measured && !self.typed() {
            return;
        }
        self.params();
        self.tensors();
        self.of_kinds(&[SymbolKind::Sae], Kind::Tensor);
        if !matches!(item, "hook" | "route" | "fn" | "arch") {
            self.of_kinds(&[SymbolKind::Prompt, SymbolKind::Data], Kind::Run);
        }
        let model = item == "arch";
        // In a call as long as nothing is typed: names of the script.
        let in_call = self.place.inner().is_some_and(|o| o.holds == Holds::Arguments && !o.head.is_empty());
        if in_call && !self.typed() {
            return;
        }
        // Some are for one kind of declaration alone, which offers them itself.
        let elsewhere = |name: &str| matches!(name, "load" | "pca" | "total" | "tokens");
        self.functions(|f| !f.data && !f.metric && (model || !f.model) && !elsewhere(&f.name));
        if matches!(item, "hook" | "route" | "metric" | "measure" | "top") {
            self.site_roots();
            self.own_block();
        }
        self.axes("");
        self.words(&["if", "true", "false", "none"], Kind::Keyword);
        self.words(&["pi", "inf"], Kind::Value);
    }

    pub fn route_values(&mut self) {
        for name in ROUTE {
            let site =
                self.known.model.and_then(|m| m.sites.iter().find(|s| s.name.strip_prefix(MIXTURE) == Some(name)));
            let (detail, doc) = site.map(|s| (s.shape(), s.contract.clone())).unwrap_or_default();
            self.add(Candidate::new(*name, Kind::Local).detail(detail).doc(doc));
        }
    }

    /// What selects rows.
    pub fn positions(&mut self) {
        for name in locals(self.place).into_iter().filter(|(_, d)| d.starts_with("name of the sweep")) {
            self.add(Candidate::new(name.0, Kind::Local).detail(name.1));
        }
        let forms: &[(&str, &str)] = &[
            ("prompt", "prompt"),
            ("prompt[-1]", "prompt[-1]"),
            ("generated", "generated"),
            ("seq", "seq"),
            ("seq[-1]", "seq[-1]"),
            ("all", "all"),
            ("bos", "bos"),
            ("role(", "role(user)"),
            ("after \"", "after \"text\""),
            ("matching \"", "matching \"text\""),
            ("mask(", "mask(name)"),
        ];
        for (text, head) in forms {
            let rows = language::rows().iter();
            let row = rows.filter(|r| r.section == "Positions").find(|r| r.heads.iter().any(|h| h == head));
            self.add(Candidate::new(*text, Kind::Position).detail(row.map_or("", |r| r.of(head))));
        }
        if !matches!(self.place.last_word(), "|" | "&" | "!" | "maybe") {
            self.add(Candidate::new("maybe", Kind::Keyword).detail("that it selects nothing is no error"));
        }
    }

    /// The parameters of what is called, as arguments with their names.
    pub fn arguments_of(&mut self, head: &str, edits: bool) {
        let own = |d: &&Declared| {
            d.name == head
                && match d.kind {
                    SymbolKind::Hook | SymbolKind::Patch | SymbolKind::Route => edits,
                    SymbolKind::Function | SymbolKind::Metric => !edits,
                    _ => false,
                }
        };
        let found = self.declared().iter().find(own).map(|d| d.params.clone());
        let found = match found {
            Some(params) => params,
            None if edits => Vec::new(),
            None => Functions::standard().get(head).map(|f| f.params.clone()).unwrap_or_default(),
        };
        for param in found {
            let name: String = param.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            self.add(
                Candidate::new(format!("{name} = "), Kind::Local).detail(format!("parameter of `{head}`: {param}")),
            );
        }
    }
}
