//! The greatest `k` of a row, by a radix search for the least of them.

/// Numbers in their order, the two zeros as one; what is no number is beyond all of them, so that it is seen.
#[inline(always)]
fn rank(x: f32) -> u32 {
    if x.is_nan() {
        return u32::MAX;
    }
    let bits = (x + 0.0).to_bits();
    if bits >> 31 == 0 { bits | 1 << 31 } else { !bits }
}

/// See [`super::top_k_mask`].
pub(crate) unsafe extern "C" fn top_k_mask(dst: *mut f32, a: *const f32, n: usize, k: usize) {
    // The least rank taken, a byte at a time from the top; `left` of those that share the bytes
    // found so far are still to be taken.
    let (mut least, mut left) = (0u32, k);
    let mut known = 0u32;
    for shift in [24, 16, 8, 0] {
        let mut count = [0usize; 256];
        for i in 0..n {
            let r = rank(unsafe { *a.add(i) });
            if (r ^ least) & known == 0 {
                count[(r >> shift) as usize & 255] += 1;
            }
        }
        let mut byte = 255;
        while byte > 0 && count[byte] < left {
            left -= count[byte];
            byte -= 1;
        }
        least |= (byte as u32) << shift;
        known |= 255 << shift;
    }
    for i in 0..n {
        let r = rank(unsafe { *a.add(i) });
        let tie = r == least && left > 0;
        left -= usize::from(tie);
        unsafe { *dst.add(i) = f32::from(u8::from(r > least || tie)) }
    }
}
