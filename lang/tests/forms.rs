//! Each form of the language is read as what it means.

mod common;

use common::show;
use steer_lang::ast::*;
use steer_lang::{FileId, parse, parse_expr};

fn expr(text: &str) -> String {
    let (expr, diags) = parse_expr(FileId(0), text);
    assert!(diags.is_empty(), "{text}: {diags:#?}");
    show(&expr.unwrap())
}

fn items(text: &str) -> Vec<Item> {
    let (file, diags) = parse(FileId(0), text);
    assert!(diags.is_empty(), "{text}\n{}", common::render(text, &diags));
    file.items
}

fn item(text: &str) -> ItemKind {
    let mut items = items(text);
    assert_eq!(items.len(), 1, "{text}");
    items.remove(0).kind
}

/// The statements of a hook's body.
fn body(text: &str) -> Vec<Stmt> {
    match item(&format!("hook x at embed {{\n{text}\n}}")) {
        ItemKind::Hook(hook) => hook.body.stmts,
        other => panic!("{other:?}"),
    }
}

#[test]
fn precedence() {
    assert_eq!(expr("a + b * c - d"), "((a + (b * c)) - d)");
    assert_eq!(expr("a ?? b || c && d == e + f"), "(a ?? (b || (c && (d == (e + f)))))");
    assert_eq!(expr("a ?? b ?? c"), "((a ?? b) ?? c)");
    assert_eq!(expr("-a ^ 2"), "(-(a ^ 2))");
    assert_eq!(expr("2 ^ -a ^ b"), "(2 ^ (-(a ^ b)))");
    assert_eq!(expr("a ^ b ^ c"), "(a ^ (b ^ c))");
    assert_eq!(expr("-a * b"), "((-a) * b)");
    assert_eq!(expr("!a == b"), "((!a) == b)");
    assert_eq!(expr("W @ h * 2 % 3 / 4"), "((((W @ h) * 2) % 3) / 4)");
    assert_eq!(expr("a.b[1](2).c"), "a.b[1](2).c");
    assert_eq!(expr("--!a"), "(-(-(!a)))");
}

