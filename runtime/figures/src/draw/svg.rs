//! Drawings as SVG.

use super::canvas::{Anchor, Canvas, Mark, Paint, Shape, Tiles};
use crate::color::Rgb;
use crate::text::number;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Beyond so many tiles those of one colour are one shape, and only pages say what is under the pointer.
const TILES: usize = 3000;

/// Where an image is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A file of its own, on white.
    File,
    /// Part of an HTML page, which has a style and a script for it.
    Page,
}

/// A text that stands for itself in XML, between tags and in quotes.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            // XML has no way to write these.
            '\0'..='\u{1F}' | '\u{7F}'..='\u{9F}' | '\u{FFFE}' | '\u{FFFF}' => out.push('\u{FFFD}'),
            // These would turn the text after them around.
            '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' => out.push('\u{FFFD}'),
            _ => out.push(c),
        }
    }
    out
}

/// A length with no more digits than can be seen.
fn n(x: f64) -> String {
    let text = format!("{x:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".into() } else { text.into() }
}

impl Canvas {
    pub(crate) fn svg(&self, place: Place) -> String {
        let mut out = String::new();
        let (w, h) = (n(self.width.ceil()), n(self.height.ceil()));
        // Narrower fonts than the one that was measured fit as well.
        let fonts = "Helvetica Neue, Helvetica, Arial, DejaVu Sans, sans-serif";
        let _ = writeln!(
            out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{w}\" height=\"{h}\" viewBox=\"0 0 {w} {h}\" \
             font-family=\"{fonts}\" role=\"img\" aria-label=\"{}\">",
            escape(&self.title)
        );
        if place == Place::File {
            let _ = writeln!(out, "<title>{}</title>", escape(&self.title));
            let _ = writeln!(out, "<rect width=\"{w}\" height=\"{h}\" fill=\"{}\"/>", Paint::Paper.rgb().hex());
        }
        for mark in &self.marks {
            match &mark.shape {
                Shape::Tiles(tiles) => draw_tiles(&mut out, tiles, place),
                _ => draw(&mut out, mark),
            }
        }
        out.push_str("</svg>\n");
        out
    }
}

fn draw(out: &mut String, mark: &Mark) {
    let mut style = String::new();
    let classes: Vec<String> = [(mark.fill, ""), (mark.stroke.map(|s| s.0), "-line")]
        .iter()
        .filter_map(|(paint, kind)| Some(format!("{}{kind}", paint.as_ref()?.class()?)))
        .collect();
    if !classes.is_empty() {
        let _ = write!(style, " class=\"{}\"", classes.join(" "));
    }
    let fill = mark.fill.map_or("none".to_string(), |p| p.rgb().hex());
    let _ = write!(style, " fill=\"{fill}\"");
    if let Some((paint, width)) = mark.stroke {
        let _ = write!(style, " stroke=\"{}\" stroke-width=\"{}\"", paint.rgb().hex(), n(width));
        style.push_str(" stroke-linejoin=\"round\" stroke-linecap=\"round\"");
    }
    if mark.opacity < 1.0 {
        let _ = write!(style, " opacity=\"{}\"", n(mark.opacity));
    }
    let (tag, body) = match &mark.shape {
        Shape::Rect { x, y, w, h } => {
            let at = format!("rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"", n(*x), n(*y), n(*w), n(*h));
            (at, String::new())
        }
        Shape::Circle { x, y, r } => {
            (format!("circle cx=\"{}\" cy=\"{}\" r=\"{}\"", n(*x), n(*y), n(*r)), String::new())
        }
        Shape::Path(points) => {
            let points: Vec<String> = points.iter().map(|(x, y)| format!("{},{}", n(*x), n(*y))).collect();
            let kind = if mark.fill.is_some() { "polygon" } else { "polyline" };
            (format!("{kind} points=\"{}\"", points.join(" ")), String::new())
        }
        Shape::Text { x, y, text, size, anchor, turn } => {
            let mut at = format!("text x=\"{}\" y=\"{}\" font-size=\"{}\"", n(*x), n(*y), n(*size));
            match anchor {
                Anchor::Start => {}
                Anchor::Middle => at.push_str(" text-anchor=\"middle\""),
                Anchor::End => at.push_str(" text-anchor=\"end\""),
            }
            if *turn != 0.0 {
                let _ = write!(at, " transform=\"rotate({} {} {})\"", n(*turn), n(*x), n(*y));
            }
            (at, escape(text))
        }
        Shape::Tiles(_) => return,
    };
    let name = tag.split(' ').next().unwrap_or_default().to_string();
    let hint = mark.hint.as_ref().map_or(String::new(), |h| format!("<title>{}</title>", escape(h)));
    let _ = match body.is_empty() && hint.is_empty() {
        true => writeln!(out, "<{tag}{style}/>"),
        false => writeln!(out, "<{tag}{style}>{hint}{body}</{name}>"),
    };
}

fn draw_tiles(out: &mut String, tiles: &Tiles, place: Place) {
    let many = tiles.colors.len() > TILES;
    let single = !many && tiles.hover.is_some();
    out.push_str("<g shape-rendering=\"crispEdges\" class=\"tiles\"");
    if let (true, Place::Page, Some(hover)) = (many, place, &tiles.hover) {
        let list = |names: &[String]| serde_json::to_string(names).unwrap_or_default();
        let values: Vec<String> =
            hover.values.iter().map(|v| if v.is_nan() { String::new() } else { number(*v) }).collect();
        for (key, value) in [
            ("grid", format!("{} {} {} {}", n(tiles.x), n(tiles.y), n(tiles.w), n(tiles.h))),
            ("columns", list(&hover.columns)),
            ("rows", list(&hover.rows)),
            ("metric", hover.metric.clone()),
            ("values", values.join(",")),
        ] {
            let _ = write!(out, " data-{key}=\"{}\"", escape(&value));
        }
    }
    out.push_str(">\n");
    let corner = |i: usize| {
        let (row, column) = (i / tiles.columns.max(1), i % tiles.columns.max(1));
        (tiles.x + column as f64 * tiles.w, tiles.y + row as f64 * tiles.h)
    };
    if single {
        for (i, color) in tiles.colors.iter().enumerate() {
            let (x, y) = corner(i);
            let (x, y, w, h) = (n(x), n(y), n(tiles.w), n(tiles.h));
            let hint = tiles.hover.as_ref().map_or(String::new(), |h| escape(&h.text(i)));
            let fill = color.hex();
            let _ = writeln!(
                out,
                "<rect x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\" fill=\"{fill}\"><title>{hint}</title></rect>"
            );
        }
    } else {
        for (color, runs) in runs(tiles) {
            let _ = write!(out, "<path fill=\"{}\" d=\"", color.hex());
            for (i, len) in runs {
                let (x, y) = corner(i);
                let w = n(len as f64 * tiles.w);
                let _ = write!(out, "M{} {}h{w}v{}h-{w}z", n(x), n(y), n(tiles.h));
            }
            out.push_str("\"/>\n");
        }
    }
    out.push_str("</g>\n");
}

/// Neighbours of one colour in a row, by colour: where they begin and how many they are.
fn runs(tiles: &Tiles) -> BTreeMap<Rgb, Vec<(usize, usize)>> {
    let mut out: BTreeMap<Rgb, Vec<(usize, usize)>> = BTreeMap::new();
    for (r, row) in tiles.colors.chunks(tiles.columns.max(1)).enumerate() {
        let mut start = 0;
        for part in row.chunk_by(|a, b| a == b) {
            out.entry(part[0]).or_default().push((r * tiles.columns + start, part.len()));
            start += part.len();
        }
    }
    out
}
