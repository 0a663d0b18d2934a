//! Files of tensors and tables.

use super::mutated;
use std::path::Path;
use steer::parquet::parse_parquet;
use steer::tensors::gguf::Gguf;
use steer::tensors::{Header, parse_directions, parse_npy, parse_npz, torch_header};
use steer_tests::cases::{package, read};

fn seeds(names: &[&str]) -> Vec<Vec<u8>> {
    names.iter().map(|n| read(&package("files").join(n))).collect()
}

/// Texts of the formats, and numbers that are lengths and opcodes.
const WORDS: &[&str] = &[
    "data/0",
    "storage",
    "torch",
    "FloatStorage",
    "direction.1",
    "\u{1}",
    "\u{0}\u{0}",
    "}",
    "]",
    "R",
    "Q",
    "h\u{0}",
    "(",
    "t",
    ".",
];

#[test]
fn files_of_torch_are_read_or_refused() {
    let path = Path::new("a");
    mutated("torch", &seeds(&["nested.pt", "legacy.pt", "one.pth", "unsafe.pt"]), WORDS, |_, bytes| {
        let Ok(header) = torch_header(&bytes, path) else { return false };
        header.tensors.values().all(|info| info.read(&bytes).is_ok())
    });
}

#[test]
fn control_vectors_are_read_or_refused() {
    mutated("gguf", &seeds(&["repeng.gguf", "generator.gguf", "with_zero.gguf"]), WORDS, |_, bytes| {
        let Ok(file) = Gguf::parse(&bytes) else { return false };
        assert!(file.tensors.iter().all(|t| bytes.get(t.bytes.clone()).is_some()));
        let _ = parse_directions(&bytes, Path::new("a"));
        true
    });
}

#[test]
fn archives_of_numpy_are_read_or_refused() {
    mutated("npz", &seeds(&["plain.npz", "packed.npz"]), WORDS, |i, bytes| {
        parse_npz(&bytes, Path::new("a"), Some(["a", "b"][i / 2 % 2])).is_ok()
    });
}

#[test]
fn arrays_of_numpy_are_read_or_refused() {
    let words = ["<f4", "<f8", "(", ",", "True", "9"];
    mutated("npy", &[read(&package("cases/data/right.npy"))], &words, |_, bytes| {
        parse_npy(&bytes, Path::new("a")).is_ok()
    });
}

#[test]
fn tables_of_parquet_are_read_or_refused() {
    mutated("parquet", &[read(&package("cases/data/names.parquet"))], WORDS, |_, bytes| {
        parse_parquet(bytes, Path::new("a")).is_ok()
    });
}

#[test]
fn headers_of_weights_are_read_or_refused() {
    let text = r#"{"__metadata__":{"format":"pt"},"a.weight":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"b":{"dtype":"BF16","shape":[4],"data_offsets":[24,32]}}"#;
    let file = |text: &[u8]| {
        let mut out = (text.len() as u64).to_le_bytes().to_vec();
        out.extend_from_slice(text);
        out.extend([7u8; 32]);
        out
    };
    let words =
        ["0", "-1", "18446744073709551615", "4", "null", "\"F16\"", "\"F4\"", "[]", "{}", "9223372036854775807"];
    // The text alone, so that its length fits.
    mutated("header", &[text.as_bytes().to_vec()], &words, |_, text| {
        Header::parse(&file(&text), Path::new("a")).is_ok()
    });
}

#[test]
fn files_of_safetensors_are_read_or_refused() {
    let text = r#"{"a.weight":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"b":{"dtype":"BF16","shape":[4],"data_offsets":[24,32]}}"#;
    let mut file = (text.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(text.as_bytes());
    file.extend([7u8; 32]);
    mutated("safetensors", &[file], &["0", "-1", "4", "null", "\"F16\"", "[]"], |_, bytes| {
        Header::parse(&bytes, Path::new("a")).is_ok()
    });
}
