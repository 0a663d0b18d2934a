//! Answers to requests.

use super::documents::{Document, imports};
use super::lines::Lines;
use super::uri::uri_of;
use super::{Server, rename};
use crate::assist::{self, Candidate, Kind, Known, Target};
use lsp_server::ErrorCode;
use lsp_types::{
    CompletionItem, CompletionItemKind, CompletionList, CompletionParams, CompletionTextEdit, DocumentFormattingParams,
    DocumentSymbol, DocumentSymbolParams, Documentation, GotoDefinitionParams, Hover, HoverContents, HoverParams,
    Location, MarkupContent, MarkupKind, Range, ReferenceParams, RenameParams, SemanticToken, SemanticTokenType,
    SemanticTokens, SemanticTokensParams, SymbolKind as LspKind, TextDocumentPositionParams, TextEdit, Uri,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use steer_lang::symbols::{Part, SymbolKind, Symbols};
use steer_lang::{FileId, Shade, Source, Span, highlight, parse};

/// What a request comes to: a value, or a code with what is wrong.
pub type Answer = Result<Value, (ErrorCode, String)>;

/// What shades are to clients.
pub const SHADES: [(Shade, SemanticTokenType); 5] = [
    (Shade::Keyword, SemanticTokenType::KEYWORD),
    (Shade::Call, SemanticTokenType::FUNCTION),
    (Shade::Number, SemanticTokenType::NUMBER),
    (Shade::Text, SemanticTokenType::STRING),
    (Shade::Comment, SemanticTokenType::COMMENT),
];

impl Server {
    pub(super) fn answer(&mut self, method: &str, params: Value) -> Answer {
        match method {
            "textDocument/hover" => {
                let p: HoverParams = arguments(params)?;
                value(self.at(&p.text_document_position_params, |s, d, at, known| s.hover(d, at, known)))
            }
            "textDocument/completion" => {
                let p: CompletionParams = arguments(params)?;
                let key = p.context.and_then(|c| c.trigger_character).unwrap_or_default();
                // A `/` between numbers asks for nothing.
                let in_texts = matches!(key.as_str(), "/" | "\"");
                value(self.at(&p.text_document_position, |s, d, at, known| {
                    (!in_texts || assist::is_quoted(&d.text, at)).then(|| s.completion(d, at, known))
                }))
            }
            "textDocument/definition" => {
                let p: GotoDefinitionParams = arguments(params)?;
                value(self.at(&p.text_document_position_params, |s, d, at, known| s.definition(d, at, known)))
            }
            "textDocument/references" => {
                let p: ReferenceParams = arguments(params)?;
                let place = &p.text_document_position;
                value(self.at(place, |s, d, at, _| rename::references(s, d, at)))
            }
            "textDocument/prepareRename" => {
                let p: TextDocumentPositionParams = arguments(params)?;
                rename::prepare(self, &p)
            }
            "textDocument/rename" => {
                let p: RenameParams = arguments(params)?;
                rename::rename(self, &p.text_document_position, &p.new_name)
            }
            "textDocument/formatting" => {
                let p: DocumentFormattingParams = arguments(params)?;
                value(self.documents.get(&p.text_document.uri).map(|d| self.formatting(d)))
            }
            "textDocument/documentSymbol" => {
                let p: DocumentSymbolParams = arguments(params)?;
                value(self.documents.get(&p.text_document.uri).map(|d| self.outline(d)))
            }
            "textDocument/semanticTokens/full" => {
                let p: SemanticTokensParams = arguments(params)?;
                value(self.documents.get(&p.text_document.uri).map(|d| self.shades(d)))
            }
            _ => Err((ErrorCode::MethodNotFound, format!("steer does not know `{method}`"))),
        }
    }

    /// Answers about a place of an open text.
    fn at<T>(
        &self,
        place: &TextDocumentPositionParams,
        f: impl FnOnce(&Self, &Document, usize, &Known) -> Option<T>,
    ) -> Option<T> {
        let document = self.documents.get(&place.text_document.uri)?;
        let at = Lines::new(&document.text, self.encoding).offset(place.position);
        let model = self.found.model(document.uri.as_str());
        let imports = self.imports(document);
        f(self, document, at, &Known { model: model.as_deref(), folder: document.folder(), imports: &imports })
    }

    pub(super) fn imports(&self, document: &Document) -> Vec<Source> {
        imports(document.path.as_deref(), &document.text, &self.documents.unsaved())
    }

    pub(super) fn range(&self, text: &str, span: Span) -> Range {
        Lines::new(text, self.encoding).range(span.start as usize..span.end as usize)
    }

    fn hover(&self, document: &Document, at: usize, known: &Known) -> Option<Hover> {
        let found = assist::hover(&document.text, at, known)?;
        let range = Lines::new(&document.text, self.encoding).range(found.range);
        Some(Hover { contents: HoverContents::Markup(markdown(found.text)), range: Some(range) })
    }

    fn completion(&self, document: &Document, at: usize, known: &Known) -> CompletionList {
        let found = assist::complete(&document.text, at, known);
        let range = Lines::new(&document.text, self.encoding).range(found.from.min(at)..at);
        let items = found.candidates.into_iter().enumerate().map(|(n, c)| item(n, c, range)).collect();
        // Another list may stand behind the next letter: `blocks` and `blocks[3].attn.q` are not of one list.
        CompletionList { is_incomplete: true, items }
    }

    fn definition(&self, document: &Document, at: usize, known: &Known) -> Option<Location> {
        match assist::definition(&document.text, at, known)? {
            Target::Here(span) => Some(Location { uri: document.uri.clone(), range: self.range(&document.text, span) }),
            Target::File(path, span) => {
                let uri = self.uri_of_file(&path)?;
                let name = path.display().to_string();
                let text = known.imports.iter().find(|s| s.name == name);
                let range = match (span, text) {
                    (Some(span), Some(source)) => self.range(&source.text, span),
                    _ => Range::default(),
                };
                Some(Location { uri, range })
            }
            Target::Library(n, span) => {
                let (name, text) = assist::library_text(n);
                Some(Location { uri: self.shelf.library(name)?, range: self.range(text, span) })
            }
        }
    }

    /// The address of a file: the client's own, where it is open.
    pub(super) fn uri_of_file(&self, path: &std::path::Path) -> Option<Uri> {
        let own = super::uri::own(path);
        let open = self.documents.iter().find(|d| d.path.as_deref().is_some_and(|p| super::uri::own(p) == own));
        open.map(|d| d.uri.clone()).or_else(|| uri_of(&own))
    }

    /// The one edit of lines that formats a text; none where it is formatted, or cannot be.
    fn formatting(&self, document: &Document) -> Vec<TextEdit> {
        let old = &*document.text;
        let Ok(new) = steer_lang::format(old) else { return Vec::new() };
        if new == old {
            return Vec::new();
        }
        let (a, b): (Vec<&str>, Vec<&str>) = (old.split_inclusive('\n').collect(), new.split_inclusive('\n').collect());
        let before = a.iter().zip(&b).take_while(|(x, y)| x == y).count();
        let room = a.len().min(b.len()) - before;
        let after = a.iter().rev().zip(b.iter().rev()).take(room).take_while(|(x, y)| x == y).count();
        let bytes = |lines: &[&str]| lines.iter().map(|l| l.len()).sum::<usize>();
        let (start, end) = (bytes(&a[..before]), bytes(&a[..a.len() - after]));
        let range = Lines::new(old, self.encoding).range(start..end);
        vec![TextEdit { range, new_text: b[before..b.len() - after].concat() }]
    }

    fn outline(&self, document: &Document) -> Vec<DocumentSymbol> {
        let text = &*document.text;
        let (tree, _) = parse(FileId(0), text);
        let symbols = Symbols::of(&[Part { file: FileId(0), tree: &tree, text }]);
        let lines = Lines::new(text, self.encoding);
        let range = |s: Span| lines.range(s.start as usize..s.end as usize);
        let inside = |inner: Span, outer: Span| outer.start <= inner.start && inner.end <= outer.end && inner != outer;
        let symbol = |name: &str, kind, span: Span, whole: Span, detail: &str, children: Vec<DocumentSymbol>| {
            #[allow(deprecated)]
            DocumentSymbol {
                name: name.to_owned(),
                detail: Some(detail.to_owned()),
                kind,
                tags: None,
                deprecated: None,
                range: range(whole),
                selection_range: range(span),
                children: (!children.is_empty()).then_some(children),
            }
        };
        let within = |whole: Span| {
            let shown = symbols.definitions.iter().filter(|d| {
                let edit = matches!(d.kind, SymbolKind::Hook | SymbolKind::Patch | SymbolKind::Route | SymbolKind::Run);
                (edit || d.kind == SymbolKind::Site) && d.scope.is_some() && inside(d.whole, whole)
            });
            shown.map(|d| symbol(&d.name, lsp_kind(d.kind), d.span, d.whole, d.kind.word(), Vec::new())).collect()
        };
        let mut out = Vec::new();
        for item in &tree.items {
            if let steer_lang::ast::ItemKind::Arch(a) = &item.kind {
                let (Some(first), names) =
                    (a.names.first(), a.names.iter().map(|n| n.value.as_str()).collect::<Vec<_>>())
                else {
                    continue;
                };
                out.push(symbol(
                    &names.join(", "),
                    LspKind::CLASS,
                    first.span,
                    item.span,
                    "architecture",
                    within(item.span),
                ));
                continue;
            }
            let declared = symbols
                .definitions
                .iter()
                .find(|d| d.scope.is_none() && d.whole == item.span && d.kind != SymbolKind::Axis);
            if let Some(d) = declared {
                let children = if d.kind == SymbolKind::Sweep { within(item.span) } else { Vec::new() };
                out.push(symbol(&d.name, lsp_kind(d.kind), d.span, d.whole, d.kind.word(), children));
            }
        }
        out
    }

    fn shades(&self, document: &Document) -> SemanticTokens {
        let text = &*document.text;
        let lines = Lines::new(text, self.encoding);
        let (mut line, mut character) = (0, 0);
        let mut data = Vec::new();
        for (range, shade) in highlight(text) {
            let Some(token_type) = SHADES.iter().position(|(s, _)| *s == shade) else { continue };
            let at = lines.position(range.start);
            let delta_line = at.line - line;
            data.push(SemanticToken {
                delta_line,
                delta_start: if delta_line == 0 { at.character - character } else { at.character },
                length: lines.units(&text[range]),
                token_type: token_type as u32,
                token_modifiers_bitset: 0,
            });
            (line, character) = (at.line, at.character);
        }
        SemanticTokens { result_id: None, data }
    }
}

fn item(n: usize, c: Candidate, range: Range) -> CompletionItem {
    let label = c.text.trim_end().to_owned();
    CompletionItem {
        kind: Some(match c.kind {
            Kind::Keyword => CompletionItemKind::KEYWORD,
            Kind::Function | Kind::Metric => CompletionItemKind::FUNCTION,
            Kind::Edit => CompletionItemKind::EVENT,
            Kind::Run | Kind::Param | Kind::Local | Kind::Tensor => CompletionItemKind::VARIABLE,
            Kind::Table => CompletionItemKind::STRUCT,
            Kind::Axis => CompletionItemKind::ENUM_MEMBER,
            Kind::Site => CompletionItemKind::FIELD,
            Kind::Position | Kind::Value => CompletionItemKind::VALUE,
            Kind::Option => CompletionItemKind::PROPERTY,
            Kind::File => CompletionItemKind::FILE,
            Kind::Folder => CompletionItemKind::FOLDER,
            Kind::Model => CompletionItemKind::MODULE,
        }),
        detail: (!c.detail.is_empty()).then_some(c.detail),
        documentation: (!c.doc.is_empty()).then(|| Documentation::MarkupContent(markdown(c.doc))),
        sort_text: Some(format!("{n:05}")),
        filter_text: Some(c.text.clone()),
        text_edit: Some(CompletionTextEdit::Edit(TextEdit { range, new_text: c.text })),
        label,
        ..CompletionItem::default()
    }
}

fn lsp_kind(kind: SymbolKind) -> LspKind {
    match kind {
        SymbolKind::Function | SymbolKind::Metric => LspKind::FUNCTION,
        SymbolKind::Hook | SymbolKind::Patch | SymbolKind::Route => LspKind::EVENT,
        SymbolKind::Sweep | SymbolKind::Top => LspKind::STRUCT,
        SymbolKind::Data => LspKind::ARRAY,
        SymbolKind::Prompt | SymbolKind::Run => LspKind::STRING,
        SymbolKind::Site => LspKind::FIELD,
        SymbolKind::Sae => LspKind::OBJECT,
        _ => LspKind::VARIABLE,
    }
}

fn markdown(value: String) -> MarkupContent {
    MarkupContent { kind: MarkupKind::Markdown, value }
}

fn arguments<T: DeserializeOwned>(params: Value) -> Result<T, (ErrorCode, String)> {
    serde_json::from_value(params).map_err(|e| (ErrorCode::InvalidParams, e.to_string()))
}

pub(super) fn value<T: Serialize>(of: Option<T>) -> Answer {
    serde_json::to_value(of).map_err(|e| (ErrorCode::InternalError, e.to_string()))
}
