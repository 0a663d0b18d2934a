//! Every kind of plot, to be looked at, on the terminal or as files:
//! `cargo run --release -p steer-figures --example gallery [16|256|true|none] [COLUMNS]`, or with a folder.

#[path = "../tests/common/mod.rs"]
mod common;

use std::path::PathBuf;
use steer_figures::{Color, Kind, Plot, Terminal};

fn main() {
    let mut args = std::env::args().skip(1);
    let first = args.next();
    let color = match first.as_deref() {
        Some("16") => Color::Ansi16,
        Some("256") => Color::Ansi256,
        Some("none") => Color::None,
        _ => Color::True,
    };
    let folder = first.map(PathBuf::from).filter(|p| p.is_dir());
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
    for (i, (frame, plot)) in plots.into_iter().enumerate() {
        let figure = plot.of(&frame).unwrap_or_else(|fault| panic!("{}: {fault}", frame.name));
        let Some(folder) = &folder else {
            println!("{}", figure.text(&Terminal { columns, color }));
            continue;
        };
        let png = figure.png(2.0).unwrap_or_else(|fault| panic!("{fault}"));
        let written = std::fs::write(folder.join(format!("{i}.svg")), figure.svg())
            .and_then(|()| std::fs::write(folder.join(format!("{i}.png")), png))
            .and_then(|()| std::fs::write(folder.join(format!("{i}.csv")), frame.to_csv().unwrap_or_default()))
            .and_then(|()| std::fs::write(folder.join(format!("{i}.parquet")), frame.to_parquet().unwrap_or_default()));
        written.unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    }
    if let Some(folder) = &folder {
        let written = std::fs::write(folder.join("page.html"), common::page().html());
        written.unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    }
}
