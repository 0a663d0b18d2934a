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

/// A number of bytes as a person reads it.
pub fn shown(bytes: u64) -> String {
    let b = bytes as f64;
    match bytes {
        0..1_000_000 => format!("{:.0} kB", b / 1e3),
        1_000_000..1_000_000_000 => format!("{:.0} MB", b / 1e6),
        _ => format!("{:.1} GB", b / 1e9),
    }
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
        assert_eq!([999, 1_200_000, 25_000_000_000].map(shown), ["1 kB", "1 MB", "25.0 GB"]);
    }
}
