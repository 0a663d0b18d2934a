//! What begins with a colon.

use super::notebook::CellKind;
use super::{Flow, Repl, refused};
use crate::cli::Failure;
use crate::cli::sites;
use crate::experiment;
use crate::manual::Manual;
use crate::report::{self, Align, Table};
use std::path::Path;
use steer_compiler::elaborate::{ParamValue, PrintItem, StatementKind};
use steer_lang::diagnostic::nearest;
use steer_lang::{Sources, codes};

/// A command: its word, what follows it, and what it does.
pub const COMMANDS: &[(&str, &str, &str)] = &[
    ("sites", "[PATTERN]", "the sites of the model, as `:sites blocks[*].attn`"),
    ("type", "NAME or EXPRESSION", "what it is, without computing it"),
    ("explain", "NAME or CODE", "what becomes of a hook in the compiled model; the page of a diagnostic"),
    ("receipts", "", "what the edits of the last statement did"),
    ("set", "[NAME VALUE]", "gives a parameter a value; without a name, the parameters"),
    ("load", "FILE", "evaluates a script"),
    ("save", "FILE", "writes the session as a script that does the same again; `:save!` over another file"),
    ("time", "", "what the last statement took"),
    ("undo", "", "takes the last change of a definition back"),
    ("help", "[TOPIC]", "these commands; a page of the language reference"),
    ("quit", "", "ends the session, as ctrl-D does"),
];

impl Repl {
    pub(super) fn command(&mut self, word: &str, rest: &str) -> Result<Flow, Failure> {
        match word {
            "sites" => self.list_sites(rest)?,
            "type" => self.print_type(rest)?,
            "explain" => self.explain(rest)?,
            "receipts" => self.receipts()?,
            "set" => self.set(rest)?,
            "load" => self.load_named(rest)?,
            "save" => self.save(rest, false)?,
            "save!" => self.save(rest, true)?,
            "time" => self.time()?,
            "undo" => self.undo()?,
            "help" => help(rest)?,
            "quit" | "q" | "exit" => return Ok(Flow::Ended),
            _ => {
                let near = nearest(word, COMMANDS.iter().map(|c| c.0));
                let help = near.map_or("`:help` lists the commands".to_owned(), |n| format!("did you mean `:{n}`?"));
                return Err(refused(format!("there is no command `:{word}`"), &help));
            }
        }
        Ok(Flow::On)
    }

    /// The sites of the model, which is opened where it is not yet.
    pub(super) fn model_sites(&mut self) -> Result<&[sites::SiteRow], Failure> {
        if self.sites.is_empty() {
            let mut sources = Sources::default();
            let session = self.check(&[], &mut sources).map_err(|diagnostics| Failure { diagnostics, sources })?;
            self.sites = sites::rows_of_plan(&session.script.plan);
        }
        Ok(&self.sites)
    }

    fn list_sites(&mut self, pattern: &str) -> Result<(), Failure> {
        let pattern = (!pattern.is_empty()).then_some(pattern);
        Ok(sites::print(self.model_sites()?, pattern, false)?)
    }

    fn receipts(&self) -> Result<(), Failure> {
        let text = match &self.last {
            Some(last) if !last.receipts.is_empty() => report::receipts_table(&last.receipts),
            Some(_) => "the last statement had no edits\n".into(),
            None => "nothing was run yet\n".into(),
        };
        Ok(report::print(&text)?)
    }

    fn time(&self) -> Result<(), Failure> {
        let Some(last) = &self.last else { return Ok(report::print("nothing was run yet\n")?) };
        let mut table = Table::new(&[("stage", Align::Left), ("seconds", Align::Right), ("tokens/s", Align::Right)]);
        for (stage, seconds) in &last.seconds {
            let rows = match stage.as_str() {
                "prompts" => last.prompt_rows,
                "generate" => last.new_rows,
                _ => 0,
            };
            let rate = if rows > 0 && *seconds > 0.0 { report::number(rows as f64 / seconds) } else { String::new() };
            table.row([stage.clone(), format!("{seconds:.3}"), rate]);
        }
        let work = match last.prompt_rows + last.new_rows {
            0 if last.seconds.contains_key("compile") => "all that it reads was known\n".to_owned(),
            _ => report::work_line(&last.work),
        };
        Ok(report::print(&(table.render() + &work))?)
    }

