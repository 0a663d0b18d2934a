//! What became of each edit, as text.

use super::needs;
use super::phase::PhaseOptions;
use super::pieces::pieces;
use super::session::Session;
use super::statements::Experiment;
use crate::engine::Rounding;
use crate::memory::{enough, shown};
use crate::report::{self, Align, Table};
use crate::rows;
use steer_compiler::plan::{EditId, Reads};
use steer_compiler::program::{Instr, Program, Stretch};
use steer_compiler::schedule::EditPlace;
use steer_kernels::Activations;
use steer_kernels::attention::CacheFormat;
use steer_lang::{Diagnostic, Diagnostics, Severity};

/// For each edit its site, the kernel it ended in and what was materialized for it; what each rule did;
/// rows computed against naive, as far as prompts tell.
pub fn explanation(session: &Session, experiment: &Experiment) -> String {
    let prepared = &experiment.prepared;
    let (plan, program) = (&prepared.plan, &prepared.program);
    let mut out = String::new();
    out.push_str("Edits\n");
    for place in &prepared.explain.edits {
        edit(&mut out, experiment, place);
    }
    if prepared.explain.edits.is_empty() {
        out.push_str("  none\n");
    }
    out.push_str("\nRules\n");
    let acted: Vec<_> = prepared.rules.iter().filter(|(_, c)| c.count > 0 || !c.notes.is_empty()).collect();
    if acted.is_empty() {
        out.push_str("  none changed anything\n");
    }
    let sliced: Vec<&String> = acted.iter().filter(|(n, _)| *n == "slice_logits").flat_map(|(_, c)| &c.notes).collect();
    // Of a site with such an axis some entries are computed.
    let in_part = |site: &str| {
        let plan = &session.script.plan;
        let found = plan.sites.iter().find(|s| s.name == site);
        let mut axes = found.iter().flat_map(|s| &plan.ty(s.value).axes);
        axes.any(|a| sliced.iter().any(|note| note.contains(&format!("`{}`", a.name))))
    };
    for (name, changes) in acted {
        // Which sites these are is said below, less those of which a part is computed.
        let notes: Vec<&str> = changes.notes.iter().map(String::as_str).collect();
        let notes: Vec<&str> = notes.into_iter().filter(|n| !n.ends_with(" sites are not computed")).collect();
        let did = if notes.is_empty() { format!("{} changes", changes.count) } else { notes.join("; ") };
        out.push_str(&format!("  {name}: {did}\n"));
        let erased: Vec<String> = changes.erased_sites.iter().filter(|s| !in_part(s)).cloned().collect();
        if !erased.is_empty() {
            out.push_str(&format!("    sites that nothing reads and that are not computed: {}\n", listed(&erased)));
        }
        if let Some(last) = changes.last_layer
            && last + 1 < session.script.layers
        {
            out.push_str(&format!("    the model stops after layer {last} of {}\n", session.script.layers));
        }
    }
    out.push_str("\nMaterialized for outputs\n");
    for (output, buffer) in &prepared.explain.outputs {
        let name = &program.buffers[buffer.0 as usize].name;
        let of = if name.starts_with('#') { String::new() } else { format!(", {}", readable(name)) };
        out.push_str(&format!("  {}{of}\n", plan.outputs[*output].name));
    }
    if prepared.explain.outputs.is_empty() {
        out.push_str("  nothing\n");
    }
    out.push_str(&format!(
        "\nProgram\n  {} kernels, each compiled once; {} stretches\n",
        program.kernels.len(),
        program.stretches.len()
    ));
    let weights: Vec<String> =
        prepared.held.formats.iter().map(|(format, bytes)| format!("{} of {}", shown(*bytes), format.name())).collect();
    out.push_str(&format!("  weights in memory: {}\n", weights.join(", ")));
    let (computed, count) = experiment.count_rows();
    let mut table = Table::new(&[
        ("stretch", Align::Right),
        ("kernels", Align::Right),
        ("products", Align::Right),
        ("mixers", Align::Right),
        ("computed", Align::Right),
        ("rows", Align::Left),
    ]);
    for (i, s) in program.stretches.iter().enumerate() {
        let count = |f: fn(&Instr) -> bool| s.instrs.iter().filter(|i| f(i)).count().to_string();
        table.row([
            i.to_string(),
            count(|i| matches!(i, Instr::Kernel(_))),
            count(|i| matches!(i, Instr::Linear { .. } | Instr::Experts(_) | Instr::Lookup { .. })),
            count(|i| matches!(i, Instr::Attention { .. } | Instr::Conv1d { .. } | Instr::Scan { .. })),
            computed.get(i).map_or_else(String::new, u64::to_string),
            told_apart(experiment, s),
        ]);
    }
    out.push_str(&table.within(report::width::table()));
    if count.naive > 0 {
        let share = |part: u64, all: u64| 100.0 * part as f64 / all.max(1) as f64;
        out.push_str(&format!(
            "\nRows of prompts: {} computed where a pass for each run would compute {} ({:.0}%)\n",
            count.computed,
            count.naive,
            share(count.computed, count.naive)
        ));
        let most = if rows::chooses(program) { ", were all experts chosen" } else { "" };
        out.push_str(&format!(
            "Operations of prompts: {} where a pass for each run would take {} ({:.0}%){most}\n",
            report::operations(count.operations),
            report::operations(count.naive_operations),
            share(count.operations, count.naive_operations)
        ));
    }
    out
}

