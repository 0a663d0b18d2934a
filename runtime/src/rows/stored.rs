//! Matrices packed as their file stores them, without a detour through float32.

use super::matrices::Parts;
use crate::engine::{Piece, WeightSource};
use crate::error::Error;
use rayon::prelude::*;
use std::sync::atomic::{AtomicBool, Ordering};
use steer_compiler::plan::Weight;
use steer_kernels::{Format, PANEL, Packed, fill_blocks, fill_elements};

/// Where the elements of one matrix are in a piece of a file.
struct Found<'a> {
    piece: Piece<'a>,
    outs: Vec<usize>,
    ins: Vec<usize>,
}

/// The format in which a matrix is packed as its file has it; `None` where its elements do not lie so that it can be.
pub fn format_of(parts: &Parts, entry: usize, weights: &dyn WeightSource, weight: &Weight) -> Option<Format> {
    Some(find(parts, entry, weights, weight)?.piece.format)
}

/// A matrix in the format of its file; `None` where it has to be read as float32, also to say what is not finite in it.
pub fn pack(parts: &Parts, entry: usize, weights: &dyn WeightSource, weight: &Weight) -> Result<Option<Packed>, Error> {
    let Some(Found { piece, outs, ins }) = find(parts, entry, weights, weight) else { return Ok(None) };
    let (format, data) = (piece.format, piece.bytes);
    let mut packed = super::matrices::room(format, outs.len(), ins.len())?;
    let (block, bytes) = format.block();
    let of_panel = packed.panel_bytes();
    let finite = AtomicBool::new(true);
    let panels = packed.bytes_mut().par_chunks_exact_mut(of_panel);
    panels.zip(outs.par_chunks(PANEL)).for_each(|(panel, outs)| {
        let fine = match block {
            1 => fill_elements(format, panel, data, outs, &ins),
            _ => {
                let row = |o: &usize| &data[o / block * bytes..][..ins.len() / block * bytes];
                fill_blocks(format, panel, &outs.iter().map(row).collect::<Vec<_>>())
            }
        };
        finite.fetch_and(fine, Ordering::Relaxed);
    });
    Ok(finite.into_inner().then_some(packed))
}

fn find<'a>(parts: &Parts, entry: usize, weights: &'a dyn WeightSource, weight: &Weight) -> Option<Found<'a>> {
    let base = *parts.batch.get(entry)?;
    let most = |offsets: &[usize]| offsets.iter().max().copied();
    let least = base + parts.out.iter().min()? + parts.inner.iter().min()?;
    let each = weights.elements(weight)?;
    let index = least.checked_div(each)?;
    let piece = weights.piece(weight, index)?;
    // From the piece's own beginning on; what is in front of it is not in it.
    let from = index * each;
    let outs: Option<Vec<usize>> = parts.out.iter().map(|o| (base + o).checked_sub(from)).collect();
    let (outs, ins) = piece.order.offsets(outs?, parts.inner.clone())?;
    let (block, bytes) = piece.format.block();
    let whole = |offsets: &[usize]| offsets.iter().all(|o| o.is_multiple_of(block));
    let fits =
        block == 1 || whole(&outs) && ins.len().is_multiple_of(block) && ins.iter().enumerate().all(|(i, k)| i == *k);
    let inside = (most(&outs)? + most(&ins)?) / block < piece.bytes.len() / bytes;
    (fits && inside).then_some(Found { piece, outs, ins })
}
