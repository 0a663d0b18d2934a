//! What is said about a text that is not of the language, and that one error never hides another.

mod common;

use common::{Lcg, mutate, render, snippets};
use steer_lang::ast::ItemKind;
use steer_lang::{FileId, parse, parse_expr};

/// The messages about a text, with their labels and help.
fn errors(text: &str) -> String {
    render(text, &parse(FileId(0), text).1)
}

/// Every expected line is said about the text, in this order, as the beginning of a line.
fn says(text: &str, expected: &[&str]) {
    let said = errors(text);
    let mut lines = said.lines().map(str::trim);
    for line in expected {
        assert!(lines.any(|l| l.starts_with(line)), "missing: {line}\n--- of\n{text}\n--- in\n{said}");
    }
}

/// A statement in a hook's body.
fn body_says(stmt: &str, expected: &[&str]) {
    says(&format!("hook a at blocks[2].resid.post {{\n    {stmt}\n}}"), expected);
}

#[test]
fn found_and_expected() {
    says("hook a blocks[2].mlp.out { h = 0 }", &["E0101 expected `at` or `(`, found `blocks`", "1 `blocks`"]);
    says(
        "patch p at embed on prompt[3]",
        &["E0101 expected `from`, `|` or `&` after `]`", "1 `]` nothing comes after this"],
    );
    says("print a,", &["E0101 expected a value after `,`"]);
    says("run x = clean with", &["E0101 expected the name of a hook, patch or route after `with`"]);
    says("hook a at embed, { h = 0 }", &["E0101 expected a site such as `blocks[3].resid.post`, found `{`"]);
    says("hook a at embed on { h = 0 }", &["E0101 expected a position such as `prompt[-1]`, found `{`"]);
    says("prompt p = ", &["E0101 expected a value after `=`"]);
    says(
        "print 3 \u{a0} 4",
        &["E0101 expected `,`, an operator or the end of the declaration, found the character U+00A0"],
    );
    says("model 3", &["E0101 expected a text such as `\"Mary\"`, found the number `3`"]);
}

#[test]
fn misspelt() {
    says("hok a at embed { h = 0 }", &["E0101 `hok` does not begin a declaration", "help: did you mean `hook`?"]);
    says("hook a att embed { h = 0 }", &["E0101", "help: did you mean `at`?"]);
    says("hook a at embed onn prompt { h = 0 }", &["E0101", "help: did you mean `on`?"]);
    says("hook a at embed on promt[-1] { h = 0 }", &["E0101", "help: did you mean `prompt`?"]);
    says("param a: nmber = 3", &["E0101", "help: did you mean `number`?"]);
    says("generate clean wiht cheer", &["E0101", "help: did you mean `with`?"]);
    body_says("wen h < 3 { h = 0 }", &["E0101", "help: did you mean `when` instead of `wen`?"]);
    body_says("lett x = 3", &["E0101 `lett` does not begin a statement", "help: did you mean `let`?"]);
}

#[test]
fn habits() {
    body_says("when h = 3 { h = 0 }", &["E0101 `=` sets a value; it does not compare", "help: to compare, write `==`"]);
    body_says("h = if h = 3 { 0 } else { 1 }", &["E0101 `=` sets a value; it does not compare"]);
    body_says("// a comment", &["E0101 `//` does not begin a comment", "help: a comment begins with `#`"]);
    body_says("h = 0 // a comment", &["E0101 `//` does not begin a comment"]);
    says("// a comment", &["E0101", "help: a comment begins with `#`"]);
    says("prompt p = 'Mary'", &["E0101 texts do not take single quotes", "help: write it with double quotes"]);
    says("generate p { max = 60 }", &["E0101 an option is set with `:`, not `=`", "1 `=` expected `:`"]);
    says("run r = p with a(x: 1)", &["E0101 `:` does not set a value here", "help: write `=`"]);
    body_says("h = a and b", &["E0101 there is no operator `and`", "help: write `&&`"]);
    body_says("when a or b { h = 0 }", &["E0101 there is no operator `or`", "help: write `||`"]);
    body_says("h = not b", &["E0101 there is no operator `not`", "help: negation is written `!`"]);
    body_says("when not b { h = 0 }", &["E0101 there is no operator `not`"]);
    says("hook a at embed on not bos { h = 0 }", &["E0101 there is no operator `not`"]);
    says("hook a at embed on bos || all { h = 0 }", &["E0101 positions are joined with a single `|`"]);
    says("hook a at embed on bos, all { h = 0 }", &["E0101 positions are not joined with `,`"]);
    body_says("h = 3;", &["E0101 statements do not end with `;`"]);
    body_says("when a { h = 1 } elif b { h = 2 }", &["E0101 there is no `elif`", "help: write `else if`"]);
    body_says("return 3", &["E0101", "help: there is no `return`"]);
    body_says("for i in 0..3 { h = 0 }", &["E0101 a body has no loops"]);
    body_says("h = h[1:2]", &["E0101 a range is not written with `:`"]);
    body_says("h = a ? b : c", &["E0101 there is no operator `?`"]);
    body_says("h = a ** 2", &["E0101 there is no operator `**`"]);
    body_says("h = sum [3]", &["E0101", "help: the `[` of a call or an index directly follows the name"]);
    says("print f (3)", &["E0101", "help: `(` of a call or an index directly follows the name"]);
    says("hook a on all at embed { h = 0 }", &["E0101", "help: `at` and its sites come first"]);
    says(
        "hook a at blocks.2.mlp { h = 0 }",
        &["E0101 a number cannot follow `.`", "help: an index stands in brackets"],
    );
    says("model tiny", &["E0101", "help: write it in double quotes: `\"tiny\"`"]);
    says("param a = 1 in 0..=2", &["E0101 bounds include both ends"]);
    says("let x = 3", &["E0101 `let` does not begin a declaration", "help: `let` belongs in a body"]);
    says("def f(x) = 3", &["E0101", "help: a function is declared with `fn`"]);
}

