//! Tables like those that experiments give.

#![allow(dead_code)]

use steer_figures::text::{Align, Table};
use steer_figures::{Block, Frame, FrameAxis, FrameColumn, Kind, Page, Plot, Script, Section};

/// Numbers between 0 and 1 that look like noise.
fn noise(i: usize) -> f64 {
    let mut x = (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^= x >> 27;
    (x >> 11) as f64 / (1u64 << 53) as f64
}

pub fn tokens() -> Vec<&'static str> {
    let words = [
        "When", " Mary", " and", " John", " went", " to", " the", " shop", ",", " John", " gave", " a", " drink", " to",
    ];
    std::iter::once("<|endoftext|>").chain(words).collect()
}

/// A patching sweep: the name's place early, the last token late.
pub fn patching(layers: usize) -> Frame {
    let tokens = tokens();
    let mut values = Vec::new();
    for layer in 0..layers {
        let depth = layer as f64 / (layers - 1) as f64;
        let moved = 1.0 / (1.0 + (-14.0 * (depth - 0.55)).exp());
        for t in 0..tokens.len() {
            let wiggle = (noise(layer * 31 + t) - 0.5) * 0.35;
            let value = match t {
                10 => 15.66 - 27.6 * moved,
                14 => -12.25 + 27.9 * moved,
                11 => -12.25 + 6.0 * moved * (1.0 - moved) * 4.0,
                _ => -12.25,
            };
            values.push(((value + wiggle) * 1000.0).round() / 1000.0);
        }
    }
    Frame {
        name: "resid".into(),
        axes: vec![
            FrameAxis::of_numbers("layer", (0..layers).map(|l| l as f64)),
            FrameAxis {
                name: "token".into(),
                labels: tokens.iter().map(|t| t.to_string()).collect(),
                ..FrameAxis::default()
            },
        ],
        columns: vec![FrameColumn::new("ld", values)],
    }
}

/// A mean over a data set by strength, for three hooks, with standard errors.
pub fn strengths() -> Frame {
    let alphas: Vec<f64> = (0..9).map(|i| f64::from(i) - 4.0).collect();
    let hooks = ["cheer", "calm", "random"];
    let (mut values, mut errors) = (Vec::new(), Vec::new());
    for h in 0..hooks.len() {
        for (i, a) in alphas.iter().enumerate() {
            let slope = [0.9, -0.55, 0.02][h];
            values.push(((6.0 * (a * slope / 2.0).tanh() + noise(h * 9 + i) * 0.4) * 1000.0).round() / 1000.0);
            errors.push(((0.15 + 0.35 * noise(100 + h * 9 + i)) * 1000.0).round() / 1000.0);
        }
    }
    Frame {
        name: "strength".into(),
        axes: vec![FrameAxis::new("hook", hooks), FrameAxis::of_numbers("alpha", alphas)],
        columns: vec![FrameColumn { name: "ld".into(), values, errors: Some(errors) }],
    }
}

/// One mean for each run.
pub fn runs() -> Frame {
    Frame {
        name: "runs".into(),
        axes: vec![FrameAxis::new("run", ["baseline", "cheer(alpha = 4)", "cheer(alpha = -4)", "calm"])],
        columns: vec![FrameColumn {
            name: "ld".into(),
            values: vec![1.25, 5.5, -4.125, -0.5],
            errors: Some(vec![0.25, 0.5, 0.75, 0.125]),
        }],
    }
}

/// Direct attributions of every head.
pub fn heads(layers: usize, heads: usize) -> Frame {
    let n = layers * heads;
    let spread = |i: usize| (noise(i) - 0.5) + if noise(i + 7000) > 0.95 { 5.0 * (noise(i + 900) - 0.4) } else { 0.0 };
    let direct: Vec<f64> = (0..n).map(spread).collect();
    let ablated: Vec<f64> = direct.iter().enumerate().map(|(i, d)| -0.8 * d + 0.5 * (noise(i + 5000) - 0.5)).collect();
    Frame {
        name: "heads".into(),
        axes: vec![
            FrameAxis::of_numbers("layer", (0..layers).map(|l| l as f64)),
            FrameAxis::of_numbers("head", (0..heads).map(|h| h as f64)),
        ],
        columns: vec![FrameColumn::new("direct", direct), FrameColumn::new("ablated", ablated)],
    }
}

