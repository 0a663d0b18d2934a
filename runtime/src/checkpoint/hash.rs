//! SHA-256 of a model's files, for reports.

use super::{Checkpoint, VOCABULARIES};
use crate::error::Error;
use crate::files;
use rayon::prelude::*;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::path::Path;

/// Of a file larger than this only the header is hashed.
const LARGE: usize = 1 << 30;

/// What the tokens of texts and conversations depend on.
const TOKENIZER: &[&str] = &[
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
];

/// What identifies one file of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileHash {
    pub file: String,
    pub bytes: u64,
    /// Of the whole file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Of the header alone, for a large file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header_sha256: Option<String>,
}

/// SHA-256 as hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// Blocks of a file that a fingerprint reads, evenly spread, and their size.
const BLOCKS: usize = 256;
const BLOCK: usize = 4096;

pub(super) fn fingerprint(checkpoint: &Checkpoint) -> String {
    let mut all = Sha256::new();
    for shard in &checkpoint.shards {
        let (bytes, head) = (shard.bytes(), shard.header.len);
        all.update((bytes.len() as u64).to_le_bytes());
        all.update(&bytes[..head]);
        let rest = &bytes[head..];
        let step = (rest.len() / BLOCKS).max(BLOCK);
        rest.chunks(step).for_each(|part| all.update(&part[..part.len().min(BLOCK)]));
    }
    all.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

pub(super) fn hashes(checkpoint: &Checkpoint) -> Result<Vec<FileHash>, Error> {
    let mut out = if checkpoint.path.is_file() { Vec::new() } else { small(checkpoint)? };
    out.par_extend(checkpoint.shards.par_iter().map(|shard| {
        let (bytes, name) = (shard.bytes(), file_name(&shard.path));
        match bytes.len() > LARGE {
            true => FileHash {
                file: name,
                bytes: bytes.len() as u64,
                sha256: None,
                header_sha256: Some(sha256(&bytes[..shard.header.len])),
            },
            false => whole(&name, bytes),
        }
    }));
    Ok(out)
}

pub(super) fn small(checkpoint: &Checkpoint) -> Result<Vec<FileHash>, Error> {
    if checkpoint.path.is_file() {
        // The configuration and the vocabulary are what stands before the weights.
        let Some(shard) = checkpoint.shards.first() else { return Ok(Vec::new()) };
        let (bytes, name) = (shard.bytes().len() as u64, file_name(&shard.path));
        let header_sha256 = Some(sha256(&shard.bytes()[..shard.header.len]));
        return Ok(vec![FileHash { file: name, bytes, sha256: None, header_sha256 }]);
    }
    let mut out = vec![whole("config.json", checkpoint.config.text.as_bytes())];
    // Where there is a tokenizer.json, nothing reads the other vocabularies.
    let others = if checkpoint.path.join(TOKENIZER[0]).is_file() { &[] } else { VOCABULARIES };
    for name in TOKENIZER.iter().chain(others) {
        let path = checkpoint.path.join(name);
        if path.is_file() {
            out.push(whole(name, &files::read(&path)?));
        }
    }
    Ok(out)
}

fn whole(name: &str, bytes: &[u8]) -> FileHash {
    FileHash { file: name.to_string(), bytes: bytes.len() as u64, sha256: Some(sha256(bytes)), header_sha256: None }
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}
