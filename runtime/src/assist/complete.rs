//! What can stand at a place.

use super::expressions::Collect;
use super::language;
use super::path::{Dotted, site_of_item};
use super::place::{Holds, Place};
use super::{Candidate, Completion, Kind, Known, files};
use steer_lang::keywords::DECLARATIONS;
use steer_lang::symbols::SymbolKind;
use steer_lang::{TokenKind, lex};

/// What the sites of a mixture begin with.
pub const MIXTURE: &str = "moe.";

/// What a sweep's body holds.
const OF_SWEEPS: &[&str] = &["patch", "hook", "route", "run", "measure", "sweep"];

/// What can stand at a place of a text, the best first; nothing in comments and in plain texts.
pub fn complete(text: &str, offset: usize, known: &Known) -> Completion {
    let mut at = offset.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    let lexed = lex(text);
    let Some(place) = Place::find(text, &lexed.tokens, &lexed.comments, at) else { return Completion::default() };
    let mut collect = Collect::new(&place, known);
    let from = fill(&mut collect);
    let typed = text[from..at].to_lowercase();
    let mut candidates = collect.out;
    candidates.retain(|c| c.text.to_lowercase().starts_with(&typed));
    // Of equal texts the first one counts; what has the case that is typed comes first.
    let mut seen = std::collections::HashSet::new();
    candidates.retain(|c| seen.insert(c.text.clone()));
    candidates.sort_by_key(|c| !c.text.starts_with(&text[from..at]));
    Completion { from, candidates }
}

/// Collects the candidates; returns where what they replace begins.
fn fill(c: &mut Collect) -> usize {
    let place = c.place;
    if let Some(open) = place.quoted {
        return files::in_text(c, open);
    }
    if let Some(root) = place.path() {
        path(c, root);
        return place.from;
    }
    // A number goes on, as in `0.5`; `..` is a range.
    let dots = (0..place.before).rev().take_while(|n| place.word(*n) == ".").count();
    if dots == 1 {
        return place.from;
    }
    if place.last_word() == ":" && typed_parameter(place) {
        c.words(&["number", "int", "bool", "text"], Kind::Keyword);
        return place.from;
    }
    if place.begins_item() {
        let sweep = place.inner().is_some();
        if place.item.is_none() || place.ended() || sweep {
            match sweep {
                true => c.words(OF_SWEEPS, Kind::Keyword),
                false => c.words(DECLARATIONS, Kind::Keyword),
            }
            // What goes on with an item is indented.
            if !sweep && place.ended() && place.indented() {
                joining(c);
            }
            return place.from;
        }
    }
    match place.inner().map(|o| o.holds) {
        Some(Holds::Index) => index(c),
        Some(Holds::Options) => options(c),
        Some(Holds::Arguments) if !place.ended() => arguments(c),
        Some(Holds::Body) if place.begins_statement() => statement(c),
        Some(Holds::Body) => {
            if place.ended() {
                c.words(&["else"], Kind::Keyword);
                c.words(if place.declaration() == "route" { &["by"] } else { &[] }, Kind::Keyword);
            } else {
                in_body(c);
            }
        }
        Some(Holds::Group) if !place.ended() => match place.clause {
            "on" | "at" if takes_positions(place) => c.positions(),
            "by" => c.runs(),
            _ => c.values(),
        },
        Some(Holds::Group | Holds::Arguments) => {}
        None | Some(Holds::Sweep) if place.ended() && !names_itself(place) => joining(c),
        None | Some(Holds::Sweep) => clause(c),
    }
    place.from
}

/// Whether the colon before the place is one of a parameter.
fn typed_parameter(place: &Place) -> bool {
    place.declaration() == "param" && place.open.is_empty()
        || place.inner().is_some_and(|o| o.holds == Holds::Arguments && place.item.is_some_and(|i| o.token == i + 2))
}

/// Whether a declaration's own name is being written.
fn names_itself(place: &Place) -> bool {
    place.item.is_some_and(|i| place.before == i + 1) && SymbolKind::declared_by(place.declaration()).is_some()
}

