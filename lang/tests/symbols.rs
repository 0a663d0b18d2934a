//! Where names are declared and used.

mod common;

use std::path::{Path, PathBuf};
use steer_lang::symbols::{Part, SymbolKind, Symbols};
use steer_lang::{FileId, Span, erase_spans, parse};

/// Texts with marks: a name is declared before `¹`, and used before `₁`; before `₀` it means nothing that is declared.
const MARKED: &[&str] = &[
    "data glad¹ = [\"a\"]\nprompt p² = \"x\"\nvector mood³[layer⁴] = mean(glad₁) at blocks[layer₄].resid.post on prompt[-1]\n\
     hook cheer⁵(alpha⁶ = 4.0) at blocks[1..3].resid.post on prompt[-1] {\n    h₀ += alpha₆ * unit₀(mood₃[layer₀])\n}\n\
     generate p₂ with cheer₅(alpha₆ = 3) { max: 30 }\n",
    // Functions have names of their own; a local hides what is further out, from its statement on.
    "data half¹ = [1, 2]\nfn half²(x³, k⁴ = 2) {\n    let y⁵ = x₃ / k₄\n    let x⁶ = y₅ + x₃\n    x₆\n}\n\
     print half₂(half₁, k₄ = 3)\n",
    // Names of a sweep, its edits and runs; an axis is named in a plot, as is a metric in a text.
    "prompt clean¹ = \"a\"\nmetric ld² = logit₀(\" b\") at seq[-1]\n\
     sweep resid³ over b⁴ in blocks, t⁵ in tokens₀(clean₁) {\n    patch half⁶ at b₄.resid.pre on t₅ from clean₁\n    \
     run r⁷ = clean₁ with half₆\n    measure ld₂, kl₀(clean₁) on r₇ normalized by (clean₁, r₇)\n}\n\
     plot resid₃ { column: ld₂, x: t₅, y: b₄ }\nplot resid₃ { column: \"kl(clean₁)\" }\nsave resid₃ to \"a.csv\"\n",
    // Slots of texts, but not of templates and of names in files.
    "param who¹: text = \"Mary\"\nparam out² = \"x\"\ndata pairs³ = csv₀(\"a.csv\")\ndata all⁴ = template₀(\"{who} went\", pairs₃)\n\
     vector v⁵[layer⁶] = load₀(\"{out}.npz\", \"v{layer}\")\nhook a⁷ at embed on matching \"{who₁}\\u{1F600}{subject₀}\"[-1] | mask(pairs₃) {\n    h₀ *= 0\n}\n\
     metric m⁸(x⁹) = logit₀(\" {x₉.name}\") at [1]\nreport to \"{out₂}/page.html\"\n",
    // Model files: names with dots, axes, the layers' variable, closures.
    "arch \"A\" {\n    axis head¹ = config₀.heads\n    let w² = |name³, axes⁴| { weight₀(\"model.{name₃}\", axes₄) }\n    \
     blocks layer⁵ in 0..config₀.n under \"layers.{layer₅}.\" {\n        site attn.q⁶ = w₂(\"q\", [head₁])\n        \
     write attn.out⁷ = attn.q₆ + layer₅\n    }\n}\n",
    // A list of positions; a route with the values of a mixture; an SAE.
    "data map¹ = [0, 1]\nprompt a² = \"x\"\nsae lens³ = \"f\"\npatch p⁴ at lens₃.site on maybe all from a₂ by map₁\n\
     route r⁵(n⁶: int = 2) at blocks[*].moe {\n    mask top₀(n₆, f₀)\n    gates₀[expert₀ = 1] *= 0\n}\n\
     measure norm₀(lens₃.site) on a₂ with r₅(n₆ = 3), p₄\n",
];

fn digit(c: char, of: &str) -> Option<usize> {
    of.chars().position(|d| d == c)
}

/// Numbers of marks with the places before them.
type Marks = Vec<(usize, usize)>;

/// The text without marks, the definitions by number, and the uses with theirs.
fn unmarked(marked: &str) -> (String, Marks, Marks) {
    let (mut text, mut declared, mut used) = (String::new(), Vec::new(), Vec::new());
    for c in marked.chars() {
        if let Some(n) = digit(c, "⁰¹²³⁴⁵⁶⁷⁸⁹") {
            declared.push((n, text.len()));
        } else if let Some(n) = digit(c, "₀₁₂₃₄₅₆₇₈₉") {
            used.push((n, text.len()));
        } else {
            text.push(c);
        }
    }
    (text, declared, used)
}

fn symbols(text: &str) -> Symbols {
    let (tree, diags) = parse(FileId(0), text);
    assert!(diags.is_empty(), "{}\n{text}", common::render(text, &diags));
    Symbols::of(&[Part { file: FileId(0), tree: &tree, text }])
}