#[test]
fn checked_by_the_parser() {
    body_says("a < b < c", &["E0101 comparisons cannot be chained", "2 `<` the second comparison"]);
    body_says("x.y = 3", &["E0304 `=` cannot assign to this", "2 `x.y`"]);
    body_says("f(x) += 3", &["E0304 `+=` cannot assign to this"]);
    body_says("let in = 4", &["E0101", "help: `in` is a word of the language"]);
    body_says("h = \"\\q\"", &["E0101 a text has no such escape", "2 `\\q`"]);
    body_says(
        "h = \"\\u{110000}\"",
        &["E0101 a text has no such escape", "2 `\\u`", "help: a character by its number"],
    );
    body_says("h = 1e999", &["E0101 the number `1e999` is too large"]);
    body_says("h = h[1..=]", &["E0101 `..=` needs an end to include"]);
    says("param y", &["E0101 the parameter `y` has no default", "1 `y`", "help: write `param y = 1.0`"]);
}

#[test]
fn not_closed() {
    says("data a = \"abc\nprint a", &["E0102 this text has no closing quote", "1 `\"`"]);
    says("data a = [1, 2\ndata b = 3", &["E0102 this `[` is never closed", "1 `[`", "2 `data`", "help: add the `]`"]);
    says("print (1", &["E0102 this `(` is never closed"]);
    says("print 1)", &["E0101 this `)` closes nothing"]);
    says("print f(1]", &["E0102 `(` is still open at this `]`", "1 `(`", "1 `]`", "help: close it with `)`"]);
    // The brace whose closing one is missing, and not the outer one.
    says(
        "hook a at embed {\n    when h > 3 {\n        h = 0\n}\nprint a",
        &["E0102 this `{` is never closed", "2 `{` opened here", "5 `print` the next declaration"],
    );
}

#[test]
fn each_bad_declaration_is_reported() {
    let text = "hok a at embed { h = 0 }\nprint a\nhook b at { h = 0 }\ndata c = [1, 2\nprint \"x\nprompt d = 3\nprint }\nprint d\n";
    let (file, diags) = parse(FileId(0), text);
    assert_eq!(diags.len(), 5, "{}", render(text, &diags));
    let kinds: Vec<_> = file.items.iter().map(|i| &text[i.span.start as usize..i.span.end as usize]).collect();
    assert_eq!(kinds, ["print a", "prompt d = 3", "print d"]);
}

#[test]
fn each_bad_statement_is_reported() {
    let text = "hook a at embed {\n    let x = 1\n    h = +\n    when h = 3 {\n        h = 1\n    }\n    let y =\n    h += x\n    wen y { h = 2 }\n    { }\n    h = (x, )\n    let z = 2\n}";
    let (file, diags) = parse(FileId(0), text);
    let lines: Vec<_> =
        diags.iter().map(|d| text[..d.labels[0].span.start as usize].matches('\n').count() + 1).collect();
    assert_eq!(lines, [3, 4, 7, 9, 10, 11], "{}", render(text, &diags));
    // What is left of the body is there, so that its name is known.
    let ItemKind::Hook(hook) = &file.items[0].kind else { panic!() };
    let left: Vec<_> = hook.body.stmts.iter().map(|s| &text[s.span.start as usize..s.span.end as usize]).collect();
    assert_eq!(left, ["let x = 1", "h += x", "let z = 2"]);
}

#[test]
fn many_errors_end() {
    let text = "hook a at embed {\n h = +\n}\n".repeat(5_000);
    let (_, diags) = parse(FileId(0), &text);
    assert!((100..200).contains(&diags.len()));
    let text = format!("hook a at embed {{\n{}}}", "h = +\n".repeat(5_000));
    let (_, diags) = parse(FileId(0), &text);
    assert!((10..200).contains(&diags.len()));
}

#[test]
fn one_expression() {
    assert!(parse_expr(FileId(0), "1 + 2").0.is_some());
    for text in ["", "1 +", "1 2", "(1", "\"a", "# only"] {
        let (expr, diags) = parse_expr(FileId(0), text);
        assert!(expr.is_none() && diags.len() == 1, "{text}");
    }
}

#[test]
fn places_are_in_the_text() {
    let snippets = snippets();
    let mut random = Lcg(3);
    for round in 0..10_000 {
        let text = mutate(&snippets[round % snippets.len()], &mut random);
        for diag in parse(FileId(0), &text).1.iter().chain(&parse_expr(FileId(0), &text).1) {
            assert!(!diag.message.is_empty() && !diag.labels.is_empty());
            for label in &diag.labels {
                let place = text.get(label.span.start as usize..label.span.end as usize);
                assert!(place.is_some(), "{diag:?} in\n{text}");
            }
        }
    }
}
