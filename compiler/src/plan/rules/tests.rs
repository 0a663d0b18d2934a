//! What the rules' tests share.

use super::{By, FUSE, OptimizeError, Options, RULES, Rule, erase_unused, find, optimize};
use crate::plan::{Plan, parse, print, verify};

/// Applies one rule to a text, then erases what is left over, and compares with a text.
pub(super) fn check(rule: &str, before: &str, after: &str) {
    let mut plan = read(before);
    apply(find(rule).unwrap(), &mut plan);
    assert_eq!(verify(&plan), Vec::<String>::new(), "{}", print(&plan));
    apply(&erase_unused::RULE, &mut plan);
    assert_eq!(verify(&plan), Vec::<String>::new(), "{}", print(&plan));
    assert_eq!(print(&plan), print(&read(after)));
}

fn apply(rule: &Rule, plan: &mut Plan) {
    let By::Rewrite(rewrite) = rule.by else { panic!("{} rewrites nothing", rule.name) };
    rewrite(plan);
}

pub(super) fn read(text: &str) -> Plan {
    let plan = parse(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    assert_eq!(verify(&plan), Vec::<String>::new(), "{text}");
    plan
}

#[test]
fn an_unknown_rule_is_named() {
    let options = Options { disable: vec!["share_equals".to_owned()], ..Options::default() };
    let error = optimize(&mut Plan::default(), &options, &mut |_, _, _| {}).unwrap_err();
    let OptimizeError::UnknownRule { nearest, .. } = error else { panic!("{error}") };
    assert_eq!(nearest, Some("share_equal"));
}

#[test]
fn stopping_and_disabling() {
    let seen = |options: Options| {
        let mut names = Vec::new();
        optimize(&mut Plan::default(), &options, &mut |rule, _, _| names.push(rule.name)).unwrap();
        names
    };
    let all: Vec<&str> = RULES.iter().filter(|r| matches!(r.by, By::Rewrite(_))).map(|r| r.name).collect();
    assert_eq!(seen(Options::default()), all);
    assert_eq!(seen(Options { disable: vec![all[0].into()], stop_after: Some(all[2].into()) }), all[1..3]);
    let stopped = Options { disable: Vec::new(), stop_after: Some(all[2].into()) };
    assert!(Options::default().applies(&FUSE) && !stopped.applies(&FUSE));
}
