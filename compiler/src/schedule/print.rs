//! A program as text.

use crate::plan::Reads;
use crate::program::{
    Body, BufId, ConstSource, ConstView, Experts, Instr, KernelArg, KernelCall, LookupIndex, MatrixView, OfExpert,
    OutputPlace, Program, Recurrence,
};
use std::fmt::{Display, Formatter, Result};

struct List<'a, T>(&'a [T]);

impl<T: Display> Display for List<'_, T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        for (i, item) in self.0.iter().enumerate() {
            write!(f, "{}{item}", if i == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

impl Display for BufId {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "b{}", self.0)
    }
}

impl Display for ConstSource {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            ConstSource::Weight(w) => write!(f, "weight{}", w.0),
            ConstSource::Tensor(t) => write!(f, "tensor{}", t.0),
            ConstSource::Computed(b) => b.fmt(f),
        }
    }
}

impl Display for ConstView {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{}", self.source)?;
        if self.offset != 0 {
            write!(f, "@{}", self.offset)?;
        }
        let dims: Vec<String> = self
            .dims
            .iter()
            .map(|(axis, stride)| match axis.size {
                crate::plan::Size::Fixed(n) => format!("{}={n}:{stride}", axis.name),
                crate::plan::Size::Keys => format!("{}:{stride}", axis.name),
            })
            .collect();
        write!(f, "[{}]", List(&dims))
    }
}

impl Display for MatrixView {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{}", self.source)?;
        if self.offset != 0 {
            write!(f, "@{}", self.offset)?;
        }
        let parts: Vec<String> = [&self.batch, &self.out, &self.inner]
            .map(|dims| dims.iter().map(|(n, stride)| format!("{n}:{stride}")).collect::<Vec<_>>().join(" "))
            .into();
        write!(f, "[{}]", parts.join(" | "))?;
        if let Some(rows) = &self.select {
            write!(f, " of {} rows", rows.len())?;
        }
        Ok(())
    }
}

impl Display for KernelArg {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            KernelArg::Buffer(b) => b.fmt(f),
            KernelArg::Const(view) => view.fmt(f),
            KernelArg::Table(numbers) => write!(f, "table[{}]", numbers.len()),
            KernelArg::Numbers(numbers) => write!(f, "{numbers:?}"),
            KernelArg::Token => f.write_str("token"),
            KernelArg::Position => f.write_str("position"),
            KernelArg::Guard(e) => write!(f, "guard(e{})", e.0),
            KernelArg::Params(e) => write!(f, "params(e{})", e.0),
            KernelArg::Donor(e) => write!(f, "donor(e{})", e.0),
            KernelArg::Receipt(e) => write!(f, "receipt(e{})", e.0),
            KernelArg::Body(i) => write!(f, "body{i}"),
            KernelArg::Result(i) => write!(f, "result{i}"),
            KernelArg::FirstKey => f.write_str("first_key"),
        }
    }
}

impl Display for KernelCall {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "kernel{}({})", self.kernel.0, List(&self.args))
    }
}

impl Display for OfExpert {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        self.call.fmt(f)?;
        if self.constants.is_empty() { Ok(()) } else { write!(f, " of {}", List(&self.constants)) }
    }
}

impl Display for Body {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        self.call.fmt(f)?;
        for patch in &self.patches {
            write!(f, ", gives result{} for e{}", patch.result, patch.edit.0)?;
        }
        Ok(())
    }
}

impl Display for Recurrence {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let Recurrence { heads, channels, states, .. } = self;
        write!(f, "recurrence {heads} by {channels} by {states}")?;
        for (name, operand) in ["dt", "rate", "x", "b", "c"].into_iter().zip(self.operands()) {
            write!(f, ", {name} {}", operand.arg)?;
            if operand.offset != 0 {
                write!(f, "@{}", operand.offset)?;
            }
        }
        if self.instead {
            f.write_str(", where no edit acts")?;
        }
        match self.new {
            Some(new) => write!(f, ", gives result{new}"),
            None => Ok(()),
        }
    }
}

