//! Checkpoints of random weights, as Hugging Face folders and as GGUF files, and what hooks load.

use crate::format::{Format, Kind};
use crate::random::Random;
use crate::shapes::{Meta, Shape, Tensor, Turn};
use rayon::prelude::*;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use steer::tensors::{Named, write_directions, write_npy, write_safetensors};

type Done<T = ()> = Result<T, String>;

/// Bytes that are made at once.
const CHUNK: usize = 64 << 20;
/// Where a GGUF file's tensors begin.
const ALIGNMENT: usize = 32;

/// Writes what the script of hooks loads, and the model: a folder of float32 or bfloat16, a file else, or a file in
/// any case. Its path.
pub fn write(shape: &Shape, format: Format, folder: &Path, as_file: bool) -> Done<PathBuf> {
    std::fs::create_dir_all(folder).map_err(|e| format!("cannot make {}: {e}", folder.display()))?;
    loads(shape, folder).map_err(|e| format!("cannot write what hooks load: {e}"))?;
    let path = match as_file || matches!(format, Format::Q8_0 | Format::Q4K) {
        true => folder.join("model.gguf"),
        false => folder.join("model"),
    };
    let written = match path.extension() {
        Some(_) => file(shape, format, &path),
        None => model_folder(shape, format, &path),
    };
    written.map_err(|e| format!("cannot write {}: {e}", path.display()))?;
    Ok(path)
}

