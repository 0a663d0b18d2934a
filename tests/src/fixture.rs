//! The folders of `tests/parity`, and how near two computations of one value have to be.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use steer::tensors::{Array, list_safetensors, read_safetensors};
use steer_lang::Sources;

/// How far a value may be from that of another computation, relative to the largest entry of its tensor.
///
/// Both sides compute in float32 but sum in another order, and a layer's difference of some 1e-7 grows
/// through the layers behind it. It is relative to the largest entry because a small one may be the
/// difference of large ones, and then has no digits of its own to compare.
pub const TOLERANCE: f32 = 1e-4;

/// A folder of this package.
pub fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The architectures that `effects/` has edits of, as the folders of `tests/parity` begin.
pub const FAMILIES: &[&str] = &["gpt2", "llama", "neox", "mamba", "mixtral"];

/// The others, which differ from these in settings and in how blocks are put together.
pub const MORE: &[&str] = &[
    "mistral",
    "qwen2",
    "qwen3",
    "gemma",
    "gemma2",
    "gemma3",
    "phi3",
    "olmo2",
    "gptneo",
    "opt",
    "olmoe",
    "qwen2moe",
    "qwen3moe",
    "falconmamba",
    "mamba2",
    "jamba",
    "deepseek2",
    "deepseek3",
    "gptoss",
    "mambaoriginal",
    "mamba2original",
];

/// Those whose rows see the whole text.
pub const ENCODERS: &[&str] = &["bert", "roberta", "distilbert"];

/// Every checkpoint of `tests/parity`, in order.
pub fn checkpoints() -> Vec<String> {
    let found = std::fs::read_dir(folder("parity")).expect("tests/parity").flatten();
    let mut names: Vec<String> = found
        .filter(|e| e.path().join("config.json").is_file())
        .filter_map(|e| e.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

/// Every tensor of a safetensors file that is floats, and the tokens beside them.
pub struct Stored {
    pub tokens: Vec<u32>,
    pub tensors: BTreeMap<String, Array>,
}

pub fn stored(path: &Path) -> Stored {
    let header = list_safetensors(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let bytes = std::fs::read(path).expect("was read before");
    let mut out = Stored { tokens: Vec::new(), tensors: BTreeMap::new() };
    for (name, info) in &header.tensors {
        if name == "tokens" {
            let words = bytes[info.bytes.clone()].chunks_exact(4);
            out.tokens = words.map(|w| u32::from_le_bytes([w[0], w[1], w[2], w[3]])).collect();
        } else {
            let array = read_safetensors(path, Some(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
            out.tensors.insert(name.clone(), array);
        }
    }
    out
}

/// `blocks.3.attn.q` as a script names it: `blocks[3].attn.q`.
pub fn site_of(name: &str) -> String {
    match name.strip_prefix("blocks.").and_then(|r| r.split_once('.')) {
        Some((layer, rest)) => format!("blocks[{layer}].{rest}"),
        None => name.to_owned(),
    }
}

/// The largest absolute value.
pub fn size(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |m, x| m.max(x.abs()))
}

/// The largest difference, relative to `size`; infinite where one is no number.
pub fn distance(a: &[f32], b: &[f32], size: f32) -> f32 {
    assert_eq!(a.len(), b.len());
    let differ = |x: f32, y: f32| {
        let d = (x - y).abs();
        match (x.to_bits() == y.to_bits(), d.is_nan()) {
            (true, _) => 0.0,
            (_, true) => f32::INFINITY,
            _ => d,
        }
    };
    let most = a.iter().zip(b).map(|(x, y)| differ(*x, *y)).fold(0.0, f32::max);
    if most == 0.0 { 0.0 } else { most / size.max(f32::MIN_POSITIVE) }
}

/// A model of a parity folder or of another folder.
pub fn model(folder: &Path) -> steer::experiment::ModelSession {
    let name = folder.display().to_string();
    steer::experiment::ModelSession::open(&name, &[], &Default::default(), &mut Sources::default())
        .unwrap_or_else(|d| panic!("{name}: {d:?}"))
}
