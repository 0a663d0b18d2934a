//! Choosing the next token.

use std::borrow::Cow;
use steer_compiler::elaborate::GenerateOptions;

/// Draws a token after those `before`; `key` names the draw (prompt, number among the statement's texts of this prompt,
/// position), so that neither order nor company changes it. The same key draws the same uniform number for baseline
/// and steered run.
pub fn sample(logits: &[f32], before: &[u32], options: &GenerateOptions, seed: u64, key: [u64; 3]) -> u32 {
    let logits = penalized(logits, before, options.repetition_penalty);
    if options.temperature == 0.0 {
        return argmax(&logits);
    }
    let choices = choices(&logits, options);
    let total: f64 = choices.iter().map(|c| c.1).sum();
    let mut left = uniform(seed, key) * total;
    for (t, w) in &choices {
        left -= w;
        if left < 0.0 {
            return *t;
        }
    }
    choices.last().map_or_else(|| argmax(&logits), |c| c.0)
}

/// Makes tokens that were there before less likely, in float32 as transformers does.
fn penalized<'l>(logits: &'l [f32], before: &[u32], penalty: Option<f64>) -> Cow<'l, [f32]> {
    let Some(penalty) = penalty.map(|p| p as f32).filter(|p| *p != 1.0) else { return Cow::Borrowed(logits) };
    let mut out = logits.to_vec();
    for &t in before {
        if let (Some(new), Some(&old)) = (out.get_mut(t as usize), logits.get(t as usize)) {
            *new = if old < 0.0 { old * penalty } else { old / penalty };
        }
    }
    Cow::Owned(out)
}

/// The tokens that may be chosen, the likeliest first, with weights that are to one another as their probabilities:
/// by temperature, then `top_k`, `top_p` and `min_p`, each of what the one before has left.
fn choices(logits: &[f32], options: &GenerateOptions) -> Vec<(u32, f64)> {
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    // The highest first; of equals the first token.
    order.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b)));
    if let Some(k) = options.top_k {
        order.truncate(k.max(1));
    }
    let top = f64::from(logits[order[0] as usize]);
    let weight = |t: u32| ((f64::from(logits[t as usize]) - top) / options.temperature).exp();
    let mut out: Vec<(u32, f64)> = order.into_iter().map(|t| (t, weight(t))).collect();
    if let Some(p) = options.top_p {
        let total: f64 = out.iter().map(|c| c.1).sum();
        let mut sum = 0.0;
        let kept = out.iter().position(|c| {
            sum += c.1 / total;
            sum >= p
        });
        out.truncate(kept.map_or(out.len(), |i| i + 1));
    }
    // The likeliest one's weight is 1.
    let least = options.min_p.unwrap_or(0.0);
    out.retain(|c| c.1 >= least && c.1 > 0.0);
    out
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
            counts[sample(&logits, &[], &o, 7, [0, 0, i]) as usize] += 1;
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
            assert_eq!(sample(&logits, &[], &options(2.0, Some(1), None), 1, [0, 0, i]), 1);
            assert_eq!(sample(&logits, &[], &options(1.0, None, Some(0.3)), 1, [0, 0, i]), 1);
            assert!(matches!(sample(&logits, &[], &options(1.0, None, Some(0.9)), 1, [0, 0, i]), 1 | 2));
        }
    }

    /// The probabilities that transformers gives, by tests/sampling/make.py.
    #[test]
    fn probabilities_are_those_of_transformers() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/sampling/expected.json");
        let cases: Vec<serde_json::Value> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert!(cases.len() > 20);
        for case in &cases {
            let list = |key: &str| case[key].as_array().unwrap().iter().map(|v| v.as_f64().unwrap());
            let logits: Vec<f32> = list("logits").map(|x| x as f32).collect();
            let before: Vec<u32> = list("before").map(|x| x as u32).collect();
            let o = GenerateOptions {
                temperature: case["temperature"].as_f64().unwrap(),
                top_k: case["top_k"].as_u64().map(|k| k as usize),
                top_p: case["top_p"].as_f64(),
                min_p: case["min_p"].as_f64(),
                repetition_penalty: case["repetition_penalty"].as_f64(),
                ..GenerateOptions::default()
            };
            let choices = choices(&penalized(&logits, &before, o.repetition_penalty), &o);
            let total: f64 = choices.iter().map(|c| c.1).sum();
            let mut ours = vec![0.0; logits.len()];
            choices.iter().for_each(|(t, w)| ours[*t as usize] = w / total);
            for (t, (ours, theirs)) in ours.iter().zip(list("probabilities")).enumerate() {
                assert_eq!(*ours == 0.0, theirs == 0.0, "token {t} of {case}");
                assert!((ours - theirs).abs() <= 2e-6, "token {t}: {ours}, not {theirs}, of {case}");
            }
        }
    }
}
