//! Matrices as files have them.

use steer_kernels::Format;

/// The bytes of a matrix in a file: any levels, and scales of common sizes with both signs.
pub fn file(format: Format, outputs: usize, inputs: usize, seed: u32) -> Vec<u8> {
    let (block, bytes) = format.block();
    let mut state = seed;
    let mut next = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let mut data: Vec<u8> = (0..outputs * inputs / block * bytes).map(|_| next()).collect();
    // Where blocks have an f16, or are an element: an exponent that is neither the largest nor far from those of weights.
    let scales: &[usize] = match format {
        Format::F32 | Format::Bf16 => &[],
        Format::Q6K => &[208],
        Format::Q4K | Format::Q5K => &[0, 2],
        Format::F16 | Format::Q8_0 | Format::Q4_0 | Format::Q5_0 => &[0],
    };
    for b in data.chunks_exact_mut(bytes) {
        scales.iter().for_each(|&i| b[i + 1] = b[i + 1] & 0x83 | 0x20);
        match format {
            Format::F32 => b[3] = b[3] & 0x81 | 0x3c,
            Format::Bf16 => b[1] = b[1] & 0x81 | 0x3c,
            _ => {}
        }
    }
    data
}
