//! `steer sites --model M [PATTERN]`

use super::{Failure, ModelArgs};
use crate::error::Error;
use crate::experiment::ModelSession;
use crate::hub::Hub;
use crate::report::{self, Align, Table};
use clap::Args;
use serde::Serialize;
use steer_compiler::plan::{Plan, Site, Size};
use steer_lang::diagnostic::nearest;
use steer_lang::{Diagnostics, Sources, codes};

#[derive(Args, Clone, Debug)]
pub struct SitesArgs {
    /// Only sites of this name or below it; `*` stands for anything, as in `blocks[*].attn.*`
    pub pattern: Option<String>,
    #[command(flatten)]
    pub model: ModelArgs,
    /// Print JSON, one entry a site
    #[arg(long)]
    pub json: bool,
}

/// A site as it is listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SiteRow {
    /// `blocks[3].attn.q`
    pub name: String,
    pub layer: Option<u32>,
    /// Names and sizes; the size of `key` is none, because it is the row's.
    pub axes: Vec<(String, Option<usize>)>,
    /// What the name means in every architecture.
    pub contract: String,
}

/// Lists the sites of a model.
pub fn run(args: &SitesArgs) -> Result<(), Failure> {
    let model = args.model.model.as_deref().ok_or_else(|| {
        Error::new(codes::NO_MODEL, "no model is named").help("name one: `steer sites --model tiny-llama`")
    })?;
    let mut sources = Sources::default();
    let found =
        ModelSession::open(model, &args.model.arch, &Hub::from_env(), &mut sources).and_then(|s| Ok((rows_of(&s)?, s)));
    match found {
        Ok((rows, session)) => {
            super::show(&session.warnings, &sources, report::errors_in_color());
            print(&rows, args.pattern.as_deref(), args.json)?;
            if !args.json {
                report::print(&format!("\n{}, declared in {}\n", session.model.arch_name, session.arch_file))?;
            }
            Ok(())
        }
        Err(diagnostics) => Err(Failure { diagnostics, sources }),
    }
}

/// Every site of a model.
pub fn rows(model: &str, arch: &[std::path::PathBuf], sources: &mut Sources) -> Result<Vec<SiteRow>, Diagnostics> {
    rows_of(&ModelSession::open(model, arch, &Hub::default(), sources)?)
}

fn rows_of(session: &ModelSession) -> Result<Vec<SiteRow>, Diagnostics> {
    let built = session.model.build(&[], &[], &Default::default(), &Default::default()).map_err(|d| vec![*d])?;
    Ok(rows_of_plan(&built.plan))
}

/// Every site of a model's plan.
pub fn rows_of_plan(plan: &Plan) -> Vec<SiteRow> {
    let axes = |s: &Site| plan.ty(s.value).axes.clone();
    let rows = plan.sites.iter().map(|s| SiteRow {
        name: s.name.clone(),
        layer: s.layer,
        axes: axes(s)
            .iter()
            .map(|a| (a.name.to_string(), if let Size::Fixed(n) = a.size { Some(n) } else { None }))
            .collect(),
        contract: s.contract.to_string(),
    });
    rows.collect()
}

/// Prints the rows that the pattern selects; that there are none is an error.
pub fn print(rows: &[SiteRow], pattern: Option<&str>, json: bool) -> Result<(), Error> {
    let layers = rows.iter().filter_map(|r| r.layer).max().map_or(0, |l| l + 1);
    let wanted = pattern.map(|p| from_the_end(p, layers));
    let chosen: Vec<SiteRow> =
        rows.iter().filter(|r| wanted.as_deref().is_none_or(|p| selects(p, &r.name))).cloned().collect();
    if let (true, Some(pattern)) = (chosen.is_empty(), pattern) {
        let e = Error::new(codes::UNKNOWN_SITE, format!("the model has no site `{pattern}`"));
        return Err(e.help(suggestion(pattern, rows, layers)));
    }
    match json {
        true => {
            let mut text = serde_json::to_string_pretty(&chosen).unwrap_or_default();
            text.push('\n');
            report::print(&text)
        }
        false => report::print(&table(&chosen)),
    }
}

/// A pattern with a block counted from the end by its number.
fn from_the_end(pattern: &str, layers: u32) -> String {
    let parts = pattern.strip_prefix("blocks[-").and_then(|rest| rest.split_once(']'));
    match parts.and_then(|(n, rest)| Some((layers.checked_sub(n.parse().ok()?)?, rest))) {
        Some((layer, rest)) => format!("blocks[{layer}]{rest}"),
        None => pattern.to_owned(),
    }
}

/// What to try where a pattern selects nothing.
fn suggestion(pattern: &str, rows: &[SiteRow], layers: u32) -> String {
    let has = |p: &str| rows.iter().any(|r| selects(p, &r.name));
    let of_blocks = format!("blocks[*].{pattern}");
    if has(&of_blocks) {
        return format!("it is a site of blocks: `{of_blocks}`");
    }
    if let Some((block, rest)) = pattern.strip_prefix("blocks[").and_then(|p| p.split_once(']')) {
        let every = format!("blocks[*]{rest}");
        if has(&every) {
            let what = match block.parse::<i64>() {
                Ok(_) => format!("the model has {layers} blocks, 0 to {}", layers.saturating_sub(1)),
                Err(_) => "a pattern names one block by its number, or all by `*`".to_owned(),
            };
            return if rest.is_empty() { what } else { format!("{what}; some have it: `{every}`") };
        }
    }
    let mut names: Vec<String> = rows.iter().map(|r| r.name.clone()).collect();
    names.extend(rows.iter().map(|r| general(r).replace("[#]", "[*]")));
    names.extend(rows.iter().map(|r| general(r).replace("blocks[#].", "")));
    match nearest(pattern, names.iter().map(String::as_str)) {
        Some(near) if has(near) => format!("the nearest is `{near}`; without a pattern all are listed"),
        Some(near) => format!("the nearest is `blocks[*].{near}`; without a pattern all are listed"),
        None => "without a pattern all are listed; `*` stands for anything".to_owned(),
    }
}

