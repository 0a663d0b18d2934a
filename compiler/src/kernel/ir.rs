//! What a kernel is made of.

use steer_kernels::{Binary, Reduce, Unary};

/// `fixed + keys * K`, where `K` is the number of keys that the row has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Lin {
    pub fixed: usize,
    pub keys: usize,
}

impl Lin {
    pub const ZERO: Lin = Lin::fixed(0);
    pub const ONE: Lin = Lin::fixed(1);
    pub const KEYS: Lin = Lin { fixed: 0, keys: 1 };

    pub const fn fixed(n: usize) -> Lin {
        Lin { fixed: n, keys: 0 }
    }

    /// Its value where the row has `keys` keys.
    pub const fn at(self, keys: usize) -> usize {
        self.fixed + self.keys * keys
    }

    /// Itself, if it does not depend on the keys.
    pub const fn known(self) -> Option<usize> {
        if self.keys == 0 { Some(self.fixed) } else { None }
    }

    pub const fn plus(self, other: Lin) -> Lin {
        Lin { fixed: self.fixed + other.fixed, keys: self.keys + other.keys }
    }

    /// The product; `None` where it would be of the second degree.
    pub const fn times(self, other: Lin) -> Option<Lin> {
        if self.keys != 0 && other.keys != 0 {
            return None;
        }
        Some(Lin { fixed: self.fixed * other.fixed, keys: self.fixed * other.keys + self.keys * other.fixed })
    }

    pub const fn scaled(self, by: usize) -> Lin {
        Lin { fixed: self.fixed * by, keys: self.keys * by }
    }
}

/// What a parameter stands for; the counterpart of [`crate::program::KernelArg`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ParamKind {
    /// A buffer with `len` floats a row.
    Rows,
    /// A buffer without rows.
    Once,
    /// Read-only numbers of the model or the script.
    Const,
    /// Numbers from the configuration.
    Table,
    /// Numbers of the call.
    Numbers,
    Token,
    Position,
    /// 1 on the rows where an edit is active.
    Guard,
    /// The parameters of an edit, by slot.
    Params,
    Donor,
    Receipt,
    /// What the owner of a body hands in for the one row.
    Body,
    /// What a body hands out for the one row.
    Result,
    FirstKey,
}

impl ParamKind {
    pub const ALL: [ParamKind; 14] = [
        ParamKind::Rows,
        ParamKind::Once,
        ParamKind::Const,
        ParamKind::Table,
        ParamKind::Numbers,
        ParamKind::Token,
        ParamKind::Position,
        ParamKind::Guard,
        ParamKind::Params,
        ParamKind::Donor,
        ParamKind::Receipt,
        ParamKind::Body,
        ParamKind::Result,
        ParamKind::FirstKey,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            ParamKind::Rows => "rows",
            ParamKind::Once => "once",
            ParamKind::Const => "const",
            ParamKind::Table => "table",
            ParamKind::Numbers => "numbers",
            ParamKind::Token => "token",
            ParamKind::Position => "position",
            ParamKind::Guard => "guard",
            ParamKind::Params => "params",
            ParamKind::Donor => "donor",
            ParamKind::Receipt => "receipt",
            ParamKind::Body => "body",
            ParamKind::Result => "result",
            ParamKind::FirstKey => "first_key",
        }
    }

    pub fn from_name(name: &str) -> Option<ParamKind> {
        ParamKind::ALL.into_iter().find(|k| k.name() == name)
    }

    /// Whether row `r` has its own `len` floats, at `r * len`. Otherwise all rows share them.
    pub const fn per_row(self) -> bool {
        matches!(
            self,
            ParamKind::Rows
                | ParamKind::Token
                | ParamKind::Position
                | ParamKind::Guard
                | ParamKind::Params
                | ParamKind::Donor
                | ParamKind::Receipt
        )
    }

    /// Whether a kernel may store there.
    pub const fn writable(self) -> bool {
        matches!(self, ParamKind::Rows | ParamKind::Once | ParamKind::Receipt | ParamKind::Result)
    }
}

/// A pointer argument of a kernel. Parameters never overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Param {
    pub kind: ParamKind,
    /// Floats a row, or in all where rows share them.
    pub len: Lin,
    /// Whether the kernel stores there.
    pub out: bool,
}

/// Memory that a statement refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Base {
    Param(u32),
    /// A temporary of one row, written by exactly one value.
    Temp(u32),
}

/// Elements at `offset + i0 * strides[0] + i1 * strides[1] + ...` of the row's part of `base`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ref {
    pub base: Base,
    pub offset: Lin,
    /// One for each loop of the statement.
    pub strides: Vec<Lin>,
}

