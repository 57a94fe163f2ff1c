//! Limits for content from registries, each with its reason. A registry may be faulty or hostile: nothing that it
//! sends may make a run grow without limit.

/// Nesting levels of indexes, and of referrers of referrers. Real images have two or three; deeper nesting is a
/// mistake or an attack.
pub(crate) const DEPTH: usize = 16;

/// Edges of one manifest: children of an index, or layers of an image. The largest known indexes have a few hundred
/// children, and container runtimes support 127 layers; artifacts with one layer per file have more.
pub(crate) const EDGES: usize = 10_000;

/// The largest size in bytes in a descriptor: 16 TiB. No registry accepts a blob of even a hundredth of it, and
/// sums of sizes can't overflow.
pub(crate) const SIZE: u64 = 16 << 40;

/// Bytes of manifests kept in memory during a run: 256 MiB. Beyond that, each image that needs a manifest reads it
/// again, from the cache or the source.
pub(crate) const MANIFESTS: u64 = 256 << 20;

/// Pages of a list. With 1,000 tags per page, that is ten million tags.
pub(crate) const PAGES: usize = 10_000;

/// Bytes of all pages of one list of tags or referrers: 64 MiB, more than a million tags. In memory they take
/// several times as much.
pub(crate) const LIST: u64 = 64 << 20;

/// Referrers of one manifest. Each is read and pushed; popular images have a few dozen.
pub(crate) const REFERRERS: usize = 10_000;

/// Redirects followed for one request. Registries redirect to their storage once.
pub(crate) const REDIRECTS: usize = 10;

/// Bytes of an answer that is neither a manifest nor a blob, such as a page of a list: 16 MiB. A page of 10,000
/// tags has a few hundred kilobytes.
pub(crate) const ANSWER: u64 = 16 << 20;

/// Bytes read of an error's body: 64 KiB. Its message is shortened anyway, and a proxy's page is only recognised.
pub(crate) const ERROR_BODY: u64 = 64 << 10;
