//! What was said in a session: definitions, each the last of its name, and the statements that were run.

use crate::experiment::Part;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use steer_lang::ast::{Item, ItemKind};
use steer_lang::{Diagnostics, FileId, Sources};

/// An item as it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// Where it was written: a file, or the number of an input such as `<3>`.
    pub origin: PathBuf,
    /// With its comments, behind as many line ends as stand before it, so that diagnostics count lines as the origin does.
    pub text: String,
    pub kind: CellKind,
    /// What it declares.
    pub name: Option<String>,
    /// Of a statement: whether a definition that it was run with is another one by now.
    pub stale: bool,
}

/// What is done with an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CellKind {
    /// It is there for all that follows.
    Setting,
    /// It is there for what names it.
    Definition,
    /// It is run; one with a name is there for what names it, too.
    Statement,
}

impl Cell {
    fn of(origin: &Path, text: String, item: &Item) -> Self {
        let kind = match &item.kind {
            ItemKind::Model(..) | ItemKind::Import(_) | ItemKind::Arch(_) => CellKind::Setting,
            ItemKind::Measure(_)
            | ItemKind::Capture(_)
            | ItemKind::Generate(_)
            | ItemKind::Print(_)
            | ItemKind::Sweep(_)
            | ItemKind::Top(_)
            | ItemKind::Plot(_)
            | ItemKind::Save(..)
            | ItemKind::Report(_) => CellKind::Statement,
            _ => CellKind::Definition,
        };
        let name = match &item.kind {
            // A script has one model: another takes its place.
            ItemKind::Model(..) => Some(MODEL.to_owned()),
            _ => item.declares().map(|n| n.name.clone()),
        };
        Cell { origin: origin.to_path_buf(), text, kind, name, stale: false }
    }

    /// The item as it was written.
    pub fn written(&self) -> &str {
        self.text.trim_matches('\n')
    }

    pub fn part(&self) -> Part {
        Part { name: self.origin.clone(), text: self.text.clone() }
    }
}

/// No item can have this name.
const MODEL: &str = "model \"\"";

/// Cuts a text into its items.
pub fn cells(origin: &Path, text: &str) -> Result<Vec<Cell>, (Diagnostics, Sources)> {
    let mut sources = Sources::default();
    let file: FileId = sources.add(origin.display().to_string(), text);
    let (tree, diagnostics) = steer_lang::parse(file, text);
    if !diagnostics.is_empty() {
        return Err((diagnostics, sources));
    }
    let mut begin = 0;
    let mut out = Vec::new();
    for item in &tree.items {
        let end = item.span.end as usize;
        let lines = text[..begin].matches('\n').count();
        out.push(Cell::of(origin, "\n".repeat(lines) + text[begin..end].trim_end(), item));
        begin = end;
    }
    Ok(out)
}

/// The items of a session, in their order.
#[derive(Clone, Debug, Default)]
pub struct Notebook {
    cells: Vec<Cell>,
}

impl Notebook {
    pub fn cells(&self) -> &[Cell] {
        &self.cells
    }

    /// The definition under a name.
    pub fn named(&self, name: &str) -> Option<&Cell> {
        self.cells.iter().rev().find(|c| c.name.as_deref() == Some(name))
    }

    /// The same with new items; what has the name of an earlier definition stands in its place.
    pub fn with(&self, new: &[Cell]) -> Notebook {
        let mut book = self.clone();
        for cell in new {
            let same = |c: &Cell| cell.name.is_some() && c.name == cell.name && c.kind == cell.kind;
            match book.cells.iter().position(same) {
                Some(at) if cell.kind != CellKind::Statement => {
                    if let Some(name) = cell.name.as_deref().filter(|_| book.cells[at].written() != cell.written()) {
                        book.outdate(name);
                    }
                    book.cells[at] = cell.clone();
                }
                Some(at) => {
                    book.cells.remove(at);
                    book.cells.push(cell.clone());
                }
                None => book.cells.push(cell.clone()),
            }
        }
        book
    }

    fn definitions(&self) -> impl Iterator<Item = &Cell> {
        self.cells.iter().filter(|c| c.kind != CellKind::Statement)
    }

    /// Whether both define the same.
    pub fn defines_as(&self, other: &Notebook) -> bool {
        self.definitions().map(Cell::written).eq(other.definitions().map(Cell::written))
    }