/// A long prompt in a deep model.
pub fn long(layers: usize, tokens: usize) -> Frame {
    let words = [" the", " of", ",", " Mary", "\n", " 你好", " und", "ing", " <b>&amp;", ""];
    let values = (0..layers * tokens).map(|i| {
        let (l, t) = (i / tokens, i % tokens);
        (t as f64 / 97.0).sin() * (l as f64 / 17.0).cos()
            + noise(i) * 0.5
            + if noise(i + 3) > 0.9995 { 3.0 } else { 0.0 }
    });
    Frame {
        name: "long".into(),
        axes: vec![
            FrameAxis::of_numbers("layer", (0..layers).map(|l| l as f64)),
            FrameAxis::new("token", (0..tokens).map(|t| words[t % words.len()])),
        ],
        columns: vec![FrameColumn::new("norm", values.collect())],
    }
}

/// Patching by head: a panel for each.
pub fn faceted() -> Frame {
    let one = patching(6);
    let mut values = Vec::new();
    for head in 0..4 {
        let shift = |v: &f64| if head == 2 { *v } else { -12.25 + (v + 12.25) * 0.1 * f64::from(head + 1) };
        values.extend(one.columns[0].values.iter().map(shift));
    }
    let mut axes = vec![FrameAxis::of_numbers("head", (0..4).map(f64::from))];
    axes.extend(one.axes.clone());
    Frame { name: "z".into(), axes, columns: vec![FrameColumn::new("ld", values)] }
}

/// Names and labels that would be markup, formulas or commands elsewhere.
pub fn hostile() -> Frame {
    let labels = [
        "</text><script>alert(1)</script>",
        "\"'&<>",
        "=1+1",
        "\u{1b}[2J",
        "]]>",
        " ",
        "\u{202e}abc\u{0}",
        "a,b\n\"c\"",
    ];
    Frame {
        name: "<svg onload=alert(1)>".into(),
        axes: vec![FrameAxis::new("a\"b<", labels), FrameAxis::new("&amp;", ["x", "y"])],
        columns: vec![FrameColumn::new(
            "<m>",
            (0..16).map(|i| if i == 3 { f64::NAN } else { f64::from(i) - 8.0 }).collect(),
        )],
    }
}

const SCRIPT: &str = r#"# Turns a sad story of a small trained model glad, and looks for where a name is moved.
model "tiny-gpt2"

data glad = ["Lily was so happy that", "It was the best day, and"]
data sad = ["Lily was so sad that", "It was the worst day, and"]
vector mood[layer] = mean_diff(glad, sad) at blocks[layer].resid.post on prompt[-1]

hook cheer(alpha = 4.0) at blocks[1..3].resid.post on prompt[-1] | generated {
    h += alpha * unit(mood[layer])  # one step towards the glad ones
}

metric ld = logit(" Mary") - logit(" John") at seq[-1]

generate "One day Ben was at the school." with cheer, cheer(alpha = 0)
measure ld on clean, corrupt with cheer
print "norm", norm(mood[3])
"#;

/// The statement that begins so, as bytes of the script.
fn statement(begin: &str) -> Option<std::ops::Range<usize>> {
    let start = SCRIPT.find(begin).filter(|_| !begin.is_empty())?;
    let end = SCRIPT[start..].find('\n').map_or(SCRIPT.len(), |n| start + n);
    Some(start..end)
}

