//! Labels along the axes of a drawing.

use super::canvas::{Anchor, Canvas, MEDIUM, Paint, SMALL, widest};
use super::font;
use crate::scale::{Scale, tick_texts};

/// The longest label of an axis.
const LABEL: f64 = 110.0;

/// Numbers with the sign that is made for them.
pub(super) fn minus(numbers: &[String]) -> Vec<String> {
    numbers.iter().map(|n| n.replace('-', "−")).collect()
}

/// How labels stand below an axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Below {
    every: usize,
    turn: f64,
    /// What the labels take of the height.
    pub height: f64,
}

impl Below {
    /// Labels `gap` apart. Of numbers some are enough.
    pub fn of(labels: &[String], gap: f64, numeric: bool) -> Below {
        let wide = widest(labels, SMALL).min(LABEL);
        if wide + 6.0 <= gap || labels.len() < 2 {
            return Below { every: 1, turn: 0.0, height: SMALL + 6.0 };
        }
        if numeric {
            return Below { every: even((wide + 8.0) / gap), turn: 0.0, height: SMALL + 6.0 };
        }
        let slope = std::f64::consts::FRAC_1_SQRT_2;
        match gap >= 15.0 {
            true => Below { every: 1, turn: -45.0, height: wide * slope + SMALL + 2.0 },
            false => Below { every: even((SMALL + 2.0) / gap), turn: -90.0, height: wide + 10.0 },
        }
    }

    /// How far labels reach to the left of the first place.
    pub fn overhang(&self, labels: &[String], places: &[f64]) -> f64 {
        let over = labels.iter().zip(places).step_by(self.every).map(|(label, x)| {
            let wide = font::width(label, SMALL).min(LABEL);
            let reach = match self.turn {
                0.0 => wide / 2.0,
                -45.0 => wide * std::f64::consts::FRAC_1_SQRT_2 + 3.0,
                _ => SMALL / 2.0,
            };
            reach - x
        });
        over.fold(0.0, f64::max)
    }

    pub fn draw(&self, canvas: &mut Canvas, labels: &[String], places: &[f64], left: f64, top: f64) {
        for (label, x) in labels.iter().zip(places).step_by(self.every) {
            let text = font::clip(label, SMALL, LABEL);
            let x = left + x;
            match self.turn {
                0.0 => canvas.text(x, top + SMALL + 3.0, &text, SMALL, Anchor::Middle, Paint::Soft),
                -45.0 => canvas.turned(x + 3.0, top + SMALL, &text, SMALL, Anchor::End, Paint::Soft, -45.0),
                _ => canvas.turned(x + SMALL * 0.36, top + 6.0, &text, SMALL, Anchor::End, Paint::Soft, -90.0),
            }
        }
    }
}

/// At least so many, in a step that is counted easily.
fn even(least: f64) -> usize {
    let steps = [1, 2, 4, 5, 8, 10, 16, 20, 25, 32, 50, 64, 100, 128, 200, 250, 500, 1000, 2000, 5000];
    steps.into_iter().find(|s| *s as f64 >= least).unwrap_or(10_000)
}

/// The name of what goes to the right, under its labels.
pub(super) fn name_below(canvas: &mut Canvas, name: &str, middle: f64, top: f64, room: f64) -> f64 {
    if name.is_empty() {
        return 0.0;
    }
    let text = font::clip(name, MEDIUM, room.max(60.0));
    canvas.text(middle, top + MEDIUM + 4.0, &text, MEDIUM, Anchor::Middle, Paint::Ink);
    MEDIUM + 10.0
}

/// The name of what goes up or down, beside its labels.
pub(super) fn name_beside(canvas: &mut Canvas, name: &str, left: f64, middle: f64, room: f64) {
    let text = font::clip(name, MEDIUM, room.max(60.0));
    canvas.turned(left + MEDIUM, middle, &text, MEDIUM, Anchor::Middle, Paint::Ink, -90.0);
}

/// The labels of rows that are `step` high, and how wide they are.
pub(super) struct Beside {
    every: usize,
    step: f64,
    pub width: f64,
}

impl Beside {
    pub fn of(labels: &[String], step: f64) -> Beside {
        let every = even((SMALL + 1.0) / step);
        Beside { every, step, width: widest(labels, SMALL).min(LABEL) + 8.0 }
    }

    pub fn draw(&self, canvas: &mut Canvas, labels: &[String], right: f64, top: f64) {
        for (i, label) in labels.iter().enumerate().step_by(self.every) {
            let y = top + (i as f64 + 0.5) * self.step + SMALL * 0.36;
            canvas.text(right - 6.0, y, &font::clip(label, SMALL, LABEL), SMALL, Anchor::End, Paint::Soft);
        }
    }
}

/// Marks of values along a height, with lines across.
pub(super) struct Heights {
    ticks: Vec<f64>,
    texts: Vec<String>,
    pub width: f64,
}

impl Heights {
    pub fn of(scale: &Scale, height: f64) -> Heights {
        let ticks = scale.ticks((height / 50.0).round().clamp(2.0, 8.0) as usize);
        let texts = minus(&tick_texts(&ticks));
        let width = widest(&texts, SMALL) + 8.0;
        Heights { ticks, texts, width }
    }

    /// Lines and labels of a plot with this corner and size.
    pub fn draw(&self, canvas: &mut Canvas, scale: &Scale, (x, y): (f64, f64), (w, h): (f64, f64), labels: bool) {
        for (tick, text) in self.ticks.iter().zip(&self.texts) {
            let at = y + h * (1.0 - scale.along(*tick));
            let paint = if *tick == 0.0 { Paint::Rule } else { Paint::Faint };
            canvas.line(vec![(x, at), (x + w, at)], paint, 1.0);
            if labels {
                canvas.text(x - 6.0, at + SMALL * 0.36, text, SMALL, Anchor::End, Paint::Soft);
            }
        }
    }
}
