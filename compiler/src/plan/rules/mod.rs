//! What makes of a Plan a smaller one and of that a short program: rules in one order, each of which can be left
//! out. Rewrites of the Plan have a file each; the last are the scheduler's.

mod erase_unused;
mod fold_constants;
mod read_early;
mod rewrite;
mod share_equal;
mod simplify;
mod slice_logits;
mod stream_window;
#[cfg(test)]
mod tests;

use super::ir::{EditId, Plan};
use super::verify::verify;
use steer_lang::diagnostic::nearest;

/// One rule.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    pub name: &'static str,
    /// What it does, in a sentence.
    pub doc: &'static str,
    /// Whether every value keeps its bits.
    pub exact: bool,
    pub by: By,
}

/// What carries a rule out.
#[derive(Clone, Copy, Debug)]
pub enum By {
    Rewrite(fn(&mut Plan) -> Changes),
    /// The scheduler asks whether the rule applies.
    Scheduler,
}

pub const NARROW: Rule = Rule {
    name: "narrow",
    doc: "Computes what only its own row reads for the rows that something reads.",
    exact: true,
    by: By::Scheduler,
};

pub const FUSE: Rule = Rule {
    name: "fuse",
    doc: "Makes one kernel of all operations that are ready together, and one instruction of recurrences and sums over experts.",
    exact: true,
    by: By::Scheduler,
};

/// Every rule, in the order of application.
pub const RULES: &[Rule] = &[
    // First what the elaborator could not know to be a number, so that the next rule sees it.
    fold_constants::RULE,
    // Before `simplify`, which looks through the window.
    stream_window::RULE,
    // Before the sharing of equals: it makes nodes equal.
    simplify::RULE,
    share_equal::RULE,
    // After sharing, which leaves one reader where there were several; before `slice_logits`, which looks
    // for reads right at the product.
    read_early::RULE,
    slice_logits::RULE,
    // Last: every other rule leaves nodes behind that nothing reads.
    erase_unused::RULE,
    NARROW,
    FUSE,
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

impl Options {
    /// Whether a rule is applied.
    pub fn applies(&self, rule: &Rule) -> bool {
        let at = |name: &str| RULES.iter().position(|r| r.name == name);
        let last = self.stop_after.as_deref().and_then(at);
        let early = last.is_none_or(|last| at(rule.name).is_some_and(|own| own <= last));
        early && !self.disable.iter().any(|d| d == rule.name)
    }
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

/// Applies the rewrites in order. `observer` sees the Plan after each of them.
pub fn optimize(
    plan: &mut Plan,
    options: &Options,
    observer: &mut dyn FnMut(&Rule, &Plan, &Changes),
) -> Result<(), OptimizeError> {
    for name in options.disable.iter().chain(&options.stop_after) {
        find(name)?;
    }
    check(plan, "elaborate")?;
    for rule in RULES.iter().filter(|r| options.applies(r)) {
        let By::Rewrite(rewrite) = rule.by else { continue };
        let changes = rewrite(plan);
        check(plan, rule.name)?;
        observer(rule, plan, &changes);
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
