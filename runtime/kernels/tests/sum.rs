//! Sums of a few rows out of many against the sum over all of them, bit for bit.

use steer_kernels::sum::{Leaf, sum_of};
use steer_kernels::{Isa, rows};

struct Random(u64);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as u32
    }

    fn number(&mut self) -> f32 {
        // Tiny ones too, whose products vanish, and zeros of both signs.
        let sign = if self.next().is_multiple_of(2) { 1.0 } else { -1.0 };
        match self.next() % 8 {
            0 => sign * 1e-30,
            1 => sign * 0.0,
            _ => sign * self.next() as f32 / (1u32 << 30) as f32,
        }
    }
}

#[test]
fn a_sum_of_some_rows_has_the_bits_of_the_sum_over_all() {
    let mut random = Random(1);
    for (count, chosen) in [(1, 1), (8, 2), (8, 8), (60, 6), (64, 8), (64, 64), (130, 9), (200, 150), (64, 0), (64, 1)]
    {
        for n in [1, 15, 16, 37, 64] {
            let mut places: Vec<usize> = (0..count).collect();
            for i in 0..count {
                places.swap(i, random.next() as usize % count);
            }
            places.truncate(chosen);
            places.sort_unstable();
            let mut gates = vec![0.0f32; count];
            let mut values = vec![0.0f32; count * n];
            for &p in &places {
                gates[p] = random.number();
                values[p * n..(p + 1) * n].iter_mut().for_each(|v| *v = random.number());
            }
            let expected: Vec<u32> = (0..n)
                .map(|i| {
                    let column: Vec<f32> = (0..count).map(|p| values[p * n + i]).collect();
                    // SAFETY: both have `count` numbers.
                    unsafe { rows::dot(Isa::Portable)(gates.as_ptr(), column.as_ptr(), count) }.to_bits()
                })
                .collect();
            for isa in Isa::supported() {
                let leaf = |&at: &usize| Leaf { at, by: gates[at], row: values[at * n..].as_ptr() };
                let mut leaves: Vec<Leaf> = places.iter().map(leaf).collect();
                let mut got = vec![f32::NAN; n];
                // SAFETY: `got` and each row have `n` numbers.
                unsafe { sum_of(isa, got.as_mut_ptr(), &mut leaves, n) };
                let got: Vec<u32> = got.iter().map(|x| x.to_bits()).collect();
                assert_eq!(got, expected, "{chosen} of {count}, {n} numbers, {}", isa.name());
            }
        }
    }
}
