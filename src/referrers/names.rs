//! Which tags a repository has, of those that tell of referrers: learnt from its list of tags where that costs less than to
//! ask for each.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, Kind, Result};
use crate::oci::{Digest, Tag, bounds};
use crate::once::OnceMap;
use crate::store::Source;

/// Up to so many subjects, each tag is asked for: a list may have many pages.
const FEW: usize = 2;

/// The tags of one repository that begin as a digest does.
#[derive(Debug, Default)]
pub(super) struct Names {
    subjects: Mutex<Subjects>,
    list: OnceMap<(), Result<Known>>,
    whole: OnceMap<(), Result<Known>>,
}

/// `None`: they aren't known, and each has to be asked for.
pub(super) type Known = Option<Arc<HashSet<Tag>>>;

/// What the repository is asked about in this run.
#[derive(Debug, Default)]
struct Subjects {
    all: HashSet<Digest>,
    /// For so many, each tag has been asked for.
    done: usize,
}

impl Names {
    /// The repository will be asked about `subjects`. Known before the first question, they decide how it is put.
    pub(super) fn expect(&self, subjects: &[Digest]) {
        self.lock().all.extend(subjects.iter().cloned());
    }

    /// The tags, where to list them costs less than `heads` requests for each subject that is left.
    ///
    /// # Errors
    /// If the registry is in trouble. A list that can't be had for another reason is done without: some repositories have
    /// none (ECR Public), or keep it to themselves.
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

    /// The tags, whatever the list of them costs: for who isn't told about one.
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
