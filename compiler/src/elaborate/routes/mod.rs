//! Routes: statements about experts, as edits of the sites between a router and its gates.
//!
//! The body of a route is one text. At each site that some of its statements concern, these are what is evaluated there,
//! with the names and conditions that they need.

mod experts;
mod mixtures;
mod ranking;

pub use experts::Claim;
pub use mixtures::Claims;
pub use ranking::{Order, Ranking, ranked};

use crate::elaborate::scope::Res;
use std::collections::BTreeSet;
use steer_lang::ast::{Block, Expr, ExprKind, Ident, Stmt, StmtKind, Verb};
use steer_lang::diagnostic::nearest;
use steer_lang::{Diagnostic, Span, codes};

/// The sites of a mixture that a route works at, in the order in which the model computes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    Router,
    Scores,
    Selection,
    TopK,
    Chosen,
    ChosenScores,
    Gates,
}

impl Stage {
    pub const ALL: [Stage; 7] =
        [Stage::Router, Stage::Scores, Stage::Selection, Stage::TopK, Stage::Chosen, Stage::ChosenScores, Stage::Gates];

    /// The last part of the site's name, and what a route calls its value.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Router => "router",
            Stage::Scores => "scores",
            Stage::Selection => "selection",
            Stage::TopK => "top_k",
            Stage::Chosen => "chosen",
            Stage::ChosenScores => "chosen_scores",
            Stage::Gates => "gates",
        }
    }

    pub fn named(name: &str) -> Option<Stage> {
        Stage::ALL.into_iter().find(|s| s.name() == name)
    }
}

/// The mixture and the stage of a site such as `blocks[3].moe.gates`.
pub fn stage_of(site: &str) -> Option<(&str, Stage)> {
    let (mixture, last) = site.rsplit_once('.')?;
    Some((mixture, Stage::named(last)?))
}

/// Where a statement about experts does something.
fn acts_at(verb: Verb, by: Option<&Expr>) -> &'static [Stage] {
    match (verb, by) {
        (Verb::Mask, _) => &[Stage::Router, Stage::Selection],
        (Verb::Drop | Verb::Mute, _) => &[Stage::Gates],
        (Verb::Force, None) | (Verb::Bias, _) => &[Stage::Selection],
        (Verb::Force, Some(_)) => &[Stage::Selection, Stage::ChosenScores],
    }
}

/// The sites that statements of a body concern.
pub fn stages(body: &Block) -> Vec<Stage> {
    Stage::ALL.into_iter().filter(|s| !at_stage(body, *s).stmts.is_empty()).collect()
}

/// The part of a body that is evaluated at one site.
pub fn at_stage(body: &Block, stage: Stage) -> Block {
    part(body, stage, &mut BTreeSet::new())
}

/// The same of one block; `needed` are the names that what follows reads.
fn part(block: &Block, stage: Stage, needed: &mut BTreeSet<String>) -> Block {
    let mut stmts: Vec<Stmt> = block.stmts.iter().rev().filter_map(|s| part_of(s, stage, needed)).collect();
    stmts.reverse();
    Block { stmts, span: block.span }
}

fn part_of(stmt: &Stmt, stage: Stage, needed: &mut BTreeSet<String>) -> Option<Stmt> {
    let reads = |needed: &mut BTreeSet<String>, e: &Expr| needed.extend(e.names().into_iter().map(str::to_owned));
    let kind = match &stmt.kind {
        StmtKind::Let(name, e) => {
            if !needed.contains(&name.name) {
                return None;
            }
            reads(needed, e);
            return Some(stmt.clone());
        }
        StmtKind::Assign { target, value, .. } => {
            let root = root(target)?;
            if root != stage.name() && !needed.contains(root) {
                return None;
            }
            reads(needed, target);
            reads(needed, value);
            return Some(stmt.clone());
        }
        StmtKind::Experts { verb, experts, by } => {
            if !acts_at(*verb, by.as_ref()).contains(&stage) {
                return None;
            }
            experts.iter().chain(by).for_each(|e| reads(needed, e));
            return Some(stmt.clone());
        }
        StmtKind::When { cond, then, otherwise } => {
            let (then, otherwise) = parts(then, otherwise.as_ref(), stage, needed)?;
            reads(needed, cond);
            StmtKind::When { cond: cond.clone(), then, otherwise }
        }
        StmtKind::Expr(Expr { kind: ExprKind::If { cond, then, otherwise }, span }) => {
            let (then, otherwise) = parts(then, otherwise.as_ref(), stage, needed)?;
            reads(needed, cond);
            StmtKind::Expr(Expr { kind: ExprKind::If { cond: cond.clone(), then, otherwise }, span: *span })
        }
        _ => return None,
    };
    Some(Stmt { kind, ..stmt.clone() })
}

