//! A machine for the opcodes of pickles that hold tensors, protocols 2 to 5.
//!
//! Containers are numbers of entries in `lists` and `dicts`, so that values are copied freely, cycles are harmless and
//! nothing is torn down recursively.

use super::super::Dtype;
use std::collections::HashMap;

/// Of a pickle, in bytes: those of the largest models have a few millions.
const LONGEST: usize = 64 << 20;

/// Values and containers that one pickle makes.
const MOST: usize = 1 << 23;

/// Of a tensor.
const DIMENSIONS: usize = 32;

/// What is wrong, and what to do.
pub(super) type Fault = (String, &'static str);

const DAMAGED: &str = "it was written by another program or is damaged: write or download it again";
const UNSAFE: &str = "nothing in the file is executed: save a plain dictionary of tensors instead, as in `torch.save(model.state_dict(), path)`";

fn fault<T>(what: impl Into<String>) -> Result<T, Fault> {
    Err((what.into(), DAMAGED))
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    None,
    Bool,
    Int(i64),
    Text(&'a str),
    /// A list or tuple, by its number.
    List(usize),
    Dict(usize),
    Global(Global),
    Storage(usize),
    Tensor(usize),
    /// A device, a set, a byte string: nothing that leads to a tensor.
    Opaque,
}

/// The names that a pickle may mention.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Global {
    /// `_rebuild_tensor_v2` and its older form.
    Tensor,
    /// `_rebuild_tensor_v3`, which says the element type itself.
    TypedTensor,
    Parameter,
    Dict,
    Size,
    /// A storage, with its element type unless it is untyped.
    Storage(Option<Dtype>),
    Dtype(Dtype),
    /// Called, it gives something that leads to no tensor.
    Opaque,
}

/// Numbers of one type in a row, which tensors share.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Storage<'a> {
    pub key: &'a str,
    pub dtype: Option<Dtype>,
    /// Elements; bytes where it is untyped.
    pub len: usize,
}

/// A view of a storage, in elements.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tensor {
    pub storage: usize,
    pub dtype: Dtype,
    pub offset: usize,
    pub shape: Vec<usize>,
    pub strides: Vec<usize>,
}

/// What a pickle has built.
#[derive(Debug, Default)]
pub(super) struct Heap<'a> {
    pub lists: Vec<Vec<Value<'a>>>,
    pub dicts: Vec<Vec<(Value<'a>, Value<'a>)>>,
    pub storages: Vec<Storage<'a>>,
    pub tensors: Vec<Tensor>,
    by_key: HashMap<&'a str, usize>,
    stack: Vec<Value<'a>>,
    marks: Vec<usize>,
    memo: HashMap<u32, Value<'a>>,
}

/// Runs one pickle at the beginning of `bytes`: what it leaves, and how long it is.
pub(super) fn run<'a>(bytes: &'a [u8], heap: &mut Heap<'a>) -> Result<(Value<'a>, usize), Fault> {
    let mut r = Reader { bytes: &bytes[..bytes.len().min(LONGEST)], at: 0 };
    heap.stack.clear();
    heap.marks.clear();
    heap.memo.clear();
    let mut steps = 0usize;
    loop {
        steps += 1;
        if steps > MOST {
            return fault(format!("its pickle has more than {MOST} steps"));
        }
        let op = r.byte()?;
        if op == b'.' {
            let top = heap.pop()?;
            return Ok((top, r.at));
        }
        heap.step(op, &mut r)?;
    }
}

