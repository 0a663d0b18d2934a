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
    let draw = |choices: &mut dyn Iterator<Item = (u32, f64)>, total: f64| {
        let (mut left, mut last) = (uniform(seed, key) * total, None);
        for (t, w) in choices {
            left -= w;
            if left < 0.0 {
                return t;
            }
            last = Some(t);
        }
        last.unwrap_or_else(|| argmax(&logits))
    };
    if options.top_k.is_none() && options.top_p.is_none() && options.min_p.is_none() {
        let weight = weights(&logits, options);
        let total = (0..logits.len() as u32).map(&weight).sum();
        let mut possible = LikeliestFirst::of(&logits).map(|t| (t, weight(t))).take_while(|c| c.1 > 0.0);
        return draw(&mut possible, total);
    }
    let choices = choices(&logits, options);
    let total = choices.iter().map(|c| c.1).sum();
    draw(&mut choices.into_iter(), total)
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
    let weight = weights(logits, options);
    let k = options.top_k.map_or(logits.len(), |k| k.max(1));
    let mut first = LikeliestFirst::of(logits).map(|t| (t, weight(t))).take(k);
    let least = options.min_p.unwrap_or(0.0);
    let possible = |c: &(u32, f64)| c.1 >= least && c.1 > 0.0;
    let Some(p) = options.top_p else { return first.take_while(possible).collect() };
    let few: Vec<(u32, f64)> = if k < logits.len() { first.by_ref().collect() } else { Vec::new() };
    let total: f64 = match k < logits.len() {
        true => few.iter().map(|c| c.1).sum(),
        false => (0..logits.len() as u32).map(&weight).sum(),
    };
    let (mut out, mut sum) = (Vec::new(), 0.0);
    for c in few.into_iter().chain(first).take_while(possible) {
        out.push(c);
        sum += c.1 / total;
        if sum >= p {
            break;
        }
    }
    out
}

/// What the tokens weigh: the likeliest one 1.
fn weights<'l>(logits: &'l [f32], options: &GenerateOptions) -> impl Fn(u32) -> f64 + 'l {
    let top = logits.iter().copied().max_by(f32::total_cmp).map_or(0.0, f64::from);
    let temperature = options.temperature;
    move |t| ((f64::from(logits[t as usize]) - top) / temperature).exp()
}

/// All tokens, that of the highest logit first, of equals the first token. They are sorted as far as somebody asks: a
/// vocabulary is large, and mostly one of the first is chosen.
struct LikeliestFirst<'l> {
    logits: &'l [f32],
    order: Vec<u32>,
    sorted: usize,
    next: usize,
}

impl<'l> LikeliestFirst<'l> {
    fn of(logits: &'l [f32]) -> Self {
        LikeliestFirst { logits, order: (0..logits.len() as u32).collect(), sorted: 0, next: 0 }
    }
}

impl Iterator for LikeliestFirst<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        if self.next == self.sorted {
            let more = (4 * self.sorted.max(64)).min(self.order.len() - self.sorted);
            let logit = |t: u32| self.logits[t as usize];
            let by = |a: &u32, b: &u32| logit(*b).total_cmp(&logit(*a)).then(a.cmp(b));
            let rest = &mut self.order[self.sorted..];
            if more < rest.len() {
                rest.select_nth_unstable_by(more, by);
            }
            rest[..more].sort_unstable_by(by);
            self.sorted += more;
        }
        self.next += 1;
        self.order.get(self.next - 1).copied()
    }
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
    fn tokens_come_in_the_order_of_their_logits() {
        let logits: Vec<f32> = (0..3000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 22) as f32 - 500.0).collect();
        let mut order: Vec<u32> = (0..3000).collect();
        order.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b)));
        assert_eq!(LikeliestFirst::of(&logits).collect::<Vec<_>>(), order);
        assert_eq!(LikeliestFirst::of(&[]).next(), None);
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
