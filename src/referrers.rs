//! Finds the referrers of a manifest in every way: by the referrers API, or the fallback tag if the registry
//! doesn't have it, and by the tags of cosign for signatures, attestations and SBOMs.
//!
//! In a run each repository is asked once about each subject.

mod names;
mod presence;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use futures::future::{join_all, try_join_all};

use self::names::Names;
pub use self::presence::{Claims, Presence, presence};
use crate::error::{Error, Kind, Result, Side};
use crate::oci::{self, Descriptor, Digest, Manifest, Referrer, Repository, Selector, Tag};
use crate::once::OnceMap;
use crate::store::{Referrers, Source, Stores};

/// The hint for a source that refuses to list referrers.
const WITHHELD: &str =
    "give the account permission to list them (referrers and tags), or set referrers: none for these images";

/// Finds referrers; shared by a whole run.
#[derive(Debug)]
pub struct Finder {
    stores: Arc<dyn Stores>,
    places: Mutex<HashMap<Repository, Arc<Place>>>,
}

/// The referrers of one manifest.
#[derive(Debug, Default)]
pub struct Found {
    /// Each once, even if it is found in two ways. Then it has the tag, and no artifact type, as the cosign tag
    /// implies one.
    pub referrers: Vec<Referrer>,
    /// The index under the fallback tag, if the repository has no referrers API.
    pub index: Option<Manifest>,
    /// Why the list may be incomplete: the repository has refused a request.
    pub withheld: Option<Error>,
}

/// A repository that is searched.
#[derive(Debug)]
struct Place {
    source: Arc<dyn Source>,
    names: Names,
    found: OnceMap<Digest, Result<Arc<Found>>>,
    /// Its first refusal.
    withheld: OnceLock<Error>,
    /// Whether the refusal was reported.
    is_told: AtomicBool,
}

impl Finder {
    /// Searches the sources of `stores`.
    pub fn new(stores: Arc<dyn Stores>) -> Self {
        Self { stores, places: Mutex::default() }
    }

    /// The referrers of each of `subjects` in `repository`, in the order of `subjects`. Pass all known subjects in
    /// one call: the more there are, the fewer requests each takes.
    ///
    /// # Errors
    /// Transient errors and a refused login for any of the subjects: an error never means "no signatures". If the
    /// repository only refuses the request, [`Found::withheld`] contains the refusal.
    pub async fn find(&self, repository: &Repository, subjects: &[Digest]) -> Result<Vec<Arc<Found>>> {
        self.find_each(repository, subjects).await.into_iter().collect()
    }

    /// The referrers of `subject` in `repository`, if this run has already looked them up.
    pub async fn known(&self, repository: &Repository, subject: &Digest) -> Option<Arc<Found>> {
        let place = self.place(repository).ok()?;
        place.found.get(subject).await?.ok()?.ok()
    }

    /// As [`Finder::find`], with a separate result for each subject.
    pub async fn find_each(&self, repository: &Repository, subjects: &[Digest]) -> Vec<Result<Arc<Found>>> {
        let place = match self.place(repository) {
            Ok(place) => place,
            Err(error) => return subjects.iter().map(|_| Err(error.clone())).collect(),
        };
        place.names.expect(subjects);
        join_all(subjects.iter().map(|subject| Place::find(&place, subject))).await
    }

    /// The first refusal of `repository` to list referrers in this run, if any.
    pub fn withheld(&self, repository: &Repository) -> Option<Error> {
        self.place(repository).ok()?.withheld.get().cloned()
    }

    /// Warns, once per run, that `repository` refuses to list referrers, and that its images are mirrored without
    /// them.
    pub fn warn_of_withheld(&self, repository: &Repository) {
        let Ok(place) = self.place(repository) else { return };
        if let Some(error) = place.withheld.get()
            && !place.is_told.swap(true, Ordering::Relaxed)
        {
            let hint = error.hint().unwrap_or_default();
            tracing::warn!(hint, "{repository}: can't tell whether its images have referrers: {error}");
        }
    }

    fn place(&self, repository: &Repository) -> Result<Arc<Place>> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = places.get(repository) {
            return Ok(Arc::clone(place));
        }
        let source = self.stores.source(repository)?;
        let place = Arc::new(Place {
            source,
            names: Names::default(),
            found: OnceMap::default(),
            withheld: OnceLock::new(),
            is_told: AtomicBool::new(false),
        });
        places.insert(repository.clone(), Arc::clone(&place));
        Ok(place)
    }
}

impl Place {
    async fn find(place: &Arc<Self>, subject: &Digest) -> Result<Arc<Found>> {
        let (asking, wanted) = (Arc::clone(place), subject.clone());
        let work = || async move { asking.ask(&wanted).await.map(Arc::new) };
        let found = place.found.get_or_work(subject.clone(), work).await;
        found.map_err(|lost| Error::defect(format!("find referrers of {subject}"), lost))?.0
    }

    async fn ask(&self, subject: &Digest) -> Result<Found> {
        let source = &*self.source;
        let (mut listed, refused) = match unless_refused(source.listed_referrers(subject).await)? {
            Ok(listed) => (listed, None),
            Err(refusal) => (None, Some(refusal)),
        };
        if listed.as_ref().is_some_and(Vec::is_empty) && source.may_miss_referrers().await {
            listed = None;
        }
        let (mut found, refused_tag) = self.ask_for_tags(subject, listed.clone()).await?;
        // An index under the fallback tag is the only list that there is.
        let refused = refused.filter(|_| found.index.is_none());
        let is_absent = listed.is_none() && found.index.is_none();
        let doubted = || (is_absent && source.refuses_heads()).then(|| doubted(source, subject));
        found.withheld = refused.or(refused_tag).or_else(doubted).map(|refusal| refusal.with_hint(WITHHELD));
        if let Some(error) = &found.withheld {
            // The first refusal is enough.
            let _ = self.withheld.set(error.clone());
        }
        try_join_all(found.referrers.iter_mut().map(|one| self.add_type(one))).await?;
        Ok(found)
    }