/// What later rows read of earlier ones, how it is stored, and what products read.
pub fn rounding(experiment: &Experiment, rounding: Rounding) -> String {
    let read = match rounding.activations {
        Activations::F32 => "  products read rows in f32\n",
        Activations::Bf16 => "  products read rows in bf16\n",
        Activations::Q8 if !experiment.prepared.held.formats.keys().any(|f| f.is_levels()) => {
            "  products read rows in f32: no weights are kept in whole numbers\n"
        }
        Activations::Q8 => "  products with quantized weights read rows in q8_0, others in f32\n",
    };
    caches(experiment, rounding.cache) + read
}

fn caches(experiment: &Experiment, cache: CacheFormat) -> String {
    let program = &experiment.prepared.program;
    let (mut keys, mut inputs, mut states) = (0, 0, 0);
    for instr in program.stretches.iter().flat_map(|s| &s.instrs) {
        match instr {
            Instr::Attention { kv_heads, d_head, .. } => keys += 8 * kv_heads * cache.words(*d_head),
            Instr::Conv1d { channels, .. } => inputs += 4 * channels,
            Instr::Scan { state, .. } => states += 4 * state,
            _ => {}
        }
    }
    let all = [
        (keys, "keys and values", cache.name(), "row"),
        (inputs, "inputs of convolutions", "f32", "row"),
        (states, "states", "f32", "run"),
    ];
    let line = |(bytes, what, format, of): &(usize, &str, &str, &str)| {
        format!("  {what} are stored in {format}: {bytes} bytes of each {of}\n")
    };
    let lines: String = all.iter().filter(|(bytes, ..)| *bytes > 0).map(line).collect();
    if lines.is_empty() { lines } else { format!("\nCaches\n{lines}") }
}

/// The memory that the statements take at most, part by part; and a warning where there is less than a run would need.
pub fn memory(experiment: &Experiment, options: &PhaseOptions) -> Result<(String, Option<Diagnostic>), Diagnostics> {
    let pieces = pieces(experiment, &experiment.whole(), options, needs::budget(options))?;
    let Some(largest) = pieces.iter().map(|p| &p.needs).max_by_key(|n| n.total()) else {
        return Ok((String::new(), None));
    };
    let mut out = "\nMemory\n".to_string();
    for (bytes, what, _) in largest.parts().iter().filter(|p| p.0 > 0) {
        out += &format!("  {} for {what}\n", shown(*bytes));
    }
    out += &match pieces.len() {
        1 => format!("  {} in all, at most, beside the program itself\n", enough(largest.total())),
        n => format!(
            "  {} in all, at most, beside the program itself, in the largest of {n} pieces\n",
            enough(largest.total())
        ),
    };
    let too_little = needs::check(largest, &experiment.prepared, options).err().into_iter().flatten().next();
    Ok((out, too_little.map(|d| Diagnostic { severity: Severity::Warning, ..d })))
}

