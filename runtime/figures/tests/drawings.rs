//! SVG and PNG files: that other programs can read them, and what is in them.

mod common;

use roxmltree::Document;
use steer_figures::{Frame, Kind, Plot};

fn of(kind: Kind) -> Plot {
    Plot { kind: Some(kind), ..Plot::default() }
}

/// The texts of an element's descendants with this tag.
fn texts<'a>(doc: &'a Document<'_>, tag: &str) -> Vec<&'a str> {
    doc.descendants().filter(|n| n.has_tag_name(("http://www.w3.org/2000/svg", tag))).filter_map(|n| n.text()).collect()
}

#[test]
fn a_heat_map_has_labels_cells_and_values() {
    let svg = Plot::default().of(&common::patching(12)).unwrap().svg();
    let doc = Document::parse(&svg).unwrap();
    let text = texts(&doc, "text");
    for label in ["·Mary", "<|endoftext|>", "layer", "token", "ld", "11", "−10", "resid", "−12.3"] {
        assert!(text.contains(&label), "no {label} in {text:?}");
    }
    let titles = texts(&doc, "title");
    assert_eq!(titles.len(), 1 + 12 * 15);
    assert!(titles.contains(&"layer 6, token 10 \"·John\"\nld 2.179"), "{titles:?}");
}

#[test]
fn what_is_drawn_lies_on_the_drawing() {
    let bar = Plot { series: Some("hook".into()), ..of(Kind::Bar) };
    let cases: [(Frame, Plot); 7] = [
        (common::patching(12), Plot::default()),
        (common::strengths(), of(Kind::Line)),
        (common::strengths(), bar),
        (common::runs(), Plot::default()),
        (common::heads(12, 12), of(Kind::Scatter)),
        (common::faceted(), Plot::default()),
        (common::strengths(), Plot { limits: Some((-1.0, 1.0)), ..of(Kind::Line) }),
    ];
    for (frame, plot) in cases {
        let svg = plot.of(&frame).unwrap().svg();
        let doc = Document::parse(&svg).unwrap();
        let number =
            |n: roxmltree::Node<'_, '_>, key: &str| n.attribute(key).map_or(0.0, |v| v.parse::<f64>().unwrap());
        let (w, h) = (number(doc.root_element(), "width"), number(doc.root_element(), "height"));
        assert!(w > 100.0 && h > 100.0 && w < 1400.0, "{} {w} {h}", frame.name);
        let mut marks = 0;
        for n in doc.descendants().filter(|n| n.is_element()) {
            let points: Vec<(f64, f64)> = match n.tag_name().name() {
                "rect" => {
                    let (x, y) = (number(n, "x"), number(n, "y"));
                    vec![(x, y), (x + number(n, "width"), y + number(n, "height"))]
                }
                "circle" => vec![(number(n, "cx"), number(n, "cy"))],
                "text" => vec![(number(n, "x"), number(n, "y"))],
                "polyline" | "polygon" => {
                    let parse = |p: &str| p.split_once(',').map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap()));
                    n.attribute("points").unwrap().split(' ').filter_map(parse).collect()
                }
                _ => continue,
            };
            marks += 1;
            for (x, y) in points {
                assert!((0.0..=w).contains(&x) && (0.0..=h).contains(&y), "{}: {x} {y} on {w} {h}", frame.name);
            }
        }
        assert!(marks > 10, "{}", frame.name);
    }
}

#[test]
fn errors_are_drawn() {
    let with = common::runs();
    let mut without = with.clone();
    without.columns[0].errors = None;
    for kind in [Kind::Bar, Kind::Line] {
        let lines = |f: &Frame| of(kind).of(f).unwrap().svg().matches("<polyline").count();
        assert_eq!(lines(&with), lines(&without) + 4 * 3, "{kind:?}: a whisker and two ends each");
    }
}

#[test]
fn hostile_texts_stay_texts() {
    for kind in [Kind::Heat, Kind::Line, Kind::Bar, Kind::Scatter] {
        let svg = of(kind).of(&common::hostile()).unwrap().svg();
        let doc = Document::parse(&svg).unwrap();
        let allowed = ["svg", "title", "g", "rect", "path", "polyline", "polygon", "circle", "text"];
        for n in doc.descendants().filter(|n| n.is_element()) {
            assert!(allowed.contains(&n.tag_name().name()), "{kind:?}: {:?}", n.tag_name());
            assert!(n.attributes().all(|a| !a.name().starts_with("on")));
        }
        assert!(!svg.contains('\u{1b}') && !svg.contains('\u{202e}') && !svg.contains('\0'));
    }
}

#[test]
fn large_heat_maps_have_few_shapes() {
    let svg = Plot::default().of(&common::long(100, 2000)).unwrap().svg();
    assert!(svg.len() < 1_500_000, "{}", svg.len());
    let doc = Document::parse(&svg).unwrap();
    assert!(doc.descendants().count() < 1000);
    assert!(texts(&doc, "text").iter().any(|t| t.contains("Each cell stands for 5 entries of token")));
}

/// The pixels of a PNG as rows of red, green and blue.
fn pixels(png: &[u8]) -> (usize, Vec<u8>) {
    let map = tiny_skia::Pixmap::decode_png(png).unwrap();
    let rgb = map.pixels().iter().flat_map(|p| [p.red(), p.green(), p.blue()]).collect();
    (map.width() as usize, rgb)
}

#[test]
fn a_png_has_the_size_and_the_colors_of_the_svg() {
    let figure = Plot::default().of(&common::patching(12)).unwrap();
    let svg = figure.svg();
    let doc = Document::parse(&svg).unwrap();
    let size = |key: &str| doc.root_element().attribute(key).unwrap().parse::<f64>().unwrap();
    let (width, rgb) = pixels(&figure.png(2.0).unwrap());
    assert_eq!((width as f64, rgb.len() as f64 / 3.0 / width as f64), (size("width") * 2.0, size("height") * 2.0));
    let cell =
        doc.descendants().find(|n| n.children().any(|t| t.text() == Some("layer 0, token 10 \"·John\"\nld 15.54")));
    let cell = cell.unwrap();
    let of = |key: &str| cell.attribute(key).unwrap().parse::<f64>().unwrap();
    // A corner, where no number is written.
    let (x, y) = ((of("x") + 2.0) * 2.0, (of("y") + 2.0) * 2.0);
    let at = (y as usize * width + x as usize) * 3;
    assert_eq!(format!("#{:02x}{:02x}{:02x}", rgb[at], rgb[at + 1], rgb[at + 2]), cell.attribute("fill").unwrap());
    assert_eq!(rgb[..3], [255, 255, 255]);
    let dark = rgb.chunks(3).filter(|p| p.iter().all(|c| *c < 60)).count();
    assert!(dark > 300, "the labels are there: {dark}");
}

#[test]
fn an_image_is_no_larger_than_memory() {
    let figure = Plot::default().of(&common::runs()).unwrap();
    let (width, rgb) = pixels(&figure.png(1e9).unwrap());
    assert!(width * (rgb.len() / 3 / width) <= 31_000_000);
    assert!(figure.png(f64::NAN).is_ok());
}
