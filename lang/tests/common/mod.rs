//! Texts to try things on.

#![allow(dead_code)]

/// Scripts that use every form of the language.
pub const CORPUS: &[(&str, &str)] = &[
    ("script", include_str!("../corpus/script.steer")),
    ("arch", include_str!("../corpus/arch.steer")),
    ("comments", include_str!("../corpus/comments.steer")),
    ("wide", include_str!("../corpus/wide.steer")),
];

/// The items of the corpus, each by itself.
pub fn snippets() -> Vec<String> {
    let mut snippets = Vec::new();
    for (_, text) in CORPUS {
        let (file, _) = steer_lang::parse(steer_lang::FileId(0), text);
        let mut from = 0;
        for item in &file.items {
            // With the comments above it.
            snippets.push(text[from..item.span.end as usize].to_owned());
            from = item.span.end as usize;
        }
    }
    snippets
}

/// Numbers that look random and are the same in every run.
pub struct Lcg(pub u64);

impl Lcg {
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit.max(1)
    }
}

/// Pieces that matter to the language.
const PIECES: &[&str] = &[
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "\"",
    "#",
    "##",
    "\n",
    " ",
    "..",
    "..=",
    "=",
    "==",
    "-",
    "!",
    "|",
    "||",
    "&",
    "*",
    "/",
    "//",
    "'",
    "\\",
    ",",
    ".",
    ":",
    "@",
    "^",
    "??",
    "0",
    "1e",
    "when",
    "else",
    "if",
    "let",
    "hook",
    "data x = 1",
    "on",
    "at",
    "with",
    "é",
    "\u{1F600}",
    "\r\n",
    "\t",
    "# note\n",
    "## doc\n",
    "\n\n\n",
    "a",
    "(a = 1 b)",
    "|x| { x }",
];

/// A text with a few bytes, pieces or lines of it changed.
pub fn mutate(text: &str, random: &mut Lcg) -> String {
    let mut text = text.to_owned();
    for _ in 0..=random.below(4) {
        let at = boundary(&text, random);
        match random.below(5) {
            0 => text.insert_str(at, PIECES[random.below(PIECES.len())]),
            1 => {
                let end = text[at..].char_indices().nth(1 + random.below(3)).map_or(text.len(), |(n, _)| at + n);
                text.replace_range(at..end, "");
            }
            2 => {
                // A comment where a gap is.
                if let Some(gap) = text[at..].find(' ') {
                    text.insert_str(at + gap, [" # moved\n", "\n# own\n", "\n", "  ## twice\n"][random.below(4)]);
                }
            }
            3 => {
                let mut lines: Vec<&str> = text.lines().collect();
                let (a, b) = (random.below(lines.len()), random.below(lines.len()));
                lines.swap(a, b);
                text = lines.join("\n");
            }
            _ => {
                let end = boundary(&text, random);
                let (a, b) = (at.min(end), at.max(end).min(at.min(end) + 30));
                let piece: String = text.get(a..b).unwrap_or("").to_owned();
                text.insert_str(boundary(&text, random), &piece);
            }
        }
    }
    text
}

