//! Rewrites of the Plan, one file a rule, in one order.

mod erase_unused;
mod fold_constants;
mod read_early;
mod rewrite;
mod share_equal;
mod simplify;
mod slice_logits;
#[cfg(test)]
mod tests;

use super::ir::{EditId, Plan};
use super::verify::verify;
use steer_lang::diagnostic::nearest;

/// One rewrite.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    pub name: &'static str,
    /// What it does, in a sentence.
    pub doc: &'static str,
    /// Whether every value keeps its bits.
    pub exact: bool,
    pub apply: fn(&mut Plan) -> Changes,
}

/// Every rule, in the order of application.
pub const RULES: &[Rule] = &[
    // First what the elaborator could not know to be a number, so that the next rule sees it.
    fold_constants::RULE,
    // Before the sharing of equals: it makes nodes equal.
    simplify::RULE,
    share_equal::RULE,
    // After sharing, which leaves one reader where there were several; before `slice_logits`, which looks
    // for reads right at the product.
    read_early::RULE,
    slice_logits::RULE,
    // Last: every other rule leaves nodes behind that nothing reads.
    erase_unused::RULE,
];

/// What a rule did, for `explain`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    /// How many nodes it changed or erased.
    pub count: usize,
    /// In words, a line each.
    pub notes: Vec<String>,
    /// Sites that are not computed, since nothing reads them.
    pub erased_sites: Vec<String>,
    /// Edits whose effect nothing reads.
    pub unread_edits: Vec<EditId>,
    /// The last layer that anything needs, where there are further ones.
    pub last_layer: Option<u32>,
}

impl Changes {
    fn of(count: usize, what: &str) -> Changes {
        let notes = if count > 0 { vec![format!("{what} {count}")] } else { Vec::new() };
        Changes { count, notes, ..Changes::default() }
    }
}

#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Rules that are left out.
    pub disable: Vec<String>,
    /// The last rule that is applied.
    pub stop_after: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum OptimizeError {
    /// An option names no rule.
    UnknownRule { name: String, nearest: Option<&'static str> },
    /// A bug: the Plan is not sound before or after this rule.
    Broken { rule: &'static str, messages: Vec<String> },
}

impl std::error::Error for OptimizeError {}

impl std::fmt::Display for OptimizeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            OptimizeError::UnknownRule { name, .. } => write!(f, "there is no rule `{name}`"),
            OptimizeError::Broken { rule, messages } => {
                write!(f, "the plan is not sound after `{rule}`: {}", messages.join("; "))
            }
        }
    }
}

/// The rule of that name.
pub fn find(name: &str) -> Result<&'static Rule, OptimizeError> {
    RULES.iter().find(|r| r.name == name).ok_or_else(|| OptimizeError::UnknownRule {
        name: name.to_owned(),
        nearest: nearest(name, RULES.iter().map(|r| r.name)),
    })
}

/// Applies the rules in order. `observer` sees the Plan after each of them.
pub fn optimize(
    plan: &mut Plan,
    options: &Options,
    observer: &mut dyn FnMut(&Rule, &Plan, &Changes),
) -> Result<(), OptimizeError> {
    for name in options.disable.iter().chain(&options.stop_after) {
        find(name)?;
    }
    check(plan, "elaborate")?;
    for rule in RULES {
        if !options.disable.iter().any(|d| d == rule.name) {
            let changes = (rule.apply)(plan);
            check(plan, rule.name)?;
            observer(rule, plan, &changes);
        }
        if options.stop_after.as_deref() == Some(rule.name) {
            break;
        }
    }
    Ok(())
}

fn check(plan: &Plan, rule: &'static str) -> Result<(), OptimizeError> {
    if !cfg!(any(debug_assertions, test)) {
        return Ok(());
    }
    let messages = verify(plan);
    if messages.is_empty() { Ok(()) } else { Err(OptimizeError::Broken { rule, messages }) }
}
