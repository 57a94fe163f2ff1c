//! How much is taken from a registry, each bound with its reason. What a registry says may be wrong or hostile: nothing that
//! it sends makes a run grow without end.

/// Levels of nesting of indexes, and of referrers of referrers. Real images have two or three; deeper is a mistake or an
/// attack.
pub(crate) const DEPTH: usize = 16;

/// What one manifest points at: children of an index, layers of an image. The largest known indexes have some hundred
/// children, and container runtimes take 127 layers; artifacts with a layer for each file have more.
pub(crate) const EDGES: usize = 10_000;

/// The size in bytes that a descriptor may claim: 16 TiB. No registry takes a blob of even a hundredth of it, and sums of
/// sizes can't overflow.
pub(crate) const SIZE: u64 = 16 << 40;

/// Bytes of manifests that are kept in memory during a run: 256 MiB. A manifest beyond that is read again, from the cache or
/// the source, by each image that needs it.
pub(crate) const MANIFESTS: u64 = 256 << 20;

/// Pages of a list. A registry of 1,000 tags a page would have ten million.
pub(crate) const PAGES: usize = 10_000;

/// Bytes of all pages of one list of tags or referrers: 64 MiB, which is more than a million tags. Read into memory they
/// take a few times as much.
pub(crate) const LIST: u64 = 64 << 20;

/// Referrers of one manifest. Each is a manifest to read and to push; popular images have some dozen.
pub(crate) const REFERRERS: usize = 10_000;

/// Redirects that are followed for one request. Registries redirect to their storage once.
pub(crate) const REDIRECTS: usize = 10;

/// Bytes of an answer that is neither a manifest nor a blob, such as a page of a list: 16 MiB. A page of 10,000 tags has
/// some hundred kilobytes.
pub(crate) const ANSWER: u64 = 16 << 20;

/// Bytes of an error's body that are read: 64 KiB. Its message is shortened anyway, and a proxy's page is only recognised.
pub(crate) const ERROR_BODY: u64 = 64 << 10;