/// Whether `on` or `at` is followed by positions here.
fn takes_positions(place: &Place) -> bool {
    match place.declaration() {
        "metric" | "top" => place.clause == "at",
        "measure" => false,
        _ => place.clause == "on",
    }
}

/// Words that can follow where a value has ended.
fn joining(c: &mut Collect) {
    let words: &[&str] = match c.place.declaration() {
        "hook" => &["at", "on", "from", "by"],
        "patch" => &["at", "on", "from", "with", "by"],
        "route" | "vector" | "tensor" => &["at", "on"],
        "sae" | "metric" => &["at"],
        "run" | "generate" | "diff" => &["with"],
        "measure" => &["on", "with", "normalized by", "over"],
        "capture" => &["on", "of", "with", "to"],
        "sweep" => &["over", "in"],
        "top" => &["of", "at", "over", "with"],
        "plot" => &["as", "to"],
        "save" | "report" => &["to"],
        "param" => &["in"],
        _ => &[],
    };
    // `measure mean m` ends with a name, too.
    if c.place.declaration() == "measure" && c.place.last_word() == "mean" {
        c.metrics();
    }
    c.words(words, Kind::Keyword);
}

/// Behind a word of an item that says what follows.
fn clause(c: &mut Collect) {
    let place = c.place;
    if names_itself(place) {
        return;
    }
    match (place.declaration(), place.clause) {
        (_, "with") => c.edits(),
        (_, "from") | ("capture", "of") | ("measure", "on" | "over") | ("top", "over") | ("run", "=") => c.runs(),
        ("generate", "generate") | ("diff", "diff") => c.runs(),
        (_, "on") | ("metric" | "top", "at") => c.positions(),
        (_, "at") => sites(c),
        // A site of a run, at the prompt; a table says what it is of.
        (item, "of") if item != "top" => c.runs(),
        ("capture", _) => {
            sites(c);
            c.words(&["before"], Kind::Keyword);
        }
        (_, "by") => {
            c.words(&["index", "end", "token"], Kind::Keyword);
            c.data();
        }
        (_, "normalized") => c.words(&["by"], Kind::Keyword),
        ("plot", "as") => c.words(&["heat", "line", "bar", "scatter"], Kind::Value),
        ("plot", "plot") => c.tables(),
        ("save", "save") => {
            c.tables();
            c.tensors();
        }
        ("sweep", "in") => swept(c),
        ("sweep", _) | ("model" | "import" | "report" | "arch", _) | (_, "to") => {}
        ("measure", "measure") => {
            c.metrics();
            c.words(&["mean"], Kind::Keyword);
            c.values();
        }
        ("data", "=") => {
            c.functions(|f| f.data);
            c.data();
        }
        ("prompt", "=") => {
            c.functions(|f| f.name == "chat");
            c.runs();
        }
        ("vector" | "tensor", "=") => {
            c.functions(|f| matches!(f.name.as_str(), "mean" | "mean_diff" | "total" | "pca" | "load"));
            c.values();
        }
        ("", _) => c.words(DECLARATIONS, Kind::Keyword),
        _ => c.values(),
    }
}

fn sites(c: &mut Collect) {
    c.locals();
    c.site_roots();
}

/// What a sweep can go over.
fn swept(c: &mut Collect) {
    c.add(Candidate::new("blocks", Kind::Value).detail("the blocks of the model, or `blocks[2..6]`"));
    c.add(
        Candidate::new("tokens(", Kind::Function)
            .detail("tokens(run)")
            .doc("The positions of a run, labelled by their tokens."),
    );
    c.axes("");
    c.data();
    c.tensors();
    c.params();
}

