//! Attention, whole and in steps.

mod common;

use common::{Numbers, bits, same};
use std::ops::Range;
use steer_kernels::attention::{CacheFormat, Row};
use steer_kernels::{Heads, Isa, KeyValues, Queries, Reduce, Scratch, Softmax, Unary, attend, attend_block, rows};

struct Case {
    shape: Heads,
    slots: Vec<u32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    stride: usize,
    format: CacheFormat,
    /// Keys and values as they are stored.
    stored: (Vec<f32>, Vec<f32>),
    queries: Vec<f32>,
    seen: Vec<Range<usize>>,
    /// By query head, or none.
    sinks: Vec<f32>,
}

impl Case {
    fn new(heads: usize, kv_heads: usize, d_head: usize, keys: usize, seen: Vec<Range<usize>>) -> Case {
        Case::stored(CacheFormat::F32, heads, kv_heads, d_head, keys, seen)
    }

    /// The numbers that are tested with are those that the format keeps.
    fn stored(
        format: CacheFormat,
        heads: usize,
        kv_heads: usize,
        d_head: usize,
        keys: usize,
        seen: Vec<Range<usize>>,
    ) -> Case {
        let mut numbers = Numbers::new((heads * 31 + d_head) as u64);
        let stride = kv_heads * d_head + 2;
        // Rows in no order, with strangers between them.
        let slots = (0..keys as u32).map(|j| (j * 7 + 3) % (keys as u32 * 7)).collect();
        let mut place = || {
            let mut all = numbers.row(keys * 7 * stride);
            all.chunks_mut(stride).for_each(|slot| format.rounded(d_head, &mut slot[..kv_heads * d_head]));
            all
        };
        let (keys, values) = (place(), place());
        let queries = numbers.row(seen.len() * heads * d_head);
        let shape = Heads { heads, kv_heads, d_head };
        let stored = Default::default();
        let sinks = Vec::new();
        let mut case = Case { shape, slots, keys, values, stride, format, stored, queries, seen, sinks };
        case.stored = (case.kept(&case.keys), case.kept(&case.values));
        case
    }

    /// With a sink for each head: far below the scores, far above them, and among them.
    fn with_sinks(self) -> Case {
        let sinks = [-90.0, 0.25, 90.0, -1.5].into_iter().cycle().take(self.shape.heads).collect();
        Case { sinks, ..self }
    }

    /// Slots as they are stored, with a word between them.
    fn kept(&self, numbers: &[f32]) -> Vec<f32> {
        let Heads { kv_heads, d_head, .. } = self.shape;
        let words = kv_heads * self.format.words(d_head);
        let mut out = vec![f32::NAN; numbers.len() / self.stride * (words + 1)];
        for (slot, to) in numbers.chunks(self.stride).zip(out.chunks_mut(words + 1)) {
            self.format.store(d_head, &slot[..kv_heads * d_head], &mut to[..words]);
        }
        out
    }

    fn cache(&self) -> KeyValues {
        let head = self.format.words(self.shape.d_head);
        let stride = self.shape.kv_heads * head + 1;
        KeyValues {
            keys: self.stored.0.as_ptr(),
            key_stride: stride,
            key_head: head,
            values: self.stored.1.as_ptr(),
            value_stride: stride,
            value_head: head,
            format: self.format,
        }
    }

    fn softmax(&self) -> Softmax<'_> {
        Softmax { scale: 1.0 / (self.shape.d_head as f32).sqrt(), sinks: &self.sinks }
    }

    /// The statement: a chain a score, a softmax, a chain a coordinate.
    fn naive(&self) -> Vec<f32> {
        let Heads { heads, d_head, .. } = self.shape;
        let mut out = Vec::new();
        for (row, seen) in self.seen.iter().enumerate() {
            for h in 0..heads {
                let at = h / self.shape.group() * d_head;
                let q = &self.queries[(row * heads + h) * d_head..][..d_head];
                let slots = &self.slots[seen.clone()];
                let key = |s: u32| &self.keys[s as usize * self.stride + at..][..d_head];
                let mut p: Vec<f32> = slots
                    .iter()
                    .map(|&s| {
                        q.iter().zip(key(s)).fold(0.0f32, |sum, (x, k)| x.mul_add(*k, sum)) * self.softmax().scale
                    })
                    .collect();
                let most = p.iter().fold(f32::NEG_INFINITY, |a, b| a.max(*b));
                p.iter_mut().for_each(|x| *x = Unary::Exp.apply(*x - most));
                let sum = unsafe { rows::reduce(Isa::Portable, Reduce::Sum)(p.as_ptr(), p.len()) };
                p.iter_mut().for_each(|x| *x /= sum);
                if let Some(sink) = self.sinks.get(h) {
                    let own = Unary::Sigmoid.apply(sink - most - Unary::Log.apply(sum));
                    p.iter_mut().for_each(|x| *x *= 1.0 - own);
                }
                for d in 0..d_head {
                    let value = |s: u32| self.values[s as usize * self.stride + at + d];
                    out.push(p.iter().zip(slots).fold(0.0f32, |sum, (p, &s)| p.mul_add(value(s), sum)));
                }
            }
        }
        out
    }

    fn whole(&self, isa: Isa, scratch: &mut Scratch) -> Vec<f32> {
        let row = self.shape.heads * self.shape.d_head;
        let mut out = vec![f32::NAN; self.seen.len() * row];
        for (i, seen) in self.seen.iter().enumerate() {
            let slots = &self.slots[seen.clone()];
            let (q, out) = (self.queries[i * row..].as_ptr(), out[i * row..].as_mut_ptr());
            unsafe { attend(isa, &self.shape, self.softmax(), q, &self.cache(), slots, out, scratch) };
        }
        out
    }

    /// One row after another, its steps shared.
    fn shared(&self, isa: Isa) -> Vec<f32> {
        let Heads { heads, kv_heads, d_head } = self.shape;
        let mut out = vec![f32::NAN; self.seen.len() * heads * d_head];
        for (i, seen) in self.seen.iter().enumerate() {
            let (cache, slots) = (self.cache(), &self.slots[seen.clone()]);
            let row = Row::new(isa, &self.shape, &cache, slots);
            let of_head = self.shape.group() * row.stride();
            let mut all = vec![f32::NAN; kv_heads * of_head];
            let (q, to) = (self.queries[i * heads * d_head..].as_ptr(), out[i * heads * d_head..].as_mut_ptr());
            for head in 0..kv_heads {
                for keys in [0..16, 16..64, 64..usize::MAX] {
                    let keys = keys.start.min(slots.len())..keys.end.min(slots.len());
                    unsafe { row.scores(q, head..head + 1, keys, all[head * of_head..].as_mut_ptr()) };
                }
            }
            (0..heads).for_each(|h| unsafe { row.pattern(&self.softmax(), h, all[h * row.stride()..].as_mut_ptr()) });
            for columns in (0..d_head).step_by(32) {
                let columns = columns..d_head.min(columns + 32);
                unsafe { row.results(0..kv_heads, columns, all.as_ptr(), to) };
            }
        }
        out
    }

    fn block(&self, isa: Isa, scratch: &mut Scratch) -> Vec<f32> {
        let row = self.shape.heads * self.shape.d_head;
        let mut out = vec![f32::NAN; self.seen.len() * row];
        let queries = Queries { q: self.queries.as_ptr(), q_stride: row, out: out.as_mut_ptr(), out_stride: row };
        let cut = self.shape.kv_heads / 2;
        for heads in [0..cut, cut..self.shape.kv_heads] {
            unsafe {
                attend_block(
                    isa,
                    &self.shape,
                    self.softmax(),
                    &queries,
                    &self.seen,
                    &self.cache(),
                    &self.slots,
                    heads,
                    scratch,
                );
            }
        }
        out
    }
}