/// A direction, one for each layer as a control vector, and a sparse autoencoder.
fn loads(shape: &Shape, folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let (d, layers, features) = (shape.d_model, shape.layers, shape.features);
    let numbers = |name: &str, n: usize, deviation: f32| -> Vec<f32> {
        let random = Random::named(name);
        (0..n).into_par_iter().map(|i| deviation * random.at(i)).collect()
    };
    write_npy(&folder.join("v.npy"), &[d], &numbers("v", d, 0.1))?;
    let control = numbers("control", layers * d, 0.2);
    write_npy(&folder.join("control.npy"), &[layers, d], &control)?;
    let of =
        |(layer, data)| (layer as u32, Named { name: "direction", shape: std::slice::from_ref(&shape.d_model), data });
    let directions: Vec<(u32, Named<'_>)> = control.chunks_exact(d).enumerate().map(of).collect();
    write_directions(
        &folder.join("control.gguf"),
        &directions,
        shape.file.as_ref().map_or(shape.name, |own| own.family),
    )?;
    let sae = folder.join("sae");
    std::fs::create_dir_all(&sae)?;
    let config = json!({
        "architecture": "standard", "d_in": d, "d_sae": features, "dtype": "float32", "apply_b_dec_to_input": true,
        "normalize_activations": "none", "reshape_activations": "none",
        "metadata": { "hook_name": format!("blocks.{}.hook_resid_post", shape.middle()) },
    });
    std::fs::write(sae.join("cfg.json"), config.to_string())?;
    let (enc, dec) = (numbers("W_enc", d * features, 0.02), numbers("W_dec", d * features, 0.02));
    let (b_enc, b_dec) = (numbers("b_enc", features, 0.1), numbers("b_dec", d, 0.1));
    let named = [
        Named { name: "W_enc", shape: &[d, features], data: &enc },
        Named { name: "W_dec", shape: &[features, d], data: &dec },
        Named { name: "b_enc", shape: &[features], data: &b_enc },
        Named { name: "b_dec", shape: &[d], data: &b_dec },
    ];
    write_safetensors(&sae.join("sae_weights.safetensors"), &named, &BTreeMap::new())?;
    Ok(())
}

fn model_folder(shape: &Shape, format: Format, path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    std::fs::create_dir_all(path)?;
    let (kind, dtype) = if format == Format::Bf16 { (Kind::Bf16, "BF16") } else { (Kind::F32, "F32") };
    let mut config = shape.config.clone();
    config["torch_dtype"] = json!(if kind == Kind::Bf16 { "bfloat16" } else { "float32" });
    std::fs::write(path.join("config.json"), config.to_string())?;
    let tensors: Vec<&Tensor> = shape.tensors.iter().filter(|t| !t.folder.is_empty()).collect();
    let mut header = Map::new();
    header.insert("__metadata__".into(), json!({ "format": "pt" }));
    let mut at = 0;
    for t in &tensors {
        let end = at + kind.bytes(t.elements());
        let shape = match (t.outputs, t.turn) {
            (1, _) => vec![t.inputs],
            (_, Turn::Transposed) => vec![t.inputs, t.outputs],
            (_, Turn::Taps) => vec![t.outputs, 1, t.inputs],
            _ => vec![t.outputs, t.inputs],
        };
        header.insert(t.folder.clone(), json!({ "dtype": dtype, "shape": shape, "data_offsets": [at, end] }));
        at = end;
    }
    let mut header = Value::Object(header).to_string();
    header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
    let mut out = BufWriter::new(File::create(path.join("model.safetensors"))?);
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(header.as_bytes())?;
    for t in tensors {
        let random = Random::named(&t.folder);
        let (rows, columns) = if t.turn == Turn::Transposed { (t.inputs, t.outputs) } else { (t.outputs, t.inputs) };
        data(&mut out, kind, rows, columns, |r, c| match t.turn {
            Turn::Transposed => t.value(random, c, r),
            _ => t.value(random, r, c),
        })?;
    }
    Ok(out.flush()?)
}

/// A tensor's rows, some at a time.
fn data(
    out: &mut impl Write,
    kind: Kind,
    rows: usize,
    columns: usize,
    value: impl Fn(usize, usize) -> f32 + Sync,
) -> std::io::Result<()> {
    let each = (CHUNK / (columns * 4)).clamp(1, rows);
    for from in (0..rows).step_by(each) {
        let parts: Vec<Vec<u8>> = (from..(from + each).min(rows))
            .into_par_iter()
            .map(|r| {
                let row: Vec<f32> = (0..columns).map(|c| value(r, c)).collect();
                let mut bytes = Vec::with_capacity(kind.bytes(columns));
                kind.store(&row, &mut bytes);
                bytes
            })
            .collect();
        parts.iter().try_for_each(|bytes| out.write_all(bytes))?;
    }
    Ok(())
}

fn file(shape: &Shape, format: Format, path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let Some(own) = &shape.file else { return Err(format!("GGUF does not know the family of {}", shape.name).into()) };
    let tensors: Vec<&Tensor> = shape.tensors.iter().filter(|t| !t.file.is_empty()).collect();
    let mut meta = Metadata::default();
    meta.text("general.architecture", own.family);
    meta.text("general.name", shape.name);
    meta.count("general.file_type", format.file_type());
    meta.count("general.quantization_version", 2);
    for (key, value) in &own.metadata {
        let key = format!("{}.{key}", own.family);
        match value {
            Meta::Count(n) => meta.count(&key, u32::try_from(*n)?),
            Meta::Number(x) => meta.number(&key, *x),
        }
    }
    vocabulary(&mut meta, shape.vocab, own.pre);

    let mut out = BufWriter::new(File::create(path)?);
    let mut header = b"GGUF".to_vec();
    header.extend(3u32.to_le_bytes());
    header.extend((tensors.len() as u64).to_le_bytes());
    header.extend(meta.count.to_le_bytes());
    header.extend(&meta.bytes);
    let mut offset = 0u64;
    for t in &tensors {
        let kind = t.kind(format);
        text(&mut header, &t.file);
        let dims: &[usize] = if t.outputs == 1 { &[t.inputs] } else { &[t.inputs, t.outputs] };
        header.extend((dims.len() as u32).to_le_bytes());
        dims.iter().for_each(|d| header.extend((*d as u64).to_le_bytes()));
        header.extend(kind.layout().0.to_le_bytes());
        header.extend(offset.to_le_bytes());
        offset += kind.bytes(t.elements()).next_multiple_of(ALIGNMENT) as u64;
    }
    header.resize(header.len().next_multiple_of(ALIGNMENT), 0);
    out.write_all(&header)?;
    for t in tensors {
        let (kind, random) = (t.kind(format), Random::named(if t.folder.is_empty() { &t.file } else { &t.folder }));
        data(&mut out, kind, t.outputs, t.inputs, |r, c| match t.turn {
            Turn::Pairs(heads) => t.value(random, apart(r, t.outputs / heads), c),
            Turn::MinusExp => -t.value(random, r, c).exp(),
            _ => t.value(random, r, c),
        })?;
        let bytes = kind.bytes(t.elements());
        out.write_all(&vec![0; bytes.next_multiple_of(ALIGNMENT) - bytes])?;
    }
    Ok(out.flush()?)
}

/// The row of a folder that stands at a row of a file where the halves of heads of `n` rows are neighbours.
fn apart(r: usize, n: usize) -> usize {
    let (head, i) = (r / n, r % n);
    head * n + i / 2 + i % 2 * (n / 2)
}

/// As many tokens as the model has: those of the 256 bytes, and others that no text is made of.
fn vocabulary(meta: &mut Metadata, count: usize, pre: &str) {
    let tokens: Vec<String> = (0..count)
        .map(|i| match i {
            _ if i + 1 == count => "<|endoftext|>".into(),
            0..256 => byte(i as u8).to_string(),
            _ => format!("token{i}"),
        })
        .collect();
    meta.text("tokenizer.ggml.model", "gpt2");
    meta.text("tokenizer.ggml.pre", pre);
    meta.texts("tokenizer.ggml.tokens", &tokens);
    // One is a mark, the others are text.
    meta.entry("tokenizer.ggml.token_type", 9, |out| {
        out.extend(5u32.to_le_bytes());
        out.extend((count as u64).to_le_bytes());
        (0..count).for_each(|i| out.extend((if i + 1 == count { 3i32 } else { 1 }).to_le_bytes()));
    });
    meta.texts("tokenizer.ggml.merges", &[]);
    meta.count("tokenizer.ggml.bos_token_id", count as u32 - 1);
    meta.count("tokenizer.ggml.eos_token_id", count as u32 - 1);
    meta.entry("tokenizer.ggml.add_bos_token", 7, |out| out.push(0));
}

/// The character that stands for a byte in vocabularies of GPT-2's kind.
fn byte(b: u8) -> char {
    let seen = |b: u8| matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    match seen(b) {
        true => char::from(b),
        false => char::from_u32(256 + (0..b).filter(|b| !seen(*b)).count() as u32).unwrap_or(' '),
    }
}

/// Metadata of a GGUF file, as bytes.
#[derive(Default)]
struct Metadata {
    count: u64,
    bytes: Vec<u8>,
}

impl Metadata {
    fn entry(&mut self, key: &str, code: u32, value: impl FnOnce(&mut Vec<u8>)) {
        self.count += 1;
        text(&mut self.bytes, key);
        self.bytes.extend(code.to_le_bytes());
        value(&mut self.bytes);
    }

    fn text(&mut self, key: &str, value: &str) {
        self.entry(key, 8, |out| text(out, value));
    }

    fn count(&mut self, key: &str, value: u32) {
        self.entry(key, 4, |out| out.extend(value.to_le_bytes()));
    }

    fn number(&mut self, key: &str, value: f32) {
        self.entry(key, 6, |out| out.extend(value.to_le_bytes()));
    }

    fn texts(&mut self, key: &str, values: &[String]) {
        self.entry(key, 9, |out| {
            out.extend(8u32.to_le_bytes());
            out.extend((values.len() as u64).to_le_bytes());
            values.iter().for_each(|s| text(out, s));
        });
    }
}

fn text(out: &mut Vec<u8>, s: &str) {
    out.extend((s.len() as u64).to_le_bytes());
    out.extend(s.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Model, Source, Steer};
    use crate::shapes::Cut;

    #[test]
    fn a_file_and_a_folder_are_one_model() {
        for name in ["gpt2", "qwen2.5-0.5b", "llama-3.2-1b", "mamba-130m"] {
            let cut = Cut { layers: Some(1), vocab: Some(512) };
            let shape = Shape { features: 64, ..Shape::named(name, cut).unwrap() };
            let folder = std::env::temp_dir().join(format!("steer-bench-test-{}-{name}", std::process::id()));
            let logits = [false, true].map(|as_file| {
                let path = write(&shape, Format::F32, &folder, as_file).unwrap();
                let mut source = Source::new(&path, "hooks.steer");
                source.set.push(("middle".into(), "0".into()));
                let mut model = Steer::open(&source, &[], None).unwrap();
                model.begin().unwrap();
                model.extend(&[3, 141, 59, 26, 5]).unwrap()
            });
            std::fs::remove_dir_all(&folder).unwrap();
            let most = logits[0].iter().fold(0.0f32, |m, x| m.max(x.abs()));
            let apart = logits[0].iter().zip(&logits[1]).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
            // Decays go through an exponential and back.
            assert!(most > 0.1 && apart <= 1e-5 * most, "{name}: {apart} of {most}");
        }
    }

    #[test]
    fn rows_of_heads_are_taken_apart() {
        assert_eq!([0, 1, 2, 3, 4, 5, 6, 7].map(|r| apart(r, 4)), [0, 2, 1, 3, 4, 6, 5, 7]);
    }
}
