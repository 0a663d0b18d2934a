//! From values to colours and places, and the marks along the way.

use crate::color::{ABSENT, Rgb, diverging, sequential};
use crate::text::number;

/// A range of values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Scale {
    pub lo: f64,
    pub hi: f64,
    /// Colours go from zero both ways, as far for equal distances.
    pub diverging: bool,
}

impl Scale {
    fn around(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
        // Beyond 1e300 the sums below would not be finite.
        let finite = values.into_iter().filter(|v| v.is_finite()).map(|v| v.clamp(-1e300, 1e300));
        finite.fold(None, |range, v| match range {
            None => Some((v, v)),
            Some((lo, hi)) => Some((f64::min(lo, v), f64::max(hi, v))),
        })
    }

    /// The range of all finite values; around zero in two colours where there are some on both sides of it.
    pub(crate) fn of_colors(values: impl IntoIterator<Item = f64>, limits: Option<(f64, f64)>) -> Scale {
        let (lo, hi) = limits.or_else(|| Scale::around(values)).unwrap_or((0.0, 1.0));
        let (lo, hi) = apart(lo, hi);
        Scale { lo, hi, diverging: lo < 0.0 && hi > 0.0 }
    }

    /// The range of all finite values and some air; from zero where that is asked for.
    pub(crate) fn of_heights(values: impl IntoIterator<Item = f64>, limits: Option<(f64, f64)>, zero: bool) -> Scale {
        if let Some((lo, hi)) = limits {
            return Scale { lo, hi, diverging: false };
        }
        let (mut lo, mut hi) = Scale::around(values).unwrap_or((0.0, 1.0));
        if zero {
            (lo, hi) = (lo.min(0.0), hi.max(0.0));
        }
        (lo, hi) = apart(lo, hi);
        let air = 0.06 * (hi - lo);
        // Bars stand on zero, and what is never negative has no air below zero.
        let lo = if lo == 0.0 || (lo > 0.0 && lo - air < 0.0) { 0.0 } else { lo - air };
        let hi = if hi == 0.0 && zero { 0.0 } else { hi + air };
        Scale { lo, hi, diverging: false }
    }

    /// How far along the range a value is: 0 to 1 within it.
    pub(crate) fn along(&self, value: f64) -> f64 {
        (value - self.lo) / (self.hi - self.lo)
    }

    /// The colour of a value, one of 256.
    pub(crate) fn color(&self, value: f64) -> Rgb {
        if value.is_nan() {
            return ABSENT;
        }
        let level = |at: f64| (at.clamp(0.0, 1.0) * 255.0).round() / 255.0;
        match self.diverging {
            true => {
                let most = self.hi.max(-self.lo);
                // Zero has a level of its own in the middle.
                let side = (value / most).clamp(-1.0, 1.0);
                diverging(0.5 + (side * 127.0).round() / 254.0)
            }
            false => sequential(level(self.along(value))),
        }
    }

    /// Round values within the range, about `count` of them.
    pub(crate) fn ticks(&self, count: usize) -> Vec<f64> {
        let step = step((self.hi - self.lo) / count.max(1) as f64);
        let first = (self.lo / step - 1e-9).ceil();
        let all = (0..=4 * count.max(1)).map(|i| (first + i as f64) * step);
        // Not -0, nor 1e-17 for 0.
        let all = all.map(|x| if x.abs() < step * 1e-9 { 0.0 } else { x });
        all.take_while(|x| *x <= self.hi + step * 1e-9).collect()
    }
}

/// Two ends with a range between them.
fn apart(lo: f64, hi: f64) -> (f64, f64) {
    if lo < hi {
        return (lo, hi);
    }
    let room = if lo == 0.0 { 1.0 } else { lo.abs() * 0.1 };
    (lo - room, hi + room)
}

/// The nearest of 1, 2, 5, 10, ...
fn step(wanted: f64) -> f64 {
    let wanted = wanted.clamp(1e-300, 1e300);
    let power = 10f64.powf(wanted.log10().floor());
    // Halfway as factors go: 1.4 lies between 1 and 2.
    let most = [(1.4, 1.0), (3.2, 2.0), (7.1, 5.0)].into_iter().find(|(most, _)| wanted < most * power);
    most.map_or(10.0, |(_, m)| m) * power
}

/// Marks with as many digits as tell them apart, and no more.
pub(crate) fn tick_texts(ticks: &[f64]) -> Vec<String> {
    let gap = ticks.windows(2).map(|w| w[1] - w[0]).fold(f64::INFINITY, f64::min);
    let largest = ticks.iter().fold(0.0f64, |m, t| m.max(t.abs()));
    let plain = (1e-4..1e7).contains(&largest) && gap.is_finite() && gap > largest * 1e-6;
    if !plain {
        return ticks.iter().map(|t| number(*t)).collect();
    }
    let digits = (-gap.log10().floor()).clamp(0.0, 9.0) as usize;
    let needed = (0..=digits).find(|d| ticks.iter().all(|t| same(*t, *d, gap))).unwrap_or(digits);
    ticks.iter().map(|t| format!("{t:.needed$}")).collect()
}

fn same(tick: f64, digits: usize, gap: f64) -> bool {
    let power = 10f64.powi(digits as i32);
    ((tick * power).round() / power - tick).abs() < gap * 1e-3
}

