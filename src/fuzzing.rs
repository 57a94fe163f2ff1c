//! The fuzz targets: each accepts any bytes and checks the invariants of the result. `fuzz/` runs them, and the tests
//! replay its corpora. None of this is part of the library's API.

use std::fmt::{Debug, Display};
use std::path::Path;
use std::str::FromStr;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};

use crate::config::{Config, Layout, TargetRoot};
use crate::lock::{Lock, Problems};
use crate::oci::{Digest, Location, Manifest, MediaType, Platform, Reference, Registry, Repository, Tag};
use crate::registry::read_challenge;
use crate::store::registry::next_link;

/// Accepts any bytes, and panics if an invariant is violated.
pub type Target = fn(&[u8]);

/// All targets, by the names of their files in `fuzz/`.
pub const TARGETS: &[(&str, Target)] = &[
    ("challenge", challenge),
    ("config", config),
    ("digest", digest),
    ("link", link),
    ("lock", lock),
    ("manifest", manifest),
    ("reference", reference),
    ("subset", subset),
];

fn text(data: &[u8]) -> &str {
    std::str::from_utf8(data).unwrap_or_default()
}

/// The display of a parsed value parses to the same value.
fn settled<T>(text: &str)
where
    T: FromStr<Err: Debug> + Display + Debug + PartialEq,
{
    if let Ok(value) = text.parse::<T>() {
        let shown = value.to_string();
        assert_eq!(shown.parse::<T>().as_ref().ok(), Some(&value), "{text:?} is shown as {shown:?}");
    }
}

/// All kinds of names.
pub fn reference(data: &[u8]) {
    let text = text(data);
    settled::<Reference>(text);
    settled::<Repository>(text);
    settled::<Registry>(text);
    settled::<Tag>(text);
    settled::<TargetRoot>(text);
    settled::<MediaType>(text);
    settled::<Platform>(text);
    let _ = (text.parse::<Location>(), text.parse::<Layout>());
}

/// A digest as text, and as the digest of bytes.
pub fn digest(data: &[u8]) {
    settled::<Digest>(text(data));
    let digest = Digest::of(data);
    assert!(digest.matches(data));
    settled::<Digest>(digest.as_str());
}

/// A manifest keeps its bytes, and its references are bounded by its size.
pub fn manifest(data: &[u8]) {
    let Ok(manifest) = Manifest::new(Digest::of(data), None, Bytes::copy_from_slice(data)) else { return };
    assert_eq!(&manifest.bytes()[..], data);
    assert!(manifest.successors().len() <= data.len());
    assert_eq!(manifest.descriptor().size, data.len() as u64);
}

/// The lines of `WWW-Authenticate` headers.
pub fn challenge(data: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n') {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(WWW_AUTHENTICATE, value);
        }
    }
    let _ = read_challenge(&headers);
}

/// The value of a `Link` header.
pub fn link(data: &[u8]) {
    let _ = next_link(text(data));
}

/// Each problem in a mirror.yaml lies within its text.
pub fn config(data: &[u8]) {
    let text = text(data);
    if let Err(problems) = Config::read(text, Path::new("mirror.yaml"), &|_| None) {
        within(text, &problems);
    }
}

/// A mirror.lock that is read says the same once it is written.
pub fn lock(data: &[u8]) {
    let text = text(data);
    let read = |text: &str| Lock::read(text, Path::new("mirror.lock"));
    match read(text) {
        Ok(lock) => {
            let written = lock.to_text();
            let again = read(&written).map(|lock| lock.to_text());
            assert_eq!(again.as_ref().ok(), Some(&written), "{again:?}");
        }
        Err(problems) => within(text, &problems),
    }
}

fn within(text: &str, problems: &Problems) {
    let lines = text.split('\n').count().max(text.split('\r').count());
    assert!(problems.len() > 0);
    for problem in problems {
        assert!((1..=lines + 1).contains(&problem.line) && problem.column >= 1, "{problem:?}");
    }
}

/// The first line names platforms, the rest is an index. Its subset has only entries of the index, and the subset of
/// the subset is the same.
pub fn subset(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (names, index) = (text(&data[..end]), &data[(end + 1).min(data.len())..]);
    let platforms: Vec<Platform> = names.split(',').filter_map(|name| name.parse().ok()).collect();
    let Ok(index) = Manifest::new(Digest::of(index), None, Bytes::copy_from_slice(index)) else { return };
    let Ok(part) = index.subset(&platforms) else { return };
    assert!(part.manifest.digest().matches(part.manifest.bytes()));
    for edge in part.manifest.successors() {
        assert!(index.successors().contains(edge), "{edge:?} isn't of the whole");
    }
    if let Ok(again) = part.manifest.subset(&platforms) {
        assert_eq!(again.manifest.bytes(), part.manifest.bytes());
    }
}
