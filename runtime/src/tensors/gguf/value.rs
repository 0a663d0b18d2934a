//! Values of the metadata.

/// The kinds that one number can have, with the codes of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    U64,
    I64,
    F64,
}

/// A value of any of the 13 kinds of the format; an array is one of texts or of numbers.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    Text(&'a str),
    U64(u64),
    I64(i64),
    F64(f64),
    Texts(Vec<&'a str>),
    Numbers(Numbers<'a>),
}

/// An array of numbers, as it stands in the file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Numbers<'a> {
    pub kind: Kind,
    /// Little-endian, a whole number of elements.
    pub bytes: &'a [u8],
}

impl Kind {
    pub(super) fn from_code(code: u32) -> Option<Self> {
        Some(match code {
            0 => Kind::U8,
            1 => Kind::I8,
            2 => Kind::U16,
            3 => Kind::I16,
            4 => Kind::U32,
            5 => Kind::I32,
            6 => Kind::F32,
            7 => Kind::Bool,
            10 => Kind::U64,
            11 => Kind::I64,
            12 => Kind::F64,
            _ => return None,
        })
    }

    pub(super) fn code(self) -> u32 {
        match self {
            Kind::U8 => 0,
            Kind::I8 => 1,
            Kind::U16 => 2,
            Kind::I16 => 3,
            Kind::U32 => 4,
            Kind::I32 => 5,
            Kind::F32 => 6,
            Kind::Bool => 7,
            Kind::U64 => 10,
            Kind::I64 => 11,
            Kind::F64 => 12,
        }
    }

    /// Bytes of one.
    pub fn size(self) -> usize {
        match self {
            Kind::U8 | Kind::I8 | Kind::Bool => 1,
            Kind::U16 | Kind::I16 => 2,
            Kind::U32 | Kind::I32 | Kind::F32 => 4,
            Kind::U64 | Kind::I64 | Kind::F64 => 8,
        }
    }

    /// The number that `bytes` hold, of which there are [`Kind::size`].
    pub(super) fn read(self, bytes: &[u8]) -> Value<'static> {
        let mut wide = [0; 8];
        let n = bytes.len().min(8);
        wide[..n].copy_from_slice(&bytes[..n]);
        let bits = u64::from_le_bytes(wide);
        match self {
            Kind::U8 => Value::U8(bits as u8),
            Kind::I8 => Value::I8(bits as i8),
            Kind::U16 => Value::U16(bits as u16),
            Kind::I16 => Value::I16(bits as i16),
            Kind::U32 => Value::U32(bits as u32),
            Kind::I32 => Value::I32(bits as i32),
            Kind::F32 => Value::F32(f32::from_bits(bits as u32)),
            Kind::Bool => Value::Bool(bits != 0),
            Kind::U64 => Value::U64(bits),
            Kind::I64 => Value::I64(bits as i64),
            Kind::F64 => Value::F64(f64::from_bits(bits)),
        }
    }
}

impl<'a> Value<'a> {
    /// A whole number of any kind.
    pub fn as_integer(&self) -> Option<i128> {
        Some(match *self {
            Value::U8(n) => n.into(),
            Value::I8(n) => n.into(),
            Value::U16(n) => n.into(),
            Value::I16(n) => n.into(),
            Value::U32(n) => n.into(),
            Value::I32(n) => n.into(),
            Value::U64(n) => n.into(),
            Value::I64(n) => n.into(),
            _ => return None,
        })
    }

    /// A count: a whole number that is not negative and fits.
    pub fn as_usize(&self) -> Option<usize> {
        usize::try_from(self.as_integer()?).ok()
    }

    /// A number of any kind; large whole numbers are rounded.
    pub fn as_f64(&self) -> Option<f64> {
        match *self {
            Value::F32(x) => Some(x.into()),
            Value::F64(x) => Some(x),
            _ => self.as_integer().map(|n| n as f64),
        }
    }

    pub fn as_bool(&self) -> Option<bool> {
        if let Value::Bool(b) = *self { Some(b) } else { None }
    }

    pub fn as_text(&self) -> Option<&'a str> {
        if let Value::Text(s) = *self { Some(s) } else { None }
    }

    pub fn as_texts(&self) -> Option<&[&'a str]> {
        if let Value::Texts(all) = self { Some(all) } else { None }
    }

    pub fn as_numbers(&self) -> Option<Numbers<'a>> {
        if let Value::Numbers(all) = *self { Some(all) } else { None }
    }

    /// What kind it is, in words.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Text(_) => "a text",
            Value::Texts(_) => "an array of texts",
            Value::Numbers(_) => "an array of numbers",
            Value::Bool(_) => "true or false",
            Value::F32(_) | Value::F64(_) => "a number",
            _ => "a whole number",
        }
    }
}

impl<'a> Numbers<'a> {
    pub fn len(&self) -> usize {
        self.bytes.len() / self.kind.size()
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The elements in order.
    pub fn iter(self) -> impl ExactSizeIterator<Item = Value<'static>> + 'a {
        self.bytes.chunks_exact(self.kind.size()).map(move |b| self.kind.read(b))
    }
}
