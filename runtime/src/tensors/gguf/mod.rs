//! The GGUF container: typed metadata and tensors in one file, versions 2 and 3, little-endian.
//!
//! Nothing is copied but names of arrays: texts and numbers point into the bytes that were parsed, which are a memory
//! map as a rule. What is accepted lies inside of the file.

mod blocks;
mod read;
mod value;
mod write;

pub use blocks::Blocks;
pub use value::{Kind, Numbers, Value};
pub use write::{Tensor, write_gguf};

use super::{Dtype, Info};
use crate::error::Error;
use std::ops::Range;
use std::path::Path;
use steer_lang::codes;

/// Where data begins and tensors are aligned to, unless `general.alignment` says otherwise; in bytes.
const ALIGNMENT: u64 = 32;

/// A parsed file. Metadata and tensors are in the order of the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Gguf<'a> {
    pub version: u32,
    pub metadata: Vec<(&'a str, Value<'a>)>,
    pub tensors: Vec<TensorInfo<'a>>,
    /// Where the data of the tensors begins in the file, in bytes.
    pub data_start: usize,
}

/// What the file says of one tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorInfo<'a> {
    pub name: &'a str,
    /// Row-major, the last dimension fastest: the file's own order turned around.
    pub shape: Vec<usize>,
    /// The code of the element type; see [`element_type`].
    pub code: u32,
    /// Where its bytes are in the file.
    pub bytes: Range<usize>,
}

impl TensorInfo<'_> {
    /// The element type: floating point, one of [`Blocks`], or one that is not read.
    pub fn dtype(&self) -> Dtype {
        match (self.code, Blocks::from_code(self.code)) {
            (0, _) => Dtype::F32,
            (1, _) => Dtype::F16,
            (28, _) => Dtype::F64,
            (30, _) => Dtype::BF16,
            (_, Some(blocks)) => Dtype::Blocks(blocks),
            // A tensor of a type without a name is not parsed.
            (code, None) => Dtype::Other(element_type(code).map_or("unknown", |e| e.name), 8),
        }
    }

    /// Its place in the file.
    pub fn info(&self) -> Info {
        Info { dtype: self.dtype(), shape: self.shape.clone(), bytes: self.bytes.clone(), strides: None }
    }
}

/// Why a file is not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GgufError {
    /// It does not begin with the mark of the format; these are its first bytes.
    Magic(Vec<u8>),
    /// It has a version that is not read, or is big-endian.
    Version(u32),
    /// It ends inside of what is named.
    Truncated(String),
    /// What is named contradicts the format.
    Damaged(String),
    /// A tensor has an element type that is not known: its name and the code.
    Type(String, u32),
}

impl GgufError {
    /// As a diagnostic about a file.
    pub fn about(self, path: &Path) -> Error {
        let help = match &self {
            GgufError::Magic(first) if first.is_empty() => "copy or download it again",
            GgufError::Magic(_) => "is it another kind of file under this name?",
            GgufError::Version(v) if v.swap_bytes() < 16 => "convert it on a little-endian machine",
            GgufError::Version(_) => "convert it again with a current program",
            GgufError::Truncated(_) => "it was probably cut off on the way: copy or download it again",
            GgufError::Damaged(_) => "it was written by a faulty program or is damaged: write or download it again",
            GgufError::Type(..) => "convert it to one of the usual types, such as Q8_0 or F16",
        };
        let message = format!("`{}` is not a sound GGUF file: {self}", path.display());
        Error::new(codes::BAD_WEIGHTS, message).help(help)
    }
}

impl std::fmt::Display for GgufError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            GgufError::Magic(first) if first.is_empty() => f.write_str("it is empty"),
            GgufError::Magic(first) => {
                write!(f, "it begins with {:?}, not with \"GGUF\"", String::from_utf8_lossy(first))
            }
            GgufError::Version(v) if v.swap_bytes() < 16 => write!(f, "it is big-endian, and little-endian is read"),
            GgufError::Version(v) => write!(f, "its version is {v}, and versions 2 and 3 are read"),
            GgufError::Truncated(what) => write!(f, "it ends inside of {what}"),
            GgufError::Damaged(what) => f.write_str(what),
            GgufError::Type(name, code) => write!(f, "tensor `{name}` has the unknown element type {code}"),
        }
    }
}

impl std::error::Error for GgufError {}

impl<'a> Gguf<'a> {
    /// Reads everything but the data of the tensors. `file` is the whole file.
    ///
    /// # Errors
    /// Whatever is damaged, of an unknown version or element type, or lies beyond the end.
    pub fn parse(file: &'a [u8]) -> Result<Self, GgufError> {
        read::parse(file)
    }

    /// A value of the metadata.
    pub fn get(&self, key: &str) -> Option<&Value<'a>> {
        self.metadata.iter().find(|(k, _)| *k == key).map(|(_, v)| v)
    }

    /// A tensor by its name in the file.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo<'a>> {
        self.tensors.iter().find(|t| t.name == name)
    }
}

/// How elements of a type are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ElementType {
    pub name: &'static str,
    /// Elements of one block; the last dimension is a multiple of it.
    pub block: usize,
    /// Bytes of one block.
    pub bytes: usize,
}

/// The type with this code; codes that were given up have none.
pub fn element_type(code: u32) -> Option<ElementType> {
    TYPES.iter().find(|(c, ..)| *c == code).map(|&(_, name, block, bytes)| ElementType { name, block, bytes })
}

/// ggml's types: code, name, elements and bytes of a block.
const TYPES: &[(u32, &str, usize, usize)] = &[
    (0, "F32", 1, 4),
    (1, "F16", 1, 2),
    (2, "Q4_0", 32, 18),
    (3, "Q4_1", 32, 20),
    (6, "Q5_0", 32, 22),
    (7, "Q5_1", 32, 24),
    (8, "Q8_0", 32, 34),
    (9, "Q8_1", 32, 36),
    (10, "Q2_K", 256, 84),
    (11, "Q3_K", 256, 110),
    (12, "Q4_K", 256, 144),
    (13, "Q5_K", 256, 176),
    (14, "Q6_K", 256, 210),
    (15, "Q8_K", 256, 292),
    (16, "IQ2_XXS", 256, 66),
    (17, "IQ2_XS", 256, 74),
    (18, "IQ3_XXS", 256, 98),
    (19, "IQ1_S", 256, 50),
    (20, "IQ4_NL", 32, 18),
    (21, "IQ3_S", 256, 110),
    (22, "IQ2_S", 256, 82),
    (23, "IQ4_XS", 256, 136),
    (24, "I8", 1, 1),
    (25, "I16", 1, 2),
    (26, "I32", 1, 4),
    (27, "I64", 1, 8),
    (28, "F64", 1, 8),
    (29, "IQ1_M", 256, 56),
    (30, "BF16", 1, 2),
    (34, "TQ1_0", 256, 54),
    (35, "TQ2_0", 256, 66),
    (39, "MXFP4", 32, 17),
];

#[cfg(test)]
mod tests;
