//! Levels beside one another in words: whole numbers from zero on, of which weights are multiples.

use crate::lanes::{Whole, Wide};

/// What turns levels into weights, `scale * level + less`, wherever in its word a level stands.
#[derive(Clone, Copy)]
pub(super) struct Levels<V, const PLACES: usize> {
    /// By place: a level is not moved to the right before it is a number, its scale is smaller by as much. In the last
    /// place it is moved, since there it would have a sign.
    scales: [V; PLACES],
    less: V,
}

impl<V: Wide, const PLACES: usize> Levels<V, PLACES> {
    const BITS: usize = 32 / PLACES;

    /// Scales are of so few digits that their products with levels are exact, so that a weight is rounded at most once.
    #[inline(always)]
    pub fn new((scale, less): (V, V)) -> Self {
        let mut scales = [scale; PLACES];
        for (place, of_place) in scales.iter_mut().enumerate().take(PLACES - 1) {
            *of_place = scale * V::splat(f32::from_bits((127 - (Self::BITS * place) as u32) << 23));
        }
        Levels { scales, less }
    }

    /// The weights of the levels of input `J`, which have the bits of `mask` in the first place. Four bytes hold those of
    /// four inputs, or of four and in their upper halves of the next four.
    #[inline(always)]
    pub fn weights<const J: usize>(&self, words: &V::Whole, mask: i32) -> V {
        let place = if PLACES == 8 { J % 4 * 2 + J / 4 } else { J % 4 };
        let bits = (Self::BITS * place) as i32;
        if place + 1 == PLACES {
            V::of(words.right(bits)).fma(self.scales[0], self.less)
        } else {
            V::of(words.and(mask << bits)).fma(self.scales[place], self.less)
        }
    }
}

/// What makes weights of levels whose zero is in the middle, at `zero`. That level is +0, whatever the sign of the scale: in
/// a chain that begins at +0 both zeros add the same.
#[inline(always)]
pub(super) fn around<V: Wide>(zero: f32, scale: V) -> (V, V) {
    (scale, scale * V::splat(-zero))
}
