//! The referrer tags that a repository has, from its list of tags if that takes fewer requests than asking for each
//! tag.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, Kind, Result};
use crate::oci::{Digest, Tag, bounds};
use crate::once::OnceMap;
use crate::store::Source;

/// Up to this number of subjects, each tag is requested: a list may have many pages.
const FEW: usize = 2;

/// The tags of one repository that begin like a digest.
#[derive(Debug, Default)]
pub(super) struct Names {
    subjects: Mutex<Subjects>,
    list: OnceMap<(), Result<Known>>,
    whole: OnceMap<(), Result<Known>>,
}

/// `None`: unknown, so that each tag has to be requested.
pub(super) type Known = Option<Arc<HashSet<Tag>>>;

/// The subjects of this run in one repository.
#[derive(Debug, Default)]
struct Subjects {
    all: HashSet<Digest>,
    /// The number of subjects whose tags were requested.
    done: usize,
}

impl Names {
    /// Announces that the repository will be asked about `subjects`. Their number decides which requests are used,
    /// so this has to precede the first one.
    pub(super) fn expect(&self, subjects: &[Digest]) {
        self.lock().all.extend(subjects.iter().cloned());
    }

    /// The tags, if listing them takes fewer requests than `heads` for each remaining subject.
    ///
    /// # Errors
    /// If the registry is in trouble. Any other failure to list tags is ignored: some repositories have no list
    /// (ECR Public) or refuse it.
    pub(super) async fn known(&self, source: &Arc<dyn Source>, heads: usize) -> Result<Known> {
        let pages = {
            let mut subjects = self.lock();
            if subjects.all.len() <= FEW || heads == 0 {
                subjects.done += 1;
                return Ok(None);
            }
            heads * subjects.all.len().saturating_sub(subjects.done).max(1)
        };
        let source = Arc::clone(source);
        let listed = self.list.get_or_work((), || async move { list(&*source, pages).await }).await;
        listed.map_err(|lost| Error::defect("list the tags of referrers", lost))?.0
    }

    /// The tags, whatever listing them costs, because a request for a single tag was refused.
    ///
    /// # Errors
    /// As [`Names::known`].
    pub(super) async fn listed(&self, source: &Arc<dyn Source>) -> Result<Known> {
        let source = Arc::clone(source);
        let listed = self.whole.get_or_work((), || async move { list(&*source, bounds::PAGES).await }).await;
        listed.map_err(|lost| Error::defect("list the tags of referrers", lost))?.0
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Subjects> {
        self.subjects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn list(source: &dyn Source, pages: usize) -> Result<Known> {
    match source.tags_within(pages).await {
        Ok(tags) => Ok(tags.map(|tags| Arc::new(tags.into_iter().filter(is_about_a_digest).collect()))),
        Err(error) if error.kind().retry() || error.kind() == Kind::QuotaExceeded => Err(error),
        Err(error) => {
            tracing::debug!(%error, "no list of tags: each is asked for");
            Ok(None)
        }
    }
}

fn is_about_a_digest(tag: &Tag) -> bool {
    tag.as_str().starts_with("sha256-") || tag.as_str().starts_with("sha512-")
}