fn causal(past: usize, rows: usize) -> Vec<Range<usize>> {
    (0..rows).map(|i| 0..past + i + 1).collect()
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (heads, kv_heads, d_head) in
        [(1, 1, 1), (4, 4, 16), (8, 2, 32), (6, 1, 24), (14, 2, 64), (3, 3, 80), (2, 2, 256)]
    {
        cases.push(Case::new(heads, kv_heads, d_head, 1, causal(0, 1)));
        cases.push(Case::new(heads, kv_heads, d_head, 37, causal(0, 37)));
        cases.push(Case::new(heads, kv_heads, d_head, 300, causal(279, 21)));
        let window = (0..50).map(|i| usize::saturating_sub(i, 9)..i + 1).collect();
        cases.push(Case::new(heads, kv_heads, d_head, 50, window));
        let apart = vec![0..3, 40..60, 5..5, 2..17, 0..60];
        cases.push(Case::new(heads, kv_heads, d_head, 60, apart));
    }
    cases.push(Case::new(4, 1, 16, 9000, causal(8_800, 200)));
    cases
}

#[test]
fn every_form_has_the_same_bits() {
    let mut scratch = Scratch::default();
    // Several queries of a key head, and one key head of several.
    let sinks = cases().into_iter().filter(|c| [6, 8].contains(&c.shape.heads)).map(Case::with_sinks);
    for case in cases().into_iter().chain(sinks) {
        if case.slots.len() > 1000 {
            let isa = Isa::detect();
            same(&case.block(isa, &mut scratch), &case.shared(isa), || "long".into());
            continue;
        }
        let expected = case.naive();
        for isa in Isa::supported() {
            let what = || format!("{isa:?} {:?}, {} rows, {} sinks", case.shape, case.seen.len(), case.sinks.len());
            same(&case.whole(isa, &mut scratch), &expected, what);
            same(&case.block(isa, &mut scratch), &expected, what);
            same(&case.shared(isa), &expected, what);
        }
    }
}

#[test]
fn what_is_stored_in_fewer_bits_is_read_as_it_is() {
    let mut scratch = Scratch::default();
    for format in CacheFormat::ALL {
        for (heads, kv_heads, d_head) in [(2, 2, 1), (4, 4, 16), (8, 2, 40), (14, 2, 64), (3, 1, 300)] {
            let seen = [causal(30, 27), vec![3..50, 20..21, 0..57]].concat();
            let case = Case::stored(format, heads, kv_heads, d_head, 57, seen);
            let expected = case.naive();
            for isa in Isa::supported() {
                let what = || format!("{isa:?} {format:?} {:?}", case.shape);
                same(&case.whole(isa, &mut scratch), &expected, what);
                same(&case.block(isa, &mut scratch), &expected, what);
                same(&case.shared(isa), &expected, what);
            }
        }
    }
}

#[test]
fn an_unseen_key_has_no_effect() {
    let mut case = Case::new(4, 2, 16, 40, causal(0, 40));
    let isa = Isa::detect();
    let before = case.block(isa, &mut Scratch::default());
    // Row 12 and those before it do not see key 13.
    let at = case.slots[13] as usize * case.stride;
    case.keys[at..at + 32].fill(f32::NAN);
    case.values[at..at + 32].fill(f32::INFINITY);
    case.stored = (case.kept(&case.keys), case.kept(&case.values));
    let after = case.block(isa, &mut Scratch::default());
    let row = 64;
    same(&after[..13 * row], &before[..13 * row], || "rows before".into());
    assert!(after[13 * row..].iter().all(|x| bits(*x) == bits(f32::NAN)));
}
