//! Plots as drawings: laid out once, written as SVG or as pixels.

mod axes;
mod bars;
mod canvas;
mod chart;
mod font;
mod heat;
mod legend;
mod png;
mod svg;

pub(crate) use svg::escape;

use crate::figure::{Figure, Group, Panel, note};
use crate::frame::Fault;
use crate::plot::Kind;
use canvas::{Anchor, Canvas, Hover, LARGE, Paint, SMALL};
use svg::Place;

/// The air around a drawing, and between its parts.
const PAD: f64 = 16.0;

impl Figure {
    /// The plot as an SVG file. Points and cells say what they are to whoever points at them.
    pub fn svg(&self) -> String {
        self.canvas(true).svg(Place::File)
    }

    /// The plot as a part of a page that has a heading for it.
    pub(crate) fn inline(&self) -> String {
        self.canvas(false).svg(Place::Page)
    }

    /// The plot as a PNG file of `scale` pixels for each unit of the SVG, about a 96th of an inch: 3 is fit for print.
    pub fn png(&self, scale: f64) -> Result<Vec<u8>, Fault> {
        self.canvas(true).png(scale)
    }

    fn canvas(&self, titled: bool) -> Canvas {
        let mut canvas = Canvas { title: self.title.clone(), ..Canvas::default() };
        let mut notes = self.notes.clone();
        let mut groups = Vec::new();
        for group in &self.groups {
            groups.push(match self.kind {
                Kind::Heat => heat::draw(group, &mut notes),
                Kind::Line | Kind::Scatter => chart::draw(group, self.kind, &mut notes),
                Kind::Bar => bars::draw(group, &mut notes),
            });
        }
        let width = groups.iter().map(|g| g.width).fold(160.0, f64::max);
        let mut down = if titled { PAD } else { 2.0 };
        let left = if titled { PAD } else { 2.0 };
        if titled && !self.title.is_empty() {
            let title = font::clip(&self.title, LARGE, width);
            canvas.text(left, down + LARGE, &title, LARGE, Anchor::Start, Paint::Ink);
            down += LARGE + 14.0;
        }
        for (i, group) in groups.into_iter().enumerate() {
            down += if i > 0 { 20.0 } else { 0.0 };
            let height = group.height;
            canvas.place(left, down, group);
            down += height;
        }
        for text in &notes {
            for line in wrapped(text, width) {
                down += SMALL + 5.0;
                canvas.text(left, down, &line, SMALL, Anchor::Start, Paint::Soft);
            }
        }
        canvas.width = width + 2.0 * left;
        canvas.height = down + if titled { PAD } else { 4.0 };
        canvas
    }
}

/// A sentence in lines no wider than this.
fn wrapped(text: &str, width: f64) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match out.last_mut() {
            Some(line) if font::width(&format!("{line} {word}"), SMALL) <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => out.push(font::clip(word, SMALL, width)),
        }
    }
    out
}

/// How panels stand beside each other.
fn arranged(panels: usize, widest: usize) -> usize {
    match panels {
        0..=2 => panels.max(1),
        4 => 2.min(widest),
        _ => 3.min(widest),
    }
}

/// What a reader sees over the values of a panel.
fn hover(group: &Group, panel: &Panel) -> Hover {
    let rows = (0..group.rows.len()).map(|i| match group.rows.name.is_empty() {
        true => String::new(),
        false => group.rows.entry(i),
    });
    let columns = (0..group.x.len()).map(|i| match group.x.name.is_empty() {
        true => String::new(),
        false => group.x.entry(i),
    });
    Hover {
        columns: columns.collect(),
        rows: rows.collect(),
        metric: group.metric.clone(),
        values: panel.grid.values.clone(),
        errors: panel.grid.errors.clone(),
    }
}

impl Hover {
    /// The entries and the value of one cell.
    fn text(&self, cell: usize) -> String {
        let columns = self.columns.len().max(1);
        let name = |names: &[String], i: usize| names.get(i).filter(|n| !n.is_empty()).cloned();
        let place = [name(&self.rows, cell / columns), name(&self.columns, cell % columns)];
        let place: Vec<String> = place.into_iter().flatten().collect();
        let value = match self.values.get(cell) {
            Some(v) if !v.is_nan() => crate::text::number(*v),
            _ => "not computed".into(),
        };
        let error = self.errors.as_ref().and_then(|e| e.get(cell)).filter(|e| e.is_finite() && **e > 0.0);
        let error = error.map_or(String::new(), |e| format!(" ± {}", crate::text::error(*e)));
        let colon = if place.is_empty() { "" } else { "\n" };
        format!("{}{colon}{} {value}{error}", place.join(", "), self.metric)
    }
}

/// The first `most` of so many columns of each row.
fn kept(values: &[f64], columns: usize, most: usize) -> Vec<f64> {
    values.chunks(columns).flat_map(|row| row[..most].to_vec()).collect()
}

/// At most so many columns of lines or bars; a note says what is left out.
fn cut(group: &Group, most: usize, notes: &mut Vec<String>) -> Group {
    let mut out = group.clone();
    if group.x.len() <= most {
        return out;
    }
    note(notes, format!("The first {most} of {} entries of {} are shown.", group.x.len(), group.x.name));
    out.x.truncate(most);
    for panel in &mut out.panels {
        let columns = panel.grid.columns;
        panel.grid.values = kept(&panel.grid.values, columns, most);
        panel.grid.errors = panel.grid.errors.as_ref().map(|e| kept(e, columns, most));
        panel.grid.columns = most;
    }
    out
}
