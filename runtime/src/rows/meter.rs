//! What the time of a pass is spent on, where somebody asks for it.

use super::RowsEngine;
use super::cache::Place;
use super::constants::{Constants, Fixed};
use super::exec::{Chosen, Frame};
use super::lives::buffers_of;
use crate::engine::{Spent, WorkKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use steer_compiler::plan::{Plan, Sight};
use steer_compiler::program::{BufId, ConstSource, Dim, Instr, MatrixView, Program};
use steer_kernels::Format;

/// The kinds of work of a program.
pub struct Meter {
    /// One for each kind and name; the last is the rest.
    lines: Vec<Spent>,
    /// By stretch and instruction: its line.
    of: Vec<Vec<usize>>,
}

impl Meter {
    pub fn new(plan: &Plan, program: &Program, constants: &Constants) -> Self {
        let formats = |s: usize, instrs: &[Instr]| -> Vec<Vec<Format>> {
            instrs.iter().enumerate().map(|(i, instr)| formats(instr, constants.of((s, i)))).collect()
        };
        let formats: Vec<_> = program.stretches.iter().enumerate().map(|(s, of)| formats(s, &of.instrs)).collect();
        // All weights as float32 are not worth a word.
        let told = formats.iter().flatten().flatten().any(|f| *f != Format::F32);
        let mut meter = Meter { lines: Vec::new(), of: Vec::new() };
        for (stretch, formats) in program.stretches.iter().zip(&formats) {
            let of = stretch.instrs.iter().zip(formats).map(|(instr, formats)| {
                let (kind, mut name) = said(plan, program, instr);
                if told && !formats.is_empty() {
                    let names: Vec<&str> = formats.iter().map(|f| f.name()).collect();
                    name = format!("{name}, {}", names.join(" "));
                }
                meter.line(kind, &name)
            });
            let of = of.collect();
            meter.of.push(of);
        }
        meter.lines.push(Spent::new(WorkKind::Rest, "rows, caches, receipts, values that are read"));
        meter
    }

    fn line(&mut self, kind: WorkKind, name: &str) -> usize {
        let same = |l: &Spent| l.kind == kind && *l.name == *name;
        self.lines.iter().position(same).unwrap_or_else(|| {
            self.lines.push(Spent::new(kind, name));
            self.lines.len() - 1
        })
    }
}

/// The formats of the weights that products read, each once.
fn formats(instr: &Instr, fixed: &Fixed) -> Vec<Format> {
    let product = fixed.matrix.iter().filter(|_| matches!(instr, Instr::Linear { .. }));
    let mut formats: Vec<Format> = Vec::new();
    for format in product.chain(&fixed.experts).map(|m| m.format()) {
        if !formats.contains(&format) {
            formats.push(format);
        }
    }
    formats
}

/// The kind of an instruction, and what tells it from others of its kind whatever the layer.
fn said(plan: &Plan, program: &Program, instr: &Instr) -> (WorkKind, String) {
    let named = |w: &MatrixView, layer: &Option<u32>| {
        let name = match w.source {
            ConstSource::Weight(id) => &plan.weights[id.0 as usize].name,
            ConstSource::Tensor(id) => &plan.tensors[id.0 as usize].name,
            ConstSource::Computed(b) => &program.buffers[b.0 as usize].name,
        };
        any_layer(name, *layer)
    };
    match instr {
        Instr::Linear { w, layer, .. } => {
            let (batch, out, inner) = (count(&w.batch), outputs(w), count(&w.inner));
            let many = if batch > 1 { format!("{batch} of ") } else { String::new() };
            (WorkKind::Product, format!("{} [{many}{out}, {inner}]", named(w, layer)))
        }
        Instr::Experts(experts) => {
            let shape = |w: &MatrixView| format!("[{}, {}]", outputs(w), count(&w.inner));
            let (name, all) = (named(&experts.second, &experts.between.call.layer), count(&experts.second.batch));
            let shapes: Vec<String> = experts.matrices().map(shape).collect();
            (WorkKind::Experts, format!("{name} and before, {all} of {}", shapes.join(" ")))
        }
        Instr::Attention { heads, kv_heads, d_head, window, softmax, body, .. } => {
            let window = window.map_or(String::new(), |w| format!(", window {w}"));
            let sinks = softmax.as_ref().and_then(|s| s.sinks.as_ref()).map_or("", |_| ", sinks");
            let body = if body.is_some() { ", pattern at hand" } else { "" };
            (WorkKind::Attention, format!("{heads} heads on {kv_heads} of {d_head}{window}{sinks}{body}"))
        }
        Instr::Conv1d { channels, taps, .. } => (WorkKind::Convolution, format!("{channels} channels, {taps} taps")),
        Instr::Scan { state, body, .. } => {
            let body = if body.is_some() { ", with a body" } else { "" };
            (WorkKind::Scan, format!("states of {state}{body}"))
        }
        Instr::Kernel(call) => (WorkKind::Kernel, format!("kernel {}", call.kernel.0)),
        Instr::Lookup { table, .. } => {
            let name = match table.source {
                ConstSource::Weight(id) => plan.weights[id.0 as usize].name.clone(),
                ConstSource::Tensor(id) => plan.tensors[id.0 as usize].name.clone(),
                ConstSource::Computed(b) => program.buffers[b.0 as usize].name.clone(),
            };
            (WorkKind::Lookup, any_layer(&name, None))
        }
    }
}

/// A name with `*` for the number of the layer.
fn any_layer(name: &str, layer: Option<u32>) -> String {
    let Some(layer) = layer else { return name.to_string() };
    let number = layer.to_string();
    let mut parts: Vec<&str> = name.split('.').collect();
    if let Some(part) = parts.iter_mut().find(|part| **part == number) {
        *part = "*";
    }
    parts.join(".")
}

fn count(dims: &[Dim]) -> u64 {
    dims.iter().map(|d| d.0 as u64).product()
}

fn outputs(w: &MatrixView) -> u64 {
    w.select.as_ref().map_or(count(&w.out), |s| s.len() as u64)
}

/// One pass that is measured.
pub struct Metered {
    meter: Arc<Meter>,
    begin: Instant,
    lines: Vec<Spent>,
}

impl Metered {
    pub fn new(meter: Arc<Meter>) -> Self {
        let lines = meter.lines.clone();
        Metered { meter, begin: Instant::now(), lines }
    }

    /// Products that were executed at once: each has its part of the time, by the size of its matrix.
    pub fn products(&mut self, stretch: usize, first: usize, instrs: &[Instr], took: Duration) {
        let size = |instr: &Instr| match instr {
            Instr::Linear { w, .. } => outputs(w) * count(&w.inner),
            _ => 1,
        };
        let sizes: Vec<AtomicU64> = instrs.iter().map(|i| AtomicU64::new(size(i))).collect();
        self.together(stretch, first, took, &sizes);
    }

    /// Instructions of a segment that were executed together: each has its part of the time, by what the threads
    /// spent on it.
    pub fn together(&mut self, stretch: usize, first: usize, time: Duration, threads: &[AtomicU64]) {
        let all: u64 = threads.iter().map(|t| t.load(Ordering::Relaxed)).sum();
        for (i, t) in threads.iter().enumerate() {
            let part = t.load(Ordering::Relaxed) as f64 / all.max(1) as f64;
            self.time((stretch, first + i), time.mul_f64(part));
        }
    }

    pub fn time(&mut self, (s, i): Place, time: Duration) {
        self.lines[self.meter.of[s][i]].seconds += time.as_secs_f64();
    }

    /// An instruction that was executed.
    pub fn count(&mut self, engine: &RowsEngine, frame: &Frame, place: Place, operations: u64, chosen: Option<Chosen>) {
        let instr = &engine.program.stretches[place.0].instrs[place.1];
        let line = &mut self.lines[self.meter.of[place.0][place.1]];
        if frame.count() > 0 {
            line.calls += 1;
            line.operations += operations;
            line.bytes += bytes(engine, frame, place, instr, chosen);
        }
    }

    /// What it came to, with the rest of its time.
    pub fn end(mut self) -> Vec<Spent> {
        let all = self.begin.elapsed().as_secs_f64();
        let known: f64 = self.lines.iter().map(|l| l.seconds).sum();
        if let Some(rest) = self.lines.last_mut() {
            rest.seconds = (all - known).max(0.0);
            rest.calls = 1;
        }
        self.lines
    }
}

/// The bytes that an instruction reads and writes at least: weights and caches once, and the values of its rows.
fn bytes(engine: &RowsEngine, frame: &Frame, place: Place, instr: &Instr, chosen: Option<Chosen>) -> u64 {
    let program = &engine.program;
    let rows = frame.count() as u64;
    let per_row = |b: &BufId| {
        let buffer = &program.buffers[b.0 as usize];
        if buffer.per_row { buffer.len as u64 * 4 } else { 0 }
    };
    let values = rows * buffers_of(instr).iter().map(per_row).sum::<u64>();
    let fixed = engine.constants.of(place);
    let matrices = |all: u64| chosen.map_or(all, |c| c.matrices);
    match instr {
        Instr::Linear { .. } => {
            let matrix = fixed.matrix.as_ref();
            values + matrix.map_or(0, |m| matrices(m.len() as u64) * m.bytes_of_each() as u64)
        }
        Instr::Experts(_) => values + matrices(0) * fixed.experts.iter().map(|m| m.bytes_of_each() as u64).sum::<u64>(),
        // Rows of the table stand for those that are written.
        Instr::Lookup { .. } => 2 * values,
        Instr::Attention { kv_heads, d_head, window, whole, .. } => {
            let sight = Sight { window: *window, whole: *whole };
            // Rows of one run follow one another, and share what they see.
            let (mut keys, mut last) = (0, None);
            for j in 0..frame.count() {
                let row = frame.row(j);
                let seen = sight.of(row.position, frame.step.length(row));
                keys += match last {
                    Some((run, end)) if run == row.run => seen.end - seen.start.max(end).min(seen.end),
                    _ => seen.len(),
                };
                last = Some((row.run, seen.end));
            }
            let words = engine.caches.format.words(*d_head);
            values + (keys * 2 * kv_heads * words * 4) as u64
        }
        Instr::Conv1d { channels, taps, .. } => values + (channels * taps * 4) as u64,
        // A state comes and goes once for each run at least.
        Instr::Scan { state, .. } => {
            let mut runs: Vec<usize> = (0..frame.count()).map(|j| frame.row(j).run).collect();
            runs.dedup();
            values + (runs.len() * state * 8) as u64
        }
        Instr::Kernel(_) => values,
    }
}

#[cfg(test)]
mod tests {
    use super::any_layer;

    #[test]
    fn a_layer_has_no_number_of_its_own() {
        assert_eq!(any_layer("model.layers.3.mlp.3.weight", Some(3)), "model.layers.*.mlp.3.weight");
        assert_eq!(any_layer("h.13.attn.weight", Some(3)), "h.13.attn.weight");
        assert_eq!(any_layer("lm_head.weight", None), "lm_head.weight");
    }
}
