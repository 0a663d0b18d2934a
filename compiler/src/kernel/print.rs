//! The text form of a kernel.

use super::{Base, Kernel, Lin, Operand, Ref, Stmt, Vector};
use std::fmt::{Display, Formatter, Result};

impl Display for Lin {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match (self.fixed, self.keys) {
            (n, 0) => write!(f, "{n}"),
            (0, 1) => f.write_str("K"),
            (0, k) => write!(f, "{k}K"),
            (n, k) => write!(f, "{n}+{k}K"),
        }
    }
}

impl Display for Base {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Base::Param(i) => write!(f, "p{i}"),
            Base::Temp(i) => write!(f, "t{i}"),
        }
    }
}

fn list(f: &mut Formatter<'_>, items: &[Lin]) -> Result {
    for (i, item) in items.iter().enumerate() {
        write!(f, "{}{item}", if i == 0 { "" } else { ", " })?;
    }
    Ok(())
}

impl Display for Ref {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        self.base.fmt(f)?;
        if self.offset != Lin::ZERO {
            write!(f, "@{}", self.offset)?;
        }
        if !self.strides.is_empty() {
            f.write_str("<")?;
            list(f, &self.strides)?;
            f.write_str(">")?;
        }
        Ok(())
    }
}

impl Display for Operand {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Operand::Ref(r) => r.fmt(f),
            // The bits of a NaN matter to equality.
            Operand::Number(n) if n.value().is_nan() => write!(f, "0x{:08x}", n.0),
            Operand::Number(n) => write!(f, "{:?}", n.value()),
        }
    }
}

impl Display for Vector {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{} = {}[", self.dst, self.op.name())?;
        list(f, &self.loops)?;
        f.write_str("]")?;
        for (i, src) in self.srcs.iter().enumerate() {
            write!(f, "{} {src}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

fn block(f: &mut Formatter<'_>, body: &[Stmt], depth: usize) -> Result {
    let indent = "  ".repeat(depth);
    for stmt in body {
        match stmt {
            Stmt::Vector(v) => writeln!(f, "{indent}{v}")?,
            Stmt::If { guards, body } => {
                write!(f, "{indent}if ")?;
                for (i, g) in guards.iter().enumerate() {
                    write!(f, "{}p{g}", if i == 0 { "" } else { " | " })?;
                }
                writeln!(f, " {{")?;
                block(f, body, depth + 1)?;
                writeln!(f, "{indent}}}")?;
            }
        }
    }
    Ok(())
}

impl Display for Kernel {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str("kernel(")?;
        for (i, p) in self.params.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            let out = if p.out { "out " } else { "" };
            write!(f, "{comma}p{i}: {out}{}[{}]", p.kind.name(), p.len)?;
        }
        f.write_str(") ")?;
        if !self.temps.is_empty() {
            f.write_str("temps(")?;
            for (i, len) in self.temps.iter().enumerate() {
                write!(f, "{}t{i}: [{len}]", if i == 0 { "" } else { ", " })?;
            }
            f.write_str(") ")?;
        }
        writeln!(f, "{{")?;
        block(f, &self.body, 1)?;
        f.write_str("}")
    }
}
