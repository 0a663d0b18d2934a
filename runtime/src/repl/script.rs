//! A session as a script: to be saved, and to be reported.

use super::notebook::{Cell, CellKind};
use super::{Last, Repl, refused};
use crate::cli::Failure;
use crate::experiment::{self, Keeping, Part, Session, SessionOptions};
use crate::report::{self, Silent};
use crate::{cli, files};
use std::path::Path;
use std::time::Instant;
use steer_lang::ast::ItemKind;
use steer_lang::{Diagnostics, FileId, Sources, parse};

impl Repl {
    /// The script that does what this session has done. Statements stand behind definitions as these are now; those that were
    /// run with others are comments.
    pub(super) fn script(&self) -> String {
        let mut out = String::new();
        let cells = self.notebook.cells();
        let names_model = cells.iter().any(|c| c.written().contains("model "));
        if let Some(model) = &self.options.model
            && !names_model
        {
            out += &format!("model {model:?}\n\n");
        }
        let mut put = |cell: &Cell| {
            let text = self.with_set(cell.written());
            out += &format!("{}\n\n", text.trim());
        };
        cells.iter().filter(|c| c.kind == CellKind::Setting).for_each(&mut put);
        cells.iter().filter(|c| c.kind == CellKind::Definition).for_each(&mut put);
        cells.iter().filter(|c| c.kind == CellKind::Statement && !c.stale).for_each(&mut put);
        let stale: Vec<&Cell> = cells.iter().filter(|c| c.stale).collect();
        if !stale.is_empty() {
            out += "# What was run with definitions that were changed since:\n";
            for line in stale.iter().flat_map(|c| c.written().lines()) {
                out += &format!("#   {line}\n");
            }
        }
        let text = out.trim_end().to_owned() + "\n";
        steer_lang::format(&text).unwrap_or(text)
    }

    /// A parameter with the value that it was set to.
    fn with_set(&self, text: &str) -> String {
        let (tree, diagnostics) = parse(FileId(0), text);
        let [item] = &tree.items[..] else { return text.to_owned() };
        let ItemKind::Param(param) = &item.kind else { return text.to_owned() };
        let set = self.options.set.iter().find(|(name, _)| *name == param.name.name);
        let (Some((_, value)), Some(default), true) = (set, &param.default, diagnostics.is_empty()) else {
            return text.to_owned();
        };
        let span = default.span.start as usize..default.span.end as usize;
        let is_text = matches!(default.kind, steer_lang::ast::ExprKind::Text(_));
        let value = if is_text { format!("{value:?}") } else { value.clone() };
        format!("{}{value}{}", &text[..span.start], &text[span.end..])
    }

    pub(super) fn save(&self, file: &str) -> Result<(), Failure> {
        if file.is_empty() {
            return Err(refused("no file is named", "name one: `:save session.steer`"));
        }
        let named = Path::new(file);
        let path = if named.extension().is_some() { named.to_path_buf() } else { named.with_extension("steer") };
        let script = self.script();
        files::write_atomic(&path, |out| out.write_all(script.as_bytes()))?;
        report::print(&format!("saved to {}; `steer run {}` does the same again\n", path.display(), path.display()))?;
        Ok(())
    }

    /// Runs all statements as one script, what is known of them taken from memory, and writes their pages.
    pub(super) fn report(&mut self, cells: &[Cell], sources: &mut Sources) -> Result<(), Diagnostics> {
        let clock = Instant::now();
        let whole = Repl { notebook: self.notebook.with(cells), ..self.quiet() };
        let name = self.folder.join("session.steer");
        let part = Part { name: name.clone(), text: whole.script() };
        let options = SessionOptions { set: Vec::new(), ..self.options.clone() };
        let session = Session::open_parts(&self.folder, &[part], &options, sources)?;
        let checked = clock.elapsed().as_secs_f64();
        let done = experiment::run_on(&session, &self.phase, &Keeping::default(), &mut Silent)?;
        self.last = Some(Last { receipts: done.receipts.clone(), seconds: done.seconds.clone(), ..Last::default() });
        cli::tell(&session, sources, &self.phase, (checked, clock), done)
    }

    /// Another session with the same model.
    fn quiet(&self) -> Repl {
        Repl {
            folder: self.folder.clone(),
            options: self.options.clone(),
            phase: self.phase.clone(),
            notebook: self.notebook.clone(),
            past: Vec::new(),
            inputs: 0,
            model: self.model.clone(),
            last: None,
            sites: Vec::new(),
            facts: self.facts.clone(),
            warned: Default::default(),
        }
    }
}
