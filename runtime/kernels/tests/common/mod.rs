//! Numbers to test with.

#![allow(dead_code)]

pub mod stored;

/// A small fixed generator (xorshift).
pub struct Numbers(u64);

impl Numbers {
    pub fn new(seed: u64) -> Numbers {
        Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn bits(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 32) as u32
    }

    /// Within [-1, 1).
    pub fn small(&mut self) -> f32 {
        (self.bits() >> 8) as f32 / 8_388_608.0 - 1.0
    }

    pub fn row(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.small()).collect()
    }

    /// Numbers of every size, with special values among them.
    pub fn wild(&mut self, n: usize) -> Vec<f32> {
        (0..n)
            .map(|_| match self.bits() % 8 {
                0 => SPECIAL[self.bits() as usize % SPECIAL.len()],
                1 => f32::from_bits(self.bits()),
                2 => (self.bits() % 7) as f32 - 3.0,
                3 => self.small() * 100.0,
                _ => self.small() * 4.0,
            })
            .collect()
    }
}

pub const SPECIAL: [f32; 24] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    -0.5,
    1.5,
    2.5,
    -2.5,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
    f32::MAX,
    f32::MIN,
    f32::MIN_POSITIVE,
    -f32::MIN_POSITIVE,
    1e-45,
    -1e-45,
    88.72,
    88.73,
    -87.4,
    -103.9,
    8_388_609.0,
    1e30,
];

/// The bits, with every NaN as one.
pub fn bits(x: f32) -> u32 {
    if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() }
}

#[track_caller]
pub fn same(got: &[f32], expected: &[f32], what: impl Fn() -> String) {
    assert_eq!(got.len(), expected.len());
    for (i, (a, b)) in got.iter().zip(expected).enumerate() {
        assert!(bits(*a) == bits(*b), "{}: element {i} is {a:e}, expected {b:e}", what());
    }
}