/// The sites as a table, those that differ in the layer alone as one line.
pub fn table(rows: &[SiteRow]) -> String {
    let mut groups: Vec<(&SiteRow, String, Vec<u32>)> = Vec::new();
    for row in rows {
        let shape = general(row);
        match (
            row.layer,
            groups.iter_mut().find(|(r, s, _)| *s == shape && r.axes == row.axes && r.contract == row.contract),
        ) {
            (Some(layer), Some((_, _, layers))) => layers.push(layer),
            _ => groups.push((row, shape, row.layer.into_iter().collect())),
        }
    }
    let mut out = Table::new(&[("site", Align::Left), ("axes", Align::Left), ("what it is", Align::Left)]);
    for (row, shape, layers) in groups {
        let name =
            if layers.len() > 1 { shape.replace("[#]", &format!("[{}]", ranges(layers))) } else { row.name.clone() };
        let axes = row.axes.iter().map(|(n, size)| match size {
            Some(size) => format!("{n} {size}"),
            None => n.clone(),
        });
        let axes = axes.collect::<Vec<_>>().join(", ");
        out.row([name, format!("[{axes}]"), row.contract.clone()]);
    }
    out.within(report::width::table())
}

/// The name with `[#]` for its layer.
fn general(row: &SiteRow) -> String {
    match row.layer {
        Some(layer) => row.name.replacen(&format!("[{layer}]"), "[#]", 1),
        None => row.name.clone(),
    }
}

/// `0..12`, or `0..3, 5` where some layers lack the site; the end of a range is not in it.
fn ranges(mut layers: Vec<u32>) -> String {
    layers.sort_unstable();
    layers.dedup();
    let runs = layers.chunk_by(|a, b| a + 1 == *b).map(|run| match run {
        [one] => one.to_string(),
        _ => format!("{}..{}", run[0], run[0] as usize + run.len()),
    });
    runs.collect::<Vec<_>>().join(", ")
}

/// Whether a pattern names a site, or something that the site belongs to.
pub fn selects(pattern: &str, name: &str) -> bool {
    let boundaries = name.match_indices('.').map(|(at, _)| at).chain([name.len()]);
    boundaries.into_iter().any(|at| matches(pattern.as_bytes(), &name.as_bytes()[..at]))
}

/// Whether all of `text` is the pattern, in which `*` stands for any text.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // The last star, and where in the text what it swallows ends.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, t));
            p += 1;
        } else if pattern.get(p) == Some(&text[t]) {
            p += 1;
            t += 1;
        } else if let Some((at, end)) = star {
            star = Some((at, end + 1));
            p = at + 1;
            t = end + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(name: &str, layer: Option<u32>, axes: &[(&str, Option<usize>)]) -> SiteRow {
        let axes = axes.iter().map(|(n, s)| (n.to_string(), *s)).collect();
        SiteRow { name: name.into(), layer, axes, contract: "what it means".into() }
    }

    #[test]
    fn layers_collapse_where_they_are_alike() {
        let mut rows = vec![site("embed", None, &[("d_model", Some(64))])];
        for layer in 0..4 {
            rows.push(site(&format!("blocks[{layer}].attn.pattern"), Some(layer), &[("head", Some(8)), ("key", None)]));
            if layer != 2 {
                rows.push(site(&format!("blocks[{layer}].moe.router"), Some(layer), &[("expert", Some(4))]));
            }
        }
        let text = table(&rows);
        let lines: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(lines[0], "embed                       [d_model 64]   what it means");
        assert_eq!(lines[1], "blocks[0..4].attn.pattern   [head 8, key]  what it means");
        assert_eq!(lines[2], "blocks[0..2, 3].moe.router  [expert 4]     what it means");
        assert_eq!(lines.len(), 3);
    }

    #[test]
    fn a_pattern_that_selects_nothing_is_answered() {
        let rows: Vec<SiteRow> = (0..4).map(|l| site(&format!("blocks[{l}].attn.z"), Some(l), &[])).collect();
        let says = |p: &str| suggestion(p, &rows, 4);
        assert_eq!(says("attn.z"), "it is a site of blocks: `blocks[*].attn.z`");
        assert_eq!(says("attn"), "it is a site of blocks: `blocks[*].attn`");
        assert_eq!(says("blocks[7]"), "the model has 4 blocks, 0 to 3");
        assert!(says("blocks[1..3].attn").starts_with("a pattern names one block"));
        assert!(says("atn.z").contains("`blocks[*].attn.z`"));
        assert_eq!(from_the_end("blocks[-1].attn", 4), "blocks[3].attn");
        assert_eq!(from_the_end("blocks[-9].attn", 4), "blocks[-9].attn");
    }

    #[test]
    fn patterns_select_sites_and_all_below() {
        let yes = ["*", "blocks[*].attn.q", "blocks[*]", "blocks[0].attn", "*.q", "*attn*", "blocks[0].attn.q"];
        let no = ["", "attn", "blocks[1]*", "blocks[0].at", "blocks[*].q.", "*.k", "blocks[0].attn.q.x"];
        assert!(yes.iter().all(|p| selects(p, "blocks[0].attn.q")));
        assert!(no.iter().all(|p| !selects(p, "blocks[0].attn.q")));
    }
}