fn parts(
    then: &Block,
    otherwise: Option<&Block>,
    stage: Stage,
    needed: &mut BTreeSet<String>,
) -> Option<(Block, Option<Block>)> {
    let otherwise = otherwise.map(|o| part(o, stage, needed));
    let then = part(then, stage, needed);
    let empty = then.stmts.is_empty() && otherwise.as_ref().is_none_or(|o| o.stmts.is_empty());
    (!empty).then_some((then, otherwise))
}

/// The name that an assignment is to.
fn root(target: &Expr) -> Option<&str> {
    match &target.kind {
        ExprKind::Name(n) => Some(n),
        ExprKind::Index(of, _) => root(of),
        _ => None,
    }
}

/// What a body says that no site could make sense of.
pub fn check_body(body: &Block) -> Res<()> {
    check_block(body, &mut Vec::new())?;
    check_order(body, &mut Vec::new())
}

/// A name that a body gives to something, with the sites that it was read from, and those changed since.
struct Taken<'b> {
    name: &'b str,
    from: BTreeSet<Stage>,
    changed: BTreeSet<Stage>,
}

/// Each site is evaluated by itself, behind those before it: a name for its value before a change is not there any more
/// behind it.
fn check_order<'b>(block: &'b Block, taken: &mut Vec<Taken<'b>>) -> Res<()> {
    let outer = taken.len();
    for s in &block.stmts {
        let (acts, read): (BTreeSet<Stage>, Vec<&Expr>) = match &s.kind {
            StmtKind::Let(name, e) => {
                let names = e.names();
                let direct = names.iter().filter_map(|n| Stage::named(n));
                let of = |n: &&str| taken.iter().rev().find(|t| *t.name == **n);
                let mut mine = Taken { name: &name.name, from: direct.collect(), changed: BTreeSet::new() };
                for before in names.iter().filter_map(of) {
                    mine.from.extend(&before.from);
                    mine.changed.extend(&before.changed);
                }
                taken.push(mine);
                continue;
            }
            StmtKind::Assign { target, value, .. } => {
                (root(target).and_then(Stage::named).into_iter().collect(), vec![target, value])
            }
            StmtKind::Experts { verb, experts, by } => {
                let acts = acts_at(*verb, by.as_ref()).iter().copied().collect();
                (acts, experts.iter().chain(by).collect())
            }
            StmtKind::When { cond, then, otherwise } => {
                check_branches(cond, then, otherwise.as_ref(), taken)?;
                continue;
            }
            StmtKind::Expr(Expr { kind: ExprKind::If { cond, then, otherwise }, .. }) => {
                check_branches(cond, then, otherwise.as_ref(), taken)?;
                continue;
            }
            _ => continue,
        };
        if let Some(latest) = acts.iter().max() {
            read.iter().try_for_each(|e| check_taken(e, *latest, taken))?;
        }
        for t in taken.iter_mut() {
            t.changed.extend(t.from.intersection(&acts).copied());
        }
    }
    taken.truncate(outer);
    Ok(())
}

fn check_branches<'b>(
    cond: &Expr,
    then: &'b Block,
    otherwise: Option<&'b Block>,
    taken: &mut Vec<Taken<'b>>,
) -> Res<()> {
    for inside in std::iter::once(then).chain(otherwise) {
        let latest = stages(inside).into_iter().max();
        latest.map_or(Ok(()), |at| check_taken(cond, at, taken))?;
        check_order(inside, taken)?;
    }
    Ok(())
}