/// A page with everything that a page can have.
pub fn page() -> Page {
    let figure = |frame: &Frame, plot: Plot| Block::Plot(plot.of(frame).unwrap());
    let mut receipts = Table::new(&[
        ("edit", Align::Left),
        ("site", Align::Left),
        ("selected", Align::Right),
        ("changed", Align::Right),
        ("mean |dh|/|h|", Align::Right),
    ]);
    for (site, mean) in [("blocks[1].resid.post", "35.6%"), ("blocks[2].resid.post", "20.6%")] {
        receipts.row(["cheer", site, "51", "51", mean].map(String::from));
    }
    let story = "One day Ben was at the school.";
    let texts = [
        (
            "baseline",
            " He felt upset. He found a dirty book. The sky was dark. A friend hurt him. It was a dreadful day.",
        ),
        (
            "cheer",
            " He felt cheerful. The sky was golden. He found a sweet hat. A friend praised him. There was delight in the air.",
        ),
        (
            "cheer(alpha = 0)",
            " He felt upset. He found a dirty book. The sky was dark. A friend hurt him. It was a dreadful day.",
        ),
    ];
    let texts = texts.map(|(with, text)| (with.to_string(), text.to_string())).to_vec();
    let hostile_texts = [
        ("baseline", "<script>alert(1)</script> \u{1b}[2J & \"quotes\""),
        ("</h3><b>x", "<img src=x onerror=alert(1)> \u{202e}drawkcab"),
    ];
    let hostile_texts = hostile_texts.map(|(with, text)| (with.to_string(), text.to_string())).to_vec();
    let section = |title: &str, begin: &str, blocks| Section { title: title.into(), source: statement(begin), blocks };
    let facts = [
        ("model", "tiny-gpt2"),
        ("architecture", "GPT2LMHeadModel"),
        ("backend", "cranelift, avx512"),
        ("seed", "0"),
        ("steer", "0.1.0"),
        ("rows computed", "452 of 532"),
        ("script, SHA-256", "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"),
    ];
    Page {
        title: "Where a name is moved".into(),
        about: "Turns a sad story of a small trained model glad, and looks for where a name is moved.".into(),
        script: Script {
            name: "examples/quickstart.steer".into(),
            text: SCRIPT.into(),
            shades: steer_lang::highlight(SCRIPT).into_iter().map(|(r, s)| (r, s.name())).collect(),
        },
        facts: facts.map(|(a, b)| (a.to_string(), b.to_string())).to_vec(),
        warnings: vec![
            "E0405\n\n  ⚠ nothing reads the edit `calm`\n   ╭─[quickstart.steer:9:1]\n 9 │ hook <calm>\n   ╰────"
                .into(),
        ],
        sections: vec![
            section("A story", "generate \"", vec![Block::Texts { prompt: story.into(), texts }]),
            section(
                "Strengths",
                "measure",
                vec![
                    Block::Note("The mean over 24 prompts, with its standard error.".into()),
                    figure(&strengths(), Plot { kind: Some(Kind::Line), ..Plot::default() }),
                    Block::Frame(strengths()),
                ],
            ),
            section(
                "Residual stream by layer and position",
                "metric",
                vec![
                    figure(
                        &patching(12),
                        Plot { title: Some("logit(\" Mary\") − logit(\" John\")".into()), ..Plot::default() },
                    ),
                    Block::Frame(patching(12)),
                ],
            ),
            section(
                "measure ld on clean, corrupt with cheer",
                "measure",
                vec![Block::Frame(runs()), figure(&runs(), Plot::default())],
            ),
            section("Heads by position", "", vec![figure(&faceted(), Plot::default())]),
            section(
                "A long prompt",
                "",
                vec![figure(&long(100, 2000), Plot::default()), Block::Frame(long(100, 2000))],
            ),
            section("Printed", "print", vec![Block::Printed("norm 3.14159".into())]),
            section("Receipts", "", vec![Block::Table(receipts)]),
            section(
                "<b>Hostile</b>",
                "",
                vec![
                    Block::Texts { prompt: String::new(), texts: hostile_texts },
                    figure(&hostile(), Plot::default()),
                    Block::Frame(hostile()),
                ],
            ),
        ],
    }
}