impl<'a> Heap<'a> {
    fn step(&mut self, op: u8, r: &mut Reader<'a>) -> Result<(), Fault> {
        match op {
            0x80 => match r.byte()? {
                2..=5 => {}
                n => return fault(format!("its pickle has protocol {n}, and 2 to 5 are read")),
            },
            // Frames only group bytes.
            0x95 => drop(r.take(8)?),
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.marked()?),
            b'2' => {
                let top = self.pop()?;
                self.stack.extend([top, top]);
            }
            b'N' => self.stack.push(Value::None),
            0x88 | 0x89 => self.stack.push(Value::Bool),
            b'K' => self.int(r.byte()?.into()),
            b'M' => self.int(r.number(2)? as i64),
            b'J' => self.int((r.number(4)? as u32 as i32).into()),
            0x8a => {
                let n = r.byte()?.into();
                let long = r.take(n)?;
                self.stack.push(long_integer(long));
            }
            0x8b => {
                let n = r.length(4)?;
                let long = r.take(n)?;
                self.stack.push(long_integer(long));
            }
            b'G' => {
                r.take(8)?;
                self.stack.push(Value::Opaque);
            }
            0x8c => self.text(r, 1)?,
            b'X' => self.text(r, 4)?,
            0x8d => self.text(r, 8)?,
            // Strings of Python 2, which are keys.
            b'U' => self.text(r, 1)?,
            b'T' => self.text(r, 4)?,
            b'C' => self.skip(r, 1)?,
            b'B' => self.skip(r, 4)?,
            0x8e | 0x96 => self.skip(r, 8)?,
            b']' | b')' => self.list(Vec::new()),
            b'}' => self.dict(Vec::new()),
            0x8f => self.stack.push(Value::Opaque),
            b't' | b'l' => {
                let items = self.marked()?;
                self.list(items);
            }
            0x85..=0x87 => {
                let n = usize::from(op - 0x84);
                let from = self.stack.len().checked_sub(n).filter(|n| *n >= self.floor());
                let Some(from) = from else { return fault("its pickle takes what is not there") };
                let items = self.stack.split_off(from);
                self.list(items);
            }
            b'd' => {
                let items = self.marked()?;
                self.dict(pairs(&items)?);
            }
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            b'e' => {
                let items = self.marked()?;
                self.append(items)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set(vec![(key, value)])?;
            }
            b'u' => {
                let items = self.marked()?;
                self.set(pairs(&items)?)?;
            }
            0x90 => drop(self.marked()?),
            0x91 => {
                self.marked()?;
                self.stack.push(Value::Opaque);
            }
            b'c' => {
                let (module, name) = (r.line()?, r.line()?);
                self.stack.push(Value::Global(global(module, name)?));
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Value::Text(module), Value::Text(name)) = (module, name) else {
                    return fault("its pickle names something by what is no text");
                };
                self.stack.push(Value::Global(global(module, name)?));
            }
            b'R' | 0x81 => {
                let (args, callee) = (self.pop()?, self.pop()?);
                let value = self.call(callee, args)?;
                self.stack.push(value);
            }
            // Attributes that are set on what is built: names of versions, hooks.
            b'b' => drop(self.pop()?),
            b'Q' => {
                let id = self.pop()?;
                let value = self.storage(id)?;
                self.stack.push(value);
            }
            b'q' => self.put(r.byte()?.into())?,
            b'r' => self.put(r.number(4)? as u32)?,
            0x94 => self.put(self.memo.len() as u32)?,
            b'h' => self.get(r.byte()?.into())?,
            b'j' => self.get(r.number(4)? as u32)?,
            other => return fault(format!("its pickle has the opcode {other:#04x}, which no file of tensors needs")),
        }
        Ok(())
    }

    /// What lies below belongs to a mark.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<Value<'a>, Fault> {
        match self.stack.len() > self.floor() {
            true => Ok(self.stack.pop().unwrap_or(Value::None)),
            false => fault("its pickle takes what is not there"),
        }
    }

    fn marked(&mut self) -> Result<Vec<Value<'a>>, Fault> {
        match self.marks.pop() {
            Some(at) => Ok(self.stack.split_off(at)),
            None => fault("its pickle takes what is not there"),
        }
    }

    fn int(&mut self, n: i64) {
        self.stack.push(Value::Int(n));
    }

    fn text(&mut self, r: &mut Reader<'a>, width: usize) -> Result<(), Fault> {
        let n = r.length(width)?;
        let bytes = r.take(n)?;
        // Only keys are texts that matter, and those are UTF-8.
        self.stack.push(std::str::from_utf8(bytes).map_or(Value::Opaque, Value::Text));
        Ok(())
    }

    fn skip(&mut self, r: &mut Reader<'a>, width: usize) -> Result<(), Fault> {
        let n = r.length(width)?;
        r.take(n)?;
        self.stack.push(Value::Opaque);
        Ok(())
    }

    fn list(&mut self, items: Vec<Value<'a>>) {
        self.lists.push(items);
        self.stack.push(Value::List(self.lists.len() - 1));
    }

    fn dict(&mut self, items: Vec<(Value<'a>, Value<'a>)>) {
        self.dicts.push(items);
        self.stack.push(Value::Dict(self.dicts.len() - 1));
    }

    fn append(&mut self, items: Vec<Value<'a>>) -> Result<(), Fault> {
        match self.stack.last() {
            Some(Value::List(n)) => self.lists[*n].extend(items),
            Some(Value::Opaque) => {}
            _ => return fault("its pickle appends to what is no list"),
        }
        Ok(())
    }

    fn set(&mut self, items: Vec<(Value<'a>, Value<'a>)>) -> Result<(), Fault> {
        match self.stack.last() {
            Some(Value::Dict(n)) => self.dicts[*n].extend(items),
            Some(Value::Opaque) => {}
            _ => return fault("its pickle sets an entry of what is no dictionary"),
        }
        Ok(())
    }

    fn put(&mut self, n: u32) -> Result<(), Fault> {
        match self.stack.last() {
            Some(top) => drop(self.memo.insert(n, *top)),
            None => return fault("its pickle remembers what is not there"),
        }
        Ok(())
    }

    fn get(&mut self, n: u32) -> Result<(), Fault> {
        match self.memo.get(&n) {
            Some(value) => self.stack.push(*value),
            None => return fault(format!("its pickle recalls {n}, which it never remembered")),
        }
        Ok(())
    }

    fn items(&self, value: Value<'a>) -> Option<&[Value<'a>]> {
        if let Value::List(n) = value { self.lists.get(n).map(Vec::as_slice) } else { None }
    }

    /// `('storage', type, key, device, length)`
    fn storage(&mut self, id: Value<'a>) -> Result<Value<'a>, Fault> {
        let parts = self.items(id).and_then(|p| p.get(..5));
        let Some(
            &[Value::Text("storage"), Value::Global(Global::Storage(dtype)), Value::Text(key), _, Value::Int(len)],
        ) = parts
        else {
            return fault("its pickle refers to something that is no storage of a tensor");
        };
        // What older versions call a view of another storage.
        if self.items(id).is_some_and(|p| p.get(5).is_some_and(|v| *v != Value::None)) {
            return fault("one of its storages is a view of another, as only very old files have");
        }
        let Ok(len) = usize::try_from(len) else { return fault(format!("its storage {key} has {len} elements")) };
        let storage = Storage { key, dtype, len };
        if let Some(&known) = self.by_key.get(key) {
            return match self.storages[known] == storage {
                true => Ok(Value::Storage(known)),
                false => fault(format!("its storage {key} is of two kinds")),
            };
        }
        self.storages.push(storage);
        self.by_key.insert(key, self.storages.len() - 1);
        Ok(Value::Storage(self.storages.len() - 1))
    }

    fn call(&mut self, callee: Value<'a>, args: Value<'a>) -> Result<Value<'a>, Fault> {
        let (Value::Global(of), Some(args)) = (callee, self.items(args)) else {
            return fault("its pickle calls what is no function");
        };
        match of {
            Global::Tensor | Global::TypedTensor => {
                let Some(&[Value::Storage(storage), Value::Int(offset), shape, strides]) = args.get(..4) else {
                    return fault("its pickle makes a tensor of what is none");
                };
                let dtype = match (of, args.get(6), self.storages[storage].dtype) {
                    (Global::TypedTensor, Some(Value::Global(Global::Dtype(d))), _) => *d,
                    (Global::Tensor, _, Some(d)) => d,
                    _ => return fault("its pickle does not say the element type of a tensor"),
                };
                let (shape, strides) = (self.numbers(shape), self.numbers(strides));
                let (Some(shape), Some(strides), Ok(offset)) = (shape, strides, usize::try_from(offset)) else {
                    return fault("its pickle has a tensor with an impossible shape, stride or offset");
                };
                if shape.len() != strides.len() || shape.len() > DIMENSIONS {
                    return fault(format!(
                        "its pickle has a tensor of {} dimensions and {} strides",
                        shape.len(),
                        strides.len()
                    ));
                }
                self.tensors.push(Tensor { storage, dtype, offset, shape, strides });
                Ok(Value::Tensor(self.tensors.len() - 1))
            }
            Global::Parameter => match args.first() {
                Some(inner @ Value::Tensor(_)) => Ok(*inner),
                _ => fault("its pickle makes a parameter of what is no tensor"),
            },
            Global::Dict => {
                // `OrderedDict([(key, value), ...])` of Python 2, or empty.
                let given = args.first().and_then(|a| self.items(*a)).unwrap_or_default();
                let entry = |v: &Value<'a>| match self.items(*v) {
                    Some(&[key, value]) => Some((key, value)),
                    _ => None,
                };
                let items: Option<Vec<_>> = given.iter().map(entry).collect();
                let Some(items) = items else { return fault("its pickle makes a dictionary of what has no keys") };
                self.dicts.push(items);
                Ok(Value::Dict(self.dicts.len() - 1))
            }
            Global::Size => Ok(args.first().copied().unwrap_or(Value::None)),
            Global::Opaque => Ok(Value::Opaque),
            Global::Storage(_) | Global::Dtype(_) => fault("its pickle calls what is no function"),
        }
    }

    fn numbers(&self, list: Value<'a>) -> Option<Vec<usize>> {
        let items = self.items(list)?;
        let one = |v: &Value| if let Value::Int(n) = v { usize::try_from(*n).ok() } else { None };
        items.iter().take(DIMENSIONS + 1).map(one).collect()
    }
}

