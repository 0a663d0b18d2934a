//! A kernel from its text form.

use super::{Base, Bits, Kernel, Lin, Operand, Param, ParamKind, Ref, Stmt, VecOp, Vector};
use std::fmt;

/// What is wrong with a text, and where.
#[derive(Clone, Debug, PartialEq)]
pub struct ParseError {
    /// From 1.
    pub line: usize,
    pub message: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.message)
    }
}

/// The kernel that a text describes. It is not verified.
pub fn parse(text: &str) -> Result<Kernel, ParseError> {
    let mut p = Parser { text, at: 0 };
    let kernel = p.kernel()?;
    p.space();
    if p.at < text.len() {
        return p.fail("nothing may follow a kernel");
    }
    Ok(kernel)
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
}

type Parsed<T> = Result<T, ParseError>;

impl<'t> Parser<'t> {
    fn fail<T>(&self, message: impl Into<String>) -> Parsed<T> {
        let line = 1 + self.text[..self.at].matches('\n').count();
        Err(ParseError { line, message: message.into() })
    }

    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    fn eat(&mut self, token: &str) -> bool {
        self.space();
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn expect(&mut self, token: &str) -> Parsed<()> {
        if self.eat(token) { Ok(()) } else { self.fail(format!("expected `{token}`")) }
    }

    fn word(&mut self, allowed: impl Fn(char) -> bool) -> &'t str {
        self.space();
        let rest = self.rest();
        let len = rest.find(|c| !allowed(c)).unwrap_or(rest.len());
        self.at += len;
        &rest[..len]
    }

    fn number(&mut self) -> Parsed<usize> {
        let word = self.word(|c| c.is_ascii_digit());
        word.parse().or_else(|_| self.fail("expected a whole number"))
    }

    /// `64`, `K`, `8K`, `64+8K`
    fn lin(&mut self) -> Parsed<Lin> {
        if self.eat("K") {
            return Ok(Lin::KEYS);
        }
        let n = self.number()?;
        if self.eat("K") {
            return Ok(Lin { fixed: 0, keys: n });
        }
        if !self.eat("+") {
            return Ok(Lin::fixed(n));
        }
        let keys = self.number()?;
        self.expect("K")?;
        Ok(Lin { fixed: n, keys })
    }

    fn lins(&mut self, close: &str) -> Parsed<Vec<Lin>> {
        let mut items = Vec::new();
        if self.eat(close) {
            return Ok(items);
        }
        loop {
            items.push(self.lin()?);
            if self.eat(close) {
                return Ok(items);
            }
            self.expect(",")?;
        }
    }

    fn indexed(&mut self, letter: &str, index: usize) -> Parsed<()> {
        self.expect(letter)?;
        if self.number()? == index { Ok(()) } else { self.fail(format!("expected `{letter}{index}`")) }
    }

    fn kernel(&mut self) -> Parsed<Kernel> {
        let mut kernel = Kernel::default();
        self.expect("kernel")?;
        self.expect("(")?;
        while !self.eat(")") {
            if !kernel.params.is_empty() {
                self.expect(",")?;
            }
            self.indexed("p", kernel.params.len())?;
            self.expect(":")?;
            let out = self.eat("out ");
            let name = self.word(|c| c.is_ascii_lowercase() || c == '_');
            let Some(kind) = ParamKind::from_name(name) else { return self.fail("no such kind of parameter") };
            self.expect("[")?;
            let len = self.lin()?;
            self.expect("]")?;
            kernel.params.push(Param { kind, len, out });
        }
        if self.eat("temps(") {
            while !self.eat(")") {
                if !kernel.temps.is_empty() {
                    self.expect(",")?;
                }
                self.indexed("t", kernel.temps.len())?;
                self.expect(":")?;
                self.expect("[")?;
                kernel.temps.push(self.lin()?);
                self.expect("]")?;
            }
        }
        self.expect("{")?;
        kernel.body = self.block(0)?;
        Ok(kernel)
    }

    fn block(&mut self, depth: usize) -> Parsed<Vec<Stmt>> {
        let mut body = Vec::new();
        while !self.eat("}") {
            if self.eat("if ") {
                if depth > 0 {
                    return self.fail("branches do not nest");
                }
                let mut guards = Vec::new();
                loop {
                    self.expect("p")?;
                    guards.push(self.number()? as u32);
                    if !self.eat("|") {
                        break;
                    }
                }
                self.expect("{")?;
                body.push(Stmt::If { guards, body: self.block(depth + 1)? });
            } else {
                body.push(Stmt::Vector(self.vector()?));
            }
        }
        Ok(body)
    }

    fn vector(&mut self) -> Parsed<Vector> {
        let dst = self.reference()?;
        self.expect("=")?;
        let name = self.word(|c| c.is_ascii_lowercase() || c == '_' || c == '.');
        let Some(op) = VecOp::from_name(name) else { return self.fail(format!("no operation `{name}`")) };
        self.expect("[")?;
        let loops = self.lins("]")?;
        let mut srcs = Vec::new();
        for i in 0..op.arity() {
            if i > 0 {
                self.expect(",")?;
            }
            srcs.push(self.operand()?);
        }
        Ok(Vector { op, loops, dst, srcs })
    }

    fn reference(&mut self) -> Parsed<Ref> {
        let is_param = self.eat("p");
        if !is_param {
            self.expect("t")?;
        }
        let index = self.number()? as u32;
        let base = if is_param { Base::Param(index) } else { Base::Temp(index) };
        let offset = if self.eat("@") { self.lin()? } else { Lin::ZERO };
        let strides = if self.eat("<") { self.lins(">")? } else { Vec::new() };
        Ok(Ref { base, offset, strides })
    }

    fn operand(&mut self) -> Parsed<Operand> {
        self.space();
        if self.rest().starts_with(['p', 't']) {
            return Ok(Operand::Ref(self.reference()?));
        }
        if self.eat("0x") {
            let word = self.word(|c| c.is_ascii_hexdigit());
            return match u32::from_str_radix(word, 16) {
                Ok(bits) => Ok(Operand::Number(Bits(bits))),
                Err(_) => self.fail("expected the bits of a number"),
            };
        }
        let word = self.word(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
        match word.parse::<f32>() {
            Ok(x) => Ok(Operand::Number(Bits::of(x))),
            Err(_) => self.fail("expected an operand"),
        }
    }
}
