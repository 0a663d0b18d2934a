//! A grid of characters with eight dots each.

use crate::color::{Color, Rgb};

/// The dots of a character by row, left and right, as Unicode numbers them.
const DOTS: [[u8; 2]; 4] = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];

/// Two dots a column to the right, four a line down.
pub(super) struct Dots {
    pub columns: usize,
    pub lines: usize,
    cells: Vec<(u8, Option<char>, Option<Rgb>)>,
}

impl Dots {
    pub fn new(columns: usize, lines: usize) -> Self {
        Dots { columns, lines, cells: vec![(0, None, None); columns * lines] }
    }

    /// The place of a share of the width and of the height from below, as a dot.
    pub fn at(&self, right: f64, up: f64) -> Option<(i64, i64)> {
        let inside = right.is_finite() && up.is_finite();
        let x = right * (2 * self.columns - 1) as f64;
        let y = (1.0 - up) * (4 * self.lines - 1) as f64;
        inside.then_some((x.round() as i64, y.round() as i64))
    }

    fn cell(&mut self, x: i64, y: i64) -> Option<&mut (u8, Option<char>, Option<Rgb>)> {
        let (column, line) = (usize::try_from(x.div_euclid(2)).ok()?, usize::try_from(y.div_euclid(4)).ok()?);
        (column < self.columns && line < self.lines).then(|| &mut self.cells[line * self.columns + column])
    }

    pub fn dot(&mut self, x: i64, y: i64, ink: Rgb) {
        let bit = DOTS[y.rem_euclid(4) as usize][x.rem_euclid(2) as usize];
        if let Some(cell) = self.cell(x, y) {
            cell.0 |= bit;
            cell.2 = Some(ink);
        }
    }

    /// A sign in the place of a dot's character.
    pub fn sign(&mut self, x: i64, y: i64, sign: char, ink: Rgb) {
        if let Some(cell) = self.cell(x, y) {
            cell.1 = Some(sign);
            cell.2 = Some(ink);
        }
    }

    pub fn line(&mut self, from: (i64, i64), to: (i64, i64), ink: Rgb) {
        // Ends far outside of the grid come from limits that cut a line: what is drawn is bounded.
        let reach = |v: i64| v.clamp(-4000, 8000);
        let (dx, dy) = (reach(to.0) - reach(from.0), reach(to.1) - reach(from.1));
        let steps = dx.abs().max(dy.abs()).max(1);
        for i in 0..=steps {
            self.dot(reach(from.0) + dx * i / steps, reach(from.1) + dy * i / steps, ink);
        }
    }

    /// One line of characters.
    pub fn render(&self, line: usize, color: Color) -> String {
        let mut out = String::new();
        for (dots, sign, ink) in &self.cells[line * self.columns..(line + 1) * self.columns] {
            let c = match (sign, dots) {
                (Some(sign), _) => *sign,
                (None, 0) => ' ',
                (None, dots) => char::from_u32(0x2800 + u32::from(*dots)).unwrap_or(' '),
            };
            match c {
                ' ' => out.push(' '),
                c => out.push_str(&color.paint(c.encode_utf8(&mut [0; 4]), *ink, None)),
            }
        }
        out
    }
}