#[test]
fn names_are_declared_and_used_where_the_marks_say() {
    for marked in MARKED {
        let (text, declared, used) = unmarked(marked);
        let found = symbols(&text);
        let at = |end: usize| found.definitions.iter().position(|d| d.span.end as usize == end);
        for (n, end) in &declared {
            let d = at(*end).unwrap_or_else(|| panic!("{n} is not declared in\n{marked}\n{:?}", found.definitions));
            let expected: Vec<usize> = used.iter().filter(|(m, _)| m == n).map(|(_, e)| *e).collect();
            let mut places: Vec<usize> =
                found.uses.iter().filter(|u| u.definition == Some(d)).map(|u| u.span.end as usize).collect();
            places.sort();
            assert_eq!(places, expected, "uses of {n}, `{}`, in\n{marked}", found.definitions[d].name);
        }
        assert_eq!(found.definitions.len(), declared.len(), "definitions of\n{marked}\n{:#?}", found.definitions);
        for (_, end) in used.iter().filter(|(n, _)| *n == 0) {
            let here = found.uses.iter().find(|u| u.span.end as usize == *end);
            assert!(here.is_some_and(|u| u.definition.is_none()), "before byte {end} of\n{text}\n{here:?}");
        }
        for d in &found.definitions {
            assert_eq!(&text[d.span.start as usize..d.span.end as usize], d.name);
        }
    }
}

#[test]
fn files_that_import_one_another_are_one_set_of_names() {
    let (library, script) = (
        "fn half(x) = x / 2\nhook a(k = 1) at embed {\n    h = half(h) * k\n}\n",
        "print half(3)\ngenerate \"x\" with a(k = 2)\n",
    );
    let trees = [parse(FileId(0), script).0, parse(FileId(1), library).0];
    let parts = [(0, script), (1, library)].map(|(n, text)| Part { file: FileId(n), tree: &trees[n as usize], text });
    let found = Symbols::of(&parts);
    let named = |name: &str| found.definitions.iter().position(|d| d.name == name).map(|d| found.places(d));
    let files = |name: &str| named(name).unwrap().iter().map(|s| s.file.0).collect::<Vec<_>>();
    assert_eq!(
        (files("half"), files("a"), files("k"), files("x")),
        (vec![1, 0, 1], vec![1, 0], vec![1, 0, 1], vec![1, 1])
    );
}

fn texts(folder: &str) -> Vec<PathBuf> {
    let mut out = Vec::new();
    let mut open = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder)];
    while let Some(at) = open.pop() {
        for entry in std::fs::read_dir(&at).unwrap().flatten() {
            match entry.path() {
                p if p.is_dir() => open.push(p),
                p if p.extension().is_some_and(|e| e == "steer") => out.push(p),
                _ => {}
            }
        }
    }
    out.sort();
    out
}

/// Another name at these places, the last first so that the others stay where they are.
fn renamed(text: &str, mut places: Vec<Span>, name: &str) -> String {
    places.sort_by_key(|s| std::cmp::Reverse(s.start));
    let mut out = text.to_owned();
    places.iter().for_each(|s| out.replace_range(s.start as usize..s.end as usize, name));
    out
}

/// Every declared name can be another one: what is left is the same tree, but for that name.
#[test]
fn a_renamed_file_says_the_same() {
    let mut count = 0;
    for path in [texts("examples"), texts("stdlib")].concat() {
        let text = std::fs::read_to_string(&path).unwrap();
        let found = symbols(&text);
        let (mut tree, _) = parse(FileId(0), &text);
        erase_spans(&mut tree);
        let before = format!("{tree:?}");
        for (n, d) in found.definitions.iter().enumerate().filter(|(_, d)| d.kind != SymbolKind::Site) {
            let new = renamed(&text, found.places(n), "fresh_name_of_a_test");
            let (mut tree, diags) = parse(FileId(0), &new);
            assert!(diags.is_empty(), "{}: `{}`\n{}", path.display(), d.name, common::render(&new, &diags));
            let again = symbols(&new);
            assert_eq!(again.definitions.len(), found.definitions.len());
            let same =
                again.uses.iter().zip(&found.uses).all(|(a, b)| a.definition == b.definition && a.role == b.role);
            assert!(same && again.uses.len() == found.uses.len(), "{}: `{}` is seen elsewhere", path.display(), d.name);
            erase_spans(&mut tree);
            assert_eq!(
                format!("{tree:?}").replace("fresh_name_of_a_test", &d.name),
                before,
                "{}: `{}`",
                path.display(),
                d.name
            );
            count += 1;
        }
    }
    assert!(count > 500, "{count} names");
}

/// Texts with mistakes have names, too, and nothing panics.
#[test]
fn damaged_texts_have_names() {
    let mut random = common::Lcg(7);
    for (_, text) in common::CORPUS {
        for _ in 0..200 {
            let mut cut = random.below(text.len());
            while !text.is_char_boundary(cut) {
                cut -= 1;
            }
            let part = &text[..cut];
            let (tree, _) = parse(FileId(0), part);
            let found = Symbols::of(&[Part { file: FileId(0), tree: &tree, text: part }]);
            for d in &found.definitions {
                assert_eq!(&part[d.span.start as usize..d.span.end as usize], d.name);
            }
        }
    }
}
