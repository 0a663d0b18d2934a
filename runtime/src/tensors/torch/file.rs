//! From a file to the places of its tensors.

use super::super::archive::Archive;
use super::super::{Dtype, Header, Info, count};
use super::pickle::{Fault, Heap, Tensor, Value, run};
use crate::error::Error;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::Path;
use steer_lang::codes;

/// How deep dictionaries and lists lie in one another.
const DEEP: usize = 32;

/// Places that a walk through them visits: one that several keys share counts for each.
const VISITS: usize = 1 << 20;

/// The first pickle of the format before zip, and the version after it.
const LEGACY: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";
const LEGACY_VERSION: &[u8] = b"\x80\x02M\xe9\x03.";

const BROKEN: &str = "copy or download it again";

/// The tensors of a file of torch.save, named by their keys joined with dots; of a list's entries the number is the key. One
/// that stands alone has the empty name. Reads no data.
///
/// # Errors
/// Whatever is damaged, or would have to be executed.
pub fn torch_header(file: &[u8], path: &Path) -> Result<Header, Error> {
    let found = match () {
        () if Archive::is_one(file) => return of_zip(file, path),
        () if file.starts_with(LEGACY) => of_legacy(file),
        () => Err((
            "it is neither a zip archive nor a pickle of PyTorch".to_string(),
            "is it another kind of file under this name? Save it with `torch.save(tensors, path)`",
        )),
    };
    found.map_err(|f| said(path, f))
}

fn said(path: &Path, (what, help): Fault) -> Error {
    let message = format!("`{}` is not a PyTorch file that can be read: {what}", path.display());
    Error::new(codes::BAD_WEIGHTS, message).help(help)
}

fn of_zip(file: &[u8], path: &Path) -> Result<Header, Error> {
    let archive = Archive::open(file, path)?;
    let find = |suffix: &str| archive.entries.iter().find(|e| e.name.ends_with(suffix));
    let Some(main) = find("/data.pkl") else {
        let what = "the archive has no `data.pkl`".to_string();
        return Err(said(path, (what, "is it another kind of file under this name? Save it with `torch.save`")));
    };
    if let Some(order) = find("/byteorder")
        && archive.read(order)?.as_ref() != b"little"
    {
        return Err(said(path, ("it is big-endian".into(), "save it on a little-endian machine")));
    }
    let folder = main.name.trim_end_matches("data.pkl");
    let pickle = archive.read(main)?;
    let mut heap = Heap::default();
    let (root, _) = run(&pickle, &mut heap).map_err(|f| said(path, f))?;
    let by_name: HashMap<&str, usize> = archive.entries.iter().enumerate().map(|(i, e)| (e.name.as_str(), i)).collect();
    let place = |key: &str| {
        let at = by_name.get(format!("{folder}data/{key}").as_str());
        let entry =
            at.map(|i| &archive.entries[*i]).ok_or_else(|| (format!("its storage {key} is missing"), BROKEN))?;
        match entry.compressed {
            true => Err((format!("its storage {key} is compressed"), "pack it again without compression")),
            false => Ok(entry.bytes.clone()),
        }
    };
    let places = heap.storages.iter().map(|s| place(s.key)).collect::<Result<Vec<_>, Fault>>();
    let tensors = places.and_then(|p| named(&heap, root, &p)).map_err(|f| said(path, f))?;
    Ok(Header { tensors, len: main.bytes.end, ..Header::default() })
}

