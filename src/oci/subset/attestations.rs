//! An index without attestations that its registry lists and doesn't serve.
//!
//! # The rule, version 1
//!
//! As that of a subset, with step 1 for these: an attestation that is dropped isn't kept. Which ones are isn't written down
//! anywhere: the digest that a lock has tells, as few attestations can be dropped in few ways. Where there are more than
//! [`MOST`], all are dropped or none.

use super::{Entry, Kind, SubsetError, entries, members, raw_entries};
use crate::oci::{Digest, Manifest, Platform};

/// So many attestations are tried in each combination.
const MOST: usize = 12;

impl Entry {
    fn is_attestation(&self) -> bool {
        self.reference().is_some() && self.annotations["vnd.docker.reference.type"] == "attestation-manifest"
    }
}

impl Manifest {
    /// The attestations that it lists as an index.
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

    /// The index without the attestations `missing`, or without any if it has too many to tell later which were dropped.
    ///
    /// # Errors
    /// `Invalid` if it can't be cut byte for byte.
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

    /// What of it is mirrored under the digest `is`: it, what of it is for `wanted`, or that without attestations. What comes
    /// back has another digest if that is none of these.
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

/// The ways to drop some of `attestations`.
fn choices(attestations: &[Digest]) -> impl Iterator<Item = Vec<Digest>> {
    let ways = if attestations.len() > MOST { 1 } else { (1_u32 << attestations.len()) - 1 };
    (1..=ways).map(|way| {
        let is_dropped = |at: &usize| attestations.len() > MOST || way & (1 << at) != 0;
        (0..attestations.len()).filter(is_dropped).map(|at| attestations[at].clone()).collect()
    })
}
