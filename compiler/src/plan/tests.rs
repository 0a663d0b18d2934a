//! What the builder refuses, and what it infers.

use super::*;

fn axes(of: &[(&str, usize)]) -> Vec<Axis> {
    of.iter().map(|(n, s)| Axis::new(n, *s)).collect()
}

fn tensor(b: &mut Builder, of: &[(&str, usize)]) -> NodeId {
    let name = format!("t{}", b.plan.tensors.len());
    b.tensor(&name, axes(of)).unwrap()
}

/// A row's value with these axes.
fn row(b: &mut Builder, of: &[(&str, usize)]) -> NodeId {
    let (t, p) = (tensor(b, of), b.position().unwrap());
    b.binary(Binary::Mul, t, p).unwrap()
}

fn shown(b: &Builder, n: NodeId) -> String {
    b.ty(n).to_string()
}

#[test]
fn axes_are_matched_by_name() {
    let mut b = Builder::default();
    let (x, y) = (tensor(&mut b, &[("head", 2)]), tensor(&mut b, &[("d", 3), ("head", 2)]));
    let z = tensor(&mut b, &[("expert", 4)]);
    let sum = b.binary(Binary::Add, x, y).unwrap();
    assert_eq!(shown(&b, sum), "[d=3, head=2]");
    let sum = b.binary(Binary::Lt, x, z).unwrap();
    assert_eq!((shown(&b, sum).as_str(), b.ty(sum).elem), ("[head=2, expert=4]", Elem::Bool));
    let other = tensor(&mut b, &[("head", 3)]);
    let error = b.binary(Binary::Add, x, other).unwrap_err();
    assert_eq!(error, TypeError::SizeMismatch { axis: "head".into(), left: Size::Fixed(2), right: Size::Fixed(3) });
    assert_eq!(error.to_string(), "the axis `head` has 2 entries on one side and 3 entries on the other");
}

#[test]
fn a_product_keeps_shared_axes() {
    let mut b = Builder::default();
    let x = row(&mut b, &[("a", 2), ("expert", 3), ("d", 4)]);
    let w = tensor(&mut b, &[("f", 5), ("expert", 3), ("d", 4), ("g", 6)]);
    let y = b.linear(x, w, &["d"], None).unwrap();
    assert_eq!(shown(&b, y), "[a=2, expert=3, f=5, g=6]");
    assert!(matches!(b.linear(x, w, &["f"], None), Err(TypeError::NotShared { .. })));
    assert!(matches!(b.linear(w, x, &["d"], None), Err(TypeError::RowInConst { .. })));
    let d = row(&mut b, &[("d", 4)]);
    assert!(matches!(b.linear(x, w, &["d"], Some(d)), Err(TypeError::NoAxis { .. })));
    let active = row(&mut b, &[("expert", 3)]);
    assert!(b.linear(d, w, &["d"], Some(active)).is_ok());
}

#[test]
fn views_are_checked() {
    let mut b = Builder::default();
    let x = row(&mut b, &[("head", 2), ("d", 6)]);
    let error = b.at(x, "head", 2).unwrap_err();
    assert_eq!(error, TypeError::OutOfRange { axis: "head".into(), index: 2, size: 2 });
    assert_eq!(error.to_string(), "the axis `head` has 2 entries, so there is no [2]");
    assert!(matches!(b.slice(x, "d", usize::MAX, 2), Err(TypeError::OutOfRange { .. })));
    assert!(matches!(b.slice(x, "d", 0, 0), Err(TypeError::Empty { .. })));
    assert!(matches!(b.at(x, "layer", 0), Err(TypeError::NoAxis { .. })));
    assert!(matches!(b.reshape(x, axes(&[("y", 5)])), Err(TypeError::Elements { .. })));
    assert!(matches!(b.reshape(x, axes(&[("y", 3), ("y", 4)])), Err(TypeError::Duplicate { .. })));
    assert!(matches!(b.rename(x, "d", "head"), Err(TypeError::Duplicate { .. })));
    assert!(matches!(b.permute(x, &["d"]), Err(TypeError::OtherAxes { .. })));
    assert!(matches!(b.reduce(Reduce::Sum, x, &["d", "d"]), Err(TypeError::Duplicate { .. })));
    assert!(matches!(b.reduce(Reduce::ArgMax, x, &["d", "head"]), Err(TypeError::Axes { .. })));
    assert!(matches!(b.pick(x, "d", [0]), Err(TypeError::RowInConst { .. })));
    let turned = b.permute(x, &["d", "head"]).unwrap();
    let both = b.concat(x, turned, "d").unwrap();
    assert_eq!(shown(&b, both), "[head=2, d=12]");
}

#[test]
fn keys_stay_inside_of_an_attention() {
    let mut b = Builder::default();
    let q = row(&mut b, &[("head", 4), ("d_head", 2)]);
    let k = row(&mut b, &[("kv_head", 2), ("d_head", 2)]);
    assert_eq!(b.iota(Axis::key()), Err(TypeError::KeyOutside));
    let open = b.attention_begin(q, k, k, 1.0, None).unwrap();
    assert_eq!(shown(&b, open.scores), "[head=4, key]");
    assert!(matches!(b.slice(open.scores, KEY, 0, 1), Err(TypeError::KeyAxis { .. })));
    assert!(matches!(b.attention_begin(q, k, k, 1.0, None), Err(TypeError::Nested)));
    let split = vec![Axis::new("a", 2), Axis::new("b", 2), Axis::key()];
    assert!(b.reshape(open.scores, split).is_ok());
    assert!(matches!(b.reshape(open.scores, vec![Axis::key(), Axis::new("head", 4)]), Err(TypeError::Elements { .. })));
    let key = b.iota(Axis::key()).unwrap();
    let z = b.attention_end(open, key).unwrap();
    assert_eq!(shown(&b, z), "[head=4, d_head=2]");
    assert_eq!(verify(&b.plan), Vec::<String>::new());
    let three = row(&mut b, &[("kv_head", 3), ("d_head", 2)]);
    assert!(matches!(b.attention_begin(q, three, three, 1.0, None), Err(TypeError::SizeMismatch { .. })));
}

