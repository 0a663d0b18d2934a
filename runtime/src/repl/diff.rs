//! `diff with cheer "some text"`: what edits move, layer by layer.

use super::picture::{self, norm};
use super::{Repl, refused};
use crate::cli::Failure;
use crate::error::Error;
use crate::experiment::{self, Seen, Session, sizes};
use crate::report::{self, Align, Table, number};
use std::collections::HashSet;
use std::path::Path;
use steer_figures::{Frame, FrameAxis, FrameColumn};
use steer_lang::codes;

/// As many tokens are compared.
const TOKENS: usize = 6;

/// A site's values without and with the edits.
struct Pair<'s> {
    before: &'s Seen,
    after: &'s Seen,
}

impl Repl {
    /// Shows where and by how much the residual stream, the attention and the next token's distribution move.
    pub(super) fn diff(&mut self, origin: &Path, before: &str, after: &str) -> Result<(), Failure> {
        let all: Vec<String> = self.model_sites()?.iter().map(|s| s.name.clone()).collect();
        let has = |suffix: &str| all.iter().any(|n| n.starts_with("blocks[") && n.ends_with(suffix));
        let mut sites = Vec::new();
        for (suffix, site) in [(".resid.post", "blocks[*].resid.post"), (".attn.pattern", "blocks[*].attn.pattern")] {
            if has(suffix) {
                sites.push(site);
            }
        }
        if all.iter().any(|n| n == "logits") {
            sites.push("logits");
        }
        let sites = sites.join(", ");
        let text = format!(
            "capture {sites} of {before} to \"<a>.safetensors\"\ncapture {sites} of {after} to \"<b>.safetensors\""
        );
        let (session, seen) = self.seen(origin, &text)?;
        let half = seen.len() / 2;
        let pairs: Vec<Pair> =
            seen[..half].iter().zip(&seen[half..]).map(|(before, after)| Pair { before, after }).collect();
        let Some(first) = pairs.first() else { return Ok(()) };
        let sites: HashSet<&str> = pairs.iter().map(|p| p.before.site.as_str()).collect();
        if sites.len() != pairs.len() {
            return Err(refused("a diff is of one text, and this is a data set", "name a prompt, or a text of it"));
        }
        let (one, other) = (first.before.run.encoded.tokens.len(), first.after.run.encoded.tokens.len());
        if one != other {
            let help = "token by token they can be compared where both have as many";
            return Err(refused(format!("the texts have {one} and {other} tokens"), help));
        }
        let bad = |s: &&Seen| s.rows.iter().any(|(_, row)| row.iter().any(|x| !x.is_finite()));
        if let Some(s) = pairs.iter().flat_map(|p| [p.before, p.after]).find(bad) {
            let message = format!("{} of `{}` has entries that are no finite numbers", s.site, s.run.label);
            let e = Error::new(codes::NOT_FINITE, message);
            let e = e.help(format!("`{} of {after}` shows where; an edit may have blown it up", s.site));
            return Err(experiment::overflow(*e.0, &self.phase).into());
        }
        let tokens = picture::tokens_of(&session, first.before);
        let of = |what: &str| pairs.iter().filter(|p| p.before.site.ends_with(what)).collect::<Vec<_>>();
        let resid = of(".resid.post");
        report::print(&stream(&resid, &tokens)?)?;
        report::print(&layers(&resid, &of(".attn.pattern"), &tokens))?;
        if let Some(logits) = of("logits").first() {
            report::print(&next(&session, logits, (before, after)))?;
        }
        Ok(())
    }
}

/// How far a row has moved, as a part of its norm.
fn moved(before: &[f32], after: &[f32]) -> f64 {
    let apart: Vec<f32> = before.iter().zip(after).map(|(a, b)| b - a).collect();
    norm(&apart) / norm(before).max(f64::MIN_POSITIVE)
}

/// A heat map of how far the residual stream moves.
fn stream(pairs: &[&Pair], tokens: &[String]) -> Result<String, Failure> {
    let mut values = Vec::new();
    for p in pairs {
        values.extend(p.before.rows.iter().zip(&p.after.rows).map(|(a, b)| moved(&a.1, &b.1)));
    }
    let layers = pairs.iter().map(|p| layer_of(&p.before.site));
    let rows = pairs.first().map_or(0, |p| p.before.rows.len());
    let axes = vec![FrameAxis::new("layer", layers), FrameAxis::new("token", tokens[..rows].iter().cloned())];
    let frame =
        Frame { name: String::new(), axes, columns: vec![FrameColumn::new("moved, as a part of its norm", values)] };
    picture::heat(&frame, "The residual stream behind each block")
}

