//! What colours and signs mean.

use super::canvas::{Anchor, Canvas, MEDIUM, Paint, SMALL, Shape, Tiles, widest};
use super::{axes::minus, font};
use crate::color::{self, ABSENT};
use crate::figure::Group;
use crate::scale::tick_texts;

/// Beyond so many series their colours are a scale.
const SERIES: usize = 16;

/// The widest entry.
const LABEL: f64 = 150.0;

/// The colours of values from small to large, as high as this.
pub(super) fn colors(group: &Group, height: f64) -> Canvas {
    const STEPS: usize = 64;
    const BAR: f64 = 13.0;
    let scale = &group.scale;
    let mut canvas = Canvas::default();
    let name = font::clip(&group.metric, MEDIUM, LABEL);
    canvas.text(0.0, MEDIUM - 2.0, &name, MEDIUM, Anchor::Start, Paint::Ink);
    let top = MEDIUM + 8.0;
    let bar = (height - top).max(40.0);
    let value = |i: usize| scale.hi - (scale.hi - scale.lo) * (i as f64 + 0.5) / STEPS as f64;
    let colors = (0..STEPS).map(|i| scale.color(value(i))).collect();
    let tiles = Tiles { x: 0.0, y: top, w: BAR, h: bar / STEPS as f64, columns: 1, colors, hover: None };
    canvas.push(Shape::Tiles(tiles), None, None);
    let ticks = scale.ticks((bar / 36.0).round().clamp(2.0, 7.0) as usize);
    let texts = minus(&tick_texts(&ticks));
    for (tick, text) in ticks.iter().zip(&texts) {
        let y = top + bar * (1.0 - scale.along(*tick));
        canvas.line(vec![(BAR, y), (BAR + 3.0, y)], Paint::Rule, 1.0);
        canvas.text(BAR + 7.0, y + SMALL * 0.36, text, SMALL, Anchor::Start, Paint::Soft);
    }
    canvas.width = (BAR + 8.0 + widest(&texts, SMALL)).max(font::width(&name, MEDIUM));
    canvas.height = top + bar + 6.0;
    if group.panels.iter().any(|p| p.grid.values.iter().any(|v| v.is_nan())) {
        let y = canvas.height + 6.0;
        canvas.rect(0.0, y, BAR, 11.0, Paint::Data(ABSENT));
        canvas.text(BAR + 7.0, y + 10.0, "not computed", SMALL, Anchor::Start, Paint::Soft);
        canvas.width = canvas.width.max(BAR + 8.0 + font::width("not computed", SMALL));
        canvas.height = y + 14.0;
    }
    canvas
}

/// The sign of a series, of about this radius.
pub(super) fn sign(series: usize, x: f64, y: f64, r: f64) -> Shape {
    match series % 4 {
        0 => Shape::Circle { x, y, r },
        1 => Shape::Path(vec![(x, y - 1.25 * r), (x + 1.15 * r, y + 0.8 * r), (x - 1.15 * r, y + 0.8 * r)]),
        2 => {
            let r = r * 0.9;
            Shape::Path(vec![(x - r, y - r), (x + r, y - r), (x + r, y + r), (x - r, y + r)])
        }
        _ => {
            let r = r * 1.3;
            Shape::Path(vec![(x, y - r), (x + r, y), (x, y + r), (x - r, y)])
        }
    }
}

/// The series of lines, bars or points; nothing where there is one.
pub(super) fn series(group: &Group, signs: bool) -> Canvas {
    let mut canvas = Canvas::default();
    let count = group.rows.len();
    if count < 2 {
        return canvas;
    }
    let name = font::clip(&group.rows.name, MEDIUM, LABEL);
    canvas.text(0.0, MEDIUM - 2.0, &name, MEDIUM, Anchor::Start, Paint::Ink);
    let step = SMALL + 8.0;
    let top = MEDIUM + 8.0;
    let mut wide = font::width(&name, MEDIUM);
    let shown: Vec<usize> = match count <= SERIES {
        true => (0..count).collect(),
        false => vec![0, count / 4, count / 2, 3 * count / 4, count - 1],
    };
    if count > SERIES {
        let h = step * shown.len() as f64 / count as f64;
        let colors = (0..count).map(|i| color::series(i, count)).collect();
        canvas.push(Shape::Tiles(Tiles { x: 0.0, y: top, w: 13.0, h, columns: 1, colors, hover: None }), None, None);
    }
    for (i, row) in shown.iter().enumerate() {
        let y = match count > SERIES {
            true => top + (*row as f64 + 0.5) / count as f64 * step * shown.len() as f64,
            false => top + (i as f64 + 0.5) * step,
        };
        let ink = Paint::Data(color::series(*row, count));
        match (count > SERIES, signs) {
            (true, _) => {}
            (_, true) => {
                canvas.line(vec![(0.0, y), (18.0, y)], ink, 1.8);
                canvas.push(sign(*row, 9.0, y, 3.2), Some(ink), None);
            }
            (_, false) => {
                canvas.rect(2.0, y - 5.0, 10.0, 10.0, ink);
            }
        }
        let text = font::clip(&group.rows.labels[*row], SMALL, LABEL);
        wide = wide.max(24.0 + font::width(&text, SMALL));
        canvas.text(24.0, y + SMALL * 0.36, &text, SMALL, Anchor::Start, Paint::Soft);
    }
    canvas.width = wide + 2.0;
    canvas.height = top + shown.len() as f64 * step;
    canvas
}
