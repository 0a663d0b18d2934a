//! The parser of the container.

use super::{ALIGNMENT, Gguf, GgufError, Kind, Numbers, TensorInfo, Value, element_type};
use std::collections::BTreeSet;

/// The code of a text, and of an array.
const TEXT: u32 = 8;
const ARRAY: u32 = 9;

/// As many as ggml has.
const DIMENSIONS: u32 = 4;

pub(super) fn parse(file: &[u8]) -> Result<Gguf<'_>, GgufError> {
    let mut r = Reader { file, at: 0 };
    if file.get(..4) != Some(b"GGUF") {
        return Err(GgufError::Magic(file[..file.len().min(4)].to_vec()));
    }
    r.at = 4;
    let version = r.u32("its version")?;
    if !(2..=3).contains(&version) {
        return Err(GgufError::Version(version));
    }
    let tensors = r.u64("the number of its tensors")?;
    let entries = r.u64("the number of its metadata")?;

    let mut metadata = Vec::new();
    let mut seen = BTreeSet::new();
    for i in 0..entries {
        let key = r.text(|| format!("the name of metadata {i} of {entries}"))?;
        let value = r.value(key)?;
        if !seen.insert(key) {
            return Err(GgufError::Damaged(format!("its metadata has `{key}` twice")));
        }
        metadata.push((key, value));
    }
    let alignment = match metadata.iter().find(|(k, _)| *k == "general.alignment") {
        None => ALIGNMENT,
        Some((_, v)) => v
            .as_usize()
            .filter(|n| n.is_power_of_two())
            .ok_or_else(|| GgufError::Damaged("its `general.alignment` is no power of two".into()))?
            as u64,
    };

    // A tensor's place counts from where all of them end, which is known behind the last one.
    let mut infos = Vec::new();
    let mut seen = BTreeSet::new();
    for i in 0..tensors {
        let name = r.text(|| format!("the name of tensor {i} of {tensors}"))?;
        if !seen.insert(name) {
            return Err(GgufError::Damaged(format!("it has the tensor `{name}` twice")));
        }
        infos.push(r.info(name)?);
    }
    let start = (r.at as u64)
        .checked_next_multiple_of(alignment)
        .ok_or_else(|| GgufError::Damaged("its `general.alignment` is impossibly large".into()))?;
    let infos = infos
        .into_iter()
        .map(|(info, offset)| place(info, offset, start, alignment, file.len() as u64))
        .collect::<Result<_, _>>()?;
    Ok(Gguf { version, metadata, tensors: infos, data_start: start as usize })
}

/// Puts a tensor where it is in the file; `info.bytes` ends at its length so far.
fn place(
    mut info: TensorInfo<'_>,
    offset: u64,
    start: u64,
    alignment: u64,
    len: u64,
) -> Result<TensorInfo<'_>, GgufError> {
    if !offset.is_multiple_of(alignment) {
        let what = format!("tensor `{}` begins at byte {offset} of the data, no multiple of {alignment}", info.name);
        return Err(GgufError::Damaged(what));
    }
    let end = start.checked_add(offset).and_then(|from| Some((from, from.checked_add(info.bytes.end as u64)?)));
    let Some((from, to)) = end else {
        return Err(GgufError::Damaged(format!("tensor `{}` begins at the impossible byte {offset}", info.name)));
    };
    // An empty tensor may stand behind the end, where padding was left out.
    if to > len && from != to {
        return Err(GgufError::Truncated(format!(
            "tensor `{}`, which ends at byte {to} of the {len} that it has",
            info.name
        )));
    }
    info.bytes = from.min(len) as usize..to.min(len) as usize;
    Ok(info)
}

