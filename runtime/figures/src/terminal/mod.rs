//! Plots on a terminal.

mod bars;
mod braille;
mod chart;
mod heat;
mod labels;
mod numbers;

use crate::color::Color;
use crate::figure::Figure;
use crate::frame::{Fault, Frame};
use crate::plot::{Kind, Plot};
use crate::side::clip;
use crate::text::wrap;

/// Where a plot is to be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terminal {
    /// How wide it is.
    pub columns: usize,
    pub color: Color,
}

impl Figure {
    /// The plot as lines of text. Without colours a heat map is a table of numbers.
    pub fn text(&self, terminal: &Terminal) -> String {
        let view = Terminal { columns: terminal.columns.max(30), ..*terminal };
        let mut out = String::new();
        let mut notes = self.notes.clone();
        if !self.title.is_empty() {
            out.push_str(&view.color.strong(&clip(&self.title, view.columns)));
            out.push('\n');
        }
        for (i, group) in self.groups.iter().enumerate() {
            if i > 0 {
                out.push('\n');
            }
            match (self.kind, view.color) {
                (Kind::Heat, Color::None) => numbers::draw(&mut out, group, &view, &mut notes),
                (Kind::Heat, _) => heat::draw(&mut out, group, &view, &mut notes),
                (Kind::Line | Kind::Scatter, _) => chart::draw(&mut out, group, self.kind, &view),
                (Kind::Bar, _) => bars::draw(&mut out, group, &view),
            }
        }
        for text in &notes {
            for line in wrap(text, view.columns) {
                out.push_str(&view.color.faint(&line));
                out.push('\n');
            }
        }
        out
    }
}

impl Frame {
    /// The table as numbers, the last axis to the right.
    pub fn text(&self, columns: usize) -> Result<String, Fault> {
        let kind = if self.axes.is_empty() { Kind::Bar } else { Kind::Heat };
        let plot = Plot { kind: Some(kind), ..Plot::default() };
        let figure = plot.of(self)?;
        let view = Terminal { columns: columns.max(30), color: Color::None };
        let (mut out, mut notes) = (String::new(), figure.notes.clone());
        for (i, group) in figure.groups.iter().enumerate() {
            if i > 0 {
                out.push('\n');
            }
            numbers::draw(&mut out, group, &view, &mut notes);
        }
        for text in notes {
            out.push_str(&format!("{text}\n"));
        }
        Ok(out)
    }
}

/// A line without spaces at its end, where they are not painted.
fn line(out: &mut String, text: &str) {
    out.push_str(text.trim_end_matches(' '));
    out.push('\n');
}
