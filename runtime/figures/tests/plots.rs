//! What plots are made of which tables, and which cannot be made.

mod common;

use steer_figures::{Fault, Frame, Kind, Plot};

fn fault(frame: &Frame, plot: &Plot) -> Fault {
    let fault = plot.check(frame).unwrap_err();
    assert_eq!(plot.of(frame).unwrap_err(), fault, "what is checked is what is drawn");
    fault
}

#[test]
fn faults_say_what_there_is() {
    let frame = common::heads(2, 2);
    let some = |s: &str| Some(s.to_string());
    let cases = [
        (Plot { x: some("layers"), ..Plot::default() }, "no axis `layers`", "`layer`, `head`"),
        (Plot { columns: vec!["ld".into()], ..Plot::default() }, "no metric `ld`", "`direct`, `ablated`"),
        (Plot { x: some("head"), y: some("head"), ..Plot::default() }, "cannot go two ways", "another axis"),
        (
            Plot { limits: Some((1.0, 1.0)), ..Plot::default() },
            "nothing between the limits 1 and 1",
            "smaller one first",
        ),
        (Plot { limits: Some((f64::NAN, 1.0)), ..Plot::default() }, "nothing between", "smaller one first"),
        (Plot { series: some("head"), ..Plot::default() }, "a heat map has no series", "panel"),
        (Plot { kind: Some(Kind::Line), y: some("direct"), ..Plot::default() }, "the metric goes up", "series"),
        (Plot { kind: Some(Kind::Scatter), y: some("head"), ..Plot::default() }, "no metric `head`", "`direct`"),
    ];
    for (plot, message, help) in cases {
        let found = fault(&frame, &plot);
        assert!(found.message.contains(message), "{}", found.message);
        assert!(found.help.as_ref().unwrap().contains(help), "{:?}", found.help);
    }
    let single = Frame { axes: vec![], columns: vec![], ..frame.clone() };
    assert!(fault(&single, &Plot::default()).message.contains("no metric"));
    let heat = Plot { kind: Some(Kind::Heat), ..Plot::default() };
    assert!(fault(&single, &heat).message.contains("no axis"));
}

#[test]
fn the_shape_decides() {
    let titles = |frame: &Frame, plot: Plot| plot.of(frame).unwrap().svg();
    let heat = titles(&common::heads(3, 4), Plot::default());
    assert_eq!(heat.matches("crispEdges").count(), 2 * 2, "a map and a bar of colours for each metric");
    let line = titles(&common::strengths(), Plot { kind: Some(Kind::Line), ..Plot::default() });
    assert!(line.contains("cheer") && line.contains("random"), "the first axis is the series");
    let panels = titles(&common::faceted(), Plot::default());
    assert!((0..4).all(|h| panels.contains(&format!("head {h}"))), "the first axis has panels");
    assert!(titles(&common::runs(), Plot::default()).contains("<rect"), "an axis without numbers has bars");
    let one = Plot { columns: vec!["ablated".into()], ..Plot::default() };
    assert!(!titles(&common::heads(3, 4), one).contains("direct"));
}

#[test]
fn kinds_have_names() {
    for kind in [Kind::Heat, Kind::Line, Kind::Bar, Kind::Scatter] {
        assert_eq!(Kind::parse(kind.name()), Some(kind));
    }
    assert_eq!(Kind::parse("pie"), None);
}
