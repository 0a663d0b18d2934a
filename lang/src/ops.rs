//! How operators and types are written, and how strongly operators bind.

use crate::ast::{AssignOp, BinaryOp, ParamType, UnaryOp};

impl BinaryOp {
    pub const ALL: [BinaryOp; 16] = [
        BinaryOp::Else,
        BinaryOp::Or,
        BinaryOp::And,
        BinaryOp::Lt,
        BinaryOp::Le,
        BinaryOp::Gt,
        BinaryOp::Ge,
        BinaryOp::Eq,
        BinaryOp::Ne,
        BinaryOp::Add,
        BinaryOp::Sub,
        BinaryOp::Mul,
        BinaryOp::Div,
        BinaryOp::Rem,
        BinaryOp::MatMul,
        BinaryOp::Pow,
    ];

    pub fn symbol(self) -> &'static str {
        match self {
            BinaryOp::Else => "??",
            BinaryOp::Or => "||",
            BinaryOp::And => "&&",
            BinaryOp::Lt => "<",
            BinaryOp::Le => "<=",
            BinaryOp::Gt => ">",
            BinaryOp::Ge => ">=",
            BinaryOp::Eq => "==",
            BinaryOp::Ne => "!=",
            BinaryOp::Add => "+",
            BinaryOp::Sub => "-",
            BinaryOp::Mul => "*",
            BinaryOp::Div => "/",
            BinaryOp::Rem => "%",
            BinaryOp::MatMul => "@",
            BinaryOp::Pow => "^",
        }
    }

    pub fn from_symbol(symbol: &str) -> Option<BinaryOp> {
        Self::ALL.into_iter().find(|op| op.symbol() == symbol)
    }

    /// Stronger operators bind first. A prefix operator stands between 6 and 8.
    pub fn strength(self) -> u8 {
        match self {
            BinaryOp::Else => 1,
            BinaryOp::Or => 2,
            BinaryOp::And => 3,
            BinaryOp::Lt | BinaryOp::Le | BinaryOp::Gt | BinaryOp::Ge | BinaryOp::Eq | BinaryOp::Ne => 4,
            BinaryOp::Add | BinaryOp::Sub => 5,
            BinaryOp::Mul | BinaryOp::Div | BinaryOp::Rem | BinaryOp::MatMul => 6,
            BinaryOp::Pow => 8,
        }
    }

    pub fn is_comparison(self) -> bool {
        self.strength() == BinaryOp::Eq.strength()
    }
}

impl UnaryOp {
    pub fn symbol(self) -> &'static str {
        match self {
            UnaryOp::Neg => "-",
            UnaryOp::Not => "!",
        }
    }
}

impl AssignOp {
    pub const ALL: [AssignOp; 5] = [AssignOp::Set, AssignOp::Add, AssignOp::Sub, AssignOp::Mul, AssignOp::Div];

    pub fn symbol(self) -> &'static str {
        match self {
            AssignOp::Set => "=",
            AssignOp::Add => "+=",
            AssignOp::Sub => "-=",
            AssignOp::Mul => "*=",
            AssignOp::Div => "/=",
        }
    }

    pub fn from_symbol(symbol: &str) -> Option<AssignOp> {
        Self::ALL.into_iter().find(|op| op.symbol() == symbol)
    }
}

impl ParamType {
    pub const ALL: [ParamType; 4] = [ParamType::Number, ParamType::Integer, ParamType::Bool, ParamType::Text];

    pub fn name(self) -> &'static str {
        match self {
            ParamType::Number => "number",
            ParamType::Integer => "int",
            ParamType::Bool => "bool",
            ParamType::Text => "text",
        }
    }

    pub fn from_name(name: &str) -> Option<ParamType> {
        Self::ALL.into_iter().find(|ty| ty.name() == name)
    }
}