fn boundary(text: &str, random: &mut Lcg) -> usize {
    let mut at = random.below(text.len() + 1);
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// Diagnostics as lines: place, code, message, labels and help.
pub fn render(text: &str, diags: &[steer_lang::Diagnostic]) -> String {
    let mut out = String::new();
    for diag in diags {
        out.push_str(&format!("{} {}\n", diag.code, diag.message));
        for label in &diag.labels {
            let (start, end) = (label.span.start as usize, label.span.end as usize);
            let line = text[..start].matches('\n').count() + 1;
            out.push_str(&format!("  {line} `{}` {}\n", &text[start..end], label.text));
        }
        if let Some(help) = &diag.help {
            out.push_str(&format!("  help: {help}\n"));
        }
    }
    out
}

use steer_lang::ast::*;

/// An expression with every pair of parentheses.
pub fn show(expr: &Expr) -> String {
    let list = |all: &[Expr]| all.iter().map(show).collect::<Vec<_>>().join(", ");
    match &expr.kind {
        ExprKind::Number(n) => n.to_string(),
        ExprKind::Text(t) => format!("{t:?}"),
        ExprKind::Bool(b) => b.to_string(),
        ExprKind::None => "none".to_owned(),
        ExprKind::Name(name) => name.clone(),
        ExprKind::Field(inner, name) => format!("{}.{}", show(inner), name.name),
        ExprKind::Index(inner, args) => {
            let args: Vec<_> = args
                .iter()
                .map(|a| a.axis.as_ref().map_or(String::new(), |n| format!("{}=", n.name)) + &show_index(&a.item))
                .collect();
            format!("{}[{}]", show(inner), args.join(", "))
        }
        ExprKind::Call(inner, args) => {
            let args: Vec<_> = args
                .iter()
                .map(|a| a.name.as_ref().map_or(String::new(), |n| format!("{}=", n.name)) + &show(&a.value))
                .collect();
            format!("{}({})", show(inner), args.join(", "))
        }
        ExprKind::Unary(op, inner) => format!("({}{})", op.symbol(), show(inner)),
        ExprKind::Binary(op, left, right) => {
            format!("({} {} {})", show(left), op.symbol(), show(right))
        }
        ExprKind::List(all) => format!("[{}]", list(all)),
        ExprKind::Axes(parts) => {
            let parts: Vec<_> = parts
                .iter()
                .map(|p| p.name.name.clone() + &p.size.as_ref().map_or(String::new(), |s| format!("={}", show(s))))
                .collect();
            format!("({})", parts.join(" "))
        }
        ExprKind::If { cond, then, otherwise } => {
            let otherwise = otherwise.as_ref().map_or(String::new(), |b| format!(" else {}", show_block(b)));
            format!("if {} {}{otherwise}", show(cond), show_block(then))
        }
        ExprKind::Lambda(params, body) => {
            let params: Vec<_> = params.iter().map(|p| p.name.as_str()).collect();
            format!("|{}| {}", params.join(", "), show_block(body))
        }
    }
}

fn show_block(block: &Block) -> String {
    let stmts: Vec<_> = block
        .stmts
        .iter()
        .map(|s| match &s.kind {
            StmtKind::Expr(e) => show(e),
            other => format!("{other:?}"),
        })
        .collect();
    format!("{{{}}}", stmts.join("; "))
}

fn show_index(item: &IndexItem) -> String {
    match item {
        IndexItem::All(_) => "*".to_owned(),
        IndexItem::At(at) => show(at).replace("(-1)", "-1"),
        IndexItem::Range { start, end, inclusive, .. } => {
            let side = |e: &Option<Expr>| e.as_ref().map_or(String::new(), show);
            format!("{}{}{}", side(start), if *inclusive { "..=" } else { ".." }, side(end))
        }
    }
}

/// Positions with every pair of parentheses.
pub fn show_set(set: &Positions) -> String {
    let rows = |word: &str, index: &Option<Vec<IndexItem>>| match index {
        None => word.to_owned(),
        Some(items) => format!("{word}[{}]", items.iter().map(show_index).collect::<Vec<_>>().join(", ")),
    };
    match &set.kind {
        PositionsKind::All => "all".to_owned(),
        PositionsKind::Bos => "bos".to_owned(),
        PositionsKind::Prompt(index) => rows("prompt", index),
        PositionsKind::Generated(index) => rows("generated", index),
        PositionsKind::Seq(index) => rows("seq", index),
        PositionsKind::After(text, index) => rows(&format!("after {:?}", text.value), index),
        PositionsKind::Matching(text, index) => rows(&format!("matching {:?}", text.value), index),
        PositionsKind::Role(name) => format!("role({})", name.name),
        PositionsKind::Mask(name) => format!("mask({})", name.name),
        PositionsKind::Name(name) => name.name.clone(),
        PositionsKind::Or(a, b) => format!("({} | {})", show_set(a), show_set(b)),
        PositionsKind::And(a, b) => format!("({} & {})", show_set(a), show_set(b)),
        PositionsKind::Not(inner) => format!("!{}", show_set(inner)),
    }
}
