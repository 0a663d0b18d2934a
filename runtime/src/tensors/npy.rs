//! NumPy's `.npy`: versions 1 to 3, little-endian numbers, C or Fortran order.

use super::safetensors::write_floats;
use super::strided::row_major;
use super::{Array, Dtype, count, widen};
use crate::error::Error;
use crate::files;
use std::path::Path;
use steer_figures::npy_header;
use steer_lang::codes;

const MAGIC: &[u8; 6] = b"\x93NUMPY";

/// Reads an array as f32, in C order whatever the order in the file is.
pub fn read_npy(path: &Path) -> Result<Array, Error> {
    let map = files::map(path)?;
    parse_npy(map.as_deref().unwrap_or(&[]), path)
}

/// The array that a whole file holds; `path` is named in errors.
pub fn parse_npy(bytes: &[u8], path: &Path) -> Result<Array, Error> {
    let (header, data) = parse(bytes).map_err(|what| {
        let message = format!("`{}` is not an .npy file that can be read: {what}", path.display());
        Error::new(codes::BAD_WEIGHTS, message).help("write it with `numpy.save(path, array.astype(\"float32\"))`")
    })?;
    let values = widen(header.dtype, data)?.unwrap_or_default();
    let data = match header.fortran && header.shape.len() > 1 {
        true => {
            let mut strides = vec![1; header.shape.len()];
            for i in 1..strides.len() {
                strides[i] = strides[i - 1] * header.shape[i - 1];
            }
            row_major(&values, &header.shape, &strides)?
        }
        false => values,
    };
    Ok(Array { shape: header.shape, data })
}

/// Writes an array of f32 in C order, completely or not at all.
pub fn write_npy(path: &Path, shape: &[usize], data: &[f32]) -> Result<(), Error> {
    files::write_atomic(path, |out| {
        out.write_all(&npy_header("<f4", shape))?;
        write_floats(out, data)
    })
}

struct Npy {
    dtype: Dtype,
    fortran: bool,
    shape: Vec<usize>,
}

/// The header of a whole file, and its data, of exactly the length that the header asks for.
fn parse(bytes: &[u8]) -> Result<(Npy, &[u8]), String> {
    let rest = bytes.strip_prefix(MAGIC).ok_or("it does not begin with the mark of the format")?;
    let ([major, _minor], rest) = rest.split_first_chunk::<2>().ok_or("it ends inside of the header")?;
    let (length, rest) = match major {
        1 => rest.split_first_chunk::<2>().map(|(n, rest)| (u16::from_le_bytes(*n) as usize, rest)),
        2 | 3 => rest.split_first_chunk::<4>().map(|(n, rest)| (u32::from_le_bytes(*n) as usize, rest)),
        _ => return Err(format!("its version is {major}, and versions 1 to 3 are known")),
    }
    .ok_or("it ends inside of the header")?;
    if length > rest.len() {
        return Err(format!("its header should have {length} bytes, but only {} follow", rest.len()));
    }
    let (header, data) = rest.split_at(length);
    let header = std::str::from_utf8(header).map_err(|_| "its header is not text")?;
    let npy = Reader { rest: header }.header()?;
    let size = npy.dtype.bits() / 8;
    let wanted = count(&npy.shape).and_then(|n| n.checked_mul(size)).ok_or("its shape is impossibly large")?;
    match data.len() == wanted {
        true => Ok((npy, data)),
        false => Err(format!("the shape {:?} takes {wanted} bytes, and {} follow the header", npy.shape, data.len())),
    }
}

/// Reads the Python literal `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`.
struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn header(mut self) -> Result<Npy, String> {
        let (mut dtype, mut fortran, mut shape) = (None, None, None);
        self.expect('{')?;
        while !self.take('}') {
            let key = self.string()?;
            self.expect(':')?;
            match key {
                "descr" => dtype = Some(self.descr()?),
                "fortran_order" => fortran = Some(self.boolean()?),
                "shape" => shape = Some(self.tuple()?),
                _ => return Err(format!("its header has the unknown key {key:?}")),
            }
            if !self.take(',') {
                self.expect('}')?;
                break;
            }
        }
        match (dtype, fortran, shape) {
            (Some(dtype), Some(fortran), Some(shape)) => Ok(Npy { dtype, fortran, shape }),
            _ => Err("its header lacks `descr`, `fortran_order` or `shape`".into()),
        }
    }

    fn take(&mut self, c: char) -> bool {
        self.rest = self.rest.trim_start();
        match self.rest.strip_prefix(c) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, c: char) -> Result<(), String> {
        match self.take(c) {
            true => Ok(()),
            false => Err(format!("its header has {:?} where `{c}` should be", self.rest.chars().next())),
        }
    }

    fn string(&mut self) -> Result<&'a str, String> {
        let quote = if self.take('\'') { '\'' } else { '"' };
        if quote == '"' {
            self.expect('"')?;
        }
        let (text, rest) = self.rest.split_once(quote).ok_or("a string of its header is not closed")?;
        self.rest = rest;
        Ok(text)
    }

    fn descr(&mut self) -> Result<Dtype, String> {
        if self.take('[') {
            return Err("it holds records; only arrays of numbers are read".into());
        }
        match self.string()? {
            "<f4" => Ok(Dtype::F32),
            "<f8" => Ok(Dtype::F64),
            "<f2" => Ok(Dtype::F16),
            "<i4" => Ok(Dtype::I32),
            "<i8" => Ok(Dtype::I64),
            other if other.starts_with('>') => Err(format!("its numbers are big-endian ({other:?})")),
            "|O" => Err("it holds Python objects".into()),
            other => Err(format!("its element type is {other:?}; f4, f8, f2, i4 and i8 are read")),
        }
    }

    fn boolean(&mut self) -> Result<bool, String> {
        self.rest = self.rest.trim_start();
        for (word, value) in [("True", true), ("False", false)] {
            if let Some(rest) = self.rest.strip_prefix(word) {
                self.rest = rest;
                return Ok(value);
            }
        }
        Err("its `fortran_order` is neither True nor False".into())
    }

    fn tuple(&mut self) -> Result<Vec<usize>, String> {
        let mut out = Vec::new();
        self.expect('(')?;
        while !self.take(')') {
            self.rest = self.rest.trim_start();
            let digits = self.rest.len() - self.rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let (number, rest) = self.rest.split_at(digits);
            out.push(number.parse().map_err(|_| "its `shape` is not a tuple of whole numbers")?);
            // Python 2 wrote `3L`.
            self.rest = rest.strip_prefix('L').unwrap_or(rest);
            if !self.take(',') {
                self.expect(')')?;
                break;
            }
        }
        if out.len() > 32 {
            return Err(format!("it has {} dimensions", out.len()));
        }
        Ok(out)
    }
}
