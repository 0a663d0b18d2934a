//! What is said of the word at a place.

use super::declared::{declared, locals};
use super::define::{library_text, names};
use super::functions::Functions;
use super::model::{ModelFacts, SiteFacts};
use super::path::{Dotted, site_of_item};
use super::place::{Holds, Place};
use super::{Known, language};
use std::ops::Range;
use steer_lang::symbols::{Definition, SymbolKind, slots};
use steer_lang::{FileId, Lexed, TokenKind, lex};

/// What is known of a word, in Markdown, and the bytes that it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hover {
    pub range: Range<usize>,
    pub text: String,
}

/// What is known of what stands at a place: a site's contract and shape, a function's signature, a declaration.
pub fn hover(text: &str, offset: usize, known: &Known) -> Option<Hover> {
    let lexed = lex(text);
    let n = word_at(&lexed, offset)?;
    let token = lexed.tokens[n];
    let place = Place::find(text, &lexed.tokens, &lexed.comments, token.start)?;
    if let TokenKind::Text { .. } = token.kind {
        return in_text(text, offset, n, &lexed, known);
    }
    if let Some(found) = known.model.and_then(|m| site(text, &lexed, n, &place, m)) {
        return Some(found);
    }
    let word = &text[token.start..token.end];
    let part = n > 0 && lexed.tokens[n - 1].kind == TokenKind::Mark('.');
    let range = token.start..token.end;
    if let Some((range, text)) = defined(text, offset, known) {
        return Some(Hover { range, text });
    }
    if part {
        return None;
    }
    let next =
        |mark: u8| lexed.tokens.get(n + 1).is_some_and(|t| t.kind == TokenKind::Open(mark) && t.start == token.end);
    let said =
        next(b'(').then(|| function(word)).flatten().or_else(|| of_language(word, &place, next(b'['))).or_else(|| {
            let size = known.model?.axis(word)?;
            let size = size.map_or("as many entries as the row has keys".to_owned(), |n| format!("{n} entries"));
            Some(format!("axis `{word}`: {size}"))
        });
    // A text that does not parse still declares.
    let said = said.or_else(|| {
        let all = declared(text);
        let found = all.iter().find(|d| d.name == word)?;
        Some(declaration(&found.head, &found.doc, None))
    });
    Some(Hover { range, text: said? })
}

/// The word or text that a place touches; of two the one that begins there.
fn word_at(lexed: &Lexed, offset: usize) -> Option<usize> {
    let touches = |n: &usize| {
        let t = lexed.tokens[*n];
        t.start <= offset && offset <= t.end && matches!(t.kind, TokenKind::Word | TokenKind::Text { .. })
    };
    let near = lexed.tokens.partition_point(|t| t.end < offset);
    (near..lexed.tokens.len().min(near + 2)).rev().find(touches)
}

/// The site that a dotted name is, with all of its parts up to the last.
fn site(text: &str, lexed: &Lexed, n: usize, place: &Place, model: &ModelFacts) -> Option<Hover> {
    let root = root_of(lexed, n);
    let dotted = Dotted::read(text, &lexed.tokens, root, lexed.tokens.len())?;
    let named = dotted.root();
    let block = named == "blocks" || dotted.parts.len() > 1 && locals(place).iter().any(|(l, _)| l == named);
    if let Some(site) = dotted.site(model, block) {
        return Some(Hover {
            range: dotted.start..dotted.end,
            text: about_site(&text[dotted.start..dotted.end], site, model),
        });
    }
    if named == "blocks" && n == root {
        let last = model.layers.saturating_sub(1);
        let text = format!("the {} blocks of {} ({}), 0 to {last}", model.layers, model.name, model.architecture);
        return Some(Hover { range: lexed.tokens[n].start..lexed.tokens[n].end, text });
    }
    // In a body the sites of the hook's own block.
    let inside =
        place.inner().is_some_and(|o| o.holds != Holds::Options) && matches!(place.declaration(), "hook" | "route");
    let value = matches!(named, "h" | "h0" | "donor") && dotted.parts.len() == 1;
    if inside && value {
        let site = site_of_item(place, model)?;
        let row = language::about(named, &["Hook bodies"]).map_or("", |r| r.of(named));
        let text = format!("`{named}`: {row}\n\n`{}` `{}`: {}", site.name, site.shape(), site.contract);
        return Some(Hover { range: lexed.tokens[n].start..lexed.tokens[n].end, text });
    }
    let whole = dotted.whole();
    let found =
        model.of_block(None).into_iter().find(|s| s.name == whole).filter(|_| inside && dotted.parts.len() > 1)?;
    Some(Hover { range: dotted.start..dotted.end, text: about_site(&whole, found, model) })
}

/// The first token of the dotted name that a word is a part of.
fn root_of(lexed: &Lexed, n: usize) -> usize {
    let tokens = &lexed.tokens;
    let mut at = n;
    while at >= 2 && tokens[at - 1].kind == TokenKind::Mark('.') && tokens[at - 1].end == tokens[at].start {
        let mut before = at - 2;
        if tokens[before].kind == TokenKind::Close(b']') {
            let mut depth = 1;
            while depth > 0 && before > 0 {
                before -= 1;
                match tokens[before].kind {
                    TokenKind::Close(b']') => depth += 1,
                    TokenKind::Open(b'[') => depth -= 1,
                    _ => {}
                }
            }
            let Some(name) = before.checked_sub(1) else { break };
            before = name;
        }
        if tokens[before].kind != TokenKind::Word {
            break;
        }
        at = before;
    }
    at
}

