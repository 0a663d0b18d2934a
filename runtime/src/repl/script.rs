//! A session as a script: to be saved, and to be reported.

use super::notebook::{Cell, CellKind, Notebook};
use super::{Last, Repl, refused};
use crate::cli::Failure;
use crate::experiment::{Part, Session, SessionOptions};
use crate::report::{self, Silent};
use crate::{cli, files};
use std::path::{Path, PathBuf};
use std::time::Instant;
use steer_lang::ast::ItemKind;
use steer_lang::{Diagnostics, FileId, Sources, parse};

impl Repl {
    /// The script that does what this session has done. Statements stand behind definitions as these are now; those that were
    /// run with others are comments.
    fn script(&self, book: &Notebook, looked: &[String]) -> String {
        let mut out = String::new();
        let cells = book.cells();
        if let Some(model) = &self.options.model
            && !book.names_model()
        {
            out += &format!("model {model:?}\n\n");
        }
        let mut put = |cell: &Cell| {
            let text = self.with_set(cell.written());
            out += &format!("{}\n\n", text.trim());
        };
        let (run, definitions): (Vec<&Cell>, Vec<&Cell>) = cells.iter().partition(|c| c.kind.is_run());
        for kind in [CellKind::Model, CellKind::Setting, CellKind::Param, CellKind::Definition] {
            definitions.iter().filter(|c| c.kind == kind).for_each(|c| put(c));
        }
        let (stale, run): (Vec<&Cell>, Vec<&Cell>) = run.into_iter().partition(|c| book.is_stale(c, &self.options.set));
        run.into_iter().for_each(put);
        let mut comment = |title: &str, lines: Vec<&str>| {
            if !lines.is_empty() {
                let lines: String = lines.iter().map(|l| format!("#   {l}\n")).collect();
                out += &format!("# {title}\n{lines}\n");
            }
        };
        let stale = stale.iter().flat_map(|c| c.written().lines()).collect();
        comment("What was run with definitions that were changed since:", stale);
        comment("What was looked at:", looked.iter().flat_map(|l| l.lines()).collect());
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

    /// What the command line has to say so that a saved session does the same.
    fn flags(&self) -> String {
        let mut out = String::new();
        let arch = self.options.arch.iter().map(|a| format!(" --arch {}", a.display()));
        out.extend(arch);
        out + &self.phase.flags()
    }

    /// Writes the session as a script. A file of another origin is written over only where that is said: `over`.
    pub(super) fn save(&mut self, file: &str, over: bool) -> Result<(), Failure> {
        if file.is_empty() {
            return Err(refused("no file is named", "name one: `:save session.steer`"));
        }
        let named = Path::new(file);
        let path = if named.extension().is_some() { named.to_path_buf() } else { named.with_extension("steer") };
        if path.exists() && !over && !self.saved.contains(&path) {
            return Err(refused(
                format!("`{}` is there already", path.display()),
                &format!("`:save! {}` writes over it", path.display()),
            ));
        }
        let script = self.script(&self.notebook, &self.looked);
        files::write_atomic(&path, |out| out.write_all(script.as_bytes()))?;
        let (shown, flags) = (path.display(), self.flags());
        report::print(&format!("saved to {shown}; `steer run {shown}{flags}` does the same again\n"))?;
        let folder = |p: &Path| p.parent().unwrap_or(Path::new("")).to_path_buf();
        let named = |c: &&Cell| !c.origin.to_string_lossy().starts_with('<');
        let mut from: Vec<PathBuf> = self.notebook.cells().iter().filter(named).map(|c| folder(&c.origin)).collect();
        from.push(if self.folder == Path::new(".") { PathBuf::new() } else { self.folder.clone() });
        from.retain(|f| *f != folder(&path));
        if let Some(other) = from.first() {
            let other = if other.as_os_str().is_empty() { Path::new(".") } else { other };
            report::print(&format!("relative paths in it are of {}, and may have to be changed\n", other.display()))?;
        }
        self.saved.push(path);
        Ok(())
    }

    /// Runs all statements as one script, what is known of them taken from memory, and writes their pages.
    pub(super) fn report(&mut self, cells: &[Cell], sources: &mut Sources) -> Result<(), Diagnostics> {
        let clock = Instant::now();
        let notebook = self.notebook.ran(cells, &self.options.set);
        let name = PathBuf::from("<session>");
        let part = Part { name, text: self.script(&notebook, &[]), quiet: false };
        let options = SessionOptions { set: Vec::new(), ..self.options.clone() };
        let session = Session::open_parts(&self.folder, &[part], &options, sources)?;
        let checked = clock.elapsed().as_secs_f64();
        self.warn(&session.warnings, sources);
        let done = self.execute(&session, sources, Box::new(Silent))?;
        self.last = Some(Last { receipts: done.receipts.clone(), seconds: done.seconds.clone(), ..Last::default() });
        cli::tell(&session, sources, &self.phase, (checked, clock), done)
    }
}
