//! A drawing as a list of shapes, which become SVG or pixels.

use super::font;
use crate::color::Rgb;

/// A colour by its use; pages give the first ones other colours where it is dark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Paint {
    /// Titles.
    Ink,
    /// Labels.
    Soft,
    /// Axes.
    Rule,
    /// Lines of a grid.
    Faint,
    /// The ground.
    Paper,
    Data(Rgb),
}

impl Paint {
    /// The colour on white paper.
    pub(crate) fn rgb(self) -> Rgb {
        match self {
            Paint::Ink => Rgb(0x1a, 0x1c, 0x20),
            Paint::Soft => Rgb(0x4a, 0x4f, 0x58),
            Paint::Rule => Rgb(0x8a, 0x90, 0x99),
            Paint::Faint => Rgb(0xe4, 0xe6, 0xea),
            Paint::Paper => Rgb(0xff, 0xff, 0xff),
            Paint::Data(rgb) => rgb,
        }
    }

    /// What a page's style calls it.
    pub(crate) fn class(self) -> Option<&'static str> {
        match self {
            Paint::Ink => Some("ink"),
            Paint::Soft => Some("soft"),
            Paint::Rule => Some("rule"),
            Paint::Faint => Some("faint"),
            Paint::Paper => Some("paper"),
            Paint::Data(_) => None,
        }
    }
}

/// Which part of a text stands at its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Shape {
    Rect {
        x: f64,
        y: f64,
        w: f64,
        h: f64,
    },
    /// Points joined by lines; an area where it is filled.
    Path(Vec<(f64, f64)>),
    Circle {
        x: f64,
        y: f64,
        r: f64,
    },
    Text {
        x: f64,
        y: f64,
        text: String,
        size: f64,
        anchor: Anchor,
        /// Degrees, clockwise around its place.
        turn: f64,
    },
    Tiles(Tiles),
}

/// A grid of coloured rectangles.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tiles {
    pub x: f64,
    pub y: f64,
    pub w: f64,
    pub h: f64,
    pub columns: usize,
    pub colors: Vec<Rgb>,
    /// What a reader sees over a tile, where there is something.
    pub hover: Option<Hover>,
}

/// Names and values of tiles.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Hover {
    pub columns: Vec<String>,
    pub rows: Vec<String>,
    pub metric: String,
    pub values: Vec<f64>,
    pub errors: Option<Vec<f64>>,
}

/// A shape with its colours.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Mark {
    pub shape: Shape,
    pub fill: Option<Paint>,
    pub stroke: Option<(Paint, f64)>,
    pub opacity: f64,
    /// What a reader sees over it.
    pub hint: Option<String>,
}

/// A drawing; its origin is the upper left corner.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Canvas {
    pub width: f64,
    pub height: f64,
    /// What it shows, in words.
    pub title: String,
    pub marks: Vec<Mark>,
}

impl Canvas {
    pub fn push(&mut self, shape: Shape, fill: Option<Paint>, stroke: Option<(Paint, f64)>) -> &mut Mark {
        let at = self.marks.len();
        self.marks.push(Mark { shape, fill, stroke, opacity: 1.0, hint: None });
        &mut self.marks[at]
    }

    pub fn rect(&mut self, x: f64, y: f64, w: f64, h: f64, fill: Paint) -> &mut Mark {
        self.push(Shape::Rect { x, y, w, h }, Some(fill), None)
    }

    pub fn line(&mut self, points: Vec<(f64, f64)>, paint: Paint, width: f64) -> &mut Mark {
        self.push(Shape::Path(points), None, Some((paint, width)))
    }

    pub fn text(&mut self, x: f64, y: f64, text: &str, size: f64, anchor: Anchor, paint: Paint) {
        self.turned(x, y, text, size, anchor, paint, 0.0);
    }

    #[allow(clippy::too_many_arguments)]
    pub fn turned(&mut self, x: f64, y: f64, text: &str, size: f64, anchor: Anchor, paint: Paint, turn: f64) {
        if !text.is_empty() {
            let shape = Shape::Text { x, y, text: text.to_string(), size, anchor, turn };
            self.push(shape, Some(paint), None);
        }
    }

    /// Puts another drawing on this one.
    pub fn place(&mut self, x: f64, y: f64, other: Canvas) {
        let moved = |mut mark: Mark| {
            match &mut mark.shape {
                Shape::Rect { x: a, y: b, .. } | Shape::Circle { x: a, y: b, .. } | Shape::Text { x: a, y: b, .. } => {
                    *a += x;
                    *b += y;
                }
                Shape::Tiles(t) => {
                    t.x += x;
                    t.y += y;
                }
                Shape::Path(points) => points.iter_mut().for_each(|p| *p = (p.0 + x, p.1 + y)),
            }
            mark
        };
        self.marks.extend(other.marks.into_iter().map(moved));
    }
}

/// The size of labels, of names of axes, and of titles.
pub(crate) const SMALL: f64 = 11.0;
pub(crate) const MEDIUM: f64 = 12.0;
pub(crate) const LARGE: f64 = 15.0;

/// The widest of some labels.
pub(crate) fn widest(labels: &[String], size: f64) -> f64 {
    labels.iter().map(|l| font::width(l, size)).fold(0.0, f64::max)
}
