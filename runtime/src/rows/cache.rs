//! What earlier rows left behind: keys and values, convolution inputs, scan states.

use std::collections::HashMap;
use steer_compiler::program::{Instr, Program};

/// An instruction by its stretch and place.
pub type Place = (usize, usize);

/// Keys and values of one attention, or inputs of one convolution, by slot.
#[derive(Default)]
pub struct Stored {
    pub keys: Vec<f32>,
    pub values: Vec<f32>,
}

/// States of one scan, by slot: only those that a later row can start from.
#[derive(Default)]
pub struct States {
    pub at: HashMap<u32, Vec<f32>>,
    /// Buffers to use again.
    pub free: Vec<Vec<f32>>,
}

pub struct Caches {
    pub stored: HashMap<Place, Stored>,
    pub states: HashMap<Place, States>,
    /// By stretch: slots taken.
    pub slots: Vec<u32>,
}

impl Caches {
    pub fn new(program: &Program) -> Self {
        let mut c = Caches { stored: HashMap::new(), states: HashMap::new(), slots: vec![0; program.stretches.len()] };
        for (s, stretch) in program.stretches.iter().enumerate() {
            for (i, instr) in stretch.instrs.iter().enumerate() {
                match instr {
                    Instr::Attention { .. } | Instr::Conv1d { .. } => {
                        c.stored.insert((s, i), Stored::default());
                    }
                    Instr::Scan { .. } => {
                        c.states.insert((s, i), States::default());
                    }
                    _ => {}
                }
            }
        }
        c
    }
}

/// The stretch whose rows a cached instruction of stretch `s` keeps: its own, or the last that has all
/// rows where `s` has only those that are read.
pub fn home(program: &Program, s: usize) -> usize {
    let narrow = program.stretches.iter().position(|s| s.narrow).unwrap_or(usize::MAX);
    if s < narrow { s } else { narrow.saturating_sub(1) }
}

/// The homes of all instructions that read earlier rows.
pub fn homes(program: &Program) -> Vec<usize> {
    let mut out = Vec::new();
    for (s, stretch) in program.stretches.iter().enumerate() {
        if stretch.instrs.iter().any(super::reads_earlier) {
            out.push(home(program, s));
        }
    }
    out
}