/// Behind a dot.
fn path(c: &mut Collect, root: usize) {
    let place = c.place;
    // What is typed so far of the last part is no part yet.
    let Some(dotted) = Dotted::read(place.text, place.tokens, root, place.before) else { return };
    let done = dotted.rest();
    let done = if done.is_empty() { String::new() } else { format!("{done}.") };
    let head = dotted.root();
    let kind = c.declared().iter().find(|d| d.name == head).map(|d| d.kind);
    if kind == Some(SymbolKind::Sae) && done.is_empty() {
        for part in ["site", "config", "W_enc", "W_dec", "b_enc", "b_dec"] {
            c.add(Candidate::new(part, Kind::Tensor));
        }
        return;
    }
    let Some(model) = c.known.model else { return };
    if head == "config" && place.declaration() == "arch" && done.is_empty() {
        model.config.iter().for_each(|key| c.add(Candidate::new(key, Kind::Value)));
        return;
    }
    let local = super::declared::locals(place).into_iter().any(|(name, _)| name == head);
    if head == "blocks" && place.declaration() == "route" && place.clause == "at" {
        let mixture = model.of_block(dotted.layer(model)).into_iter().any(|s| s.name.starts_with(MIXTURE));
        if mixture && done.is_empty() {
            let name = MIXTURE.trim_end_matches('.');
            c.add(Candidate::new(name, Kind::Site).detail("a mixture of experts"));
        }
        return;
    }
    if head == "blocks" || local {
        for site in model.of_block(dotted.layer(model)).into_iter().filter(|s| s.name.starts_with(&done)) {
            c.site(site, done.len());
        }
        return;
    }
    let whole = format!("{}.", dotted.whole());
    let outside: Vec<_> = model.outside().filter(|s| s.name.starts_with(&whole)).collect();
    let own = model.of_block(None).into_iter().filter(|s| s.name.starts_with(&whole));
    outside.into_iter().chain(own).for_each(|s| c.site(s, whole.len()));
}

/// In the brackets of an index.
fn index(c: &mut Collect) {
    let place = c.place;
    let Some(open) = place.inner().copied() else { return };
    if place.ended() {
        return;
    }
    if open.head == "blocks" {
        c.add(Candidate::new("*", Kind::Value).detail("all blocks that have the site"));
        c.locals();
        if let Some(model) = c.known.model {
            for layer in 0..model.layers {
                c.add(
                    Candidate::new(layer.to_string(), Kind::Value).detail(format!("block {layer} of {}", model.layers)),
                );
            }
            c.add(Candidate::new("-1", Kind::Value).detail("the last block"));
        }
        c.params();
        return;
    }
    let family = c.declared().iter().any(|d| d.kind == SymbolKind::Tensor && d.name == open.head);
    if family {
        c.add(Candidate::new("layer", Kind::Local).detail("the layer of the hook's site"));
    }
    let after_axis = place.last_word() == "=";
    if !after_axis {
        axes_of_index(c, open.token, open.head);
    }
    c.locals();
    c.params();
}

/// The axes of the value that is indexed.
fn axes_of_index(c: &mut Collect, bracket: usize, head: &str) {
    let place = c.place;
    let Some(model) = c.known.model else { return };
    let site = match head {
        "h" | "h0" | "donor" => site_of_item(place, model),
        _ => {
            // The dotted name that ends before the bracket.
            let mut from = bracket.saturating_sub(1);
            while from >= 2 && place.word(from - 1) == "." {
                from -= 2;
                if place.word(from) == "]" {
                    from = (0..from).rev().find(|n| place.word(*n) == "[").and_then(|n| n.checked_sub(1)).unwrap_or(0);
                }
            }
            let dotted = Dotted::read(place.text, place.tokens, from, bracket);
            dotted.and_then(|d| d.site(model, d.root() == "blocks").or_else(|| d.site(model, true)))
        }
    };
    match site {
        Some(site) => {
            for (name, size) in &site.axes {
                let detail = size.map_or("as many as the row has keys".to_owned(), |n| format!("{n} entries"));
                c.add(Candidate::new(format!("{name} = "), Kind::Axis).detail(detail));
            }
        }
        None => c.axes(" = "),
    }
}

