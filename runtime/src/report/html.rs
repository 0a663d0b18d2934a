//! What a run gave as the parts of a page.

use super::{Output, Report, Value, number, receipts, titled};
use crate::checkpoint::FileHash;
use std::ops::Range;
use steer_figures::{Block, Page, Script, Section};
use steer_lang::highlight;

/// A page on a run of a script with this text: its facts, warnings as they were printed, a section for each result, and
/// the receipts. Its title is the script's name, and what it is about the comment that the script begins with.
pub fn page(report: &Report, script: &str, warnings: Vec<String>, results: Vec<Section>) -> Page {
    let file = std::path::Path::new(&report.script.file);
    let title = file.file_stem().map_or("experiment".into(), |s| s.to_string_lossy().into_owned());
    let mut sections = results;
    if !report.receipts.is_empty() {
        let blocks = receipts::tables(&report.receipts).into_iter().map(Block::Table).collect();
        sections.push(Section { title: "Receipts".into(), source: None, blocks });
    }
    Page {
        title,
        about: about(script),
        script: Script {
            name: report.script.file.clone(),
            text: script.into(),
            shades: highlight(script).into_iter().map(|(range, shade)| (range, shade.name())).collect(),
        },
        facts: facts(report),
        warnings,
        sections,
    }
}

/// The section of a statement: bytes of the script, and what it gave.
pub fn section(title: &str, source: Option<Range<usize>>, outputs: &[Output]) -> Section {
    Section { title: title.into(), source, blocks: outputs.iter().map(block).collect() }
}

/// One result as a part of a section.
pub fn block(output: &Output) -> Block {
    match output {
        Output::Generate(g) => Block::Texts {
            prompt: g.prompt.clone(),
            texts: g.completions.iter().map(|c| (titled(&c.with, g.sample, c.score), c.text.clone())).collect(),
        },
        Output::Table(frame) => Block::Frame(frame.clone()),
        Output::Plot { figure, .. } => Block::Plot((**figure).clone()),
        Output::SaveTensors { tensors, file } => Block::Note(format!("{tensors} is saved to {file}.")),
        Output::Save { table, file } => Block::Note(format!("{table} is saved to {file}.")),
        Output::Print { values } => Block::Printed(values.iter().map(shown).collect::<Vec<_>>().join(" ")),
        Output::Capture { file, tensors } => {
            let tensors: Vec<String> = tensors.iter().map(|(name, shape)| format!("{name} {shape:?}")).collect();
            Block::Printed(format!("{file}\n{}", tensors.join("\n")))
        }
    }
}

/// The comment at the head of a script.
fn about(script: &str) -> String {
    let lines = script.lines().map_while(|l| l.strip_prefix('#'));
    let lines: Vec<&str> = lines.map(|l| l.trim_start_matches('#').trim()).collect();
    lines.join(" ").trim().to_string()
}

fn facts(report: &Report) -> Vec<(String, String)> {
    let mut out = vec![
        ("model", report.model.name.clone()),
        ("architecture", format!("{}, {}", report.model.architecture, report.model.model_file)),
        ("backend", format!("{}, {}", report.backend, report.instruction_set)),
        ("seed", report.seed.to_string()),
        ("steer", report.steer.clone()),
    ];
    if let Some(total) = report.timings.seconds.get("total") {
        out.push(("seconds", number(*total)));
    }
    let work = &report.timings.work;
    if work.rows_naive > 0 {
        out.push(("rows computed", format!("{} of {}", work.rows_computed, work.rows_naive)));
        let of = |n| super::operations(n);
        out.push(("operations", format!("{} of {}", of(work.operations), of(work.operations_naive))));
    }
    if report.stopped {
        out.push(("stopped", "before the script's end".into()));
    }
    let mut out: Vec<(String, String)> = out.into_iter().map(|(n, v)| (n.to_string(), v)).collect();
    out.extend(report.parameters.iter().map(|(name, value)| (format!("param {name}"), shown(value))));
    out.push(("SHA-256 of the script".into(), report.script.sha256.clone()));
    let hash = |f: &FileHash| Some((format!("SHA-256 of {}", f.file), f.sha256.clone()?));
    out.extend(report.model.files.iter().filter_map(hash));
    out
}

fn shown(value: &Value) -> String {
    match value {
        Value::Number(x) => number(*x),
        Value::Bool(b) => b.to_string(),
        Value::Text(t) => t.clone(),
        Value::List(all) => format!("[{}]", all.iter().map(shown).collect::<Vec<_>>().join(", ")),
        Value::Tensor { axes, data } => {
            let axes: Vec<String> = axes.iter().map(|(name, n)| format!("{name} {n}")).collect();
            let head: Vec<String> = data.iter().take(8).map(|x| number(f64::from(*x))).collect();
            let more = if data.len() > head.len() { ", ..." } else { "" };
            format!("[{}] {}{more}", axes.join(", "), head.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Completion, Generation, Receipt, Sums};
    use std::path::Path;

    #[test]
    fn a_run_becomes_a_page() {
        let script = "# Makes it glad.\n# Mostly.\nmodel \"m\"\n\nprint 1 < 2\n";
        let mut report = Report::new(Path::new("some/glad.steer"), script);
        report.receipts = vec![Receipt::of("cheer", "embed", None, "element", 3, &Sums::default())];
        report.parameters.insert("k".into(), Value::List(vec![Value::Number(0.5), Value::Bool(true)]));
        let completion =
            |with: &str, text: &str| Completion { with: with.into(), text: text.into(), tokens: vec![], score: None };
        let completions = vec![completion("baseline", " Sad."), completion("cheer", " Glad.")];
        let outputs = [
            Output::Generate(Generation { prompt: "One day.".into(), sample: None, completions }),
            Output::Print { values: vec![Value::Text("<b>".into())] },
        ];
        let at = script.find("print").unwrap();
        let results = vec![section("print", Some(at..script.len()), &outputs)];
        let html = page(&report, script, vec!["careful".into()], results).html();
        for part in [
            "<h1>glad</h1>",
            "Makes it glad. Mostly.",
            "<dt>param k</dt><dd>[0.5000, true]</dd>",
            "<pre>careful</pre>",
            "<i class=\"keyword\">print</i> <i class=\"number\">1</i> &lt;",
            "<mark>Glad.</mark>",
            "&lt;b&gt;",
            "<td>cheer</td>",
        ] {
            assert!(html.contains(part), "no {part:?} in\n{html}");
        }
    }
}
