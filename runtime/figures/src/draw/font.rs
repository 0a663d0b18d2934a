//! The font that texts are measured and drawn with: DejaVu Sans, embedded.

use std::sync::OnceLock;
use ttf_parser::{Face, GlyphId, OutlineBuilder};

/// The face, where the embedded file can be read.
fn face() -> Option<&'static Face<'static>> {
    static FACE: OnceLock<Option<Face<'static>>> = OnceLock::new();
    FACE.get_or_init(|| Face::parse(dejavu::sans::regular(), 0).ok()).as_ref()
}

/// What stands for a character that the font lacks: its number in a box, as wide as this many ems.
const BOX: f64 = 1.1;

fn glyph(c: char) -> Option<GlyphId> {
    face()?.glyph_index(c)
}

/// Characters that take no room and show nothing, such as joiners and selectors.
fn nothing(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200B}'..='\u{200F}' | '\u{FE00}'..='\u{FE0F}')
}

fn advance(c: char) -> f64 {
    match (glyph(c), face()) {
        _ if nothing(c) => 0.0,
        (Some(id), Some(face)) => f64::from(face.glyph_hor_advance(id).unwrap_or(0)) / f64::from(face.units_per_em()),
        _ => BOX,
    }
}

/// How wide a text of this size is.
pub(crate) fn width(text: &str, size: f64) -> f64 {
    text.chars().map(advance).sum::<f64>() * size
}

/// As much of a text as is no wider than this.
pub(crate) fn clip(text: &str, size: f64, most: f64) -> String {
    if width(text, size) <= most {
        return text.to_string();
    }
    let mut used = width("…", size);
    let mut out = String::new();
    for c in text.chars() {
        used += advance(c) * size;
        if used > most {
            break;
        }
        out.push(c);
    }
    out.push('…');
    out
}

/// Where the pen goes, in ems, down from the base line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Pen {
    Move(f64, f64),
    Line(f64, f64),
    Curve(f64, f64, f64, f64),
    Cubic(f64, f64, f64, f64, f64, f64),
    Close,
}

/// The outlines of a text from the origin to the right, in ems.
pub(crate) fn outlines(text: &str) -> Vec<Pen> {
    let mut pen = Tracer { out: Vec::new(), right: 0.0, down: 0.0, scale: 1.0 };
    for c in text.chars() {
        match (glyph(c), face()) {
            _ if nothing(c) => {}
            (Some(id), Some(face)) => pen.glyph(face, id),
            _ => pen.missing(c),
        }
        pen.right += advance(c);
    }
    pen.out
}

struct Tracer {
    out: Vec<Pen>,
    right: f64,
    down: f64,
    /// The size of what is drawn, in ems for one unit of the font.
    scale: f64,
}

impl Tracer {
    fn glyph(&mut self, face: &Face<'_>, id: GlyphId) {
        self.scale = 1.0 / f64::from(face.units_per_em());
        face.outline_glyph(id, self);
    }

    /// A box with the number of the character in it, two digits above two.
    fn missing(&mut self, c: char) {
        for (inset, turn) in [(0.06, false), (0.11, true)] {
            let (l, r) = (self.right + inset, self.right + BOX - inset);
            let (t, b) = (-0.78 + inset, 0.18 - inset);
            let corners = [(l, t), (r, t), (r, b), (l, b)];
            // The inner edge goes the other way round, so that the box is empty.
            let order: [usize; 4] = if turn { [0, 3, 2, 1] } else { [0, 1, 2, 3] };
            for (i, at) in order.iter().enumerate() {
                let (x, y) = corners[*at];
                self.out.push(if i == 0 { Pen::Move(x, y) } else { Pen::Line(x, y) });
            }
            self.out.push(Pen::Close);
        }
        let Some(face) = face() else { return };
        // Pictures of controls stand for them.
        let number = if (0x2400..0x2420).contains(&u32::from(c)) { u32::from(c) - 0x2400 } else { u32::from(c) };
        let digits: Vec<char> = format!("{number:04X}").chars().collect();
        let (above, below) = digits.split_at(digits.len() - digits.len() / 2);
        let (home, size) = (self.right, 0.36);
        for (line, down) in [(above, -0.36), (below, 0.04)] {
            let wide: f64 = line.iter().map(|d| advance(*d) * size).sum();
            self.right = home + (BOX - wide) / 2.0;
            for d in line {
                if let Some(id) = glyph(*d) {
                    self.scale = size / f64::from(face.units_per_em());
                    self.down = down;
                    face.outline_glyph(id, self);
                }
                self.right += advance(*d) * size;
            }
        }
        (self.right, self.down) = (home, 0.0);
    }

    fn at(&self, x: f32, y: f32) -> (f64, f64) {
        (self.right + f64::from(x) * self.scale, self.down - f64::from(y) * self.scale)
    }
}

impl OutlineBuilder for Tracer {
    fn move_to(&mut self, x: f32, y: f32) {
        let (x, y) = self.at(x, y);
        self.out.push(Pen::Move(x, y));
    }

    fn line_to(&mut self, x: f32, y: f32) {
        let (x, y) = self.at(x, y);
        self.out.push(Pen::Line(x, y));
    }

    fn quad_to(&mut self, x1: f32, y1: f32, x: f32, y: f32) {
        let ((x1, y1), (x, y)) = (self.at(x1, y1), self.at(x, y));
        self.out.push(Pen::Curve(x1, y1, x, y));
    }

    fn curve_to(&mut self, x1: f32, y1: f32, x2: f32, y2: f32, x: f32, y: f32) {
        let ((x1, y1), (x2, y2), (x, y)) = (self.at(x1, y1), self.at(x2, y2), self.at(x, y));
        self.out.push(Pen::Cubic(x1, y1, x2, y2, x, y));
    }

    fn close(&mut self) {
        self.out.push(Pen::Close);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_measured_and_traced() {
        let wide = width("layer 12", 11.0);
        assert!((40.0..60.0).contains(&wide), "{wide}");
        assert_eq!(width("", 11.0), 0.0);
        assert!(clip("a very long label", 10.0, 40.0).ends_with('…'));
        assert!(width(&clip("a very long label", 10.0, 40.0), 10.0) <= 40.0);
        assert!(outlines("·Mary").len() > 40);
        assert!(!outlines("你").is_empty(), "a box with its number");
        assert!(outlines("\u{200d}\u{7}").is_empty());
    }
}