    /// The referrers of `subject` by the tags of the repository; `listed` are those from the referrers API. Also
    /// returns the refusal of a request for a tag that may exist.
    async fn ask_for_tags(&self, subject: &Digest, listed: Option<Vec<Referrer>>) -> Result<(Found, Option<Error>)> {
        let source = &*self.source;
        let fallback = subject.referrers_tag();
        let cosign: Vec<Tag> = subject.cosign_tags().collect();
        // The number of HEADs that are needed without the repository's list of tags.
        let heads = cosign.len() + usize::from(listed.is_none());
        let known = self.names.known(&self.source, heads).await?;
        let may_exist = |tag: &Tag| known.as_ref().is_none_or(|known| known.contains(tag));
        let by_subject = async {
            match listed {
                Some(listed) => Ok(Ok(Referrers::Listed(listed))),
                None if may_exist(&fallback) => {
                    self.unless_absent(&fallback, source.tagged_referrers(subject).await, Referrers::Tagged(None)).await
                }
                None => Ok(Ok(Referrers::Tagged(None))),
            }
        };
        let tagged = cosign.iter().filter(|tag| may_exist(tag));
        let by_tag =
            try_join_all(tagged.map(|tag| async { self.unless_absent(tag, tagged_as(source, tag).await, None).await }));
        let (by_subject, by_tag) = futures::try_join!(by_subject, by_tag)?;
        let (mut by_tags, mut refused) = (Vec::new(), None);
        for answer in by_tag {
            match answer {
                Ok(found) => by_tags.extend(found),
                Err(refusal) => refused = Some(refusal),
            }
        }
        let by_subject = by_subject.unwrap_or_else(|refusal| {
            refused = Some(refusal);
            Referrers::Tagged(None)
        });
        Ok((Found::of(subject, by_tags, by_subject), refused))
    }

    /// `answer` to a request for `tag`; `nothing` if it was refused and the list of tags doesn't contain the tag.
    async fn unless_absent<T>(&self, tag: &Tag, answer: Result<T>, nothing: T) -> Result<Result<T, Error>> {
        let refusal = match unless_refused(answer)? {
            Ok(answer) => return Ok(Ok(answer)),
            Err(refusal) => refusal,
        };
        let known = self.names.listed(&self.source).await?;
        Ok(if known.is_some_and(|known| !known.contains(tag)) { Ok(nothing) } else { Err(refusal) })
    }

    /// Adds a missing artifact type from the manifest, because filters use it: some tools leave it out of a
    /// fallback index. If the manifest is gone, the entry stays as it is.
    async fn add_type(&self, referrer: &mut Referrer) -> Result<()> {
        if referrer.kind().is_some() || referrer.tag.is_some() {
            return Ok(());
        }
        match self.source.manifest(&referrer.digest).await {
            Ok(manifest) => referrer.artifact_type = Referrer::of(&manifest).artifact_type,
            Err(error) if error.kind() == Kind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

impl Found {
    /// Combines the referrers of `subject`; `tagged` were found by cosign's tags.
    fn of(subject: &Digest, tagged: Vec<Referrer>, by_subject: Referrers) -> Self {
        let listed = by_subject.list();
        let (alone, index) = match by_subject {
            Referrers::Tagged(Some(manifest)) if manifest.kind() == oci::Kind::Index => (None, Some(manifest)),
            Referrers::Tagged(Some(artifact)) => (Some(artifact), None),
            Referrers::Tagged(None) | Referrers::Listed(_) => (None, None),
        };
        let alone = alone.map(|one| Referrer { tag: Some(subject.referrers_tag()), ..Referrer::of(&one) });
        let mut seen = HashSet::from([subject.clone()]);
        let all = tagged.into_iter().chain(alone).chain(listed);
        let referrers = all.filter(|referrer| seen.insert(referrer.digest.clone())).collect();
        Self { referrers, index, withheld: None }
    }
}

/// `answer`, or its refusal. Transient errors and a refused login are errors: they never mean "no referrers".
fn unless_refused<T>(answer: Result<T>) -> Result<Result<T, Error>> {
    match answer {
        Ok(answer) => Ok(Ok(answer)),
        Err(error) if error.is_refusal() && !error.kind().retry() => Ok(Err(error)),
        Err(error) => Err(error),
    }
}

/// A source that refuses all HEAD requests says nothing about this content with a refusal.
fn doubted(source: &dyn Source, subject: &Digest) -> Error {
    let attempted = format!("list referrers of {subject} in {source}");
    Error::new(
        Kind::Unsupported,
        attempted,
        "the registry serves only content that is requested by name, and lists nothing",
    )
    .on(Side::Source)
}

/// The manifest that `tag` names. A HEAD returns no artifact type, but the tag implies one.
async fn tagged_as(source: &dyn Source, tag: &Tag) -> Result<Option<Referrer>> {
    match source.resolve(&Selector::Tag(tag.clone())).await {
        Ok(Descriptor { media_type, digest, .. }) => {
            Ok(Some(Referrer { digest, media_type, artifact_type: None, tag: Some(tag.clone()) }))
        }
        Err(error) if error.kind() == Kind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