    /// The same with the definitions of another; what they are called that differ.
    pub fn back_to(&self, before: &Notebook) -> (Notebook, Vec<String>) {
        let is_in = |c: &Cell, book: &Notebook| book.definitions().any(|d| d.written() == c.written());
        let mut names: Vec<String> = Vec::new();
        for c in
            self.definitions().filter(|c| !is_in(c, before)).chain(before.definitions().filter(|c| !is_in(c, self)))
        {
            let name = match c.kind {
                CellKind::Setting => c.written().to_owned(),
                _ => c.name.clone().unwrap_or_default(),
            };
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let mut book = self.clone();
        names.iter().for_each(|name| book.outdate(name));
        let statements = book.cells.into_iter().filter(|c| c.kind == CellKind::Statement);
        (Notebook { cells: before.definitions().cloned().chain(statements).collect() }, names)
    }

    /// A definition changes: statements that were run with it are not what a script would do.
    pub fn outdate(&mut self, name: &str) {
        let reaches = |c: &Cell| {
            let needs = |n: &&Cell| n.name.as_deref() == Some(name);
            c.kind == CellKind::Statement && self.needed(&[&c.text]).iter().any(needs)
        };
        let stale: Vec<bool> = self.cells.iter().map(reaches).collect();
        self.cells.iter_mut().zip(stale).for_each(|(c, stale)| c.stale |= stale);
    }

    /// What a script of these texts needs, in order, without statements but those that they name.
    pub fn needed(&self, texts: &[&str]) -> Vec<&Cell> {
        let mut names: BTreeSet<&str> = BTreeSet::new();
        let mut open: Vec<&str> = texts.to_vec();
        // Imported files may name anything that is there.
        let imports = self.cells.iter().any(|c| c.kind == CellKind::Setting && c.written().contains("import"));
        while let Some(text) = open.pop() {
            for cell in self.cells.iter().filter(|c| c.kind != CellKind::Setting) {
                let Some(name) = cell.name.as_deref() else { continue };
                let all = imports && cell.kind == CellKind::Definition;
                if !names.contains(name) && (all || words(text).any(|w| w == name)) {
                    names.insert(name);
                    open.push(&cell.text);
                }
            }
        }
        let is_needed = |c: &&Cell| match c.kind {
            CellKind::Setting => true,
            _ => c.name.as_deref().is_some_and(|n| names.contains(n)),
        };
        self.cells.iter().filter(is_needed).collect()
    }

    /// All of it as one text, for what completes and explains it.
    pub fn text(&self) -> String {
        self.definitions().map(|c| format!("{}\n\n", c.written())).collect()
    }
}

/// Words that could be names; those in texts may stand in braces.
pub fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|w| !w.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book(text: &str) -> Notebook {
        Notebook::default().with(&cells(Path::new("<1>"), text).unwrap())
    }

    #[test]
    fn what_is_needed_is_what_names_reach() {
        let book = book(
            "model \"tiny-llama\"\nparam alpha = 2\nfn twice(x) = 2 * x\n## Of joy.\nvector mood = load(\"m.npy\")\n\
             hook a at embed {\n    h += twice(alpha) * mood\n}\nhook b at embed {\n    h = 0\n}\n\
             sweep s over k in 0..2 {\n    measure norm(embed) on \"x\"\n}\ngenerate \"x\"\n",
        );
        let needed = |text: &str| book.needed(&[text]).iter().filter_map(|c| c.name.clone()).collect::<Vec<_>>();
        assert_eq!(needed("generate \"x\" with a"), [MODEL, "alpha", "twice", "mood", "a"]);
        assert_eq!(needed("generate \"x\""), [MODEL]);
        assert_eq!(needed("plot s"), [MODEL, "s"]);
        assert!(book.named("mood").is_some_and(|c| c.written().starts_with("## Of joy.")));
    }

    #[test]
    fn later_definitions_stand_in_place_of_earlier_ones() {
        let first = book("fn f(x) = x\nhook a at embed {\n    h = f(h)\n}\ngenerate \"x\"\n");
        let new = cells(Path::new("<2>"), "\n# why\nfn f(x) = 2 * x\ngenerate \"x\"").unwrap();
        assert!(new[1].text.starts_with("\n\n") && new[1].written() == "generate \"x\"");
        let second = first.with(&new);
        assert_eq!(second.cells()[0].written(), "# why\nfn f(x) = 2 * x");
        assert_eq!((first.cells().len(), second.cells().len()), (3, 4));
    }
}