fn pairs<'a>(items: &[Value<'a>]) -> Result<Vec<(Value<'a>, Value<'a>)>, Fault> {
    match items.as_chunks::<2>() {
        (all, []) => Ok(all.iter().map(|[k, v]| (*k, *v)).collect()),
        _ => fault("its pickle has a key without a value"),
    }
}

/// A whole number of any length; one that is larger than any size leads nowhere.
fn long_integer<'a>(bytes: &[u8]) -> Value<'a> {
    let Some(last) = bytes.last() else { return Value::Int(0) };
    if bytes.len() > 8 {
        return Value::Opaque;
    }
    let mut wide = [if *last >= 0x80 { 0xff } else { 0 }; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i64::from_le_bytes(wide))
}

/// The meaning of a name, or an error that says it.
fn global(module: &str, name: &str) -> Result<Global, Fault> {
    let known = match (module, name) {
        ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Some(Global::Tensor),
        ("torch._utils", "_rebuild_tensor_v3") => Some(Global::TypedTensor),
        ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => Some(Global::Parameter),
        ("collections", "OrderedDict") => Some(Global::Dict),
        ("torch", "Size") => Some(Global::Size),
        ("torch", "device") | ("torch.serialization", "_get_layout") => Some(Global::Opaque),
        ("builtins" | "__builtin__", "set" | "frozenset") | ("_codecs", "encode") => Some(Global::Opaque),
        ("torch.storage" | "torch", "UntypedStorage") => Some(Global::Storage(None)),
        ("torch" | "torch.cuda", _) => {
            let storage = name.strip_suffix("Storage");
            let found =
                TYPES.iter().find(|(of_storage, of_torch, _)| storage == Some(*of_storage) || name == *of_torch);
            found.and_then(|(_, _, own)| Dtype::parse(own)).map(|d| match storage {
                Some(_) => Global::Storage(Some(d)),
                None => Global::Dtype(d),
            })
        }
        _ => None,
    };
    known.ok_or_else(|| (format!("its pickle asks for `{module}.{name}`, which is no tensor"), UNSAFE))
}