impl Display for Instr {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let layer = match self {
            Instr::Kernel(call) => {
                call.fmt(f)?;
                call.layer
            }
            Instr::Linear { x, w, y, extra, x_has_batch, active, layer } => {
                write!(f, "{y} = linear {x}, {w}")?;
                if *extra != 1 {
                    write!(f, ", extra {extra}")?;
                }
                if *x_has_batch {
                    f.write_str(", batched")?;
                }
                if let Some(active) = active {
                    write!(f, ", active {active}")?;
                }
                *layer
            }
            Instr::Experts(Experts { x, gates, first, between, second, after, y }) => {
                write!(f, "{y} = experts {x}, gates {gates}, first {}, {between}, second {second}", List(first))?;
                if let Some(after) = after {
                    write!(f, ", {after}")?;
                }
                between.call.layer
            }
            Instr::Lookup { table, index, y } => {
                write!(f, "{y} = lookup {table}, ")?;
                match index {
                    LookupIndex::Token => f.write_str("token")?,
                    LookupIndex::Position => f.write_str("position")?,
                    LookupIndex::Buffer(b) => b.fmt(f)?,
                }
                None
            }
            Instr::Attention { q, k, v, z, heads, kv_heads, d_head, scale, window, whole, softmax, body, layer } => {
                write!(f, "{z} = attention {q}, {k}, {v}, heads {heads}/{kv_heads} of {d_head}, scale {scale}")?;
                if let Some(window) = window {
                    write!(f, ", window {window}")?;
                }
                if *whole {
                    f.write_str(", whole")?;
                }
                if let Some(sinks) = softmax.as_ref().and_then(|s| s.sinks.as_ref()) {
                    write!(f, ", sinks {sinks}")?;
                }
                if let Some(body) = body {
                    let rows = if softmax.is_some() { " where it acts" } else { "" };
                    write!(f, ", body {body}{rows}")?;
                }
                *layer
            }
            Instr::Conv1d { x, w, y, channels, taps, layer } => {
                write!(f, "{y} = conv1d {x}, {w}, {channels} by {taps}")?;
                *layer
            }
            Instr::Scan { body, recurrence, state, y, layer } => {
                write!(f, "{y} = scan {state}")?;
                if let Some(recurrence) = recurrence {
                    write!(f, ", {recurrence}")?;
                }
                if let Some(body) = body {
                    write!(f, ", body {body}")?;
                }
                *layer
            }
        };
        match layer {
            Some(layer) => write!(f, "  ; layer {layer}"),
            None => Ok(()),
        }
    }
}

impl Display for Program {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        for (i, kernel) in self.kernels.iter().enumerate() {
            writeln!(f, "; {i}\n{kernel}\n")?;
        }
        for (i, b) in self.buffers.iter().enumerate() {
            let once = if b.per_row { "" } else { " once" };
            writeln!(f, "b{i}: [{}]{once}  ; {}", b.len, b.name)?;
        }
        if !self.prelude.is_empty() {
            writeln!(f, "\nprelude")?;
            for instr in &self.prelude {
                writeln!(f, "  {instr}")?;
            }
        }
        for stretch in &self.stretches {
            write!(f, "\n{}stretch", if stretch.narrow { "narrow " } else { "" })?;
            match stretch.reads {
                Reads::Own => {}
                Reads::Prefix => f.write_str(" by prefix")?,
                Reads::Window(rows) => write!(f, " by {rows} rows")?,
                Reads::Whole => f.write_str(" by sequence")?,
                Reads::State => f.write_str(" by state")?,
            }
            for edit in &stretch.edits {
                write!(f, " e{}", edit.0)?;
            }
            for patch in &stretch.patches {
                let kind = if patch.whole { "redirect" } else { "donor" };
                write!(f, ", {kind} {} for e{}", patch.base, patch.edit.0)?;
            }
            writeln!(f)?;
            for instr in &stretch.instrs {
                writeln!(f, "  {instr}")?;
            }
        }
        writeln!(f)?;
        for output in &self.outputs {
            match output {
                OutputPlace::Buffer { buffer, stretch } => writeln!(f, "output {buffer} after {stretch}")?,
                OutputPlace::Body { stretch, instr, result } => {
                    writeln!(f, "output result{result} of {stretch}.{instr}")?
                }
            }
        }
        Ok(())
    }
}