/// An `f32` that is compared by its bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Bits(pub u32);

impl Bits {
    pub fn of(x: f32) -> Bits {
        Bits(x.to_bits())
    }

    pub fn value(self) -> f32 {
        f32::from_bits(self.0)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Operand {
    Number(Bits),
    Ref(Ref),
}

impl Operand {
    pub fn as_ref(&self) -> Option<&Ref> {
        match self {
            Operand::Ref(r) => Some(r),
            Operand::Number(_) => None,
        }
    }
}

/// What a statement does with each element, or with the last loop where it says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VecOp {
    Copy,
    Unary(Unary),
    Binary(Binary),
    /// `(cond, a, b)`
    Select,
    /// `(a, s, x)`: `a + s * x`, rounded once.
    Axpy,
    /// `(first)`: first, first + 1, ... along the last loop.
    Iota,
    /// Over the last loop, along which the result does not move.
    Reduce(Reduce),
    /// `(a, b)`: the sum of products over the last loop, each rounded once into the sum, in the order of
    /// `Reduce::Sum`. Both are contiguous along it.
    Dot,
    /// `(a, k)`: a mask over the last loop, along which both sides are contiguous and `k` does not move.
    TopK,
}

impl VecOp {
    /// The number of its operands.
    pub const fn arity(self) -> usize {
        match self {
            VecOp::Copy | VecOp::Unary(_) | VecOp::Iota | VecOp::Reduce(_) => 1,
            VecOp::Binary(_) | VecOp::Dot | VecOp::TopK => 2,
            VecOp::Select | VecOp::Axpy => 3,
        }
    }

    /// Whether element `i` of the result depends on element `i` of the operands only.
    pub const fn is_map(self) -> bool {
        !matches!(self, VecOp::Reduce(_) | VecOp::Dot | VecOp::TopK | VecOp::Iota)
    }

    pub fn name(self) -> String {
        match self {
            VecOp::Copy => "copy".into(),
            VecOp::Unary(op) => op.name().into(),
            VecOp::Binary(op) => op.name().into(),
            VecOp::Select => "select".into(),
            VecOp::Axpy => "axpy".into(),
            VecOp::Iota => "iota".into(),
            VecOp::Reduce(op) => format!("reduce.{}", op.name()),
            VecOp::Dot => "dot".into(),
            VecOp::TopK => "top_k".into(),
        }
    }

    pub fn from_name(name: &str) -> Option<VecOp> {
        match name {
            "copy" => Some(VecOp::Copy),
            "select" => Some(VecOp::Select),
            "axpy" => Some(VecOp::Axpy),
            "iota" => Some(VecOp::Iota),
            "dot" => Some(VecOp::Dot),
            "top_k" => Some(VecOp::TopK),
            _ => match name.strip_prefix("reduce.") {
                Some(op) => Reduce::from_name(op).map(VecOp::Reduce),
                None => Unary::from_name(name).map(VecOp::Unary).or_else(|| Binary::from_name(name).map(VecOp::Binary)),
            },
        }
    }
}

/// One vector operation in a nest of loops.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Vector {
    pub op: VecOp,
    /// The extents, outermost first.
    pub loops: Vec<Lin>,
    pub dst: Ref,
    pub srcs: Vec<Operand>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Stmt {
    Vector(Vector),
    /// On the rows where one of these guards is not 0.
    If {
        guards: Vec<u32>,
        body: Vec<Stmt>,
    },
}

/// A kernel. Kernels that are equal compute the same and are one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Kernel {
    pub params: Vec<Param>,
    /// The lengths of the temporaries.
    pub temps: Vec<Lin>,
    pub body: Vec<Stmt>,
}

impl Kernel {
    /// The length of the row's part of `base`.
    pub fn len_of(&self, base: Base) -> Option<Lin> {
        match base {
            Base::Param(i) => self.params.get(i as usize).map(|p| p.len),
            Base::Temp(i) => self.temps.get(i as usize).copied(),
        }
    }

    /// Calls `f` on every vector statement in order, with the guards that it stands under.
    pub fn for_each<'k>(&'k self, f: &mut dyn FnMut(&'k Vector, &'k [u32])) {
        for stmt in &self.body {
            match stmt {
                Stmt::Vector(v) => f(v, &[]),
                Stmt::If { guards, body } => {
                    for inner in body {
                        if let Stmt::Vector(v) = inner {
                            f(v, guards);
                        }
                    }
                }
            }
        }
    }

    /// The floats of scratch that a call needs where its rows have so many keys.
    pub fn scratch_len(&self, keys: usize) -> usize {
        Layout::of(self).total.at(keys)
    }
}

use super::Layout;
