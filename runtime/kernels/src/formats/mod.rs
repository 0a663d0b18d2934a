//! How weights are stored: a file a format, and one table of them.
//!
//! Where rows are f32, every weight is decoded to the f32 that its file stands for, and goes through the same chain of
//! multiply-adds as a stored f32: a product has the bits of the product of its dequantized matrix, whatever the format.
//! Where rows are whole numbers ([`crate::Activations::Q8`]), levels are multiplied with them as they are.

mod bf16;
mod dots;
mod f16;
mod f32;
mod fused;
mod levels;
mod pairs;
mod q4_0;
mod q4_k;
mod q5_0;
mod q5_k;
mod q6_k;
mod q8_0;

use crate::isa::Isa;
use crate::lanes::{Whole, Wide};
use crate::pack::PANEL;
use crate::tile::TileFn;
use dots::DotFn;
pub(crate) use pairs::Pair;
use pairs::PairFn;

/// A format of weights, in memory as in files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Format {
    #[default]
    F32,
    F16,
    Bf16,
    Q8_0,
    Q4_0,
    Q5_0,
    Q4K,
    Q5K,
    Q6K,
}

/// Weights from `from` up to `to` inputs of a panel as f32, 16 of an input side by side.
pub(crate) type DecodeFn = unsafe fn(panel: *const u8, from: usize, to: usize, dst: *mut f32);

/// The kernels of a format for an instruction set.
#[derive(Clone, Copy)]
pub(crate) struct Products {
    /// Tiles of a few rows, decoding in registers; lists as in [`crate::tile::Tiles`].
    pub few: &'static [&'static [TileFn]],
    /// From an input that begins a part.
    pub decode: DecodeFn,
    /// Tiles over rows of whole numbers; none where weights are not levels. Lists as above.
    pub dots: &'static [&'static [DotFn]],
    /// Tiles over rows of bf16, two inputs at once; none where weights are not bf16, or the processor has no such products.
    pub pairs: &'static [&'static [PairFn]],
}

/// Elements that follow one another: so many of so many bytes each.
type Elements = &'static [(usize, usize)];

/// What a block of one output consists of.
pub(crate) struct Record {
    /// What all parts have in common.
    pub head: Elements,
    /// The other elements, as often as there are parts.
    pub parts: (usize, Elements),
}

impl Record {
    fn elements(&self) -> impl Iterator<Item = usize> {
        let parts = std::iter::repeat_n(self.parts.1, self.parts.0).flatten();
        self.head.iter().chain(parts).flat_map(|(count, size)| std::iter::repeat_n(*size, *count))
    }
}

/// What the crate knows of a format.
pub(crate) struct Layout {
    name: &'static str,
    /// Inputs and bytes of a block of one output, in the file.
    pub block: (usize, usize),
    /// A block of one output in memory. A panel has each of its elements for 16 outputs side by side.
    pub record: Record,
    /// From a file's block to a record.
    pub rearrange: fn(&[u8], &mut [u8]),
    /// Whether all weights of some blocks of the file are finite.
    pub finite: fn(&[u8]) -> bool,
    /// Panels are f32 as the tiles read them.
    pub in_place: bool,
    products: fn(Isa) -> Products,
}

impl Format {
    pub const ALL: [Format; 9] = [
        Format::F32,
        Format::F16,
        Format::Bf16,
        Format::Q8_0,
        Format::Q4_0,
        Format::Q5_0,
        Format::Q4K,
        Format::Q5K,
        Format::Q6K,
    ];

    pub(crate) fn layout(self) -> &'static Layout {
        match self {
            Format::F32 => &f32::LAYOUT,
            Format::F16 => &f16::LAYOUT,
            Format::Bf16 => &bf16::LAYOUT,
            Format::Q8_0 => &q8_0::LAYOUT,
            Format::Q4_0 => &q4_0::LAYOUT,
            Format::Q5_0 => &q5_0::LAYOUT,
            Format::Q4K => &q4_k::LAYOUT,
            Format::Q5K => &q5_k::LAYOUT,
            Format::Q6K => &q6_k::LAYOUT,
        }
    }

    /// How files call it, in small letters but for the K of its kind.
    pub fn name(self) -> &'static str {
        self.layout().name
    }

    /// Inputs and bytes of one block of a file: the weights to one output from so many neighbouring inputs.
    pub fn block(self) -> (usize, usize) {
        self.layout().block
    }

    /// Whether weights are whole numbers, which blocks of them scale.
    pub fn is_levels(self) -> bool {
        self.block().0 > 1
    }

    /// Bytes of a panel of so many inputs, a multiple of the block's; `None` where nothing counts so far.
    pub(crate) fn panel_bytes(self, inputs: usize) -> Option<usize> {
        (inputs / self.layout().block.0).checked_mul(self.layout().block_bytes())
    }
}

impl Layout {
    /// Bytes of a block of a panel.
    pub fn block_bytes(&self) -> usize {
        let bytes = |elements: Elements| elements.iter().map(|(count, size)| count * size).sum::<usize>();
        PANEL * (bytes(self.record.head) + self.record.parts.0 * bytes(self.record.parts.1))
    }

    pub fn products(&self, isa: Isa) -> Products {
        isa.require();
        (self.products)(isa)
    }

    /// Where elements of a block of a panel are, lane 0: (byte, bytes).
    fn elements(&self) -> impl Iterator<Item = (usize, usize)> {
        let mut at = 0;
        self.record.elements().map(move |size| {
            at += PANEL * size;
            (at - PANEL * size, size)
        })
    }

