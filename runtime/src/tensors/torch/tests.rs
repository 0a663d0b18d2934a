use super::torch_header;
use crate::tensors::Dtype;
use std::io::Write;
use std::path::Path;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

/// A file as torch.save writes it, with this pickle and storages `0`, `1`, ...
fn file(pickle: &[u8], storages: &[&[u8]]) -> Vec<u8> {
    let mut zip = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let mut put = |name: String, bytes: &[u8]| {
        zip.start_file(name, stored).unwrap();
        zip.write_all(bytes).unwrap();
    };
    put("a/data.pkl".into(), pickle);
    put("a/byteorder".into(), b"little");
    storages.iter().enumerate().for_each(|(i, s)| put(format!("a/data/{i}"), s));
    zip.finish().unwrap().into_inner()
}

/// `{"w": tensor}` of 2 x 3 in a storage of 6, with these strides.
fn one(shape: [u8; 2], strides: [u8; 2]) -> Vec<u8> {
    let mut p = b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x06tQK\x00".to_vec();
    for [a, b] in [shape, strides] {
        p.extend([b'K', a, b'K', b, 0x86]);
    }
    p.extend(b"\x89ccollections\nOrderedDict\n)RtRs.");
    p
}

fn data() -> Vec<u8> {
    (0..6).flat_map(|i| (i as f32).to_le_bytes()).collect()
}

#[test]
fn views_are_put_in_order() {
    for (shape, strides, want) in [
        ([2, 3], [3, 1], vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0]),
        ([3, 2], [1, 3], vec![0.0, 3.0, 1.0, 4.0, 2.0, 5.0]),
        ([2, 2], [3, 1], vec![0.0, 1.0, 3.0, 4.0]),
    ] {
        let bytes = file(&one(shape, strides), &[&data()]);
        let header = torch_header(&bytes, Path::new("a.pt")).unwrap();
        let info = &header.tensors["w"];
        assert_eq!(info.dtype, Dtype::F32);
        assert_eq!(info.read(&bytes).unwrap().unwrap(), want);
    }
}

#[test]
fn nothing_is_executed_and_nothing_is_believed() {
    let said = |bytes: &[u8]| torch_header(bytes, Path::new("a.pt")).unwrap_err().to_string();
    let system = file(b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.", &[]);
    assert!(said(&system).contains("asks for `os.system`, which is no tensor"), "{}", said(&system));
    let nested = file(b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93.", &[]);
    assert!(said(&nested).contains("`builtins.eval`"));
    assert!(said(&file(&one([2, 9], [0, 1]), &[&data()])).contains("save it with `.contiguous()`"));
    assert!(said(&file(&one([2, 3], [9, 1]), &[&data()])).contains("ends beyond its storage of 6"));
    assert!(said(&file(&one([2, 3], [3, 1]), &[&data()[..20]])).contains("has 6 elements, and its storage 5"));
    assert!(said(&file(&one([2, 3], [3, 1]), &[])).contains("its storage 0 is missing"));
    assert!(said(&file(b"\x80\x02(((.", &[])).contains("takes what is not there"));
    assert!(said(&file(b"\x80\x02]", &[])).contains("has no end"));
    // A list in itself, and doubled dictionaries: small files of endless trees.
    let mut doubled = b"\x80\x02}".to_vec();
    for _ in 0..40 {
        doubled.extend(b"q\x00}K\x01h\x00sK\x02h\x00s");
    }
    doubled.push(b'.');
    assert!(said(&file(&doubled, &[])).contains("lie in one another without end"));
    assert!(said(&file(b"\x80\x02]q\x00h\x00a.", &[])).contains("lie in one another without end"));
    assert!(said(b"PK").contains("not a sound zip archive"));
    assert!(said(b"\x80\x02}.").contains("neither a zip archive nor a pickle"));
}
