//! Names that nothing declares, of a script whose model is not known: what cannot be a site or an axis.

use super::Known;
use super::define::names;
use super::functions::Functions;
use std::collections::HashMap;
use steer_lang::diagnostic::nearest;
use steer_lang::symbols::{Role, SymbolKind, Symbols, Use};
use steer_lang::{Diagnostic, Diagnostics, FileId, codes};

/// Warnings for names that nothing in the text or its imports declares; errors for names that are declared twice.
pub fn unknown_names(text: &str, known: &Known) -> Diagnostics {
    let (symbols, _) = names(text, known);
    let mut out = twice(&symbols);
    out.extend(
        symbols
            .uses
            .iter()
            .filter(|u| u.definition.is_none() && u.span.file == FileId(0))
            .filter_map(|u| unknown(u, &symbols)),
    );
    out.sort_by_key(|d| d.labels.first().map(|l| l.span.start));
    out
}

fn unknown(used: &Use, symbols: &Symbols) -> Option<Diagnostic> {
    let edit = |k| matches!(k, SymbolKind::Hook | SymbolKind::Patch | SymbolKind::Route);
    let run = |k| matches!(k, SymbolKind::Prompt | SymbolKind::Data | SymbolKind::Run);
    let table = |k| matches!(k, SymbolKind::Sweep | SymbolKind::Top | SymbolKind::Tensor);
    let (what, code, of): (&str, _, &dyn Fn(SymbolKind) -> bool) = match used.role {
        Role::Edit => ("hook, patch or route", codes::UNKNOWN_NAME, &edit),
        Role::Run => ("prompt, data set or run", codes::UNKNOWN_NAME, &run),
        Role::Table => ("table", codes::UNKNOWN_NAME, &table),
        Role::List => ("list", codes::UNKNOWN_NAME, &|k| k == SymbolKind::Data),
        Role::Function if used.name != "site" && Functions::standard().get(&used.name).is_none() => {
            ("function", codes::UNKNOWN_FUNCTION, &|k| k == SymbolKind::Function)
        }
        _ => return None,
    };
    let names = symbols.definitions.iter().filter(|d| of(d.kind)).map(|d| d.name.as_str());
    let standard = Functions::standard().iter().map(|f| f.name.as_str()).filter(|_| used.role == Role::Function);
    let near = nearest(&used.name, names.chain(standard));
    Some(
        Diagnostic::warning(code, format!("there is no {what} `{}` in this file", used.name))
            .at(used.span, "not declared")
            .help(match near {
                Some(n) => format!("did you mean `{n}`?"),
                None => "declare it, unless a script that imports this file does".to_owned(),
            }),
    )
}

fn twice(symbols: &Symbols) -> Diagnostics {
    let mut seen = HashMap::new();
    let mut out = Vec::new();
    for d in symbols.definitions.iter().filter(|d| d.scope.is_none() && d.kind != SymbolKind::Axis) {
        let key = (d.kind == SymbolKind::Function, d.name.as_str());
        let Some(first) = seen.insert(key, d.span) else { continue };
        seen.insert(key, first);
        if d.span.file != FileId(0) && first.file != FileId(0) {
            continue;
        }
        out.push(
            Diagnostic::error(codes::DUPLICATE_NAME, format!("`{}` is declared twice", d.name))
                .at(d.span, "declared again here")
                .at(first, "first declared here")
                .help("give one of them another name"),
        );
    }
    out
}