/// In `{ max: 30 }`.
fn options(c: &mut Collect) {
    let place = c.place;
    let item = place.declaration();
    if place.last_word() == ":" {
        let name = place.before.checked_sub(2).map_or("", |n| place.word(n));
        match (item, name) {
            ("generate", "stop") => c.words(&["true", "false"], Kind::Value),
            ("generate", "score") => {
                c.metrics();
                c.functions(|f| f.metric);
            }
            ("plot", "column") => c.metrics(),
            _ => {}
        }
        c.params();
        c.locals();
        return;
    }
    if !matches!(place.last_word(), "{" | ",") && !place.fresh {
        return;
    }
    let mut option = |name: &str, detail: &str, doc: &str| {
        c.add(Candidate::new(format!("{name}: "), Kind::Option).detail(detail).doc(doc));
    };
    match item {
        "generate" => language::words_of("Generation").for_each(|(name, row)| option(name, row.of(name), "")),
        "top" => option("count", "how many rows the table has", ""),
        "plot" => {
            option("column", "which metric: a name, or a text such as \"kl(clean)\"", "");
            option("x", "the axis that goes across", "");
            option("y", "the axis that goes up", "");
            option("series", "the axis that is shown by colours", "");
            option("title", "a text above the plot", "");
            option("min", "where the colours or the axis of values begin", "");
            option("max", "where they end", "");
        }
        "model" => {
            let keys = c.known.model.map(|m| m.config.clone()).unwrap_or_default();
            keys.iter().for_each(|k| c.add(Candidate::new(format!("{k}: "), Kind::Option)));
        }
        _ => {}
    }
}

/// In the parentheses of a call.
fn arguments(c: &mut Collect) {
    let place = c.place;
    let Some(open) = place.inner().copied() else { return };
    // A declaration's own parameters have new names; defaults are values.
    if place.item.is_some_and(|i| open.token == i + 2) && SymbolKind::declared_by(place.declaration()).is_some() {
        if place.last_word() == "=" {
            c.values();
        }
        return;
    }
    let named = matches!(place.last_word(), "(" | ",");
    match open.head {
        "role" => c.words(&["user", "assistant", "system"], Kind::Value),
        "mask" if takes_positions(place) => c.data(),
        "tokens" | "kl" => c.runs(),
        "chat" => {
            if named {
                ["user = ", "assistant = ", "system = ", "open = "]
                    .iter()
                    .for_each(|r| c.add(Candidate::new(*r, Kind::Local)));
            }
            c.values();
        }
        "lines" | "jsonl" | "csv" | "parquet" => {}
        head => {
            let edits = place.clause == "with";
            if named {
                c.arguments_of(head, edits);
            }
            if edits {
                if c.out.is_empty() || !named || c.typed() {
                    c.locals();
                    c.params();
                }
            } else {
                c.values();
                c.data();
            }
        }
    }
}

/// Where a statement begins.
fn statement(c: &mut Collect) {
    match c.place.declaration() {
        "hook" => {
            c.words(&["let", "when", "if"], Kind::Keyword);
        }
        "route" => {
            c.words(&["mask", "drop", "mute", "force", "bias"], Kind::Keyword);
            c.route_values();
            c.words(&["let", "when", "if"], Kind::Keyword);
        }
        "arch" => c.words(&["site", "write", "let", "axis", "blocks", "require", "if"], Kind::Keyword),
        _ => c.words(&["let", "if", "when", "site"], Kind::Keyword),
    }
    c.values();
}

/// In a statement.
fn in_body(c: &mut Collect) {
    let last = c.place.last_word();
    // A new name follows.
    if matches!(last, "let" | "axis" | "write")
        || last == "site" && c.place.last().is_some_and(|t| t.kind == TokenKind::Word && t.first)
    {
        return;
    }
    if last == "by" {
        c.words(&["max"], Kind::Value);
    }
    if last == "else" {
        c.words(&["when", "if"], Kind::Keyword);
        return;
    }
    if matches!(last, "mask" | "drop" | "mute" | "force" | "bias") {
        c.functions(|f| matches!(f.name.as_str(), "top" | "bottom" | "random"));
    }
    c.values();
}
