//! What refers to a manifest, found in every way: by the referrers API, or the fallback tag where a registry has none, and
//! by the tags under which cosign keeps signatures, attestations and SBOMs.
//!
//! A repository is asked once about each subject, for whatever reason and by whomever.

use std::collections::HashSet;
use std::sync::Arc;

use futures::future::try_join_all;

use crate::error::{Error, Kind, Result};
use crate::oci::{Descriptor, Digest, Manifest, Referrer, Repository, Selector, Tag};
use crate::once::OnceMap;
use crate::store::{Referrers, Source, Stores};

/// Finds referrers; the same for a whole run.
#[derive(Debug)]
pub struct Finder {
    stores: Arc<dyn Stores>,
    found: OnceMap<(Repository, Digest), Result<Arc<Found>>>,
}

/// What refers to one manifest.
#[derive(Debug, Default)]
pub struct Found {
    /// Each once, also when it is found in two ways: then with the tag.
    pub referrers: Vec<Referrer>,
    /// The index under the fallback tag, where the repository has no referrers API.
    pub index: Option<Manifest>,
}

impl Finder {
    /// Asks the sources of `stores`.
    pub fn new(stores: Arc<dyn Stores>) -> Self {
        Self { stores, found: OnceMap::default() }
    }

    /// What refers to each of `subjects` in `repository`, in their order. Ask about all of which it is known together:
    /// the more there are, the less each costs.
    ///
    /// # Errors
    /// Any answer but a clear yes or no: an error is never "no signatures".
    pub async fn find(&self, repository: &Repository, subjects: &[Digest]) -> Result<Vec<Arc<Found>>> {
        let source = self.stores.source(repository)?;
        let each = subjects.iter().map(|subject| {
            let (source, wanted) = (Arc::clone(&source), subject.clone());
            let work = || async move { ask(&*source, &wanted).await.map(Arc::new) };
            async move {
                let found = self.found.get_or_work((repository.clone(), subject.clone()), work).await;
                found.map_err(|lost| Error::defect(format!("find what refers to {subject}"), lost))?.0
            }
        });
        try_join_all(each).await
    }
}

async fn ask(source: &dyn Source, subject: &Digest) -> Result<Found> {
    let listed = source.referrers(subject).await?;
    let tags: Vec<Tag> = subject.cosign_tags().collect();
    let tagged = try_join_all(tags.into_iter().map(|tag| by_tag(source, tag))).await?;
    let mut referrers: Vec<Referrer> = tagged.into_iter().flatten().collect();
    let seen: HashSet<Digest> = referrers.iter().map(|referrer| referrer.digest.clone()).collect();
    // A fallback tag can lead to the image itself.
    let others = listed.list().into_iter().filter(|other| other.digest != *subject && !seen.contains(&other.digest));
    referrers.extend(others);
    let index = match listed {
        Referrers::Listed(_) => None,
        Referrers::Tagged(index) => index,
    };
    Ok(Found { referrers, index })
}

async fn by_tag(source: &dyn Source, tag: Tag) -> Result<Option<Referrer>> {
    match source.resolve(&Selector::Tag(tag.clone())).await {
        Ok(Descriptor { media_type, digest, .. }) => {
            Ok(Some(Referrer { digest, media_type, artifact_type: None, tag: Some(tag) }))
        }
        Err(error) if error.kind() == Kind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