fn layer_of(site: &str) -> String {
    site.split(['[', ']']).nth(1).unwrap_or_default().to_owned()
}

/// By layer: the row that moves most, and the head whose attention does.
fn layers(resid: &[&Pair], patterns: &[&Pair], tokens: &[String]) -> String {
    let mut columns = vec![("layer", Align::Right), ("stream", Align::Right), ("most at", Align::Left)];
    if !patterns.is_empty() {
        columns.extend([("attention", Align::Right), ("most in", Align::Left)]);
    }
    let mut table = Table::new(&columns);
    let place = |p: usize| format!("{p} {:?}", tokens.get(p).map(String::as_str).unwrap_or_default());
    for pair in resid {
        let layer = layer_of(&pair.before.site);
        let rows = pair.before.rows.iter().zip(&pair.after.rows).map(|(a, b)| (a.0, moved(&a.1, &b.1)));
        let most = rows.max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or((0, 0.0));
        let mut cells = vec![layer.clone(), number(most.1), if most.1 > 0.0 { place(most.0) } else { String::new() }];
        if !patterns.is_empty() {
            let attention = patterns.iter().find(|p| layer_of(&p.before.site) == layer).map(|p| attention(p));
            match attention.filter(|a| a.0 > 0.0) {
                Some((moved, head, row)) => cells.extend([number(moved), format!("head {head}, row {}", place(row))]),
                None => cells.extend([number(0.0), String::new()]),
            }
        }
        table.row(cells);
    }
    format!("\n{}", table.render())
}

/// The largest part of a head's attention that went to other keys, with head and row.
fn attention(pair: &Pair) -> (f64, usize, usize) {
    let mut most = (0.0, 0, 0);
    for ((p, a), (_, b)) in pair.before.rows.iter().zip(&pair.after.rows) {
        let sizes = sizes(&pair.before.axes, a.len());
        let keys = sizes.last().copied().unwrap_or(1).max(1);
        for (head, (a, b)) in a.chunks_exact(keys).zip(b.chunks_exact(keys)).enumerate() {
            let apart: f64 = a.iter().zip(b).map(|(x, y)| f64::from((x - y).abs())).sum::<f64>() / 2.0;
            if apart > most.0 {
                most = (apart, head, *p);
            }
        }
    }
    most
}

/// The tokens that are likeliest behind the text, without and with the edits.
fn next(session: &Session, pair: &Pair, (one, other): (&str, &str)) -> String {
    let (Some((_, before)), Some((_, after))) = (pair.before.rows.last(), pair.after.rows.last()) else {
        return String::new();
    };
    let probabilities = |row: &[f32]| {
        let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let all: Vec<f64> = row.iter().map(|x| f64::from(x - most).exp()).collect();
        let sum: f64 = all.iter().sum();
        all.into_iter().map(|x| x / sum).collect::<Vec<f64>>()
    };
    let (p, q) = (probabilities(before), probabilities(after));
    let mut named: Vec<usize> = picture::top(before, TOKENS, true).into_iter().map(|(t, _)| t).collect();
    named.extend(picture::top(after, TOKENS, true).into_iter().map(|(t, _)| t));
    named.sort_unstable();
    named.dedup();
    named.sort_by(|a, b| q[*b].max(p[*b]).total_cmp(&q[*a].max(p[*a])));
    named.truncate(2 * TOKENS);
    let edits = super::input::edits_of(other).is_some_and(|(subject, _)| subject == one);
    let (without, with) = if edits { ("without", "with") } else { (one, other) };
    let what = if session.script.plan.is_whole() { "likeliest token in the last row" } else { "next token" };
    let mut table = Table::new(&[(what, Align::Left), (without, Align::Right), (with, Align::Right)]);
    let shown = |x: f64| format!("{:.2}%", 100.0 * x);
    for t in named {
        table.row([format!("{:?}", picture::token(session, t)), shown(p[t]), shown(q[t])]);
    }
    // As `kl` measures it: of the run with the edits from the one without.
    let kl: f64 =
        p.iter().zip(&q).filter(|(p, _)| **p > 0.0).map(|(p, q)| p * (p / q.max(f64::MIN_POSITIVE)).ln()).sum();
    format!("\n{}KL({without} \u{2016} {with}) {} nats\n", table.render(), number(kl))
}