    fn undo(&mut self) -> Result<(), Failure> {
        let Some(before) = self.past.pop() else {
            return Err(refused("there is nothing to undo", "nothing was defined yet"));
        };
        let (notebook, mut names) = self.notebook.back_to(&before.notebook);
        let set = |s: &&(String, String)| !before.set.contains(s);
        for (name, value) in self.options.set.iter().filter(set) {
            names.retain(|n| n != name);
            names.push(format!("`:set {name} {value}`"));
        }
        (self.notebook, self.options.set, self.options.model) = (notebook, before.set, before.model);
        Ok(report::print(&format!("undone: {}\n", names.join(", ")))?)
    }

    fn set(&mut self, rest: &str) -> Result<(), Failure> {
        let (name, value) = rest.split_once(|c: char| c.is_whitespace() || c == '=').unwrap_or((rest, ""));
        let value = value.trim().trim_start_matches('=').trim().trim_matches('"');
        if name.is_empty() {
            return self.print_params();
        }
        if value.is_empty() {
            return Err(refused(format!("`{name}` is given no value"), "write it as `:set alpha 4`"));
        }
        let cell = self.notebook.named(name).filter(|c| c.kind == CellKind::Param).cloned();
        let imports = self.notebook.cells().iter().any(|c| c.kind == CellKind::Setting);
        if cell.is_none() && (!imports || self.notebook.named(name).is_some()) {
            if self.notebook.named(name).is_some() {
                let help = "write it again: what is defined anew takes its place";
                return Err(refused(format!("`{name}` is no parameter"), help));
            }
            let params = self.notebook.cells().iter().filter(|c| c.kind == CellKind::Param);
            let names = params.filter_map(|c| c.name.as_deref());
            let help = nearest(name, names)
                .map_or("`param alpha = 1` declares one".into(), |n| format!("did you mean `{n}`?"));
            return Err(refused(format!("there is no parameter `{name}`"), &help));
        }
        self.options.set.retain(|(n, _)| n != name);
        self.options.set.push((name.to_owned(), value.to_owned()));
        // Whether the parameter takes this value.
        let mut sources = Sources::default();
        let cell: Vec<_> = cell.into_iter().collect();
        self.check(&cell, &mut sources).map_err(|diagnostics| Failure { diagnostics, sources })?;
        Ok(())
    }

    fn print_params(&mut self) -> Result<(), Failure> {
        let is_param = |c: &&super::notebook::Cell| c.kind == CellKind::Param;
        let params: Vec<_> = self.notebook.cells().iter().filter(is_param).cloned().collect();
        let mut sources = Sources::default();
        let session = self.check(&params, &mut sources).map_err(|diagnostics| Failure { diagnostics, sources })?;
        if session.script.params.is_empty() {
            return Ok(report::print("there are no parameters\n")?);
        }
        let mut table = Table::new(&[("parameter", Align::Left), ("value", Align::Left)]);
        for (name, value) in &session.script.params {
            let value = match value {
                ParamValue::Number(n) => report::number(*n),
                ParamValue::Bool(b) => b.to_string(),
                ParamValue::Text(t) => format!("{t:?}"),
            };
            table.row([name.clone(), value]);
        }
        Ok(report::print(&table.render())?)
    }

    fn load_named(&mut self, file: &str) -> Result<(), Failure> {
        match file {
            "" => Err(refused("no file is named", "name one: `:load hooks.steer`")),
            _ => self.load(Path::new(file)),
        }
    }

