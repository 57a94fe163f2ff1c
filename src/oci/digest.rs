//! Digests, which identify content (image-spec `descriptor.md`, section "Digests").

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use sha2::{Digest as _, Sha256, Sha512};

/// The registered digest algorithms of the image specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// `sha256`, 64 hex digits.
    Sha256,
    /// `sha512`, 128 hex digits.
    Sha512,
}

impl Algorithm {
    fn from_name(name: &str) -> Option<Self> {
        match name {
            "sha256" => Some(Self::Sha256),
            "sha512" => Some(Self::Sha512),
            _ => None,
        }
    }

    /// The name before the colon.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    fn hex_digits(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

/// `sha256:<hex>` or `sha512:<hex>`, checked: lower-case hex of the right length. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(Arc<str>);

/// Why a text isn't a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// Not `algorithm:hex`.
    #[error("`{0}` isn't a digest: expected sha256:<64 hex digits> or sha512:<128 hex digits>")]
    Format(String),
    /// An algorithm that isn't registered.
    #[error("`{0}`: unknown digest algorithm, expected sha256 or sha512")]
    Algorithm(String),
}

impl JsonSchema for Digest {
    fn schema_name() -> Cow<'static, str> {
        "Digest".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$" })
    }
}

impl Digest {
    /// The sha256 digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_hash(Algorithm::Sha256, &Sha256::digest(bytes))
    }

    /// Whether `bytes` hash to this digest.
    pub fn matches(&self, bytes: &[u8]) -> bool {
        let mut hasher = Hasher::new(self.algorithm());
        hasher.update(bytes);
        hasher.finish() == *self
    }

    /// The algorithm before the colon.
    pub fn algorithm(&self) -> Algorithm {
        if self.0.starts_with("sha256") { Algorithm::Sha256 } else { Algorithm::Sha512 }
    }

    /// The hex digits after the colon.
    pub fn hex(&self) -> &str {
        &self.0[self.algorithm().name().len() + 1..]
    }

    /// The whole text, `sha256:…`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `sha256:` and 12 hex digits: enough to recognise it in a message.
    pub fn short(&self) -> &str {
        &self.0[..self.algorithm().name().len() + 13]
    }

    fn from_hash(algorithm: Algorithm, hash: &[u8]) -> Self {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let hex = hash.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|half| char::from(HEX[usize::from(half)]));
        let mut text = String::with_capacity(algorithm.hex_digits() + 7);
        text.push_str(algorithm.name());
        text.push(':');
        text.extend(hex);
        Self(text.into())
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let (name, hex) = text.split_once(':').ok_or_else(|| DigestError::Format(text.to_owned()))?;
        let algorithm = Algorithm::from_name(name).ok_or_else(|| DigestError::Algorithm(text.to_owned()))?;
        let lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if hex.len() != algorithm.hex_digits() || !hex.bytes().all(lower_hex) {
            return Err(DigestError::Format(text.to_owned()));
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

enum Hasher {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Hasher {
    fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(Sha256::new()),
            Algorithm::Sha512 => Self::Sha512(Sha512::new()),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
        }
    }

    fn finish(self) -> Digest {
        match self {
            Self::Sha256(hasher) => Digest::from_hash(Algorithm::Sha256, &hasher.finalize()),
            Self::Sha512(hasher) => Digest::from_hash(Algorithm::Sha512, &hasher.finalize()),
        }
    }
}

/// Why bytes don't match their descriptor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// More or fewer bytes than announced. `got` counts only the bytes that were read.
    #[error("expected {expected} bytes, got {got}")]
    Length {
        /// The size in the descriptor, in bytes.
        expected: u64,
        /// The received size, in bytes.
        got: u64,
    },
    /// The right length, but the wrong bytes.
    #[error("digest mismatch: expected {expected}, got {got}")]
    Digest {
        /// The digest in the descriptor.
        expected: Digest,
        /// The digest of the received bytes.
        got: Digest,
    },
}

/// Checks a stream of bytes against a digest *and* an exact length.
pub struct Verifier {
    digest: Digest,
    size: u64,
    seen: u64,
    hasher: Hasher,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Verifier({} {}/{})", self.digest, self.seen, self.size)
    }
}

impl Verifier {
    /// Expects `size` bytes that hash to `digest`.
    pub fn new(digest: Digest, size: u64) -> Self {
        let hasher = Hasher::new(digest.algorithm());
        Self { digest, size, seen: 0, hasher }
    }

    /// Processes the next bytes.
    ///
    /// # Errors
    /// [`Mismatch::Length`] as soon as there are more bytes than announced.
    pub fn update(&mut self, bytes: &[u8]) -> Result<(), Mismatch> {
        self.seen += bytes.len() as u64;
        if self.seen > self.size {
            return Err(Mismatch::Length { expected: self.size, got: self.seen });
        }
        self.hasher.update(bytes);
        Ok(())
    }

    /// The number of bytes processed.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Whether the announced length has been reached.
    pub fn is_full(&self) -> bool {
        self.seen == self.size
    }

    /// Checks that the processed bytes match.
    ///
    /// # Errors
    /// [`Mismatch`] if the length or the digest differs.
    pub fn finish(self) -> Result<(), Mismatch> {
        if self.seen != self.size {
            return Err(Mismatch::Length { expected: self.size, got: self.seen });
        }
        let got = self.hasher.finish();
        if got == self.digest { Ok(()) } else { Err(Mismatch::Digest { expected: self.digest, got }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn invalid_digests_are_refused() {
        let sha512 = format!("sha512:{}", "a".repeat(128));
        for good in [EMPTY, sha512.as_str()] {
            assert_eq!(good.parse::<Digest>().unwrap().to_string(), good);
        }
        let upper = EMPTY.to_uppercase();
        let long = format!("{EMPTY}0");
        for bad in
            ["", "sha256", "sha256:", "sha256:abc", &upper, &long, "md5:d41d8cd98f00b204e9800998ecf8427e", "sha256:é"]
        {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_digest_is_the_hash_of_the_bytes() {
        let empty = Digest::of(b"");
        assert_eq!(empty.as_str(), EMPTY);
        assert_eq!(empty.short(), "sha256:e3b0c44298fc");
        assert!(empty.matches(b"") && !empty.matches(b"x"));
    }

    #[test]
    fn a_verifier_checks_length_and_digest() {
        let digest = Digest::of(b"hello");
        let check = |size: u64, parts: &[&[u8]]| -> Result<(), Mismatch> {
            let mut verifier = Verifier::new(digest.clone(), size);
            for part in parts {
                verifier.update(part)?;
            }
            verifier.finish()
        };
        assert_eq!(check(5, &[b"he", b"", b"llo"]), Ok(()));
        assert_eq!(check(5, &[b"hell"]), Err(Mismatch::Length { expected: 5, got: 4 }));
        assert_eq!(check(5, &[b"hello", b"!"]), Err(Mismatch::Length { expected: 5, got: 6 }));
        assert_eq!(
            check(5, &[b"hallo"]),
            Err(Mismatch::Digest { expected: Digest::of(b"hello"), got: Digest::of(b"hallo") })
        );
    }
}
