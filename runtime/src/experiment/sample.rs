//! Choosing the next token.

use steer_compiler::elaborate::GenerateOptions;

/// Draws a token; `key` names the draw (prompt, number among the statement's texts of this prompt, position), so
/// that neither order nor company changes it. The same key draws the same uniform number for baseline and steered run.
pub fn sample(logits: &[f32], options: &GenerateOptions, seed: u64, key: [u64; 3]) -> u32 {
    if options.temperature == 0.0 {
        return argmax(logits);
    }
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    // The highest first; of equals the first token.
    order.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b)));
    if let Some(k) = options.top_k {
        order.truncate(k.max(1));
    }
    let top = f64::from(logits[order[0] as usize]);
    let weights: Vec<f64> =
        order.iter().map(|&t| ((f64::from(logits[t as usize]) - top) / options.temperature).exp()).collect();
    let total: f64 = weights.iter().sum();
    let mut kept = weights.len();
    if let Some(p) = options.top_p {
        let mut sum = 0.0;
        kept = weights
            .iter()
            .position(|w| {
                sum += w / total;
                sum >= p
            })
            .map_or(weights.len(), |i| i + 1);
    }
    let total: f64 = weights[..kept].iter().sum();
    let mut left = uniform(seed, key) * total;
    for (t, w) in order.iter().zip(&weights[..kept]) {
        left -= w;
        if left < 0.0 {
            return *t;
        }
    }
    order[kept - 1]
}

/// The highest logit; of equals the first.
pub fn argmax(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (i, x) in logits.iter().enumerate() {
        if *x > logits[best] {
            best = i;
        }
    }
    best as u32
}

/// A number in 0..1 from a seed and a key (SplitMix64, Steele et al., 2014).
fn uniform(seed: u64, key: [u64; 3]) -> f64 {
    let mut x = seed;
    for k in key {
        x = mix(x ^ mix(k.wrapping_add(0x9e37_79b9_7f4a_7c15)));
    }
    (mix(x) >> 11) as f64 / (1u64 << 53) as f64
}

/// A number that stands for a prompt.
pub fn named(tokens: &[u32]) -> u64 {
    tokens.iter().fold(tokens.len() as u64, |x, t| mix(x ^ mix(u64::from(*t))))
}

fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(temperature: f64, top_k: Option<usize>, top_p: Option<f64>) -> GenerateOptions {
        GenerateOptions { temperature, top_k, top_p, ..GenerateOptions::default() }
    }

    #[test]
    fn frequencies_follow_the_probabilities() {
        let logits = [0.0, 1.0, 2.0];
        let o = options(1.0, None, None);
        let n = 20_000;
        let mut counts = [0usize; 3];
        for i in 0..n {
            counts[sample(&logits, &o, 7, [0, 0, i]) as usize] += 1;
        }
        let z: f64 = logits.iter().map(|x| f64::from(*x).exp()).sum();
        for (c, x) in counts.iter().zip(logits) {
            let p = f64::from(x).exp() / z;
            assert!((*c as f64 / n as f64 - p).abs() < 0.015, "{counts:?}");
        }
    }

    #[test]
    fn top_k_and_top_p_cut_the_tail() {
        let logits = [0.0, 5.0, 4.9, -3.0];
        for i in 0..200 {
            assert_eq!(sample(&logits, &options(2.0, Some(1), None), 1, [0, 0, i]), 1);
            assert_eq!(sample(&logits, &options(1.0, None, Some(0.3)), 1, [0, 0, i]), 1);
            assert!(matches!(sample(&logits, &options(1.0, None, Some(0.9)), 1, [0, 0, i]), 1 | 2));
        }
    }
}
