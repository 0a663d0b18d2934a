//! Checksums of the hub: an etag is the SHA-256 of a large file, or git's SHA-1 of a small one.

use sha1::Sha1;
use sha2::{Digest, Sha256};

/// A sum over a content that comes in parts.
pub(super) enum Checksum {
    Sha256(Sha256),
    Git(Sha1),
    /// The etag is no sum; the length has to do.
    Unknown,
}

impl Checksum {
    /// The one that an etag is made by, for a content of this length.
    pub fn of(etag: &str, size: u64) -> Self {
        match (etag.len(), etag.chars().all(|c| c.is_ascii_hexdigit())) {
            (64, true) => Checksum::Sha256(Sha256::new()),
            (40, true) => Checksum::Git(Sha1::new_with_prefix(format!("blob {size}\0"))),
            _ => Checksum::Unknown,
        }
    }

    pub fn add(&mut self, bytes: &[u8]) {
        match self {
            Checksum::Sha256(sum) => sum.update(bytes),
            Checksum::Git(sum) => sum.update(bytes),
            Checksum::Unknown => {}
        }
    }

    /// Whether all that was added is what the etag says.
    pub fn fits(self, etag: &str) -> bool {
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        match self {
            Checksum::Sha256(sum) => hex(&sum.finalize()).eq_ignore_ascii_case(etag),
            Checksum::Git(sum) => hex(&sum.finalize()).eq_ignore_ascii_case(etag),
            Checksum::Unknown => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_git_and_of_large_files() {
        let fits = |etag: &str, text: &str| {
            let mut sum = Checksum::of(etag, text.len() as u64);
            text.as_bytes().chunks(3).for_each(|part| sum.add(part));
            sum.fits(etag)
        };
        assert!(fits("95d09f2b10159347eece71399a7e2e907ea3df4f", "hello world"));
        assert!(!fits("95d09f2b10159347eece71399a7e2e907ea3df4f", "hello worle"));
        assert!(fits("b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9", "hello world"));
        assert!(fits("a-tag-of-somebody-else", "hello world"));
    }
}