/// Element types: the storage's name, torch's, and that of safetensors.
const TYPES: &[(&str, &str, &str)] = &[
    ("Float", "float32", "F32"),
    ("Double", "float64", "F64"),
    ("Half", "float16", "F16"),
    ("BFloat16", "bfloat16", "BF16"),
    ("Long", "int64", "I64"),
    ("Int", "int32", "I32"),
    ("Short", "int16", "I16"),
    ("Char", "int8", "I8"),
    ("Byte", "uint8", "U8"),
    ("Bool", "bool", "BOOL"),
    ("ComplexFloat", "complex64", "C64"),
    ("UShort", "uint16", "U16"),
    ("UInt", "uint32", "U32"),
    ("ULong", "uint64", "U64"),
    ("Float8E4M3", "float8_e4m3fn", "F8_E4M3"),
    ("Float8E5M2", "float8_e5m2", "F8_E5M2"),
];

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], Fault> {
        match self.bytes[self.at..].get(..n) {
            Some(bytes) => {
                self.at += n;
                Ok(bytes)
            }
            None => fault("its pickle has no end"),
        }
    }

    fn byte(&mut self) -> Result<u8, Fault> {
        Ok(self.take(1)?[0])
    }

    /// A little-endian number of at most 8 bytes.
    fn number(&mut self, width: usize) -> Result<u64, Fault> {
        Ok(self.take(width)?.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b)))
    }

    fn length(&mut self, width: usize) -> Result<usize, Fault> {
        let n = self.number(width)?;
        usize::try_from(n).or_else(|_| fault("its pickle has a text of impossible length"))
    }

    /// Up to a line end, which is left out.
    fn line(&mut self) -> Result<&'a str, Fault> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|b| *b == b'\n');
        let line = end.and_then(|end| std::str::from_utf8(&rest[..end]).ok());
        let Some(line) = line else { return fault("its pickle names something by what is no text") };
        self.at += line.len() + 1;
        Ok(line)
    }
}
