//! What a pass reads next and no cache holds, for threads that wait to ask for.

use super::RowsEngine;
use super::cache::Place;
use super::exec_products::{Cut, independent};
use super::team::{self, PAGE, Page, Pages};
use std::sync::OnceLock;
use steer_compiler::program::{Instr, Program};
use steer_kernels::Packed;

/// Bytes of the weights of each part: as measured, a quarter and twice as many are some percent slower.
const OF_PART: usize = 64 << 10;
/// Pages at most: what half of a second cache holds.
const PAGES: usize = 64;

/// What comes from each place on, known when it is first asked for.
pub struct Ahead(Vec<Vec<OnceLock<Pages>>>);

impl Ahead {
    pub fn new(program: &Program) -> Self {
        let of = |n: usize| (0..=n).map(|_| OnceLock::new()).collect();
        Ahead(program.stretches.iter().map(|s| of(s.instrs.len())).collect())
    }

    /// Tells the threads of this pass what comes from a place on.
    pub fn tell(&self, engine: &RowsEngine, (s, i): Place) {
        // SAFETY: the engine has them as long as it lives.
        unsafe { team::ahead(self.0[s][i].get_or_init(|| Pages(pages(engine, (s, i))))) };
    }
}

/// The constants of kernels, and the weights of the products after them.
fn pages(engine: &RowsEngine, (s, i): Place) -> Vec<Page> {
    let stretches = engine.program.stretches.iter().enumerate().skip(s);
    let instrs = stretches.flat_map(|(t, stretch)| {
        let from = if t == s { i } else { 0 };
        (from..stretch.instrs.len()).map(move |i| ((t, i), &stretch.instrs[i..]))
    });
    let mut pages = Vec::with_capacity(PAGES);
    for (place, instrs) in instrs {
        for values in engine.constants.of(place).args.iter().flatten() {
            let (at, bytes) = (values.as_ptr().cast(), size_of_val(&values[..]));
            let room = PAGES - pages.len();
            pages.extend((0..bytes).step_by(PAGE).take(room).map(|from| page(at, from, (bytes - from).min(PAGE))));
        }
        if pages.len() >= PAGES {
            break;
        }
        if let Instr::Linear { active: None, .. } = instrs[0] {
            pages.extend(of_products(engine, place, independent(instrs)));
            break;
        }
    }
    pages
}

/// The beginnings of the parts that threads take first, in turns.
fn of_products(engine: &RowsEngine, (s, first): Place, count: usize) -> Vec<Page> {
    let all = (first..first + count).filter_map(|i| engine.constants.of((s, i)).matrix.as_deref());
    let all: Vec<&Packed> = all.flat_map(|m| (0..m.len()).filter_map(|b| m.get(b).ok())).collect();
    let cut = Cut::of(all.iter().copied(), 1);
    let threads = cut.threads();
    let place = |part: usize| {
        let mut panels = all.iter().zip(cut.part(part, all.iter().copied()));
        let (w, panels) = panels.find(|(_, panels)| !panels.is_empty())?;
        Some(w.as_slice().as_ptr().cast::<u8>().wrapping_add(panels.start * w.panel_bytes()))
    };
    let places: Vec<*const u8> = (0..threads).filter_map(place).collect();
    let deep = (0..OF_PART.min((PAGES / threads).max(1) * PAGE)).step_by(PAGE);
    deep.flat_map(|from| places.iter().map(move |at| page(*at, from, PAGE))).collect()
}

fn page(at: *const u8, from: usize, bytes: usize) -> Page {
    Page { at: at.wrapping_add(from), bytes }
}
