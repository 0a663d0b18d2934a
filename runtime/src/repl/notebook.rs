//! What was said in a session: definitions, each the last of its name, and the statements that were run.

use crate::experiment::Part;
use std::collections::BTreeSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use steer_lang::ast::{Item, ItemKind};
use steer_lang::symbols::free_names;
use steer_lang::{Diagnostic, Diagnostics, FileId, Sources, codes};

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
    /// The names that it takes from elsewhere, and those of them that are tables.
    uses: BTreeSet<String>,
    tables: BTreeSet<String>,
    /// The file that it writes.
    target: Option<String>,
    /// Of a statement: what it was run with.
    with: u64,
}

/// What is done with an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CellKind {
    Model,
    /// It is there for all that follows.
    Setting,
    /// It is there for what names it.
    Definition,
    Param,
    /// It is run; one with a name is there for what names it, too.
    Statement,
    /// A page of all statements.
    Report,
}

impl CellKind {
    pub fn is_run(self) -> bool {
        matches!(self, CellKind::Statement | CellKind::Report)
    }

    fn is_setting(self) -> bool {
        matches!(self, CellKind::Model | CellKind::Setting)
    }
}

impl Cell {
    fn of(origin: &Path, text: String, item: &Item, whole: &str) -> Self {
        let kind = match &item.kind {
            ItemKind::Model(..) => CellKind::Model,
            ItemKind::Import(_) | ItemKind::Arch(_) => CellKind::Setting,
            ItemKind::Param(_) => CellKind::Param,
            ItemKind::Report(_) => CellKind::Report,
            _ if item.is_statement() => CellKind::Statement,
            _ => CellKind::Definition,
        };
        let target = match &item.kind {
            ItemKind::Capture(c) => Some(c.to.value.clone()),
            ItemKind::Plot(p) => p.to.as_ref().map(|t| t.value.clone()),
            ItemKind::Save(_, to) | ItemKind::Report(to) => Some(to.value.clone()),
            _ => None,
        };
        let (uses, tables) = free_names(item, whole);
        let name = item.declares().map(|n| n.name.clone());
        Cell { origin: origin.to_path_buf(), text, kind, name, uses, tables, target, with: 0 }
    }

    /// The item as it was written.
    pub fn written(&self) -> &str {
        self.text.trim_matches('\n')
    }

    pub fn uses(&self, name: &str) -> bool {
        self.uses.contains(name)
    }

    pub fn part(&self) -> Part {
        Part { name: self.origin.clone(), text: self.text.clone(), quiet: false }
    }

    /// Whether it stands in the place of another one.
    fn replaces(&self, other: &Cell) -> bool {
        match (&self.name, &other.name) {
            (Some(a), Some(b)) => a == b,
            _ => self.kind == CellKind::Model && other.kind == CellKind::Model,
        }
    }
}

