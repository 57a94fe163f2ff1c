//! An index without attestations that its registry lists but doesn't serve.
//!
//! # The rule, version 1
//!
//! As for a subset, but step 1 doesn't keep dropped attestations. The list of dropped attestations isn't recorded:
//! it follows from the digest in the lock, as a few attestations can be dropped in only a few ways. If there are
//! more than [`MOST`], either all or none are dropped.

use super::{Entry, Kind, SubsetError, entries, members, raw_entries};
use crate::oci::{Digest, Manifest, Platform};

/// Up to this number of attestations, every combination is tried.
const MOST: usize = 12;

impl Entry {
    fn is_attestation(&self) -> bool {
        self.reference().is_some() && self.annotations["vnd.docker.reference.type"] == "attestation-manifest"
    }
}

impl Manifest {
    /// The attestations that the index lists.
    pub(crate) fn attestations(&self) -> Vec<Digest> {
        let listed = || entries(&raw_entries(&members(self.bytes())?)?);
        match self.kind() {
            Kind::Index => listed().unwrap_or_default(),
            _ => Vec::new(),
        }
        .into_iter()
        .filter(Entry::is_attestation)
        .map(|entry| entry.digest)
        .collect()
    }

    /// The index without the attestations `missing`, or without any if it has too many to determine later which
    /// were dropped.
    ///
    /// # Errors
    /// `Invalid` if it can't be reduced byte for byte.
    pub(crate) fn without_attestations(&self, missing: &[Digest]) -> Result<Self, SubsetError> {
        if missing.is_empty() {
            return Ok(self.clone());
        }
        let all = self.attestations();
        let dropped = if all.len() > MOST { &all } else { missing };
        let members = members(self.bytes())?;
        let raw = raw_entries(&members)?;
        let keep: Vec<bool> = entries(&raw)?.iter().map(|entry| !dropped.contains(&entry.digest)).collect();
        self.cut(&members, &raw, &keep)
    }

    /// The part of it that is mirrored under the digest `is`: the whole, the part for `wanted`, or that part
    /// without attestations. If none of these has the digest `is`, the result has another digest.
    ///
    /// # Errors
    /// As [`Manifest::subset`].
    pub(crate) fn part(&self, wanted: &[Platform], is: &Digest) -> Result<Self, SubsetError> {
        let part = self.subset(wanted)?.manifest;
        if part.digest() == is {
            return Ok(part);
        }
        let attestations = part.attestations();
        let is_right = |missing: &Vec<Digest>| part.without_attestations(missing).is_ok_and(|cut| cut.digest() == is);
        match choices(&attestations).find(is_right) {
            Some(missing) => part.without_attestations(&missing),
            None => Ok(part),
        }
    }
}

/// The possible sets of dropped `attestations`.
fn choices(attestations: &[Digest]) -> impl Iterator<Item = Vec<Digest>> {
    let ways = if attestations.len() > MOST { 1 } else { (1_u32 << attestations.len()) - 1 };
    (1..=ways).map(|way| {
        let is_dropped = |at: &usize| attestations.len() > MOST || way & (1 << at) != 0;
        (0..attestations.len()).filter(is_dropped).map(|at| attestations[at].clone()).collect()
    })
}
