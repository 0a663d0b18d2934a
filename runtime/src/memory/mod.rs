//! Memory that may not be there: large vectors that are asked for, and what the machine offers.

mod machine;

pub use machine::{Limit, Offer};

use crate::error::Error;
use steer_lang::codes;

/// A vector with room for `n` floats, or an error instead of an abort where there is none. `what` says
/// what they are for.
pub fn room(n: usize, what: &str) -> Result<Vec<f32>, Error> {
    let mut out = Vec::new();
    out.try_reserve_exact(n).map_err(|_| refused(n, what))?;
    Ok(out)
}

/// As many zeros.
pub fn zeros(n: usize, what: &str) -> Result<Vec<f32>, Error> {
    // Asked for and given back: only a vector that aborts comes with zeros that cost nothing.
    drop(room(n, what)?);
    Ok(vec![0.0; n])
}

/// Room for `more` floats behind those that are there; half as many again as there are, where that can be had.
pub fn reserve(v: &mut Vec<f32>, more: usize, what: &str) -> Result<(), Error> {
    if v.capacity() - v.len() >= more || v.try_reserve_exact(more.max(v.len() / 2)).is_ok() {
        return Ok(());
    }
    v.try_reserve_exact(more).map_err(|_| refused(v.len() + more, what))
}

/// Makes a vector this long, with zeros where it grows.
pub fn resize(v: &mut Vec<f32>, n: usize, what: &str) -> Result<(), Error> {
    v.try_reserve_exact(n.saturating_sub(v.len())).map_err(|_| refused(n, what))?;
    v.resize(n, 0.0);
    Ok(())
}

/// That `n` floats cannot be had.
pub fn refused(n: usize, what: &str) -> Error {
    let offer = Offer::now().map_or(String::new(), |o| format!("; {o}"));
    let message = format!("{} for {what} cannot be had{offer}", shown(n as u64 * 4));
    Error::new(codes::MEMORY, message).help("close other programs, use a smaller model, or ask for less at once")
}

/// A number of bytes as a person reads it, in three digits.
pub fn shown(bytes: u64) -> String {
    digits(bytes, f64::round)
}

/// The same that is not less: who allows as much has allowed enough.
pub fn enough(bytes: u64) -> String {
    digits(bytes, f64::ceil)
}

fn digits(bytes: u64, to: fn(f64) -> f64) -> String {
    let units = [(1e9, "GB"), (1e6, "MB"), (1e3, "kB")];
    // What would be rounded to 1000 of a unit is 1 of the next.
    let (unit, name) = units.into_iter().find(|(unit, _)| bytes as f64 >= 0.9995 * unit).unwrap_or((1.0, "bytes"));
    let n = bytes as f64 / unit;
    let digits = match n {
        _ if unit == 1.0 || n >= 99.95 => 0,
        _ if n >= 9.995 => 1,
        _ => 2,
    };
    // Less than a thousandth of a digit is no rest, but what division leaves.
    let scale = 10f64.powi(digits as i32);
    let n = to(n * scale - 1e-6) / scale;
    format!("{n:.digits$} {name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_had_is_an_error() {
        let n = usize::MAX / 16;
        for e in
            [room(n, "a weight").err(), zeros(n, "a weight").err(), reserve(&mut vec![1.0; 4], n, "a weight").err()]
        {
            let e = e.expect("nobody has that much").0;
            assert_eq!(e.code, codes::MEMORY);
            assert!(e.message.contains("GB for a weight cannot be had"), "{}", e.message);
        }
        let mut v = vec![1.0; 4];
        resize(&mut v, 6, "a buffer").unwrap();
        reserve(&mut v, 100, "a cache").unwrap();
        assert_eq!(v, [1.0, 1.0, 1.0, 1.0, 0.0, 0.0]);
    }

    #[test]
    fn bytes_are_shown_with_a_unit() {
        let sizes = [12, 999, 1000, 99_949, 99_950, 999_499, 999_500, 1_234_567, 25_000_000_000, 141_110_000_000];
        let texts = [
            "12 bytes",
            "999 bytes",
            "1.00 kB",
            "99.9 kB",
            "100 kB",
            "999 kB",
            "1.00 MB",
            "1.23 MB",
            "25.0 GB",
            "141 GB",
        ];
        assert_eq!(sizes.map(shown), texts);
    }
}