#[test]
fn an_overlay_takes_the_axes_of_its_base() {
    let mut b = Builder::default();
    let x = row(&mut b, &[("head", 2), ("d", 3)]);
    let edit =
        Edit { name: "e".into(), site: "s".into(), layer: None, route: None, params: vec![], span: Default::default() };
    let edit = b.edit(edit);
    let zero = b.number(0.0).unwrap();
    let y = b.overlay(edit, x, zero).unwrap();
    assert_eq!(shown(&b, y), "[head=2, d=3]");
    let more = row(&mut b, &[("expert", 2)]);
    assert!(matches!(b.overlay(edit, x, more), Err(TypeError::NoAxis { .. })));
    assert!(matches!(b.param(edit, 0), Err(TypeError::NoSlot { .. })));
    assert_eq!(b.layer_index(), Err(TypeError::NoLayer));
    b.receipts(edit, x, zero).unwrap();
    assert_eq!(verify(&b.plan), Vec::<String>::new());
}

#[test]
fn equal_nodes_are_shared_on_request() {
    let mut b = Builder::default().sharing();
    let (x, y) = (b.position().unwrap(), b.position().unwrap());
    assert_eq!(x, y);
    let one = b.number(1.0).unwrap();
    let sum = b.binary(Binary::Add, x, one).unwrap();
    assert_eq!(b.binary(Binary::Add, x, one), Ok(sum));
    b.layer = Some(1);
    assert_eq!(b.number(1.0), Ok(one));
    assert_ne!(b.binary(Binary::Add, x, one), Ok(sum));
}

#[test]
fn texts_that_are_no_plans() {
    for (text, message) in [
        ("plan 2 \"x\"", "this is version 2 of the text form; this compiler reads 1"),
        ("n0 = token", "a node stands in a region"),
        ("region r0 () -> () {\nn0 = tokens\n}", "there is no op `tokens`"),
        ("region r0 () -> () {\nn9999 = token\n}", "9999 is more than there are lines"),
        ("region r0 () -> () {\nn1 = token\n}", "there is no node n0"),
        ("region r0 () -> () {\nn0 = token", "a region is not closed"),
        ("region r0 () -> () {\nn0 = neg n1\n}", "there is no node 1"),
        ("weight w0 \"a", "a string is not closed"),
        ("}", "there is no region to close"),
    ] {
        assert_eq!(parse(text).unwrap_err().message, message, "{text}");
    }
}

#[test]
fn numbers_and_names_keep_their_bits() {
    let mut b = Builder::default();
    b.plan.arch = "a \"b\"\\\n#c".into();
    b.span = steer_lang::Span::new(steer_lang::FileId(2), 3, 9);
    for x in [0.0, -0.0, 1e-45, f32::MAX, f32::INFINITY, f32::NEG_INFINITY, 0.1] {
        b.number(x).unwrap();
    }
    b.weight("blocks.{expert}.w", vec![axes(&[("expert", 2)]), axes(&[("q k", 3), ("d", 4)]), vec![]]).unwrap();
    let plan = b.finish();
    assert_eq!(parse(&print(&plan)).unwrap(), plan, "{}", print(&plan));
    let nan = "region r0 () -> () {\nn0 = number 0x7fc00001\n}";
    let Op::Number(x) = parse(nan).unwrap().nodes[0].op else { panic!() };
    assert_eq!(x.to_bits(), 0x7fc0_0001);
}

#[test]
fn the_verifier_sees_what_is_broken() {
    for (text, message) in [
        (
            "region r0 () -> () {\nn0 = token\nn1 [] row = neg n2\nn2 [] row = neg n0\n}",
            "n1 reads n2, which does not come before it",
        ),
        ("region r0 () -> () {\nn0 [d=2] index row = token\n}", "n0 has the type"),
        ("region r0 () -> () {\nn0 [key] index row = iota\n}", "n0 has the axis `key` outside of an attention"),
        (
            "edit e0 \"a\" at \"s\"\nregion r0 () -> () {\nn0 = token\nn1 = receipt e0 moved n0\nn2 = neg n1\n}",
            "n2 reads the receipt n1",
        ),
        ("region r0 () -> () {\nn0 = layer\n}", "n0 is the number of a layer and has none"),
        ("region r0 () -> () {\n}\noutput \"y\" n3", "there is no n3"),
        ("region r0 () -> () {\nn0 [d=2] row = arg 0\n}", "n0 is not argument 0 of its region"),
        ("region r0 () -> () {\nn0 [d=2] row = scan body r0\n}", "n0 has the body r0, which is none"),
    ] {
        let wrong = verify(&parse(text).unwrap());
        assert!(wrong.iter().any(|w| w.starts_with(message)), "{wrong:?}\n{text}");
    }
}
