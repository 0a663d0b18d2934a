//! Nothing that can be written exhausts the stack of a thread of 2 MiB.

use steer_lang::{FileId, format, parse, parse_expr};

fn on_small_stack(work: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(2 << 20).spawn(work).unwrap().join().unwrap();
}

/// Parses and formats an expression in several places. Returns the number of errors in it.
fn try_expr(text: String) -> usize {
    let (sender, receiver) = std::sync::mpsc::channel();
    on_small_stack(move || {
        let (_, diags) = parse_expr(FileId(0), &text);
        for around in [("data x = ", ""), ("fn f() { let x = ", "\n}"), ("hook a at b[", "] { }"), ("print 1 +", "")] {
            let file = format!("{}{text}{}", around.0, around.1);
            let _ = parse(FileId(0), &file);
            let _ = format(&file);
        }
        sender.send(diags.len()).unwrap();
    });
    receiver.recv().unwrap()
}

const NESTS: &[(&str, &str)] = &[
    ("(", ")"),
    ("f(", ")"),
    ("[", "]"),
    ("a[", "]"),
    ("if a { ", " }"),
    ("|x| { ", " }"),
    ("f(a = [|x| { h[", "] }])"),
    ("(a = ", " b)"),
    ("1 + (2 ^ -", ")"),
    ("if a { } else if b { when x { h[", "] = 3 } }"),
    ("if (a) { } else { let x = ", "\n }"),
];

#[test]
fn brackets() {
    for (open, close) in NESTS {
        let each = open.matches(['(', '[', '{']).count() - open.matches([')', ']', '}']).count();
        for depth in [30, 97, 99, 101, 1_000, 30_000] {
            let count = depth / each;
            let errors = try_expr(format!("{}1{}", open.repeat(count), close.repeat(count)));
            assert!(depth > 30 || errors == 0, "{open} {depth}");
            assert!(depth < 1_000 || errors == 1, "{open} {depth}");
            // Not closed, and not opened.
            try_expr(open.repeat(count));
            try_expr(close.repeat(count));
        }
    }
}

#[test]
fn chains() {
    for link in ["1 + ", "a ^ ", "-", "!", "a ?? ", "a == ", "a * -", "a && !"] {
        assert_eq!(try_expr(format!("{}1", link.repeat(100))), usize::from(link == "a == "), "{link}");
        for count in [300, 2_000] {
            assert!(try_expr(format!("{}1", link.repeat(count))) > 0, "{link}");
        }
    }
    for link in [".b", "[1]", "(1)", " + 1", "(x).c"] {
        assert_eq!(try_expr(format!("a{}", link.repeat(100))), 0, "{link}");
        for count in [300, 2_000] {
            assert!(try_expr(format!("a{}", link.repeat(count))) > 0, "{link}");
        }
    }
    let branches = |n: usize| format!("if a {{ 1 }}{}", " else if b { 2 }".repeat(n));
    assert_eq!(try_expr(branches(50)), 0);
    assert_eq!(try_expr(branches(2_000)), 1);
}

#[test]
fn chains_in_brackets() {
    // Each level is short, all of them are too deep together.
    for (open, close) in
        [("1 + 2 + 3 + 4 + 5 + (", ")"), ("a.b.c.d.e.f(", ")"), ("----(", ")"), ("2 ^ 3 ^ 4 ^ 5 ^ [", "]")]
    {
        assert_eq!(try_expr(format!("{}1{}", open.repeat(30), close.repeat(30))), 0, "{open}");
        assert_eq!(try_expr(format!("{}1{}", open.repeat(90), close.repeat(90))), 1, "{open}");
    }
}

#[test]
fn positions() {
    for (open, close) in [("(", ")"), ("!", ""), ("bos | ", ""), ("bos & ", ""), ("!(bos | ", ")")] {
        for depth in [10, 90, 99, 101, 10_000] {
            let set = format!("{}bos{}", open.repeat(depth), close.repeat(depth));
            let text = format!("hook a at embed on {set} {{ h = 0 }}");
            on_small_stack(move || {
                let (_, diags) = parse(FileId(0), &text);
                assert!(depth > 10 || diags.is_empty());
                assert!(depth < 10_000 || !diags.is_empty());
                let _ = format(&text);
            });
        }
    }
}

#[test]
fn long_is_not_deep() {
    let list = format!("data x = [{}]", "\"some text\", ".repeat(20_000));
    let body = format!("hook x at embed {{\n{}}}", "h = a + b\n".repeat(20_000));
    let items = "print a\n".repeat(20_000);
    for text in [list, body, items] {
        on_small_stack(move || {
            assert!(parse(FileId(0), &text).1.is_empty());
            assert!(format(&text).is_ok());
        });
    }
}