struct Reader<'a> {
    file: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, n: u64, what: impl FnOnce() -> String) -> Result<&'a [u8], GgufError> {
        let rest = &self.file[self.at..];
        match usize::try_from(n).ok().and_then(|n| rest.get(..n)) {
            Some(bytes) => {
                self.at += bytes.len();
                Ok(bytes)
            }
            None => Err(GgufError::Truncated(what())),
        }
    }

    fn u32(&mut self, what: &str) -> Result<u32, GgufError> {
        let bytes = self.take(4, || what.to_string())?;
        Ok(u32::from_le_bytes(*bytes.first_chunk().unwrap_or(&[0; 4])))
    }

    fn u64(&mut self, what: &str) -> Result<u64, GgufError> {
        let bytes = self.take(8, || what.to_string())?;
        Ok(u64::from_le_bytes(*bytes.first_chunk().unwrap_or(&[0; 8])))
    }

    fn text(&mut self, what: impl Fn() -> String) -> Result<&'a str, GgufError> {
        let len = self.take(8, &what)?;
        let len = u64::from_le_bytes(*len.first_chunk().unwrap_or(&[0; 8]));
        let bytes = self.take(len, &what)?;
        std::str::from_utf8(bytes).map_err(|_| GgufError::Damaged(format!("{} is not UTF-8", what())))
    }

    fn value(&mut self, key: &str) -> Result<Value<'a>, GgufError> {
        let what = || format!("`{key}` of its metadata");
        let unknown = |code| GgufError::Damaged(format!("{} has the unknown kind {code}", what()));
        match self.u32(&what())? {
            TEXT => self.text(what).map(Value::Text),
            ARRAY => {
                let code = self.u32(&what())?;
                let n = self.u64(&what())?;
                if code == TEXT {
                    let mut texts = Vec::new();
                    for _ in 0..n {
                        texts.push(self.text(what)?);
                    }
                    return Ok(Value::Texts(texts));
                }
                let kind = match Kind::from_code(code) {
                    Some(kind) => kind,
                    None if code == ARRAY => {
                        return Err(GgufError::Damaged(format!("{} is an array of arrays", what())));
                    }
                    None => return Err(unknown(code)),
                };
                let bytes = self.take(n.saturating_mul(kind.size() as u64), what)?;
                Ok(Value::Numbers(Numbers { kind, bytes }))
            }
            code => {
                let kind = Kind::from_code(code).ok_or_else(|| unknown(code))?;
                Ok(kind.read(self.take(kind.size() as u64, what)?))
            }
        }
    }

    /// A tensor of which only the number of bytes is known, and where it begins in the data.
    fn info(&mut self, name: &'a str) -> Result<(TensorInfo<'a>, u64), GgufError> {
        let what = format!("what it says of tensor `{name}`");
        let dims = self.u32(&what)?;
        if dims > DIMENSIONS {
            return Err(GgufError::Damaged(format!("tensor `{name}` has {dims} dimensions")));
        }
        let mut shape = Vec::new();
        for _ in 0..dims {
            let n = self.u64(&what)?;
            shape.push(usize::try_from(n).map_err(|_| impossible(name, &[n]))?);
        }
        shape.reverse();
        let code = self.u32(&what)?;
        let offset = self.u64(&what)?;
        let ty = element_type(code).ok_or_else(|| GgufError::Type(name.to_string(), code))?;
        let row = shape.last().copied().unwrap_or(1);
        if !row.is_multiple_of(ty.block) {
            return Err(GgufError::Damaged(format!(
                "tensor `{name}` has rows of {row} elements, and {} comes in blocks of {}",
                ty.name, ty.block
            )));
        }
        let bytes = super::super::count(&shape).and_then(|n| (n / ty.block).checked_mul(ty.bytes));
        let bytes = bytes.ok_or_else(|| impossible(name, &shape))?;
        Ok((TensorInfo { name, shape, code, bytes: 0..bytes }, offset))
    }
}

fn impossible(name: &str, shape: &(impl std::fmt::Debug + ?Sized)) -> GgufError {
    GgufError::Damaged(format!("tensor `{name}` has the impossible shape {shape:?}"))
}