#[test]
fn primaries() {
    assert_eq!(expr("1_000"), "1000");
    assert_eq!(expr("1e-5"), "0.00001");
    assert_eq!(expr("2.5E+3"), "2500");
    assert_eq!(expr("[true, false, none]"), "[true, false, none]");
    assert_eq!(expr(r#""a\n\t\"\\\u{1F600}""#), "\"a\\n\\t\\\"\\\\\u{1F600}\"");
    assert_eq!(expr("(a)"), "a");
    assert_eq!(expr("(head d_head)"), "(head d_head)");
    assert_eq!(expr("(qkv = 3 head d_head)"), "(qkv=3 head d_head)");
}

#[test]
fn axes() {
    assert_eq!(expr("[feature = 512, d_model, (a b)]"), "[(feature=512), d_model, (a b)]");
    assert_eq!(expr("[feature = 2 * n]"), "[(feature=(2 * n))]");
    assert_eq!(expr("(a = (n / 2) b = config.x c = f(y))"), "(a=(n / 2) b=config.x c=f(y))");
    assert_eq!(expr("(a == b)"), "(a == b)");
}

#[test]
fn indices() {
    assert_eq!(expr("h[*]"), "h[*]");
    assert_eq!(expr("h[2..4]"), "h[2..4]");
    assert_eq!(expr("h[2..=n - 1, ..3, 3.., ..]"), "h[2..=(n - 1), ..3, 3.., ..]");
    assert_eq!(expr("h[head = 3, d_head = 0..4, key = *]"), "h[head=3, d_head=0..4, key=*]");
    assert_eq!(expr("h[a * b]"), "h[(a * b)]");
    assert_eq!(expr("h[1.5..2]"), "h[1.5..2]");
}

#[test]
fn calls() {
    assert_eq!(expr("f()"), "f()");
    assert_eq!(expr("f(a, axis = head, at = [1],)"), "f(a, axis=head, at=[1])");
    assert_eq!(expr("f(|a, b| { a })"), "f(|a, b| {a})");
    assert_eq!(expr("|| { 1 }"), "|| {1}");
}

#[test]
fn branches() {
    assert_eq!(expr("if a { b } else if c { d } else { e }"), "if a {b} else {if c {d} else {e}}");
    assert_eq!(expr("if a { b }"), "if a {b}");
    assert_eq!(expr("1 + if a { b } else { c } + 2"), "((1 + if a {b} else {c}) + 2)");
}

#[test]
fn line_ends_in_bodies() {
    assert_eq!(body("let a = b\n[x, y]").len(), 2);
    assert_eq!(body("let a = b\n(x)").len(), 2);
    assert_eq!(body("let a = b\n-a").len(), 2);
    assert_eq!(body("let a = b\n    - a").len(), 1);
    assert_eq!(body("let a = b -\na").len(), 1);
    assert_eq!(body("let a = b -a").len(), 1);
    assert_eq!(body("let a = b # note\n    + c").len(), 1);
    assert_eq!(body("let a =\nb").len(), 1);
}

#[test]
fn statements() {
    let kinds = body(
        "let a = 1\nh = a\nh += a\nh -= a\nh *= a\nh /= a\nh[head = 3] = 0\nwhen a < 1 { } else when b { } else if c { } else { }\nsite a.b.c = 1\nwrite attn.out = 2\naxis d = 3\nblocks l in 0..n - 1 under \"x.{l}.\" { }\nrequire a == b, \"no\"\nblocks[3].resid",
    );
    assert_eq!(kinds.len(), 14);
    let ops: Vec<_> = kinds
        .iter()
        .filter_map(|s| if let StmtKind::Assign { op, .. } = &s.kind { Some(op.symbol()) } else { None })
        .collect();
    assert_eq!(ops, ["=", "+=", "-=", "*=", "/=", "="]);
    let StmtKind::When { otherwise: Some(second), .. } = &kinds[7].kind else { panic!("{:?}", kinds[7]) };
    let StmtKind::When { otherwise: Some(third), .. } = &second.stmts[0].kind else { panic!("{second:?}") };
    let StmtKind::Expr(Expr { kind: ExprKind::If { otherwise: Some(last), .. }, .. }) = &third.stmts[0].kind else {
        panic!("{third:?}")
    };
    assert!(last.stmts.is_empty());
    assert!(matches!(&kinds[8].kind, StmtKind::Site { path, .. } if path.len() == 3));
    assert!(matches!(&kinds[11].kind, StmtKind::Blocks { under, .. } if under.value == "x.{l}."));
    assert!(matches!(&kinds[13].kind, StmtKind::Expr(_)));
}

#[test]
fn docs() {
    let all = items(
        "## One.\n##  Two.\nparam a = 1\n\n## Apart.\n\nparam b = 1\n# plain\nparam c = 1 ## behind\nparam d = 1",
    );
    let docs: Vec<_> = all.iter().map(|i| i.doc.as_deref()).collect();
    assert_eq!(docs, [Some("One.\n Two."), None, None, None]);
    let stmts = body("## Its contract.\nsite a = 1\nsite b = 2");
    assert_eq!(stmts[0].doc.as_deref(), Some("Its contract."));
    assert_eq!(stmts[1].doc, None);
}

#[test]
fn params() {
    let ItemKind::Param(param) = item("param a: int = 3 in -1..n + 1") else { panic!() };
    assert_eq!(param.ty.unwrap().0, ParamType::Integer);
    let (low, high) = param.bounds.unwrap();
    assert_eq!((show(&low), show(&high)), ("(-1)".to_owned(), "(n + 1)".to_owned()));
    let ItemKind::Fn(function) = item("fn f(a, b: bool, c = 1 in 0..2, d in 0..1,) = a") else { panic!() };
    let shapes: Vec<_> =
        function.params.iter().map(|p| (p.ty.is_some(), p.default.is_some(), p.bounds.is_some())).collect();
    assert_eq!(shapes, [(false, false, false), (true, false, false), (false, true, true), (false, false, true)]);
}

#[test]
fn sites() {
    let ItemKind::Capture(capture) =
        item("capture blocks[*].attn.in, blocks[-1, 2..4].at, unembed.on, site.x of clean to \"x\"")
    else {
        panic!()
    };
    let names: Vec<Vec<&str>> =
        capture.at.iter().map(|s| s.segments.iter().map(|p| p.name.name.as_str()).collect()).collect();
    assert_eq!(names, [vec!["blocks", "attn", "in"], vec!["blocks", "at"], vec!["unembed", "on"], vec!["site", "x"]]);
    assert_eq!(capture.at[1].segments[0].index.as_ref().map(Vec::len), Some(2));
}

#[test]
fn positions() {
    let set = |text: &str| {
        let ItemKind::Hook(hook) = item(&format!("hook x at embed on {text} {{ h = 0 }}")) else { panic!() };
        let on = hook.on.unwrap();
        (on.maybe, common::show_set(&on.set))
    };
    assert_eq!(set("all").1, "all");
    assert_eq!(set("maybe prompt[-1] | generated & !bos"), (true, "(prompt[-1] | (generated & !bos))".to_owned()));
    assert_eq!(set("(prompt | generated) & seq[1, 2..3]").1, "((prompt | generated) & seq[1, 2..3])");
    assert_eq!(set("[3] | [0..=4] | seq").1, "((seq[3] | seq[0..=4]) | seq)");
    assert_eq!(set("after \".\" | matching \"Mary\"").1, "(after \".\" | matching \"Mary\")");
    assert_eq!(set("role(user) & mask(ones)").1, "(role(user) & mask(ones))");
    assert_eq!(set("!!(!bos)").1, "!!!bos");
}

#[test]
fn runs() {
    let ItemKind::Run(run) = item("run r = clean with cheer(alpha = 4), mary, calm()") else { panic!() };
    let uses: Vec<_> = run.run.with.iter().map(|u| (u.name.name.as_str(), u.args.len())).collect();
    assert_eq!(uses, [("cheer", 1), ("mary", 0), ("calm", 0)]);
    let ItemKind::Measure(measure) = item("measure mean a, b(x = 1) over clean, corrupt with cheer") else { panic!() };
    assert!(measure.mean);
    assert_eq!((measure.metrics.len(), measure.on.len()), (2, 2));
    let uses = |measure: &Measure| measure.on.iter().map(|r| r.with.len()).collect::<Vec<_>>();
    assert_eq!(uses(&measure), [0, 1]);
    let ItemKind::Measure(measure) = item("measure a on p, p with b, c(x = 1), q with b normalized by (p, q)") else {
        panic!()
    };
    assert_eq!(uses(&measure), [0, 2, 1]);
    let ItemKind::Generate(generate) = item("generate \"a\" with b { max: 60, seed: 1 }") else { panic!() };
    assert_eq!(generate.options.len(), 2);
    let ItemKind::Generate(generate) = item("generate clean {\nmax: 60\ntemperature: 0.8\n}") else { panic!() };
    assert_eq!(generate.options.len(), 2);
}

#[test]
fn words_that_are_names_elsewhere() {
    let ItemKind::Measure(measure) = item("measure mean on clean") else { panic!() };
    assert!(!measure.mean);
    let ItemKind::Measure(measure) = item("measure mean(x) on clean") else { panic!() };
    assert!(!measure.mean);
    let ItemKind::Capture(capture) = item("capture before of clean to \"x\"") else { panic!() };
    assert!(!capture.before);
    for text in [
        "hook data1 at embed { h = prompts }",
        "hook data at embed { let prompt = run\n model = prompt }",
        "param number = 1",
        "data vector = [model, hook, import]",
        "print x.in.on.at.if",
        "fn f(from, to, of, over, under, axis_) = from + to",
    ] {
        item(text);
    }
}

#[test]
fn items_begin_on_lines() {
    let text = "data a = [\n1,\n2\n]\nhook b\nat embed\non all\n{\nh = 0\n}\n  param c = 1\nrun d =\n  clean\n  with b\nprint a +\nb";
    assert_eq!(items(text).len(), 5);
}

#[test]
fn spans() {
    let text = "# é\nhook a at blocks[2].mlp.out { # note\n  h += (v) # end\n}  # after\n";
    let all = items(text);
    let at = |span: steer_lang::Span| &text[span.start as usize..span.end as usize];
    let ItemKind::Hook(hook) = &all[0].kind else { panic!() };
    assert!(at(all[0].span).starts_with("hook a") && at(all[0].span).ends_with("}"));
    assert_eq!(hook.name.as_ref().map(|n| at(n.span)), Some("a"));
    assert_eq!(at(hook.at[0].span), "blocks[2].mlp.out");
    assert_eq!(at(hook.body.stmts[0].span), "h += (v)");
    let StmtKind::Assign { value, .. } = &hook.body.stmts[0].kind else { panic!() };
    assert_eq!(at(value.span), "(v)");
}

#[test]
fn a_sweep_and_what_stands_in_it() {
    let text = "sweep resid over b in blocks[1..], t in tokens(corrupt)[1..], k in 0..=3 {\n    \
                patch b.resid.pre on t from clean by end\n    \
                hook half(a = 2) at b.mlp.out { h *= a }\n    \
                hook b.attn.z from clean { h[head = k] = donor[head = k] }\n    \
                run r = corrupt with half\n    \
                sweep over x in [1, 2] {\n        measure mean ld on r with half(a = x) normalized by (corrupt, clean)\n    }\n}";
    let ItemKind::Sweep(sweep) = item(text) else { panic!("no sweep") };
    let vars: Vec<&str> = sweep.over.iter().map(|a| a.var.name.as_str()).collect();
    assert_eq!(vars, ["b", "t", "k"]);
    assert!(matches!(sweep.over[0].values, SweepValues::Blocks(Some(_))));
    assert!(matches!(sweep.over[2].values, SweepValues::Of(IndexItem::Range { inclusive: true, .. })));
    let [patch, named, nameless, run, inner] = &sweep.body[..] else { panic!("{:?}", sweep.body) };
    let ItemKind::Patch(patch) = &patch.kind else { panic!("{patch:?}") };
    assert!(patch.name.is_none() && patch.from.by.as_ref().is_some_and(|b| b.name == "end"));
    assert!(matches!(&patch.on.as_ref().unwrap().set.kind, PositionsKind::Name(n) if n.name == "t"));
    assert!(matches!(&named.kind, ItemKind::Hook(h) if h.name.is_some() && h.params.len() == 1 && h.from.is_none()));
    assert!(matches!(&nameless.kind, ItemKind::Hook(h) if h.name.is_none() && h.from.is_some()));
    assert!(matches!(run.kind, ItemKind::Run(_)));
    let ItemKind::Sweep(inner) = &inner.kind else { panic!("{inner:?}") };
    assert!(matches!(&inner.body[0].kind, ItemKind::Measure(m) if m.mean && m.normalized.is_some()));
}

#[test]
fn routes() {
    let text = "route calm(n = 2) at blocks[*].moe on prompt {\n    mask 3, [[1, 5]]\n    force -1 by max\n    drop [4]\n    \
                mask = 1\n    when a { top_k = 1 } else if b { mute (2) }\n    bias x < 1 by -0.5\n}";
    let ItemKind::Route(route) = &items(text)[0].kind else { panic!() };
    assert!(route.name.is_some() && route.params.len() == 1 && route.on.is_some());
    let of = |s: &Stmt| match &s.kind {
        StmtKind::Experts { verb, experts, by } => Some((*verb, experts.len(), by.is_some())),
        _ => None,
    };
    let [mask, force, drop, assigned, chain, bias] = &route.body.stmts[..] else { panic!("{:?}", route.body) };
    assert_eq!((of(mask), of(force)), (Some((Verb::Mask, 2, false)), Some((Verb::Force, 1, true))));
    assert_eq!((of(drop), of(bias)), (Some((Verb::Drop, 1, false)), Some((Verb::Bias, 1, true))));
    assert!(matches!(assigned.kind, StmtKind::Assign { .. }));
    let StmtKind::When { then, otherwise: Some(otherwise), .. } = &chain.kind else { panic!("{chain:?}") };
    assert!(matches!(then.stmts[0].kind, StmtKind::Assign { .. }));
    let StmtKind::Expr(Expr { kind: ExprKind::If { then, .. }, .. }) = &otherwise.stmts[0].kind else { panic!() };
    assert_eq!(of(&then.stmts[0]), Some((Verb::Mute, 1, false)));
}

#[test]
fn tables_are_plotted_and_saved() {
    let text = "plot resid as heat to \"a.svg\" { column: ld, min: -1 }\nplot resid\nsave resid to \"a.csv\"\nreport to \"a.html\"";
    let kinds: Vec<ItemKind> = items(text).into_iter().map(|i| i.kind).collect();
    let [ItemKind::Plot(full), ItemKind::Plot(bare), ItemKind::Save(of, to), ItemKind::Report(page)] = &kinds[..]
    else {
        panic!("{kinds:?}")
    };
    assert_eq!((full.of.name.as_str(), full.options.len()), ("resid", 2));
    assert!(full.kind.is_some() && full.to.is_some() && bare.kind.is_none() && bare.to.is_none());
    assert_eq!((of.name.as_str(), to.value.as_str(), page.value.as_str()), ("resid", "a.csv", "a.html"));
}
