//! Numbers with as many digits as a person can use.

/// Four significant digits; whole numbers as they are; very large and very small ones with an exponent.
pub fn number(x: f64) -> String {
    if !x.is_finite() {
        return if x.is_nan() {
            "nan".into()
        } else if x > 0.0 {
            "inf".into()
        } else {
            "-inf".into()
        };
    }
    let size = x.abs();
    if x == 0.0 {
        return "0".into();
    }
    if x.fract() == 0.0 && size < 1e9 {
        return format!("{x:.0}");
    }
    if !(1e-4..1e7).contains(&size) {
        return format!("{x:.3e}");
    }
    // 9.9996 has four digits before its point is moved, and five zeros after rounding: that is fine.
    let before = size.log10().floor() as i32;
    format!("{x:.*}", (3 - before).max(0) as usize)
}

/// A standard error: two significant digits say all that it says.
pub fn error(x: f64) -> String {
    if !x.is_finite() || x == 0.0 || !(1e-4..1e7).contains(&x.abs()) {
        return if x == 0.0 || !x.is_finite() { number(x) } else { format!("{x:.1e}") };
    }
    let before = (x.abs() * 1.005).log10().floor() as i32;
    format!("{x:.*}", (1 - before).max(0) as usize)
}

/// A share of one as a percentage.
pub fn percent(x: f64) -> String {
    match x.is_finite() {
        true => format!("{:.1}%", x * 100.0),
        false => number(x),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_sensible() {
        let cases = [
            (0.0, "0"),
            (-0.0, "0"),
            (12.0, "12"),
            (-3.0, "-3"),
            (0.123456, "0.1235"),
            (-12.3456, "-12.35"),
            (1234.56, "1235"),
            (0.000123456, "0.0001235"),
            (0.0000123456, "1.235e-5"),
            (1.5e12, "1.500e12"),
            (f64::NAN, "nan"),
            (f64::NEG_INFINITY, "-inf"),
        ];
        for (x, text) in cases {
            assert_eq!(number(x), text);
        }
        assert_eq!(percent(0.0614), "6.1%");
        let errors = [(0.447, "0.45"), (0.0996, "0.10"), (12.3, "12"), (0.0, "0"), (3e-9, "3.0e-9"), (0.03, "0.030")];
        for (x, text) in errors {
            assert_eq!(error(x), text);
        }
    }
}
