//! Tensor files: forms of npy, safetensors back and forth, and every kind of damage.

mod common;

use common::{Folder, safetensors as file};
use half::{bf16, f16};
use std::collections::BTreeMap;
use steer::tensors::{Array, Named, list_safetensors, load, read_npy, read_safetensors, write_npy, write_safetensors};

/// An `.npy` file of one version.
fn npy(version: u8, header: &str, data: &[u8]) -> Vec<u8> {
    let mut out = b"\x93NUMPY".to_vec();
    out.extend([version, 0]);
    match version {
        1 => out.extend((header.len() as u16).to_le_bytes()),
        _ => out.extend((header.len() as u32).to_le_bytes()),
    }
    out.extend(header.bytes());
    out.extend(data);
    out
}

fn bytes<const N: usize, T: Copy>(values: &[T], f: impl Fn(T) -> [u8; N]) -> Vec<u8> {
    values.iter().flat_map(|v| f(*v)).collect()
}

#[test]
fn npy_of_every_form_is_read() {
    let folder = Folder::new("npy");
    let read = |file: Vec<u8>| read_npy(&folder.write("a.npy", &file));
    let floats = [1.0f32, -2.5, 3.0, 4.0, 5.0, 6.0];
    let f4 = bytes(&floats, f32::to_le_bytes);
    for version in 1..=3 {
        let a = read(npy(version, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }   \n", &f4)).unwrap();
        assert_eq!(a, Array { shape: vec![2, 3], data: floats.to_vec() });
    }
    let a = read(npy(1, "{\"shape\":(2,3),\"descr\":\"<f4\",\"fortran_order\":True}", &f4)).unwrap();
    assert_eq!(a.data, [1.0, 3.0, 5.0, -2.5, 4.0, 6.0]);
    let a = read(npy(1, "{'descr': '<f4', 'fortran_order': True, 'shape': (1L, 2, 3)}", &f4)).unwrap();
    assert_eq!(a.data, [1.0, 3.0, 5.0, -2.5, 4.0, 6.0]);
    let whole = [3i64, -4];
    let header =
        |descr: &str, shape: &str| format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    assert_eq!(read(npy(1, &header("<i8", "(2,)"), &bytes(&whole, i64::to_le_bytes))).unwrap().data, [3.0, -4.0]);
    assert_eq!(read(npy(1, &header("<i4", "(1,)"), &7i32.to_le_bytes())).unwrap().data, [7.0]);
    assert_eq!(read(npy(1, &header("<f8", "(1,)"), &0.5f64.to_le_bytes())).unwrap().data, [0.5]);
    assert_eq!(read(npy(1, &header("<f2", "(1,)"), &f16::from_f32(0.25).to_le_bytes())).unwrap().data, [0.25]);
    assert_eq!(
        read(npy(1, &header("<f4", "()"), &2f32.to_le_bytes())).unwrap(),
        Array { shape: vec![], data: vec![2.0] }
    );
    assert_eq!(read(npy(1, &header("<f4", "(0, 5)"), &[])).unwrap(), Array { shape: vec![0, 5], data: vec![] });
}

#[test]
fn npy_that_cannot_be_read_says_why() {
    let folder = Folder::new("npy-bad");
    let header =
        |descr: &str, shape: &str| format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    let cases: &[(Vec<u8>, &str)] = &[
        (vec![], "does not begin with the mark"),
        (b"\x93NUMPY\x01".to_vec(), "ends inside of the header"),
        (b"\x93NUMPY\x09\x00\x00\x00".to_vec(), "its version is 9"),
        (b"\x93NUMPY\x01\x00\xff\xff".to_vec(), "its header should have 65535 bytes, but only 0 follow"),
        (npy(1, &header("<f4", "(2,)"), &[0; 7]), "the shape [2] takes 8 bytes, and 7 follow the header"),
        (npy(1, &header("<f4", "(4294967296, 4294967296)"), &[]), "impossibly large"),
        (npy(1, &header(">f4", "(1,)"), &[0; 4]), "big-endian"),
        (npy(1, &header("|O", "(1,)"), &[0; 8]), "Python objects"),
        (npy(1, &header("<c8", "(1,)"), &[0; 8]), "its element type is \"<c8\""),
        (npy(1, "{'descr': [('x', '<f4')], 'fortran_order': False, 'shape': (1,)}", &[0; 4]), "records"),
        (npy(1, "{'descr': '<f4'}", &[0; 4]), "lacks"),
        (npy(1, "{'descr': '<f4', 'fortran_order': 1, 'shape': (1,)}", &[0; 4]), "neither True nor False"),
        (npy(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}", &[0; 4]), "not a tuple of whole numbers"),
    ];
    for (file, what) in cases {
        let e = read_npy(&folder.write("a.npy", file)).unwrap_err();
        assert!(e.0.message.contains(what) && e.0.message.contains("a.npy"), "{e}, wanted {what}");
        assert_eq!(e.0.code.0, "E0602");
    }
}

#[test]
fn what_is_written_is_read_again() {
    let folder = Folder::new("written");
    let path = folder.path().join("a.npy");
    for (shape, n) in [(vec![], 1), (vec![5], 5), (vec![40, 50], 2000)] {
        let data: Vec<f32> = (0..n).map(|i| i as f32 / 3.0).collect();
        write_npy(&path, &shape, &data).unwrap();
        assert_eq!(read_npy(&path).unwrap(), Array { shape, data });
    }
    let path = folder.path().join("a.safetensors");
    let data: Vec<f32> = (0..3000).map(|i| i as f32 * 0.1).collect();
    let one = Named { name: "blocks[0].resid.post", shape: &[30, 100], data: &data };
    let two = Named { name: "a", shape: &[2], data: &data[..2] };
    let metadata = BTreeMap::from([("prompt".to_string(), "\"é\"".to_string())]);
    write_safetensors(&path, &[one, two], &metadata).unwrap();
    let first = std::fs::read(&path).unwrap();
    write_safetensors(&path, &[two, one], &metadata).unwrap();
    assert_eq!(first, std::fs::read(&path).unwrap(), "the order does not matter");
    assert_eq!(read_safetensors(&path, Some("blocks[0].resid.post")).unwrap(), Array { shape: vec![30, 100], data });
    assert_eq!(list_safetensors(&path).unwrap().metadata, metadata);
    // Another implementation agrees about the file.
    let theirs = safetensors::SafeTensors::deserialize(&first).unwrap();
    assert_eq!(theirs.tensor("a").unwrap().shape(), [2]);
    assert_eq!(list_safetensors(&path).unwrap().len % 8, 0);
    let e = load(&path, None).unwrap_err();
    assert!(e.0.message.contains("holds 2 tensors"), "{e}");
    let e = load(&path, Some("blocks[0].resid.pots")).unwrap_err();
    assert_eq!(e.0.help.as_deref(), Some("did you mean `blocks[0].resid.post`?"));
    let missing = folder.path().join("no/such/folder/a.npy");
    assert!(write_npy(&missing, &[1], &[1.0]).unwrap_err().0.message.contains("cannot write"));
}

#[test]
fn half_precisions_are_widened() {
    let folder = Folder::new("halves");
    let mut data = bytes(&[1.5f32, -3.0], |x| bf16::from_f32(x).to_le_bytes());
    data.extend(bytes(&[0.1f32, 65504.0], |x| f16::from_f32(x).to_le_bytes()));
    let header = r#"{"b":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]},"h":{"dtype":"F16","shape":[2],"data_offsets":[4,8]}}"#;
    let path = folder.write("a.safetensors", &file(header, &data));
    assert_eq!(load(&path, Some("b")).unwrap().data, [1.5, -3.0]);
    assert_eq!(load(&path, Some("h")).unwrap().data, [f16::from_f32(0.1).to_f32(), 65504.0]);
}

#[test]
fn damaged_safetensors_say_why() {
    let folder = Folder::new("damaged");
    let one = |dtype: &str, shape: &str, offsets: &str| {
        format!(r#"{{"w":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#)
    };
    let mut huge = u64::MAX.to_le_bytes().to_vec();
    huge.extend(b"{}");
    let good = file(&one("F32", "[2]", "[0,8]"), &[0; 8]);
    let overlap = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#;
    let cases: &[(Vec<u8>, &str)] = &[
        (vec![], "it has 0 bytes"),
        (good[..5].to_vec(), "it has 5 bytes"),
        (good[..30].to_vec(), "bytes, but only 22 follow"),
        (huge, "its header would have 18446744073709551615 bytes"),
        (b"version https://git-lfs.github.com/spec/v1\noid".to_vec(), "where 100000000 are allowed"),
        (good[..good.len() - 1].to_vec(), "tensor `w` ends at byte 8 of the data, which has 7"),
        (file("{", &[]), "its header is not JSON"),
        (file("[]", &[]), "not an object"),
        (file("\u{1}", &[]), "its header is not JSON"),
        (file(r#"{"w":3}"#, &[]), "tensor `w` has no `dtype`"),
        (file(&one("F33", "[2]", "[0,8]"), &[0; 8]), "tensor `w` has the element type \"F33\""),
        (file(&one("F32", "[-2]", "[0,8]"), &[0; 8]), "tensor `w` has no `shape` of whole numbers"),
        (file(&one("F32", "[3]", "[0,8]"), &[0; 8]), "has 8 bytes, where the shape [3] of F32 takes 12"),
        (file(&one("F32", "[4294967296,4294967296,4]", "[0,8]"), &[0; 8]), "impossible shape"),
        (file(&one("F32", "[2]", "[8,0]"), &[0; 8]), "begins at byte 8 and ends before it"),
        (file(&one("F32", "[2]", "[0]"), &[0; 8]), "has 1 `data_offsets` instead of 2"),
        (file(&one("F32", "[0]", "[18446744073709551615,18446744073709551615]"), &[0; 8]), "impossible byte"),
        (file(&one("F4", "[3]", "[0,1]"), &[0; 8]), "no whole number of bytes"),
        (file(overlap, &[0; 12]), "tensors `a` and `b` overlap"),
        (file(r#"{"__metadata__":{"a":1}}"#, &[]), "`a` of its `__metadata__` is not a string"),
    ];
    for (bytes, what) in cases {
        let e = read_safetensors(&folder.write("a.safetensors", bytes), Some("w")).unwrap_err();
        assert!(e.0.message.contains(what) && e.0.message.contains("a.safetensors"), "{e}, wanted {what}");
        assert_eq!((e.0.code.0, e.0.help.is_some()), ("E0602", true));
    }
    let e =
        read_safetensors(&folder.write("a.safetensors", &file(&one("U8", "[2]", "[0,2]"), &[0; 2])), None).unwrap_err();
    assert!(e.0.message.contains("the element type U8"), "{e}");
    assert_eq!(read_safetensors(folder.path(), None).unwrap_err().0.code.0, "E0601");
}

#[test]
fn a_vector_with_a_nan_is_refused() {
    let folder = Folder::new("nan");
    let path = folder.path().join("v.npy");
    write_npy(&path, &[2, 2], &[0.0, 1.0, f32::NAN, 2.0]).unwrap();
    let e = load(&path, None).unwrap_err();
    assert!(e.0.message.contains("v.npy` is not finite: NaN at [1, 0], and 1 of its 4 values in all"), "{e}");
    assert_eq!(e.0.code.0, "E0701");
    assert!(load(&path, Some("x")).unwrap_err().0.message.contains("without a name"));
    assert!(load(&folder.path().join("v.pt"), None).unwrap_err().0.message.contains("there is no such file"));
}