/// An error where `e` reads, at a later site, what a name stood for before a change.
fn check_taken(e: &Expr, at: Stage, taken: &[Taken]) -> Res<()> {
    for name in e.names() {
        let Some(t) = taken.iter().rev().find(|t| t.name == name) else { continue };
        if let Some(changed) = t.changed.iter().find(|s| **s < at) {
            let site = changed.name();
            return Err(Box::new(
                Diagnostic::error(codes::BAD_TARGET, format!("`{name}` was taken before `{site}` was changed"))
                    .at(e.span, format!("acts at `{}`, where only the new `{site}` is there", at.name()))
                    .help(
                        "take it behind the change, or change it in a route of its own, which stands behind in `with`",
                    ),
            ));
        }
    }
    Ok(())
}

fn check_block(block: &Block, known: &mut Vec<String>) -> Res<()> {
    let outer = known.len();
    for s in &block.stmts {
        match &s.kind {
            StmtKind::Let(name, _) if Stage::named(&name.name).is_some() => {
                return Err(taken(name));
            }
            StmtKind::Let(name, _) => known.push(name.name.clone()),
            StmtKind::Assign { target, .. } => {
                let name = root(target).unwrap_or_default();
                if Stage::named(name).is_none() && !known.iter().any(|k| k == name) {
                    return Err(no_target(name, target.span));
                }
            }
            StmtKind::Experts { verb: verb @ (Verb::Mask | Verb::Drop | Verb::Mute), by: Some(by), .. } => {
                return Err(Box::new(
                    Diagnostic::error(codes::BAD_ARGUMENTS, format!("`{}` takes no `by`", verb.word()))
                        .at(by.span, "nothing is asked for here")
                        .help("`bias 3 by -1` makes a choice less likely; `gates[expert = 3] *= 0.5` makes a gate smaller"),
                ));
            }
            StmtKind::Experts { verb: Verb::Bias, by: None, .. } => {
                return Err(Box::new(
                    Diagnostic::error(codes::BAD_ARGUMENTS, "`bias` needs a number")
                        .at(s.span, "by how much?")
                        .help("write `bias 3 by 0.5`"),
                ));
            }
            StmtKind::Experts { .. } => {}
            StmtKind::When { then, otherwise, .. }
            | StmtKind::Expr(Expr { kind: ExprKind::If { then, otherwise, .. }, .. }) => {
                check_block(then, known)?;
                otherwise.iter().try_for_each(|o| check_block(o, known))?;
            }
            _ => {
                return Err(Box::new(
                    Diagnostic::error(codes::WRONG_KIND, "this does nothing in a route")
                        .at(s.span, "a value that nothing reads")
                        .help("a route is made of `mask`, `drop`, `mute`, `force`, `bias`, of assignments such as `top_k = 1`, `let`, `when` and `if`"),
                ));
            }
        }
    }
    known.truncate(outer);
    Ok(())
}

/// The error for a name that is one of the mixture's values.
pub fn taken(name: &Ident) -> Box<Diagnostic> {
    Box::new(
        Diagnostic::error(codes::DUPLICATE_NAME, format!("`{}` has a meaning of its own in routes", name.name))
            .at(name.span, "a site of the mixture")
            .help("give it another name"),
    )
}

/// The error for a value of the mixture that is computed only behind the site in hand.
pub fn too_early(name: &str, at: Stage, span: Span) -> Box<Diagnostic> {
    Box::new(
        Diagnostic::error(codes::UNKNOWN_SITE, format!("`{name}` is computed behind `{}`", at.name()))
            .at(span, format!("what this decides acts on `{}`", at.name()))
            .help("`mask` acts on the logits already, `bias`, `force` and `top_k` behind the scores, `drop` and `mute` on the gates"),
    )
}

fn no_target(name: &str, span: Span) -> Box<Diagnostic> {
    let all = Stage::ALL.map(Stage::name);
    let what = if name == "h" { "a route has no `h`".to_owned() } else { format!("a route cannot assign to `{name}`") };
    Box::new(Diagnostic::error(codes::BAD_TARGET, what).at(span, "no site of the mixture").help(
        match nearest(name, all).filter(|_| name.len() > 1) {
            Some(n) => format!("did you mean `{n}`?"),
            None => format!("assign to {}", all.map(|n| format!("`{n}`")).join(", ")),
        },
    ))
}