/// Pickles one behind the other (marks, what the system was, the tensors, the keys of storages), then the storages.
fn of_legacy(file: &[u8]) -> Result<Header, Fault> {
    let mut at = LEGACY.len();
    if !file[at..].starts_with(LEGACY_VERSION) {
        return Err(("it has another version of the old format".into(), "save it with a current PyTorch"));
    }
    at += LEGACY_VERSION.len();
    let mut system = Heap::default();
    at += run(&file[at..], &mut system)?.1;
    let mut heap = Heap::default();
    let (root, n) = run(&file[at..], &mut heap)?;
    at += n;
    let mut keys = Heap::default();
    let (list, n) = run(&file[at..], &mut keys)?;
    at += n;
    let order = if let Value::List(n) = list { keys.lists[n].as_slice() } else { &[] };

    let mut places: Vec<Option<Range<usize>>> = vec![None; heap.storages.len()];
    for key in order {
        let Value::Text(key) = key else { return Err(("a key of its storages is no text".into(), BROKEN)) };
        let Some(i) = heap.storages.iter().position(|s| s.key == *key) else {
            return Err((format!("its storage {key} belongs to nothing"), BROKEN));
        };
        let size = heap.storages[i].dtype.map_or(8, Dtype::bits) / 8;
        let cut = || (format!("it ends inside of its storage {key}"), BROKEN);
        let head = file.get(at..).and_then(|rest| rest.first_chunk::<8>()).ok_or_else(cut)?;
        let bytes = usize::try_from(u64::from_le_bytes(*head)).ok().and_then(|n| n.checked_mul(size));
        let end = bytes.and_then(|n| n.checked_add(at + 8)).filter(|end| *end <= file.len()).ok_or_else(cut)?;
        places[i] = Some(at + 8..end);
        at = end;
    }
    let places: Option<Vec<_>> = places.into_iter().collect();
    let places = places.ok_or_else(|| ("one of its storages is missing".to_string(), BROKEN))?;
    Ok(Header { tensors: named(&heap, root, &places)?, ..Header::default() })
}

/// The tensors that can be reached from `root`, by name; `places` says where each storage is.
fn named(heap: &Heap, root: Value, places: &[Range<usize>]) -> Result<BTreeMap<String, Info>, Fault> {
    let mut out = BTreeMap::new();
    let mut open = vec![(root, String::new(), 0)];
    let mut visits = 0;
    while let Some((value, name, depth)) = open.pop() {
        visits += 1;
        if visits > VISITS || depth > DEEP {
            return Err(("its dictionaries lie in one another without end".into(), BROKEN));
        }
        let under = |key: &str| if name.is_empty() { key.to_string() } else { format!("{name}.{key}") };
        match value {
            Value::Tensor(n) => {
                let t = &heap.tensors[n];
                let info = info(t, &places[t.storage]).map_err(|what| (format!("tensor `{name}` {what}"), BROKEN))?;
                out.insert(name, info);
            }
            Value::List(n) => {
                let inner = heap.lists[n].iter().enumerate().filter(|(_, v)| leads(**v));
                open.extend(inner.map(|(i, v)| (*v, under(&i.to_string()), depth + 1)));
            }
            Value::Dict(n) => {
                for (key, value) in heap.dicts[n].iter().filter(|(_, v)| leads(*v)) {
                    match key {
                        Value::Text(key) => open.push((*value, under(key), depth + 1)),
                        Value::Int(key) => open.push((*value, under(&key.to_string()), depth + 1)),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Ok(out)
}

fn leads(value: Value) -> bool {
    matches!(value, Value::Tensor(_) | Value::List(_) | Value::Dict(_))
}

/// Where a view is. It may repeat no element, so that it is no larger than its storage.
fn info(t: &Tensor, place: &Range<usize>) -> Result<Info, String> {
    let size = t.dtype.bits() / 8;
    let elements = count(&t.shape).ok_or_else(|| format!("has the impossible shape {:?}", t.shape))?;
    let own = place.len() / size.max(1);
    if elements > own {
        return Err(format!("has {elements} elements, and its storage {own}: save it with `.contiguous()`"));
    }
    let last = t
        .shape
        .iter()
        .zip(&t.strides)
        .try_fold(0usize, |at, (n, s)| n.saturating_sub(1).checked_mul(*s).and_then(|far| at.checked_add(far)));
    let end = last.and_then(|n| n.checked_add(1)).and_then(|n| n.checked_add(t.offset));
    let end = if elements == 0 { Some(t.offset.min(own)) } else { end };
    let Some(end) = end.filter(|end| *end <= own) else {
        return Err(format!("ends beyond its storage of {own} elements"));
    };
    let begin = t.offset.min(end);
    let mut dense = 1;
    let row_major = t.shape.iter().zip(&t.strides).rev().all(|(n, s)| {
        let fits = *n == 1 || *s == dense;
        dense *= n;
        fits
    });
    let strides = (!row_major && elements > 0).then(|| t.strides.clone().into());
    Ok(Info {
        dtype: t.dtype,
        shape: t.shape.clone(),
        bytes: place.start + begin * size..place.start + end * size,
        strides,
    })
}
