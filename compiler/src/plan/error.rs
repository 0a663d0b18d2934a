//! Why an op can't be built, with what a diagnostic wants to say of it.

use super::ir::{Elem, Size, Type};
use std::fmt;
use std::sync::Arc;

#[derive(Clone, Debug, PartialEq)]
pub enum TypeError {
    /// One axis with two sizes.
    SizeMismatch {
        axis: Arc<str>,
        left: Size,
        right: Size,
    },
    /// An axis that the value lacks.
    NoAxis {
        axis: Arc<str>,
        have: Type,
    },
    /// An axis to sum over that the two factors don't share.
    NotShared {
        axis: Arc<str>,
        left: Type,
        right: Type,
    },
    /// A row's value where one for all rows is needed.
    RowInConst {
        what: &'static str,
    },
    OutOfRange {
        axis: Arc<str>,
        index: usize,
        size: usize,
    },
    /// Another number of elements, or another split around `key`.
    Elements {
        from: Type,
        to: Type,
    },
    /// Something that can't be done along `key`.
    KeyAxis {
        op: &'static str,
    },
    /// `key` outside of an attention.
    KeyOutside,
    /// Axes that should be the same.
    OtherAxes {
        left: Type,
        right: Type,
    },
    /// Another number of axes than the op takes.
    Axes {
        what: &'static str,
        want: &'static str,
        have: Type,
    },
    Duplicate {
        axis: Arc<str>,
    },
    /// An axis without entries, or a window without rows.
    Empty {
        axis: Arc<str>,
    },
    Kind {
        want: Elem,
        have: Elem,
    },
    /// A table of another length than its type.
    Count {
        numbers: usize,
        ty: Type,
    },
    BadNumber {
        number: f32,
        elem: Elem,
    },
    NoSlot {
        edit: String,
        slot: u32,
    },
    /// An op that mixes rows inside the body of another one.
    Nested,
    /// The layer's number outside of all layers.
    NoLayer,
    /// A reference to nothing; a mistake of the compiler, not of the user.
    Unknown {
        what: &'static str,
        id: u32,
    },
}

impl std::error::Error for TypeError {}

impl fmt::Display for TypeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TypeError::SizeMismatch { axis, left, right } => {
                write!(f, "the axis `{axis}` has {left} on one side and {right} on the other")
            }
            TypeError::NoAxis { axis, have } => write!(f, "there is no axis `{axis}` in {have}"),
            TypeError::NotShared { axis, left, right } => {
                write!(f, "a product can't sum over `{axis}`: {left} and {right} don't share it")
            }
            TypeError::RowInConst { what } => write!(f, "{what} can't differ from row to row"),
            TypeError::OutOfRange { axis, index, size } => {
                write!(f, "the axis `{axis}` has {size} entries, so there is no [{index}]")
            }
            TypeError::Elements { from, to } => write!(f, "{from} can't be read as {to}"),
            TypeError::KeyAxis { op } => write!(f, "{op} can't be along `key`"),
            TypeError::KeyOutside => write!(f, "the axis `key` exists only inside of an attention"),
            TypeError::OtherAxes { left, right } => write!(f, "expected the axes {left}, found {right}"),
            TypeError::Axes { what, want, have } => write!(f, "{what} needs {want}, found {have}"),
            TypeError::Duplicate { axis } => write!(f, "the axis `{axis}` occurs twice"),
            TypeError::Empty { axis } => write!(f, "nothing is left along `{axis}`"),
            TypeError::Kind { want, have } => write!(f, "expected {want}, found {have}"),
            TypeError::Count { numbers, ty } => write!(f, "{numbers} numbers don't fill {ty}"),
            TypeError::BadNumber { number, elem } => write!(f, "{number} is not {elem}"),
            TypeError::NoSlot { edit, slot } => write!(f, "`{edit}` has no parameter number {slot}"),
            TypeError::Nested => write!(f, "an op that reads other rows can't stand inside of another one"),
            TypeError::NoLayer => write!(f, "there is no layer here"),
            TypeError::Unknown { what, id } => write!(f, "there is no {what} {id}"),
        }
    }
}

/// `[head=8, d_head=16]`
impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (i, axis) in self.axes.iter().enumerate() {
            let comma = if i > 0 { ", " } else { "" };
            match axis.size {
                Size::Fixed(n) => write!(f, "{comma}{}={n}", axis.name)?,
                Size::Keys => write!(f, "{comma}{}", axis.name)?,
            }
        }
        f.write_str("]")
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Size::Fixed(1) => write!(f, "1 entry"),
            Size::Fixed(n) => write!(f, "{n} entries"),
            Size::Keys => write!(f, "one entry for each key"),
        }
    }
}

impl fmt::Display for Elem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Elem::F32 => "a number",
            Elem::Bool => "a truth value",
            Elem::Index => "an index",
        })
    }
}