    /// Takes the records of a panel's outputs into a block of it.
    pub fn spread(&self, records: &[Vec<u8>], block: &mut [u8]) {
        let mut from = 0;
        for (at, size) in self.elements() {
            for (to, record) in block[at..].chunks_exact_mut(size).zip(records) {
                to.copy_from_slice(&record[from..from + size]);
            }
            from += size;
        }
    }

    /// Takes an output of one panel to a place in another, of as many blocks.
    pub fn move_lane(&self, from: (&[u8], usize), to: (&mut [u8], usize)) {
        let bytes = self.block_bytes();
        for (a, b) in from.0.chunks_exact(bytes).zip(to.0.chunks_exact_mut(bytes)) {
            for (at, size) in self.elements() {
                let element = &a[at + from.1 * size..][..size];
                b[at + to.1 * size..][..size].copy_from_slice(element);
            }
        }
    }
}

/// A format as its kernels are made of it. A panel is parts of some inputs, with what scales them; a part is steps, and a
/// step turns, for each of which words are loaded.
pub(crate) trait Stored {
    /// Inputs of a part, at most [`crate::pack::PART`].
    const PART: usize;
    /// Bytes of a part of a panel.
    const BYTES: usize;
    /// Inputs of a step: 1, 4 or 8.
    const STEP: usize;
    /// What the weights of a part have in common.
    type Scale<V: Wide>: Copy;
    /// What the weights of a turn are unpacked from.
    type Words<V: Wide>: Copy;

    /// Where a part of a panel begins.
    fn part(panel: *const u8, part: usize) -> *const u8;
    /// # Safety
    /// The panel has this part.
    unsafe fn scale<V: Wide>(panel: *const u8, part: usize) -> Self::Scale<V>;
    /// What the turn is unpacked from that begins with input `J` of a step.
    ///
    /// # Safety
    /// `part` is where one begins, and it has this step.
    unsafe fn words<V: Wide, const J: usize>(part: *const u8, step: usize) -> Self::Words<V>;
    /// The weights of input `J` of a step.
    fn weights<V: Wide, const J: usize>(words: &Self::Words<V>, scale: &Self::Scale<V>) -> V;
}

/// A format whose weights are `scale * level + less`, with factors that a part has in common.
pub(crate) trait Leveled: Stored {
    /// Of a level.
    const BITS: u32;
    /// The level that is zero; none where there is a minimum.
    const MIDDLE: Option<i32>;

    /// The scale, and what is added.
    ///
    /// # Safety
    /// The panel has this part.
    unsafe fn factors<V: Wide>(panel: *const u8, part: usize) -> (V, V);
    /// The levels of input `J` of a step and its three neighbours, a byte each; `J` is 0, or 4 in steps of 8.
    ///
    /// # Safety
    /// `part` is where one begins, and it has this step.
    unsafe fn levels<V: Wide, const J: usize>(part: *const u8, step: usize) -> V::Whole;
}

/// Whether no f16 at this byte of any block is infinite or no number.
fn finite_halves(blocks: &[u8], bytes: usize, at: &[usize]) -> bool {
    blocks.chunks_exact(bytes).all(|b| at.iter().all(|&i| b[i + 1] & 0x7c != 0x7c))
}

/// Eight levels to a word of four bytes: the lower four bits of the first four, and of the others above them.
fn fours(levels: &[u8], bytes: &mut [u8]) {
    for (word, eight) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(levels.as_chunks::<8>().0) {
        *word = std::array::from_fn(|b| eight[b] & 15 | eight[b + 4] << 4);
    }
}

/// The levels of five bits of inputs `8 step + J` and its three neighbours, a byte each: the lower bits as [`fours`] has
/// them, and words of fifth bits, of input `4 i + b` bit `i` of byte `b`.
///
/// # Safety
/// Both hold the words of a part of a panel.
#[inline(always)]
unsafe fn fives<V: Wide, const J: usize>(low: *const u8, fifths: *const u8, step: usize) -> V::Whole {
    const LOW: i32 = 0x0f0f_0f0f;
    const FIFTH: i32 = 0x1010_1010;
    unsafe {
        let fifths = V::Whole::load(fifths).right(2 * step as i32);
        let words = V::Whole::load(low.add(step * 64));
        match J {
            0..4 => words.and(LOW).or(fifths.left(4).and(FIFTH)),
            _ => words.right(4).and(LOW).or(fifths.left(3).and(FIFTH)),
        }
    }
}

/// The layout of a format that [`Stored`] describes, with its tiles over rows of whole numbers.
macro_rules! layout {
    ($stored:ty, $name:literal, $block:expr, $record:expr, $rearrange:expr, $finite:expr) => {
        layout!($stored, $name, $block, $record, $rearrange, $finite, crate::formats::dots::dots_of::<$stored>, |_| &[
        ]);
    };
    ($stored:ty, $name:literal, $block:expr, $record:expr, $rearrange:expr, $finite:expr, $dots:expr, $pairs:expr) => {
        pub(super) static LAYOUT: $crate::formats::Layout = $crate::formats::Layout {
            name: $name,
            block: $block,
            record: $record,
            rearrange: $rearrange,
            finite: $finite,
            in_place: false,
            products: |isa| $crate::formats::Products {
                few: $crate::formats::fused::few_of::<$stored>(isa),
                decode: $crate::formats::fused::decode_of::<$stored>(isa),
                dots: $dots(isa),
                pairs: $pairs(isa),
            },
        };
    };
}
use layout;

/// Six bits each: eight scales and eight minima in twelve bytes, as Q4_K and Q5_K have them.
fn sixes(s: &[u8], i: usize) -> (u8, u8) {
    match i {
        0..4 => (s[i] & 63, s[i + 4] & 63),
        _ => (s[i + 4] & 15 | s[i - 4] >> 6 << 4, s[i + 4] >> 4 | s[i] >> 6 << 4),
    }
}
