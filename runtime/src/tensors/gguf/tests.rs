use super::*;

fn sample() -> Vec<u8> {
    let path =
        std::env::temp_dir().join(format!("steer-gguf-{}-{:?}.gguf", std::process::id(), std::thread::current().id()));
    let metadata = [
        ("general.architecture", Value::Text("controlvector")),
        ("a.u8", Value::U8(255)),
        ("a.i16", Value::I16(-3)),
        ("a.f32", Value::F32(1.5)),
        ("a.bool", Value::Bool(true)),
        ("a.i64", Value::I64(-1 << 40)),
        ("a.f64", Value::F64(-0.25)),
        ("a.texts", Value::Texts(vec!["", "é🙂"])),
        ("a.numbers", Value::Numbers(Numbers { kind: Kind::I32, bytes: &[1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff] })),
    ];
    let data: Vec<f32> = (0..6).map(|i| i as f32).collect();
    let tensors = [
        Tensor { name: "direction.1", shape: &[3], data: &data[..3] },
        Tensor { name: "w", shape: &[2, 3], data: &data },
    ];
    write_gguf(&path, &metadata, &tensors).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    bytes
}

#[test]
fn what_is_written_is_read_again() {
    let bytes = sample();
    let file = Gguf::parse(&bytes).unwrap();
    assert_eq!(file.version, 3);
    assert_eq!(file.get("general.architecture").and_then(Value::as_text), Some("controlvector"));
    assert_eq!(file.get("a.u8").and_then(Value::as_usize), Some(255));
    assert_eq!(file.get("a.i16").and_then(Value::as_integer), Some(-3));
    assert_eq!(file.get("a.i16").and_then(Value::as_usize), None);
    assert_eq!(file.get("a.f32").and_then(Value::as_f64), Some(1.5));
    assert_eq!(file.get("a.bool").and_then(Value::as_bool), Some(true));
    assert_eq!(file.get("a.i64").and_then(Value::as_integer), Some(-1 << 40));
    assert_eq!(file.get("a.f64").and_then(Value::as_f64), Some(-0.25));
    assert_eq!(file.get("a.texts").and_then(Value::as_texts), Some(&["", "é🙂"][..]));
    let numbers: Vec<_> = file.get("a.numbers").and_then(Value::as_numbers).unwrap().iter().collect();
    assert_eq!(numbers, [Value::I32(1), Value::I32(-1)]);
    let w = file.tensor("w").unwrap();
    assert_eq!((w.shape.as_slice(), w.dtype()), (&[2, 3][..], Dtype::F32));
    let values = crate::tensors::widen(Dtype::F32, &bytes[w.bytes.clone()]).unwrap().unwrap();
    assert_eq!(values, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
}

#[test]
fn every_cut_is_an_error() {
    let bytes = sample();
    let last = Gguf::parse(&bytes).unwrap().tensors[1].bytes.end;
    for n in 0..last {
        let e = Gguf::parse(&bytes[..n]).unwrap_err();
        assert!(matches!(e, GgufError::Truncated(_) | GgufError::Magic(_)), "{n}: {e}");
    }
    assert!(Gguf::parse(&bytes[..last]).is_ok());
}

#[test]
fn versions_and_byte_orders_are_told_apart() {
    let mut bytes = sample();
    bytes[4] = 2;
    assert_eq!(Gguf::parse(&bytes).unwrap().version, 2);
    bytes[4] = 1;
    assert_eq!(Gguf::parse(&bytes), Err(GgufError::Version(1)));
    bytes[4..8].copy_from_slice(&3u32.to_be_bytes());
    assert!(Gguf::parse(&bytes).unwrap_err().to_string().contains("big-endian"));
}
