//! The formatter: it changes nothing but the looks, keeps comments, and has nothing to add to its
//! own output.

mod common;

use common::{CORPUS, Lcg, mutate, snippets};
use steer_lang::{FileId, eq_ignoring_spans, format, parse};

/// The comments of a text, in any order and without their marks.
fn comments(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in text.lines() {
        let (mut quoted, mut escaped) = (false, false);
        for (at, c) in line.char_indices() {
            match c {
                _ if escaped => escaped = false,
                '\\' if quoted => escaped = true,
                '"' => quoted = !quoted,
                '#' if !quoted => {
                    found.push(line[at..].trim_start_matches('#').trim().to_owned());
                    break;
                }
                _ => {}
            }
        }
    }
    found.sort();
    found
}

/// Formats a text that parses, and checks what must hold of every one.
fn check(text: &str) -> String {
    let formatted = format(text).unwrap_or_else(|d| panic!("{d:#?}\n{text}"));
    let (before, _) = parse(FileId(0), text);
    let (after, diags) = parse(FileId(0), &formatted);
    assert!(diags.is_empty(), "the output does not parse: {diags:#?}\n{text}\n--------\n{formatted}");
    assert!(eq_ignoring_spans(&before, &after), "the meaning changed\n{text}\n--------\n{formatted}");
    assert_eq!(comments(text), comments(&formatted), "comments changed\n{text}\n--------\n{formatted}");
    let again = format(&formatted).unwrap_or_else(|d| panic!("{d:#?}"));
    assert_eq!(formatted, again, "not stable\n{text}");
    formatted
}

#[test]
fn corpus() {
    for (name, text) in CORPUS {
        let formatted = check(text);
        if std::env::var("SHOW").is_ok() {
            println!("==== {name}\n{formatted}");
        }
        for line in formatted.lines().filter(|l| !l.contains(" # ")) {
            assert!(line.chars().count() <= 100, "{name}: too wide: {line}");
        }
    }
}

#[test]
fn mutations_that_parse() {
    let snippets = snippets();
    let mut random = Lcg(7);
    let mut parsed = 0;
    for round in 0..10_000 {
        let text = mutate(&snippets[round % snippets.len()], &mut random);
        if parse(FileId(0), &text).1.is_empty() {
            parsed += 1;
            check(&text);
        } else {
            assert!(format(&text).is_err());
        }
    }
    assert!(parsed > 1_000, "only {parsed} mutations parse");
}

#[test]
fn mutations_of_whole_files() {
    let mut random = Lcg(11);
    for round in 0..400 {
        let (_, text) = CORPUS[round % CORPUS.len()];
        let text = mutate(text, &mut random);
        if parse(FileId(0), &text).1.is_empty() {
            check(&text);
        }
    }
}

#[test]
fn line_ends_of_other_systems() {
    for (_, text) in CORPUS {
        assert_eq!(format(&text.replace('\n', "\r\n")), format(text));
    }
}

/// What a text becomes.
fn becomes(text: &str, formatted: &str) {
    assert_eq!(check(text), formatted);
}

#[test]
fn spacing() {
    becomes("param   a=1 in 0 .. 20", "param a = 1 in 0..20\n");
    becomes("run r=clean with a(x=1),b()", "run r = clean with a(x = 1), b\n");
    becomes("generate r{max:60,}", "generate r { max: 60 }\n");
    becomes("hook a at blocks[ 1 , -1 ].mlp.out{h=-  h}", "hook a at blocks[1, -1].mlp.out { h = -h }\n");
    becomes("print a\n\n\n\nprint b\n\n", "print a\n\nprint b\n");
    becomes("", "");
    becomes("\n\n# only a comment", "# only a comment\n");
}

#[test]
fn parentheses() {
    becomes("print ((a)+((b)*(c)))", "print a + b * c\n");
    becomes("print (a - b) - c, a - (b - c)", "print a - b - c, a - (b - c)\n");
    becomes("print (a ^ b) ^ c, a ^ (b ^ c)", "print (a ^ b) ^ c, a ^ b ^ c\n");
    becomes("print -(a ^ 2), (-a) ^ 2, -(a * b)", "print -a ^ 2, (-a) ^ 2, -(a * b)\n");
    becomes("print (a < b) == c", "print (a < b) == c\n");
    becomes("print (a && b) || c, a && (b || c)", "print a && b || c, a && (b || c)\n");
    becomes("hook a at embed on (bos | all) & (!(bos)) { h = 0 }", "hook a at embed on (bos | all) & !bos { h = 0 }\n");
}

#[test]
fn texts() {
    becomes(r#"print "a\u{41}\t\\\"\u{7}\u{202E}é""#, "print \"aA\\t\\\\\\\"\\u{7}\\u{202E}é\"\n");
}

#[test]
fn bodies_stay_on_one_line() {
    becomes("hook a at embed { h = 0 }", "hook a at embed { h = 0 }\n");
    becomes("hook a at embed {\nh = 0 }", "hook a at embed {\n    h = 0\n}\n");
    becomes("hook a at embed {\n\n}", "hook a at embed {}\n");
    becomes("fn f() { 1 }", "fn f() { 1 }\n");
}

#[test]
fn a_mark_before_the_text() {
    becomes("\u{FEFF}## Doc.\nparam a = 1", "## Doc.\nparam a = 1\n");
    becomes("\u{FEFF}print a\nprint b", "print a\nprint b\n");
}

#[test]
fn comments_where_no_line_ends() {
    becomes("data h = chat(user # z\n = [\"a\"])", "data h = chat(user = [\n    # z\n    \"a\",\n])\n");
    becomes(
        "hook a at blocks[1].mlp#one\n { ## two\nh = 0 }",
        "hook a at blocks[1].mlp {\n    #one\n    # two\n    h = 0\n}\n",
    );
}

#[test]
fn what_does_not_parse_is_not_formatted() {
    let diags = format("hook a at embed { h = }").unwrap_err();
    assert_eq!(diags.len(), 1);
}
