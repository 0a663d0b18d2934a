//! Diagnostics of the language as those of the protocol.

use super::lines::{Encoding, Lines};
use super::shelf::Shelf;
use super::uri::{own, uri_of};
use lsp_types::{
    CodeDescription, Diagnostic as LspDiagnostic, DiagnosticRelatedInformation, DiagnosticSeverity, Location,
    NumberOrString, Range, Uri,
};
use std::path::Path;
use steer_lang::ast::{File, ItemKind};
use steer_lang::diagnostic::Label;
use steer_lang::{Diagnostic, FileId, Severity, Sources};

/// What the places of diagnostics are told by.
pub struct Places<'a> {
    pub uri: &'a Uri,
    pub path: &'a Path,
    pub text: &'a str,
    /// The text's own number among the sources.
    pub file: Option<FileId>,
    pub sources: &'a Sources,
    pub tree: &'a File,
    pub encoding: Encoding,
    pub shelf: &'a Shelf,
}

impl Places<'_> {
    pub fn diagnostic(&self, d: &Diagnostic) -> LspDiagnostic {
        let lines = Lines::new(self.text, self.encoding);
        let first = d.labels.first();
        let own = first.filter(|l| Some(l.span.file) == self.file);
        let (range, place) = match (own, first) {
            (Some(l), _) => (lines.range(l.span.start as usize..l.span.end as usize), None),
            (None, Some(l)) => (self.import_of(l.span.file, &lines), Some(self.sources.get(l.span.file).name.clone())),
            (None, None) => (lines.range(self.first_line()), None),
        };
        let mut message = match place {
            Some(name) => format!("in {}: {}", self.short(&name), d.message),
            None => d.message.clone(),
        };
        for part in first.map(|l| l.text.clone()).into_iter().chain(d.help.as_ref().map(|h| format!("help: {h}"))) {
            if !part.is_empty() {
                message += &format!("\n{part}");
            }
        }
        let skip = usize::from(own.is_some());
        let related: Vec<DiagnosticRelatedInformation> =
            d.labels.iter().skip(skip).filter_map(|l| self.related(l)).collect();
        LspDiagnostic {
            range,
            severity: Some(match d.severity {
                Severity::Error => DiagnosticSeverity::ERROR,
                Severity::Warning => DiagnosticSeverity::WARNING,
            }),
            code: Some(NumberOrString::String(d.code.0.to_owned())),
            code_description: self.shelf.page(d.code.0).map(|href| CodeDescription { href }),
            source: Some("steer".into()),
            message,
            related_information: (!related.is_empty()).then_some(related),
            ..LspDiagnostic::default()
        }
    }

    fn related(&self, label: &Label) -> Option<DiagnosticRelatedInformation> {
        let span = label.span.start as usize..label.span.end as usize;
        let (uri, text) = match Some(label.span.file) == self.file {
            true => (self.uri.clone(), self.text),
            false => {
                let source = self.sources.get(label.span.file);
                let uri = self.shelf.library(&source.name).or_else(|| uri_of(Path::new(&source.name)))?;
                (uri, &*source.text)
            }
        };
        let range = Lines::new(text, self.encoding).range(span);
        let message = if label.text.is_empty() { "here".to_owned() } else { label.text.clone() };
        Some(DiagnosticRelatedInformation { location: Location { uri, range }, message })
    }

    /// The `import` that brings in a file, or the first line.
    fn import_of(&self, file: FileId, lines: &Lines) -> Range {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let wanted = own(Path::new(&self.sources.get(file).name));
        let imports =
            self.tree.items.iter().filter_map(|i| if let ItemKind::Import(t) = &i.kind { Some(t) } else { None });
        let imports: Vec<_> = imports.collect();
        let exact = imports.iter().find(|t| own(&folder.join(&t.value)) == wanted);
        match exact.or(imports.first()) {
            Some(t) => lines.range(t.span.start as usize..t.span.end as usize),
            None => lines.range(self.first_line()),
        }
    }

    fn first_line(&self) -> std::ops::Range<usize> {
        0..self.text.find('\n').unwrap_or(self.text.len())
    }

    fn short(&self, name: &str) -> String {
        let folder = self.path.parent().and_then(|f| f.to_str()).unwrap_or_default();
        name.strip_prefix(folder).map_or(name, |n| n.trim_start_matches('/')).to_owned()
    }
}
