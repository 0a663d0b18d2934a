//! What a terminal shows, compared with files: `STEER_BLESS=1 cargo test -p steer-figures` accepts what is shown now.

mod common;

use std::path::Path;
use steer_figures::{Color, Frame, Kind, Plot, Terminal};

/// Compares a text with the file of this name; escapes are visible in it.
fn expect(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/expected").join(name);
    let text = text.replace('\u{1b}', "␛");
    if std::env::var_os("STEER_BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(text == expected, "{name} is\n{text}\nand should be\n{expected}");
}

fn shown(frame: &Frame, plot: &Plot, columns: usize, color: Color) -> String {
    plot.of(frame).unwrap().text(&Terminal { columns, color })
}

fn of(kind: Kind) -> Plot {
    Plot { kind: Some(kind), ..Plot::default() }
}

#[test]
fn a_heat_map_in_numbers() {
    expect("heat_none.txt", &shown(&common::patching(4), &Plot::default(), 100, Color::None));
}

#[test]
fn a_heat_map_in_colors() {
    let mut frame = common::patching(3);
    frame.columns[0].values[4] = f64::NAN;
    expect("heat_true.txt", &shown(&frame, &Plot::default(), 100, Color::True));
    expect("heat_256.txt", &shown(&frame, &Plot::default(), 50, Color::Ansi256));
    expect("heat_16.txt", &shown(&frame, &Plot::default(), 44, Color::Ansi16));
}

#[test]
fn lines_bars_and_points() {
    expect("line.txt", &shown(&common::strengths(), &of(Kind::Line), 80, Color::None));
    expect("bar.txt", &shown(&common::runs(), &Plot::default(), 80, Color::None));
    expect("groups.txt", &shown(&common::strengths(), &of(Kind::Bar), 80, Color::None));
    expect("scatter.txt", &shown(&common::heads(12, 12), &of(Kind::Scatter), 60, Color::None));
}

#[test]
fn panels_and_hostile_labels() {
    let color = Color::None;
    expect("panels.txt", &shown(&common::faceted(), &Plot { x: Some("head".into()), ..Plot::default() }, 60, color));
    let text = shown(&common::hostile(), &Plot::default(), 60, color);
    assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}') && !text.contains('\0'));
    expect("hostile.txt", &text);
}

#[test]
fn large_tables_stay_small() {
    let long = common::long(100, 2000);
    for color in [Color::None, Color::Ansi16, Color::Ansi256, Color::True] {
        let text = shown(&long, &Plot::default(), 80, color);
        assert!(text.lines().count() < 2000, "{color:?}");
        assert!(text.contains("the value furthest from zero"), "{color:?}");
    }
    let lines = shown(&long, &Plot { series: Some("layer".into()), ..of(Kind::Line) }, 80, Color::None);
    assert!(lines.contains("The first 64 of 100 entries of layer are shown."), "{lines}");
}

#[test]
fn nothing_is_wider_than_the_terminal() {
    let frames = [
        common::patching(12),
        common::strengths(),
        common::runs(),
        common::heads(12, 12),
        common::faceted(),
        common::hostile(),
    ];
    for columns in [40, 61, 80, 133] {
        for frame in &frames {
            for kind in [Kind::Heat, Kind::Line, Kind::Bar, Kind::Scatter] {
                for color in [Color::None, Color::True] {
                    for line in shown(frame, &of(kind), columns, color).lines() {
                        let plain = without_colors(line);
                        let wide = steer_figures::text::width::of(&plain);
                        assert!(wide <= columns, "{} {kind:?} {color:?} in {columns}: {wide} {plain:?}", frame.name);
                    }
                }
            }
        }
    }
}

fn without_colors(line: &str) -> String {
    let mut out = String::new();
    let mut parts = line.split('\u{1b}');
    out.push_str(parts.next().unwrap_or_default());
    for part in parts {
        out.push_str(part.split_once('m').map_or("", |p| p.1));
    }
    out
}

#[test]
fn any_shape_is_shown() {
    use steer_figures::{FrameAxis, FrameColumn};
    let column = |n: usize, v: f64| FrameColumn { name: "m".into(), values: vec![v; n], errors: Some(vec![v; n]) };
    for lens in
        [vec![], vec![0], vec![1], vec![0, 3], vec![3, 0], vec![1, 1], vec![2, 1, 3], vec![40, 2, 2], vec![1, 0, 0, 2]]
    {
        for value in [0.0, -1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, f64::MIN_POSITIVE] {
            let cells = lens.iter().product();
            let axes = lens.iter().enumerate().map(|(i, n)| match i % 2 {
                0 => FrameAxis::of_numbers(format!("a{i}"), (0..*n).map(|x| x as f64)),
                _ => FrameAxis::new(format!("a{i}"), (0..*n).map(|x| format!("t{x}"))),
            });
            let frame = Frame { name: "f".into(), axes: axes.collect(), columns: vec![column(cells, value)] };
            for kind in [None, Some(Kind::Heat), Some(Kind::Line), Some(Kind::Bar), Some(Kind::Scatter)] {
                let plot = Plot { kind, ..Plot::default() };
                let Ok(figure) = plot.of(&frame) else {
                    assert!(lens.is_empty(), "{kind:?} of {lens:?}");
                    continue;
                };
                for color in [Color::None, Color::True] {
                    figure.text(&Terminal { columns: 60, color });
                }
                let svg = figure.svg();
                roxmltree::Document::parse(&svg).unwrap_or_else(|e| panic!("{kind:?} of {lens:?}: {e}"));
                assert!(!svg.contains("NaN") && !svg.contains("\"inf"), "{kind:?} of {lens:?} {value}: {svg}");
                figure.png(0.5).unwrap();
            }
            frame.text(60).unwrap();
            frame.to_csv().unwrap();
            frame.to_parquet().unwrap();
        }
    }
}
