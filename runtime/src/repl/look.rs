//! `blocks[3].attn.pattern of "some text"`, and values that are printed.

use super::input::Look;
use super::{Repl, notebook, picture, refused};
use crate::cli::Failure;
use crate::experiment::{self, Seen};
use crate::report;
use std::path::Path;
use steer_lang::Sources;

/// What is looked at is captured to no file; this is what would be its name.
const FILE: &str = "<shown>.safetensors";

/// The hook that puts a vector in place of what the unembedding reads.
const LENS: &str = "lens_of_the_prompt";

/// As many tokens are named.
const NEAREST: usize = 5;

impl Repl {
    /// Shows what sites hold in a run.
    pub(super) fn look(&mut self, origin: &Path, look: &Look, typed: &str) -> Result<(), Failure> {
        if !self.is_site(&look.what)? {
            // Any other value of a run is a metric.
            let cells = notebook::cells(origin, &format!("measure {} on {}", look.what, look.run))
                .map_err(|(diagnostics, sources)| Failure { diagnostics, sources })?;
            let mut sources = Sources::default();
            return self.run_in(&cells, &mut sources).map_err(|diagnostics| Failure { diagnostics, sources });
        }
        let text = format!("capture {} of {} to {FILE:?}", look.what, look.run);
        let (session, mut seen) = self.seen(origin, &text)?;
        for (axis, entry) in &look.entries {
            for s in &mut seen {
                narrow(s, axis, *entry)?;
            }
        }
        let of_one = if seen.len() == 1 { typed.split(" of ").next().map(str::trim) } else { None };
        for s in &seen {
            let tokens = picture::tokens_of(&session, s);
            let means = match &s.axes[..] {
                // The lens is of what the model computes with.
                [one] if &*one.name == "d_model" && !look.what.starts_with("before ") => {
                    self.lens_of_rows(s, &look.run)
                }
                _ => Vec::new(),
            };
            report::print(&picture::of(&session, s, of_one.unwrap_or(&s.site), &tokens, &means)?)?;
        }
        Ok(())
    }

    /// Whether a text begins with something that the model has as a site, or that is spelled like one.
    fn is_site(&mut self, what: &str) -> Result<bool, Failure> {
        let what = what.strip_prefix("before ").unwrap_or(what);
        let head = what.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default();
        let declared = self.notebook.named(head).is_some();
        let called = what[head.len()..].starts_with('(') && head != "site";
        Ok(!declared && !called && !what.contains([' ', '+', '*']) || what.contains(" on "))
    }

    /// Prints an expression; of a vector also its largest entries and the tokens that it speaks for.
    pub(super) fn value(&mut self, origin: &Path, text: &str) -> Result<(), Failure> {
        if self.model_sites().is_ok_and(|sites| sites.iter().any(|s| s.name == text)) {
            let help = format!("name one: `{text} of \"some text\"`, `{text} of clean with cheer`");
            return Err(refused(format!("`{text}` has values in runs"), &help));
        }
        let failed = |(diagnostics, sources)| Failure { diagnostics, sources };
        let cells = notebook::cells(origin, &format!("print {text}")).map_err(failed)?;
        let mut sources = Sources::default();
        let last = self.last.take();
        let values = self.run_in(&cells, &mut sources).and_then(|()| {
            let session = self.check(&cells, &mut sources)?;
            experiment::printed_values(&session, &self.phase)
        });
        // An expression is no statement that anyone asks the receipts of.
        self.last = last;
        for value in values.map_err(|diagnostics| Failure { diagnostics, sources })? {
            report::print(&picture::entries(&value.axes, &value.data))?;
            if let [one] = &value.axes[..]
                && &*one.name == "d_model"
            {
                report::print(&picture::nearest(&self.nearest(text)))?;
            }
        }
        Ok(())
    }

    /// The tokens whose logits a vector raises most, and those that it lowers most, through the unembedding alone. There are
    /// none where the model has no such end, or no tokenizer.
    fn nearest(&mut self, vector: &str) -> [Vec<String>; 2] {
        let text = format!(
            "hook {LENS} at unembed.in {{\n    h = {vector}\n}}\ncapture logits on [0] of \"a\" with {LENS} to {FILE:?}"
        );
        let Ok((session, seen)) = self.seen(Path::new("<lens>"), &text) else { return Default::default() };
        let Some(logits) = seen.first().and_then(|s| s.rows.first()) else { return Default::default() };
        let tokens = |largest: bool| picture::top(&logits.1, NEAREST, largest).into_iter();
        let named = |largest| tokens(largest).map(|(t, _)| picture::token(&session, t)).collect();
        [named(true), named(false)]
    }

    /// By row: the tokens that the model's end would make of its value, which is the logit lens.
    fn lens_of_rows(&mut self, seen: &Seen, run: &str) -> Vec<Vec<String>> {
        let joined = if super::input::has_edits(run) { ", " } else { " with " };
        let text = format!(
            "hook {LENS} at blocks[-1].resid.post {{\n    h = {}\n}}\ncapture logits of {run}{joined}{LENS} to {FILE:?}",
            seen.site
        );
        // What the last block gives is what the model's end reads anyway.
        let plain = format!("capture logits of {run} to {FILE:?}");
        let last = self.facts.layers.checked_sub(1).map(|l| format!("blocks[{l}].resid.post"));
        let text = if last.as_deref() == Some(&seen.site) { plain } else { text };
        let Ok((session, logits)) = self.seen(Path::new("<lens>"), &text) else { return Vec::new() };
        let Some(logits) = logits.first() else { return Vec::new() };
        let of_row = |p: &usize| {
            let row = logits.rows.iter().find(|(at, _)| at == p);
            let top = row.map(|(_, v)| picture::top(v, 3, true)).unwrap_or_default();
            top.into_iter().map(|(t, _)| picture::token(&session, t)).collect()
        };
        seen.rows.iter().map(|(p, _)| of_row(p)).collect()
    }
}

/// One entry of an axis is left.
fn narrow(seen: &mut Seen, axis: &str, number: i64) -> Result<(), Failure> {
    let Some(at) = seen.axes.iter().position(|a| &*a.name == axis) else {
        let axes: Vec<&str> = seen.axes.iter().map(|a| &*a.name).collect();
        return Err(refused(format!("`{}` has no axis `{axis}`", seen.site), &format!("it has {}", axes.join(", "))));
    };
    let axes = seen.axes.clone();
    for (_, row) in &mut seen.rows {
        let sizes = experiment::sizes(&axes, row.len());
        let entry = if number < 0 { number + sizes[at] as i64 } else { number };
        let Some(entry) = usize::try_from(entry).ok().filter(|e| *e < sizes[at]) else {
            let help = format!("they are counted from 0 to {}", sizes[at].saturating_sub(1));
            return Err(refused(format!("`{axis}` has no entry {number}"), &help));
        };
        let inner: usize = sizes[at + 1..].iter().product();
        let kept = row.chunks_exact(inner * sizes[at]).flat_map(|c| &c[entry * inner..][..inner]);
        *row = kept.copied().collect();
    }
    seen.axes.remove(at);
    Ok(())
}