/// Cuts a text into its items.
pub fn cells(origin: &Path, text: &str) -> Result<Vec<Cell>, (Diagnostics, Sources)> {
    let mut sources = Sources::default();
    let file: FileId = sources.add(origin.display().to_string(), text);
    let (tree, mut diagnostics) = steer_lang::parse(file, text);
    let mut begin = 0;
    let mut out: Vec<Cell> = Vec::new();
    for item in &tree.items {
        let end = item.span.end as usize;
        let lines = text[..begin].matches('\n').count();
        let cell = Cell::of(origin, "\n".repeat(lines) + text[begin..end].trim_end(), item, text);
        if let Some(name) = item.declares()
            && out.iter().any(|c| cell.replaces(c))
        {
            let e = Diagnostic::error(codes::DUPLICATE_NAME, format!("`{}` is declared twice", name.name));
            diagnostics.push(e.at(name.span, "again here").help("in one input a name has one meaning"));
        }
        out.push(cell);
        begin = end;
    }
    if diagnostics.is_empty() { Ok(out) } else { Err((diagnostics, sources)) }
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

    pub fn names_model(&self) -> bool {
        self.cells.iter().any(|c| c.kind == CellKind::Model)
    }

    /// What is declared under a name.
    pub fn named(&self, name: &str) -> Option<&Cell> {
        self.cells.iter().rev().find(|c| c.name.as_deref() == Some(name))
    }

    /// The same with new items; what has the name of an earlier one stands in its place.
    pub fn with(&self, new: &[Cell]) -> Notebook {
        let mut book = self.clone();
        for cell in new {
            // A file is what was written to it last.
            book.cells.retain(|c| c.name.is_some() || c.target.is_none() || c.target != cell.target);
            match book.cells.iter().position(|c| cell.replaces(c)) {
                Some(at) if !cell.kind.is_run() && book.cells[at].kind == cell.kind => book.cells[at] = cell.clone(),
                Some(at) => {
                    book.cells.remove(at);
                    book.cells.push(cell.clone());
                }
                None => book.cells.push(cell.clone()),
            }
        }
        book
    }

    /// The same after statements were run with these settings.
    pub fn ran(&self, new: &[Cell], set: &[(String, String)]) -> Notebook {
        let mut book = self.with(new);
        let withs: Vec<u64> = book.cells.iter().map(|c| book.state_of(c, set)).collect();
        for (cell, with) in book.cells.iter_mut().zip(withs).filter(|(c, _)| new.iter().any(|n| n.text == c.text)) {
            cell.with = with;
        }
        book
    }

    /// All that a statement depends on in this session, as a number.
    fn state_of(&self, cell: &Cell, set: &[(String, String)]) -> u64 {
        let needed: Vec<&str> = self.needed(&[cell]).iter().map(|c| c.written()).collect();
        let mut hasher = DefaultHasher::new();
        (needed, set.iter().filter(|s| self.concerns(cell, &s.0)).collect::<Vec<_>>()).hash(&mut hasher);
        hasher.finish()
    }

    /// Whether a parameter can change a statement: that of an imported file can change all.
    fn concerns(&self, cell: &Cell, param: &str) -> bool {
        self.named(param).is_none() || cell.uses(param) || self.reached(&[cell]).contains(param)
    }

    /// Whether a statement was run with other definitions than there are.
    pub fn is_stale(&self, cell: &Cell, set: &[(String, String)]) -> bool {
        cell.kind.is_run() && cell.with != self.state_of(cell, set)
    }

    fn definitions(&self) -> impl Iterator<Item = &Cell> {
        self.cells.iter().filter(|c| !c.kind.is_run())
    }

    /// Whether both define the same.
    pub fn defines_as(&self, other: &Notebook) -> bool {
        self.definitions().map(Cell::written).eq(other.definitions().map(Cell::written))
    }

    /// The same with the definitions of another; what they are called that differ.
    pub fn back_to(&self, before: &Notebook) -> (Notebook, Vec<String>) {
        let is_in = |c: &Cell, book: &Notebook| book.definitions().any(|d| d.written() == c.written());
        let mut names: Vec<String> = Vec::new();
        let differ = self.definitions().filter(|c| !is_in(c, before));
        for c in differ.chain(before.definitions().filter(|c| !is_in(c, self))) {
            let name = c.name.clone().unwrap_or_else(|| c.written().to_owned());
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let statements = self.cells.iter().filter(|c| c.kind.is_run()).cloned();
        (Notebook { cells: before.definitions().cloned().chain(statements).collect() }, names)
    }

    /// The names of the session that some items reach.
    fn reached<'c>(&'c self, from: &[&'c Cell]) -> BTreeSet<&'c str> {
        let mut names: BTreeSet<&str> = BTreeSet::new();
        let mut open: Vec<&Cell> = from.to_vec();
        while let Some(cell) = open.pop() {
            for other in &self.cells {
                // A statement is there for those alone that name its table.
                let uses = |name: &str| if other.kind.is_run() { cell.tables.contains(name) } else { cell.uses(name) };
                if let Some(name) = other.name.as_deref()
                    && uses(name)
                    && names.insert(name)
                {
                    open.push(other);
                }
            }
        }
        names
    }

    /// What a script of some items needs, in order, without statements but those that they name.
    pub fn needed(&self, items: &[&Cell]) -> Vec<&Cell> {
        let names = self.reached(items);
        let is_needed = |c: &&Cell| c.kind.is_setting() || c.name.as_deref().is_some_and(|n| names.contains(n));
        let (settings, others): (Vec<&Cell>, Vec<&Cell>) =
            self.cells.iter().filter(is_needed).partition(|c| c.kind.is_setting());
        [settings, others].concat()
    }

    /// All of it as one text, for what completes and explains it.
    pub fn text(&self) -> String {
        self.definitions().map(|c| format!("{}\n\n", c.written())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book(text: &str) -> Notebook {
        Notebook::default().ran(&cells(Path::new("<1>"), text).unwrap(), &[])
    }

    #[test]
    fn what_is_needed_is_what_names_reach() {
        let book = book(
            "model \"tiny-llama\"\nparam alpha = 2\nfn twice(x) = 2 * x\n## Of joy.\nvector mood = load(\"m.npy\")\n\
             hook a at embed {\n    h += twice(alpha) * mood\n}\nhook b at embed {\n    h = 0\n}\n\
             sweep resid over k in 0..2 {\n    measure norm(embed) * k on \"x\"\n}\ngenerate \"x\"\n",
        );
        let needed = |text: &str| {
            let cells = cells(Path::new("<2>"), text).unwrap();
            let cells: Vec<&Cell> = cells.iter().collect();
            book.needed(&cells).iter().filter_map(|c| c.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(needed("generate \"x\" with a"), ["alpha", "twice", "mood", "a"]);
        assert_eq!(needed("generate \"x {alpha}\" { max: 2 }"), ["alpha"]);
        assert_eq!(needed("plot resid"), ["resid"]);
        // Neither a site nor a word of a text is a name.
        assert!(needed("measure norm(blocks[1].resid.post) on \"resid a b\"").is_empty());
        assert!(book.named("mood").is_some_and(|c| c.written().starts_with("## Of joy.")));
    }

    #[test]
    fn later_definitions_stand_in_place_of_earlier_ones() {
        let first = book("fn f(x) = x\nhook a at embed {\n    h = f(h)\n}\ngenerate \"x\" with a\ngenerate \"x\"\n");
        let new = cells(Path::new("<2>"), "\n# why\nfn f(x) = 2 * x\ngenerate \"x\"").unwrap();
        assert!(new[1].text.starts_with("\n\n") && new[1].written() == "generate \"x\"");
        let second = first.ran(&new, &[]);
        assert_eq!(second.cells()[0].written(), "# why\nfn f(x) = 2 * x");
        assert_eq!((first.cells().len(), second.cells().len()), (4, 5));
        let stale = |book: &Notebook| book.cells().iter().map(|c| book.is_stale(c, &[])).collect::<Vec<_>>();
        assert_eq!(stale(&second), [false, false, true, false, false]);
        let set = [("x".to_owned(), "2".to_owned())];
        assert!(first.is_stale(&first.cells()[2], &set));
        let (third, names) = second.back_to(&first);
        assert_eq!((third.cells()[0].written(), &names[..]), ("fn f(x) = x", &["f".to_owned()][..]));
        assert_eq!(stale(&third), [false; 5]);
        assert!(cells(Path::new("<3>"), "fn f(x) = x\nfn f(x) = 2").is_err());
    }
}
