//! What a pass reads next and no cache holds, for threads that wait to ask for.

use super::RowsEngine;
use super::cache::Place;
use super::exec_products::{Cut, independent};
use super::team::{self, PAGE, PAGES};
use std::iter::repeat;
use steer_compiler::program::Instr;
use steer_kernels::Packed;

/// Bytes of the weights of each part: as measured, a quarter and twice as many are some percent slower.
const OF_PART: usize = 64 << 10;

/// Says what comes from a place on: the constants of kernels, and the weights of the products after them.
pub fn tell(engine: &RowsEngine, rows: usize, (s, i): Place) {
    let stretches = engine.program.stretches.iter().enumerate().skip(s);
    let instrs = stretches.flat_map(|(t, stretch)| {
        let from = if t == s { i } else { 0 };
        (from..stretch.instrs.len()).map(move |i| ((t, i), &stretch.instrs[i..]))
    });
    let mut pages: Vec<(*const u8, usize)> = Vec::with_capacity(PAGES);
    for (place, instrs) in instrs {
        let fixed = engine.constants.of(place);
        for values in fixed.args.iter().flatten() {
            pages.extend(in_pages(values.as_ptr().cast(), size_of_val(&values[..])));
        }
        if pages.len() >= PAGES {
            break;
        }
        if let Instr::Linear { active: None, .. } = instrs[0] {
            pages.extend(of_products(engine, rows, place, independent(instrs)));
            break;
        }
    }
    team::ahead(&pages);
}

/// The beginnings of the parts that threads take first, in turns.
fn of_products(engine: &RowsEngine, rows: usize, (s, first): Place, count: usize) -> Vec<(*const u8, usize)> {
    let all = (first..first + count).filter_map(|i| engine.constants.of((s, i)).matrix.as_deref());
    let all: Vec<&Packed> = all.flat_map(|m| (0..m.len()).filter_map(|b| m.get(b).ok())).collect();
    let cut = Cut::of(all.iter().copied(), rows);
    let threads = cut.threads();
    let place = |part: usize| {
        let mut rest = cut.part(part).start;
        let w = all.iter().find(|w| {
            let here = rest < Cut::cost(w);
            rest -= if here { 0 } else { Cut::cost(w) };
            here
        })?;
        Some(w.as_slice().as_ptr().cast::<u8>().wrapping_add(rest / w.inputs() * w.panel_bytes()))
    };
    let places: Vec<*const u8> = (0..threads).filter_map(place).collect();
    let deep = (0..OF_PART.min(PAGES / threads * PAGE)).step_by(PAGE);
    deep.flat_map(|from| places.iter().map(move |at| (at.wrapping_add(from), PAGE))).collect()
}

fn in_pages(at: *const u8, bytes: usize) -> impl Iterator<Item = (*const u8, usize)> {
    (0..bytes).step_by(PAGE).zip(repeat(at)).map(move |(from, at)| (at.wrapping_add(from), (bytes - from).min(PAGE)))
}