fn about_site(written: &str, site: &SiteFacts, model: &ModelFacts) -> String {
    let of = match &site.layers[..] {
        [] => String::new(),
        all if all.len() as u32 == model.layers => format!(", in all {} blocks", model.layers),
        [one] => format!(", in block {one} of {}", model.layers),
        some => format!(", in {} of {} blocks", some.len(), model.layers),
    };
    let shape = site.shape();
    format!("`{written}` `{shape}`\n\n{}\n\n{} ({}){of}", site.contract, model.name, model.architecture)
}

/// The declaration of a name of the script, its imports or the library.
fn defined(text: &str, offset: usize, known: &Known) -> Option<(Range<usize>, String)> {
    let (symbols, texts) = names(text, known);
    let (span, found) = symbols.at(FileId(0), offset)?;
    let range = span.start as usize..span.end as usize;
    let Some(index) = found else { return Some((range, function_used(&symbols, span)?)) };
    let of = symbols.definitions[index].of.map(|o| &symbols.definitions[o]);
    Some((range, about_definition(&symbols.definitions[index], of, &texts)))
}

/// Where a function of the library is called.
fn function_used(symbols: &steer_lang::symbols::Symbols, span: steer_lang::Span) -> Option<String> {
    let used = symbols.uses.iter().find(|u| u.span == span)?;
    (used.role == steer_lang::symbols::Role::Function).then(|| function(&used.name)).flatten()
}

fn about_definition(d: &Definition, of: Option<&Definition>, texts: &[&str]) -> String {
    let text = texts.get(d.whole.file.0 as usize).copied().unwrap_or_default();
    let whole = text.get(d.whole.start as usize..d.whole.end as usize).unwrap_or_default();
    let owner = of.map(|o| format!("of the {} `{}`", o.kind.word(), o.name));
    match d.kind {
        SymbolKind::Parameter => {
            let head = declared(whole).into_iter().next();
            let param = head.and_then(|h| h.params.into_iter().find(|p| starts_with_word(p, &d.name)));
            declaration(&param.unwrap_or_else(|| d.name.clone()), "", owner.map(|o| format!("parameter {o}")))
        }
        SymbolKind::SweepAxis => declaration(&one_line(whole), "", owner.map(|o| format!("name {o}"))),
        SymbolKind::Local | SymbolKind::Site | SymbolKind::Axis | SymbolKind::Family => {
            let line = whole.lines().next().unwrap_or_default();
            declaration(line, d.doc.as_deref().unwrap_or_default(), Some(d.kind.word().to_owned()))
        }
        _ => {
            let head = declared(whole).into_iter().next().map_or_else(|| one_line(whole), |h| h.head);
            declaration(&head, d.doc.as_deref().unwrap_or_default(), None)
        }
    }
}

fn starts_with_word(text: &str, word: &str) -> bool {
    text.strip_prefix(word).is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_'))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn declaration(head: &str, doc: &str, what: Option<String>) -> String {
    let mut out = format!("```steer\n{}\n```", head.trim());
    for part in [what.unwrap_or_default(), doc.to_owned()] {
        if !part.is_empty() {
            out += &format!("\n\n{part}");
        }
    }
    out
}

fn function(name: &str) -> Option<String> {
    let f = Functions::standard().get(name)?;
    let place = f.place.map(|(n, _)| library_text(n).0.to_owned());
    Some(declaration(&f.signature, &f.doc, None) + &place.map_or(String::new(), |p| format!("\n\n{p}")))
}

/// What the reference says of a word here, behind which brackets may stand.
fn of_language(word: &str, place: &Place, indexed: bool) -> Option<String> {
    let said = |row: &language::Row| format!("`{word}`: {}", row.of(word));
    let holds = place.inner().map(|o| o.holds);
    if holds == Some(Holds::Options) {
        return language::about(word, &["Generation", "Tables"]).map(said);
    }
    let inside = place.open.iter().any(|o| o.holds == Holds::Body) && place.declaration() != "arch";
    let of_routes = || language::section_word(word, "Routes").filter(|_| place.declaration() == "route");
    let of_hooks = || language::about(word, &["Hook bodies"]).filter(|r| r.heads.len() < 6);
    if let Some(row) = inside.then(|| of_hooks().or_else(of_routes)).flatten() {
        return Some(said(row));
    }
    if place.clause == "on" || place.declaration() == "metric" && place.clause == "at" {
        let rows = language::rows().iter().filter(|r| r.section == "Positions");
        let begins = |h: &String| match indexed {
            true => h.strip_prefix(word).is_some_and(|rest| rest.starts_with('[')),
            false => h == word || starts_with_word(h, word),
        };
        if let Some(row) = rows.into_iter().find(|r| r.heads.iter().any(begins)) {
            let shown = if indexed { format!("{word}[...]") } else { word.to_owned() };
            return Some(format!("`{shown}`: {}", row.of(word)));
        }
    }
    if !steer_lang::keywords::is_keyword(word) {
        return None;
    }
    language::keyword(word).map(said)
}

/// In a text: the name of a slot, or the model that is named.
fn in_text(text: &str, offset: usize, n: usize, lexed: &Lexed, known: &Known) -> Option<Hover> {
    let token = lexed.tokens[n];
    let literal = &text[token.start..token.end];
    if n > 0 && &text[lexed.tokens[n - 1].start..lexed.tokens[n - 1].end] == "model" {
        let m = known.model?;
        let text = format!("{}: {} with {} blocks", m.name, m.architecture, m.layers);
        return Some(Hover { range: token.start..token.end, text });
    }
    let inside = |r: &Range<usize>| token.start + r.start <= offset && offset <= token.start + r.end;
    slots(literal).into_iter().find(|(r, _)| inside(r))?;
    let (range, text) = defined(text, offset, known)?;
    Some(Hover { range, text })
}
