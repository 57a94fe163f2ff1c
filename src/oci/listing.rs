//! Indexes of referrers under a fallback tag (distribution-spec, "Referrers Tag Schema"): reading, creating and
//! extending.
//!
//! Existing content is kept byte for byte: entries are added at the end of the list, and nothing else changes.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Digest, Manifest, MediaType, Referrer};

/// An entry of an index of referrers, as raw text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The digest of the referrer.
    pub digest: Digest,
    json: String,
}

#[derive(Deserialize)]
struct Index<'a> {
    #[serde(borrow)]
    manifests: &'a RawValue,
}

#[derive(Deserialize)]
struct Named {
    digest: Digest,
}

impl Listing {
    /// The media type of the entry.
    pub fn media_type(&self) -> Option<MediaType> {
        let entry: serde_json::Value = serde_json::from_str(&self.json).ok()?;
        entry["mediaType"].as_str()?.parse().ok()
    }

    /// The entry for `manifest` as a referrer.
    pub fn of(manifest: &Manifest) -> Self {
        Self { digest: manifest.digest().clone(), json: Referrer::entry(manifest).to_string() }
    }

    /// The entries of `index`, in order.
    ///
    /// # Errors
    /// If it isn't an index.
    pub fn in_index(index: &[u8]) -> Result<Vec<Self>, serde_json::Error> {
        let index: Index<'_> = serde_json::from_slice(index)?;
        let entries: Vec<&RawValue> = serde_json::from_str(index.manifests.get())?;
        let listings = entries.into_iter().map(|entry| {
            let Named { digest } = serde_json::from_str(entry.get())?;
            Ok(Self { digest, json: entry.get().to_owned() })
        });
        listings.collect()
    }

    /// Creates an index of `entries`.
    pub fn index(entries: &[Self]) -> Vec<u8> {
        let list = entries.iter().map(|entry| entry.json.as_str()).collect::<Vec<_>>().join(",");
        let media_type = MediaType::OCI_INDEX;
        format!(r#"{{"schemaVersion":2,"mediaType":"{media_type}","manifests":[{list}]}}"#).into_bytes()
    }

    /// Adds the missing members of `entries` to the end of the list of `index`; `None` if none is missing.
    ///
    /// # Errors
    /// If it isn't an index.
    pub fn added(index: &[u8], entries: &[Self]) -> Result<Option<Vec<u8>>, serde_json::Error> {
        let listed = Self::in_index(index)?;
        let lacks = |entry: &&Self| listed.iter().all(|listed| listed.digest != entry.digest);
        let missing: Vec<&str> = entries.iter().filter(lacks).map(|entry| entry.json.as_str()).collect();
        if missing.is_empty() {
            return Ok(None);
        }
        let list = serde_json::from_slice::<Index<'_>>(index)?.manifests.get();
        let inside = list.trim_end_matches(']').trim_end();
        // `list` is a subslice of `index`.
        let end = list.as_ptr().addr() - index.as_ptr().addr() + inside.len();
        let comma = if listed.is_empty() { "" } else { "," };
        let new = [comma, &missing.join(",")].concat();
        Ok(Some([&index[..end], new.as_bytes(), &index[end..]].concat()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(seed: &str, more: &str) -> Listing {
        let digest = Digest::of(seed.as_bytes());
        let json = format!(r#"{{"mediaType":"a/b", "digest":"{digest}","size":1{more}}}"#);
        Listing { digest, json }
    }

    #[test]
    fn existing_entries_stay_byte_for_byte() {
        let (a, b, c) = (entry("a", r#", "odd" : 1.0"#), entry("b", ""), entry("c", ""));
        let before = format!("{{\n \"x\": [ 1 ],\n \"manifests\": [\n  {}, {}\n ] , \"y\":null }}\n", a.json, b.json);
        let added = Listing::added(before.as_bytes(), &[c.clone(), a.clone()]).unwrap().unwrap();
        let wanted = before.replace(&b.json, &format!("{},{}", b.json, c.json));
        assert_eq!(String::from_utf8(added.clone()).unwrap(), wanted);
        assert_eq!(Listing::in_index(&added).unwrap(), [a, b.clone(), c.clone()]);
        assert_eq!(Listing::added(&added, &[b, c]).unwrap(), None);
    }

    #[test]
    fn entries_are_added_to_an_empty_index_and_to_a_new_one() {
        let a = entry("a", "");
        let added = Listing::added(br#"{"manifests":[ ]}"#, std::slice::from_ref(&a)).unwrap().unwrap();
        assert_eq!(String::from_utf8(added).unwrap(), format!(r#"{{"manifests":[{} ]}}"#, a.json));
        let new = Listing::index(&[a.clone(), entry("b", "")]);
        assert_eq!(Referrer::in_index(&new).unwrap().len(), 2);
        assert_eq!(Listing::added(&new, &[a]).unwrap(), None);
    }

    #[test]
    fn a_document_that_isnt_an_index_is_left_unchanged() {
        let a = entry("a", "");
        for bad in ["", "[]", "{}", r#"{"manifests":null}"#, r#"{"manifests":[1]}"#, r#"{"layers":[]}"#] {
            assert!(Listing::added(bad.as_bytes(), std::slice::from_ref(&a)).is_err(), "{bad}");
        }
    }
}
