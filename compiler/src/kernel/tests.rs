use super::*;

fn checked(text: &str) -> Result<(), String> {
    let kernel = parse(text).map_err(|e| e.to_string())?;
    assert_eq!(parse(&kernel.to_string()), Ok(kernel.clone()));
    verify(&kernel)
}

#[test]
fn the_text_form_has_every_kind_of_operand() {
    let text = "kernel(p0: body[8K], p1: out result[8K], p2: first_key[1], p3: guard[1]) temps(t0: [K], t1: [8]) {
  t0<1> = iota[K] p2<0>
  t1<1, 0> = reduce.max[8, K] p0<K, 1>
  p1<K, 1> = sub[8, K] p0<K, 1>, t1<1, 0>
  if p3 {
    p1@0<K, 1> = select[8, K] t0<0, 1>, -inf, 1.5e-7
  }
}";
    assert_eq!(checked(text), Ok(()));
    assert_eq!(checked("kernel(p0: out rows[1]) {\n  p0 = copy[] 0x7fc00001\n}"), Ok(()));
}

#[test]
fn what_leaves_its_memory_is_refused() {
    let cases = [
        ("kernel(p0: out rows[8]) { p0<1> = copy[9] 0.0 }", "leaves p0"),
        ("kernel(p0: out rows[8]) { p0@1<1> = copy[8] 0.0 }", "leaves p0"),
        ("kernel(p0: out rows[8]) { p0<1> = copy[K] 0.0 }", "leaves p0"),
        ("kernel(p0: out result[K], p1: const[8]) { p0<1> = copy[K] p1<1> }", "leaves p1"),
        ("kernel(p0: out result[2K]) { p0<K, K> = copy[2, K] 0.0 }", "a stride of K in a loop over K"),
        ("kernel(p0: rows[8]) { p0<1> = copy[8] 0.0 }", "no output"),
        ("kernel(p0: out guard[1]) { p0 = copy[] 0.0 }", "not writable"),
        ("kernel(p0: out rows[8]) temps(t0: [8]) { p0<1> = copy[8] t0<1> }", "not written"),
        (
            "kernel(p0: out rows[1], p1: guard[1]) temps(t0: [1]) { if p1 { t0 = copy[] 0.0 } p0 = copy[] t0 }",
            "not written",
        ),
        ("kernel(p0: out rows[1], p1: rows[1]) { if p1 { p0 = copy[] 0.0 } }", "no guard"),
        ("kernel(p0: out rows[4], p1: rows[8]) { p0<1, 0> = dot[4, 2] p1<2, 1>, p1<0, 4> }", "last loop"),
    ];
    for (text, what) in cases {
        let message = checked(text).unwrap_err();
        assert!(message.contains(what), "{text}: {message}");
    }
}

#[test]
fn errors_name_their_line() {
    let e = parse("kernel(p0: out rows[1]) {\n  p0 = frob[] 1.0\n}").unwrap_err();
    assert_eq!((e.line, e.message.as_str()), (2, "no operation `frob`"));
}

#[test]
fn temporaries_that_are_not_needed_at_once_share_memory() {
    let text = "kernel(p0: rows[64], p1: out rows[64]) temps(t0: [64], t1: [64], t2: [64], t3: [1], t4: [1]) {
  t0<1> = exp[64] p0<1>
  t1<1> = neg[64] t0<1>
  t3<0> = reduce.sum[64] t1<1>
  t4 = sqrt[] t3
  t2<1> = mul[64] t1<1>, t4<0>
  p1<1> = add[64] t2<1>, p0<1>
}";
    assert_eq!(checked(text), Ok(()));
    let layout = Layout::of(&parse(text).unwrap());
    assert_eq!(layout.total, Lin::fixed(64 + 16));
    assert_eq!(layout.offsets[0], layout.offsets[2]);
}
