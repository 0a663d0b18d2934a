//! Every kind of plot, to be looked at: `cargo run --release -p steer-figures --example gallery [16|256|true|none] [COLUMNS]`.

#[path = "../tests/common/mod.rs"]
mod common;

use steer_figures::{Color, Kind, Plot, Terminal};

fn main() {
    let mut args = std::env::args().skip(1);
    let color = match args.next().as_deref() {
        Some("16") => Color::Ansi16,
        Some("256") => Color::Ansi256,
        Some("none") => Color::None,
        _ => Color::True,
    };
    let columns = args.next().and_then(|n| n.parse().ok()).unwrap_or(100);
    let scatter = Plot { kind: Some(Kind::Scatter), ..Plot::default() };
    let line = Plot { kind: Some(Kind::Line), ..Plot::default() };
    let bar = Plot { kind: Some(Kind::Bar), ..Plot::default() };
    let sparse = Plot { title: Some("heads that move the name".into()), ..Plot::default() };
    let plots = [
        (common::patching(12), Plot::default()),
        (common::patching(4), Plot::default()),
        (common::heads(12, 12), sparse),
        (common::faceted(), Plot::default()),
        (common::long(100, 2000), Plot::default()),
        (common::strengths(), line.clone()),
        (common::patching(12), Plot { x: Some("layer".into()), ..line }),
        (common::runs(), Plot::default()),
        (common::strengths(), bar),
        (common::heads(12, 12), scatter.clone()),
        (common::heads(12, 12), Plot { series: Some("layer".into()), ..scatter }),
        (common::hostile(), Plot::default()),
    ];
    for (frame, plot) in plots {
        match plot.of(&frame) {
            Ok(figure) => println!("{}", figure.text(&Terminal { columns, color })),
            Err(fault) => eprintln!("{}: {fault}", frame.name),
        }
    }
}
