//! Selections of rows, from syntax to [`RowSet`].

use super::check::Checker;
use super::positions::{Interval, RowSet};
use super::scope::{Res, fail, silent};
use steer_lang::ast::{Ident, IndexItem, Positions, PositionsKind, Selection};
use steer_lang::diagnostic::nearest;
use steer_lang::{Diagnostic, codes};

impl Checker<'_> {
    /// All rows where nothing is said.
    pub fn selection(&mut self, s: Option<&Selection>) -> Res<RowSet> {
        s.map_or(Ok(RowSet::All), |s| self.row_set(&s.set))
    }

    fn row_set(&mut self, p: &Positions) -> Res<RowSet> {
        Ok(match &p.kind {
            PositionsKind::All => RowSet::All,
            PositionsKind::Prompt(part) => RowSet::Prompt(self.intervals(part.as_deref())?),
            PositionsKind::Generated(part) => RowSet::Generated(self.intervals(part.as_deref())?),
            PositionsKind::Seq(None) => RowSet::All,
            PositionsKind::Seq(part) => RowSet::Seq(self.intervals(part.as_deref())?.unwrap_or_default()),
            PositionsKind::Bos => RowSet::Bos,
            PositionsKind::After(text, part) => {
                let text = self.evaluator().interpolate(&text.value, text.span)?;
                RowSet::After(text).part(self.intervals(part.as_deref())?)
            }
            PositionsKind::Matching(text, part) => {
                let text = self.evaluator().interpolate(&text.value, text.span)?;
                RowSet::Matching(text).part(self.intervals(part.as_deref())?)
            }
            PositionsKind::Role(role) => RowSet::Role(role.name.clone()),
            PositionsKind::Mask(name) => {
                let Some(mask) = self.lists.get(&name.name) else {
                    if self.broken(&name.name) {
                        return Err(silent());
                    }
                    return Err(Box::new(
                        Diagnostic::error(codes::UNKNOWN_NAME, format!("there is no mask `{}`", name.name))
                            .at(name.span, "not declared")
                            .help(match nearest(&name.name, self.lists.keys().map(String::as_str)) {
                                Some(n) => format!("did you mean `{n}`?"),
                                None => format!("declare it with one number a token: `data {} = [0, 1, 1]`", name.name),
                            }),
                    ));
                };
                RowSet::Mask(mask.iter().map(|x| *x != 0.0).collect())
            }
            PositionsKind::Name(name) => {
                let Some(value) = self.local(&name.name) else {
                    return Err(self.no_positions(name));
                };
                match value.as_number() {
                    Some(n) if n.fract() == 0.0 => RowSet::Seq(vec![Interval::At(n as i64)]),
                    _ => {
                        let kind = value.kind();
                        return fail(
                            codes::WRONG_KIND,
                            format!("a position is wanted, and `{}` is {kind}", name.name),
                            name.span,
                            "this",
                        );
                    }
                }
            }
            PositionsKind::Or(a, b) => RowSet::Or(Box::new(self.row_set(a)?), Box::new(self.row_set(b)?)),
            PositionsKind::And(a, b) => RowSet::And(Box::new(self.row_set(a)?), Box::new(self.row_set(b)?)),
            PositionsKind::Not(a) => RowSet::Not(Box::new(self.row_set(a)?)),
        })
    }

    fn no_positions(&self, name: &Ident) -> Box<Diagnostic> {
        const WORDS: &[&str] = &["all", "prompt", "generated", "seq", "bos", "after", "matching", "role", "mask"];
        let swept = self.locals.iter().map(|(n, _)| n.as_str());
        let word = match name.name.as_str() {
            "last" => Some("-1"),
            "first" => Some("0"),
            _ => None,
        };
        let help = if let Some(n) = word {
            format!("write `prompt[{n}]`, or `seq[{n}]`")
        } else if self.lists.contains_key(&name.name) {
            format!("a list of ones and zeros is written `mask({})`", name.name)
        } else {
            match nearest(&name.name, swept.chain(WORDS.iter().copied())) {
                Some(n) => format!("did you mean `{n}`?"),
                None => "write `prompt[-1]`, `[3]`, `matching \"...\"`, or a name of the sweep around".to_owned(),
            }
        };
        Box::new(
            Diagnostic::error(codes::UNKNOWN_NAME, format!("`{}` names no positions", name.name))
                .at(name.span, "not a name of a sweep")
                .help(help),
        )
    }

    fn intervals(&mut self, part: Option<&[IndexItem]>) -> Res<Option<Vec<Interval>>> {
        let Some(items) = part else { return Ok(None) };
        let mut out = Vec::new();
        for item in items {
            out.push(match item {
                IndexItem::All(_) => Interval::Range(None, None),
                IndexItem::At(e) => Interval::At(self.integer(e)?),
                IndexItem::Range { start, end, inclusive, span } => {
                    let a = start.as_ref().map(|e| self.integer(e)).transpose()?;
                    let mut b = end.as_ref().map(|e| self.integer(e)).transpose()?;
                    if *inclusive {
                        // `..=-1` is up to the end.
                        b = b.and_then(|b| if b == -1 { None } else { Some(b + 1) });
                    }
                    if let (Some(x), Some(y)) = (a, b)
                        && x >= y
                        && (x < 0) == (y < 0)
                    {
                        return fail(
                            codes::EMPTY_SELECTION,
                            format!("{x}..{y} selects nothing"),
                            *span,
                            "an empty range",
                        );
                    }
                    Interval::Range(a, b)
                }
            });
        }
        Ok(Some(out))
    }
}