fn edit(out: &mut String, experiment: &Experiment, place: &EditPlace) {
    let (plan, program): (_, &Program) = (&experiment.prepared.plan, &experiment.prepared.program);
    let e = &plan.edits[place.edit.0 as usize];
    out.push_str(&format!("  {} at {}\n", e.name, e.site));
    let Some(stretch) = place.stretch else {
        out.push_str("    erased: nothing reads it\n");
        return;
    };
    if place.whole {
        out.push_str(&format!("    redirects rows to the donor's at the start of stretch {stretch}; no kernel\n"));
    }
    for (s, i) in &place.instrs {
        let what = match &program.stretches[*s].instrs[*i] {
            Instr::Kernel(call) => format!("kernel {}", call.kernel.0),
            Instr::Attention { body: Some(b), softmax, .. } => {
                let rows = if softmax.is_some() { "of rows where it acts" } else { "of every row" };
                format!(
                    "the body of an attention, kernel {} (scores and pattern {rows} are materialized)",
                    b.call.kernel.0
                )
            }
            Instr::Scan { body: Some(b), recurrence, .. } => {
                let loops = match recurrence.as_ref().map(|r| r.instead) {
                    Some(false) => "behind the recurrence's loop, on the new state",
                    Some(true) => {
                        "in place of the recurrence's loop on rows where it acts: the loop does not hand out what is \
                         edited"
                    }
                    None => "in every row: there is no loop that hands out what is edited or read inside",
                };
                format!("the body of a scan, kernel {} ({loops})", b.call.kernel.0)
            }
            _ => "an instruction".into(),
        };
        out.push_str(&format!("    in {what}, stretch {s}"));
        let near = neighbours(experiment.prepared.explain.beside(place.edit, (*s, *i)), &e.name, &e.site);
        if !near.is_empty() {
            out.push_str(&format!(", fused with {}", listed(&near)));
        }
        out.push('\n');
    }
    if let Some(given) = &place.given {
        out.push_str(&format!("    materialized because of it: {}, on rows that give it\n", readable(given)));
    }
    if !place.buffers.is_empty() {
        let names: Vec<String> = place.buffers.iter().map(|b| readable(&program.buffers[b.0 as usize].name)).collect();
        out.push_str(&format!("    materialized because of it: {}\n", listed(&names)));
    }
}

/// A value by its site, or by the function of the standard library that it is computed in.
fn readable(name: &str) -> String {
    let Some((path, _)) = name.split_once('#') else { return name.to_owned() };
    if path.is_empty() {
        return "a value of the script".to_owned();
    }
    let functions: Vec<&str> = path.split('/').collect();
    match functions[..] {
        [.., function, _] => format!("a value of `{function}`"),
        _ => format!("a value of `{path}`"),
    }
}

/// Sites and functions that share the kernel of an edit, without its own nodes.
fn neighbours<'a>(names: impl Iterator<Item = &'a str>, edit: &str, site: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for name in names {
        let path = name.split('#').next().unwrap_or(name);
        if path == site || path.split('/').any(|part| part == edit) {
            continue;
        }
        let short = if name.contains('#') { path.rsplit('/').next().unwrap_or(path) } else { path };
        if !short.is_empty() && !out.iter().any(|o| o == short) {
            out.push(short.to_owned());
        }
    }
    out
}

/// What rows are told apart by from a stretch on, and whether all of them are computed.
fn told_apart(experiment: &Experiment, stretch: &Stretch) -> String {
    let name = |e: &EditId| experiment.prepared.plan.edits[e.0 as usize].name.clone();
    let mut by: Vec<String> = stretch.edits.iter().map(name).collect();
    match stretch.reads {
        Reads::Own => {}
        Reads::Whole => by.push("all rows of their texts".into()),
        Reads::Prefix | Reads::Window(_) | Reads::State => by.push("earlier rows".into()),
    }
    let all = if stretch.narrow { "only those that are read" } else { "all" };
    if by.is_empty() { all.into() } else { format!("{all}, part by {}", listed(&by)) }
}

fn listed(names: &[String]) -> String {
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    names.dedup();
    let more = names.len().saturating_sub(8);
    names.truncate(8);
    let text = names.join(", ");
    if more > 0 { format!("{text} and {more} more") } else { text }
}
