//! Drawings as pixels.

use super::canvas::{Anchor, Canvas, Mark, Paint, Shape};
use super::font::{self, Pen};
use crate::color::Rgb;
use crate::frame::Fault;
use tiny_skia::{FillRule, LineCap, LineJoin, Path, PathBuilder, Pixmap, Rect, Stroke, Transform};

/// The most pixels of an image.
const PIXELS: f64 = 30e6;

impl Canvas {
    /// A PNG file with `scale` pixels for each unit of the drawing, or fewer where the image would be too large.
    pub(crate) fn png(&self, scale: f64) -> Result<Vec<u8>, Fault> {
        let most = (PIXELS / (self.width.max(1.0) * self.height.max(1.0))).sqrt();
        let scale = if scale.is_finite() { scale.clamp(0.1, most) } else { 1.0 };
        let (w, h) = ((self.width.ceil() * scale).ceil() as u32, (self.height.ceil() * scale).ceil() as u32);
        let failed = |what: &str| Fault::new(format!("an image of {w} × {h} pixels cannot be made: {what}"));
        let mut map = Pixmap::new(w.max(1), h.max(1)).ok_or_else(|| failed("it is too large"))?;
        let paper = Paint::Paper.rgb();
        map.fill(tiny_skia::Color::from_rgba8(paper.0, paper.1, paper.2, 255));
        for mark in &self.marks {
            draw(&mut map, mark, scale as f32);
        }
        map.encode_png().map_err(|e| failed(&e.to_string()))
    }
}

fn paint(rgb: Rgb, opacity: f64, smooth: bool) -> tiny_skia::Paint<'static> {
    let mut paint = tiny_skia::Paint { anti_alias: smooth, ..tiny_skia::Paint::default() };
    paint.set_color_rgba8(rgb.0, rgb.1, rgb.2, (opacity.clamp(0.0, 1.0) * 255.0).round() as u8);
    paint
}

fn draw(map: &mut Pixmap, mark: &Mark, scale: f32) {
    let to_pixels = Transform::from_scale(scale, scale);
    let path = match &mark.shape {
        Shape::Rect { x, y, w, h } => {
            let rect = Rect::from_xywh(*x as f32, *y as f32, *w as f32, *h as f32);
            if let (Some(rect), Some(fill)) = (rect, mark.fill) {
                map.fill_rect(rect, &paint(fill.rgb(), mark.opacity, true), to_pixels, None);
            }
            rect.map(PathBuilder::from_rect)
        }
        Shape::Circle { x, y, r } => PathBuilder::from_circle(*x as f32, *y as f32, *r as f32),
        Shape::Path(points) => joined(points, mark.fill.is_some()),
        Shape::Tiles(tiles) => {
            for (i, color) in tiles.colors.iter().enumerate() {
                let (row, column) = (i / tiles.columns.max(1), i % tiles.columns.max(1));
                // Edges on whole pixels: neighbours touch and never overlap.
                let edge = |start: f64, step: f64, at: usize| ((start + step * at as f64) * f64::from(scale)).round();
                let (l, r) = (edge(tiles.x, tiles.w, column), edge(tiles.x, tiles.w, column + 1));
                let (t, b) = (edge(tiles.y, tiles.h, row), edge(tiles.y, tiles.h, row + 1));
                if let Some(rect) = Rect::from_ltrb(l as f32, t as f32, r as f32, b as f32) {
                    map.fill_rect(rect, &paint(*color, 1.0, false), Transform::identity(), None);
                }
            }
            None
        }
        Shape::Text { x, y, text, size, anchor, turn } => {
            let back = match anchor {
                Anchor::Start => 0.0,
                Anchor::Middle => font::width(text, *size) / 2.0,
                Anchor::End => font::width(text, *size),
            };
            let place = to_pixels
                .pre_translate(*x as f32, *y as f32)
                .pre_rotate(*turn as f32)
                .pre_translate(-back as f32, 0.0)
                .pre_scale(*size as f32, *size as f32);
            if let (Some(path), Some(fill)) = (traced(text), mark.fill) {
                map.fill_path(&path, &paint(fill.rgb(), mark.opacity, true), FillRule::Winding, place, None);
            }
            return;
        }
    };
    let Some(path) = path else { return };
    if let (Some(fill), false) = (mark.fill, matches!(mark.shape, Shape::Rect { .. })) {
        map.fill_path(&path, &paint(fill.rgb(), mark.opacity, true), FillRule::Winding, to_pixels, None);
    }
    if let Some((color, width)) = mark.stroke {
        let stroke =
            Stroke { width: width as f32, line_cap: LineCap::Round, line_join: LineJoin::Round, ..Stroke::default() };
        map.stroke_path(&path, &paint(color.rgb(), mark.opacity, true), &stroke, to_pixels, None);
    }
}

fn joined(points: &[(f64, f64)], closed: bool) -> Option<Path> {
    let mut path = PathBuilder::new();
    for (i, (x, y)) in points.iter().enumerate() {
        match i {
            0 => path.move_to(*x as f32, *y as f32),
            _ => path.line_to(*x as f32, *y as f32),
        }
    }
    if closed {
        path.close();
    }
    path.finish()
}

/// A text as one shape, in ems.
fn traced(text: &str) -> Option<Path> {
    let mut path = PathBuilder::new();
    let f = |x: f64| x as f32;
    for pen in font::outlines(text) {
        match pen {
            Pen::Move(x, y) => path.move_to(f(x), f(y)),
            Pen::Line(x, y) => path.line_to(f(x), f(y)),
            Pen::Curve(a, b, x, y) => path.quad_to(f(a), f(b), f(x), f(y)),
            Pen::Cubic(a, b, c, d, x, y) => path.cubic_to(f(a), f(b), f(c), f(d), f(x), f(y)),
            Pen::Close => path.close(),
        }
    }
    path.finish()
}