/// How numbers that stand in cells beside each other are written: with the decimals that give the largest three digits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Digits(Option<usize>);

impl Digits {
    pub(crate) fn of(values: &[f64]) -> Digits {
        let finite = || values.iter().filter(|v| v.is_finite());
        let most = finite().fold(0.0f64, |m, v| m.max(v.abs()));
        if !(1e-3..1e5).contains(&most) {
            return Digits(None);
        }
        let whole = finite().all(|v| v.fract() == 0.0);
        // The digits that are left after rounding to three: 9.996 is 10.0.
        let before = (most * (1.0 + 5e-4)).log10().floor() as i32;
        Digits(Some(if whole { 0 } else { (2 - before).clamp(0, 5) as usize }))
    }

    /// A value; one that is exactly 0 looks other than one that is nearly.
    pub(crate) fn text(self, x: f64) -> String {
        let Some(digits) = self.0.filter(|_| x.is_finite() && x != 0.0) else { return short(x) };
        let text = format!("{x:.digits$}");
        let zeros = |t: &str| t.bytes().all(|b| matches!(b, b'0' | b'.'));
        match text.strip_prefix('-') {
            None if zeros(&text) => short(x),
            Some(rest) if zeros(rest) => short(x),
            _ => text,
        }
    }
}

/// A value in three digits.
pub(crate) fn short(x: f64) -> String {
    if x.is_nan() {
        return String::new();
    }
    let size = x.abs();
    if !x.is_finite() || x == 0.0 || !(1e-3..1e5).contains(&size) {
        return if x == 0.0 {
            "0".into()
        } else if x.is_finite() {
            format!("{x:.0e}")
        } else {
            number(x)
        };
    }
    if x.fract() == 0.0 {
        return format!("{x:.0}");
    }
    // The digits that are left after rounding to three: 9.996 is 10.0.
    let before = (size * (1.0 + 5e-4)).log10().floor() as i32;
    format!("{x:.*}", (2 - before).clamp(0, 3) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_odd_values_can_be_used() {
        for values in [vec![], vec![f64::NAN], vec![3.0], vec![0.0, 0.0], vec![f64::INFINITY], vec![-1e308, 1e308]] {
            let s = Scale::of_colors(values.clone(), None);
            assert!(s.lo < s.hi && s.ticks(5).iter().all(|t| t.is_finite()), "{values:?}");
            assert!(s.ticks(5).len() < 22);
            let h = Scale::of_heights(values.clone(), None, true);
            assert!(h.lo < h.hi && h.along(h.hi) == 1.0, "{values:?} {h:?}");
        }
    }

    #[test]
    fn zero_is_white_and_equal_distances_are_equal() {
        let s = Scale::of_colors([-2.0, 10.0], None);
        assert!(s.diverging);
        assert_eq!(s.color(0.0), Rgb(0xf7, 0xf7, 0xf7));
        assert_eq!(s.color(10.0), Rgb(0x05, 0x30, 0x61));
        assert_ne!(s.color(-2.0), Rgb(0x67, 0, 0x1f), "as far as 2, not as far as 10");
        assert_eq!(s.color(f64::NAN), ABSENT);
        assert!(!Scale::of_colors([1.0, 2.0], None).diverging);
        assert_eq!(s.color(1e9), s.color(f64::INFINITY));
    }

    #[test]
    fn ticks_are_round() {
        let texts = |lo, hi, n| tick_texts(&Scale { lo, hi, diverging: false }.ticks(n));
        assert_eq!(texts(0.0, 1.0, 5), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(texts(-12.3, 15.7, 5), ["-10", "-5", "0", "5", "10", "15"]);
        assert_eq!(texts(0.0, 3.0, 6), ["0.0", "0.5", "1.0", "1.5", "2.0", "2.5", "3.0"]);
        assert_eq!(texts(0.0, 2.5e9, 3), ["0", "1.000e9", "2.000e9"]);
        assert_eq!(texts(0.1, 0.11, 4), ["0.100", "0.102", "0.104", "0.106", "0.108", "0.110"]);
    }

    #[test]
    fn cells_beside_each_other_have_equal_decimals() {
        let all = |values: &[f64]| values.iter().map(|v| Digits::of(values).text(*v)).collect::<Vec<_>>();
        assert_eq!(all(&[1.0, -0.0012, 0.0, 0.911]), ["1.00", "-0.001", "0", "0.91"]);
        assert_eq!(all(&[-12.25, 9.996, f64::NAN]), ["-12.2", "10.0", ""]);
        assert_eq!(all(&[1.0, 6.4e-5]), ["1.00", "6e-5"]);
        assert_eq!(all(&[3.0, -40.0, 0.0]), ["3", "-40", "0"]);
        assert_eq!(all(&[2e-7, 1.0e-8]), ["2e-7", "1e-8"]);
        assert_eq!(all(&[123456.5, 2.0]), ["1e5", "2"]);
        assert_eq!(all(&[]), Vec::<String>::new());
    }

    #[test]
    fn cells_have_three_digits() {
        let cases = [(15.66, "15.7"), (-0.1234, "-0.123"), (9.996, "10.0"), (1234.0, "1234"), (0.0, "0")];
        for (x, text) in cases.into_iter().chain([(0.00012, "1e-4"), (f64::NAN, ""), (1e12, "1e12")]) {
            assert_eq!(short(x), text);
        }
    }
}