    /// What a name or an expression is.
    fn print_type(&mut self, text: &str) -> Result<(), Failure> {
        if text.is_empty() {
            return Err(refused("nothing is named", "name something: `:type mood[3]`"));
        }
        let cell = self.notebook.named(text).cloned();
        let known = self.model_sites()?.iter().filter(|s| sites::selects(text, &s.name)).count();
        if known > 0 && cell.is_none() {
            return Ok(sites::print(self.model_sites()?, Some(text), false)?);
        }
        let origin = Path::new("<type>");
        let wrapped = match &cell {
            Some(cell) => cell.written().to_owned(),
            _ => format!("print {text}"),
        };
        let wrong = |(diagnostics, sources)| Failure { diagnostics, sources };
        let cells = super::notebook::cells(origin, &wrapped).map_err(wrong)?;
        let mut sources = Sources::default();
        let session = self.check(&cells, &mut sources).map_err(|diagnostics| Failure { diagnostics, sources })?;
        let script = &session.script;
        let printed = script.statements.iter().find_map(|s| match &s.kind {
            StatementKind::Print(items) if cell.is_none() => items.first(),
            _ => None,
        });
        let out = match printed {
            Some(PrintItem::Text(_)) => "text".to_owned(),
            Some(PrintItem::Ranked { .. }) => "a ranking of entries".to_owned(),
            Some(PrintItem::Value { plan, .. }) => match plan.outputs.first() {
                Some(output) if plan.ty(output.node).axes.is_empty() => "number".to_owned(),
                Some(output) => plan.ty(output.node).to_string(),
                None => String::new(),
            },
            None => described(&session, text, cell.as_ref().map(|c| c.written()).unwrap_or_default()),
        };
        Ok(report::print(&format!("{out}\n"))?)
    }

    /// The page of a code, or what becomes of an edit.
    fn explain(&mut self, name: &str) -> Result<(), Failure> {
        if codes::page(name).is_some() {
            return help(name);
        }
        if name.is_empty() || self.notebook.named(name).is_none() {
            let help = "name a hook, patch or route of this session, or the code of a diagnostic such as E0203";
            return Err(refused(format!("`{name}` is nothing that can be explained"), help));
        }
        // As the last statement has it, or by itself.
        let mut cells = self.notebook.cells().iter().rev();
        let statement = cells.find(|c| c.kind == CellKind::Statement && c.uses(name)).cloned();
        let statement = match statement {
            Some(cell) => vec![cell],
            None => super::notebook::cells(Path::new("<explain>"), &format!("generate \"a\" with {name}"))
                .map_err(|(diagnostics, sources)| Failure { diagnostics, sources })?,
        };
        let mut sources = Sources::default();
        let text = self.check(&statement, &mut sources).and_then(|session| {
            let experiment = experiment::prepare_all(&session, &self.phase)?;
            Ok(experiment::explanation(&session, &experiment))
        });
        Ok(report::print(&text.map_err(|diagnostics| Failure { diagnostics, sources })?)?)
    }
}

/// A declared name in a line or two.
fn described(session: &experiment::Session, name: &str, written: &str) -> String {
    let script = &session.script;
    if let Some(ty) = script.tensor_types.get(name) {
        let family = if ty.family { format!(", one for each of the layers {:?}", ty.layers) } else { String::new() };
        return format!("tensor [{}]{family}", super::picture::axes_of(&ty.axes));
    }
    let head = written.lines().find(|l| !l.trim_start().starts_with('#')).unwrap_or_default();
    let head = head.trim_end_matches('{').trim_end();
    let edit = script.edits.iter().find(|e| e.name == name);
    let sites: Vec<&str> = edit.iter().flat_map(|e| &e.sites).map(|s| s.0.as_str()).collect();
    match sites.len() {
        0 | 1 => head.to_owned(),
        n => format!("{head}\n{n} sites: {}", sites.join(", ")),
    }
}

fn help(topic: &str) -> Result<(), Failure> {
    let screen = report::screen();
    if !topic.is_empty() {
        return Ok(report::print(&Manual::new().find(topic)?.text(screen.columns, screen.color))?);
    }
    let mut table = Table::new(&[("command", Align::Left), ("", Align::Left)]);
    for (word, rest, does) in COMMANDS {
        table.row([format!(":{word} {rest}").trim_end().to_owned(), (*does).to_owned()]);
    }
    let more = "\nAnything of the language is evaluated as it is typed: definitions, `generate`, `measure`, `sweep`, `plot` and the rest.\n\
                An expression prints its value.\n\
                blocks[3].attn.pattern of \"some text\"    shows what a site holds in a run\n\
                diff with cheer \"some text\"              shows what an edit moves, layer by layer\n";
    Ok(report::print(&(table.render() + more))?)
}
