//! What refers to a manifest, found in every way: by the referrers API, or the fallback tag where a registry has none, and
//! by the tags under which cosign keeps signatures, attestations and SBOMs.
//!
//! A repository is asked once about each subject, for whatever reason and by whomever.

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

/// What to do about a source that doesn't tell what refers to its images.
const WITHHELD: &str =
    "give the account the right to list them (referrers and tags), or set referrers: none for these images";

/// Finds referrers; the same for a whole run.
#[derive(Debug)]
pub struct Finder {
    stores: Arc<dyn Stores>,
    places: Mutex<HashMap<Repository, Arc<Place>>>,
}

/// What refers to one manifest.
#[derive(Debug, Default)]
pub struct Found {
    /// Each once, also when it is found in two ways: then with the tag, and as cosign's tags tell it, without artifact type.
    pub referrers: Vec<Referrer>,
    /// The index under the fallback tag, where the repository has no referrers API.
    pub index: Option<Manifest>,
    /// Why there may be more: the repository has refused to tell.
    pub withheld: Option<Error>,
}

/// A repository that is looked through.
#[derive(Debug)]
struct Place {
    source: Arc<dyn Source>,
    names: Names,
    found: OnceMap<Digest, Result<Arc<Found>>>,
    /// How it has first refused to tell.
    withheld: OnceLock<Error>,
    /// That was told.
    is_told: AtomicBool,
}

impl Finder {
    /// Asks the sources of `stores`.
    pub fn new(stores: Arc<dyn Stores>) -> Self {
        Self { stores, places: Mutex::default() }
    }

    /// What refers to each of `subjects` in `repository`, in their order. Ask about all of which it is known together:
    /// the more there are, the less each costs.
    ///
    /// # Errors
    /// What may pass, and a refused login, about any of them: an error is never "no signatures". Where the repository only
    /// refuses to tell, [`Found::withheld`] says so.
    pub async fn find(&self, repository: &Repository, subjects: &[Digest]) -> Result<Vec<Arc<Found>>> {
        self.find_each(repository, subjects).await.into_iter().collect()
    }

    /// What this run has already found to refer to `subject` in `repository`, if it has asked.
    pub async fn known(&self, repository: &Repository, subject: &Digest) -> Option<Arc<Found>> {
        let place = self.place(repository).ok()?;
        place.found.get(subject).await?.ok()?.ok()
    }

    /// As [`Finder::find`], where the failure of one isn't that of the others.
    pub async fn find_each(&self, repository: &Repository, subjects: &[Digest]) -> Vec<Result<Arc<Found>>> {
        let place = match self.place(repository) {
            Ok(place) => place,
            Err(error) => return subjects.iter().map(|_| Err(error.clone())).collect(),
        };
        place.names.expect(subjects);
        join_all(subjects.iter().map(|subject| Place::find(&place, subject))).await
    }

    /// How `repository` has refused to tell what refers to something, if it has in this run.
    pub fn withheld(&self, repository: &Repository) -> Option<Error> {
        self.place(repository).ok()?.withheld.get().cloned()
    }

    /// Warns, once in a run, that `repository` has refused to tell, and that its images are mirrored without knowing.
    pub fn warn_of_withheld(&self, repository: &Repository) {
        let Ok(place) = self.place(repository) else { return };
        if let Some(error) = place.withheld.get()
            && !place.is_told.swap(true, Ordering::Relaxed)
        {
            let hint = error.hint().unwrap_or_default();
            tracing::warn!("{repository}: whether anything refers to its images isn't known: {error}; {hint}");
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
        found.map_err(|lost| Error::defect(format!("find what refers to {subject}"), lost))?.0
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
        // Whoever keeps an index there has no other list.
        let refused = refused.filter(|_| found.index.is_none());
        let is_absent = listed.is_none() && found.index.is_none();
        let doubted = || (is_absent && source.refuses_questions()).then(|| doubted(source, subject));
        found.withheld = refused.or(refused_tag).or_else(doubted).map(explained);
        if let Some(error) = &found.withheld {
            // The first one stands for all.
            let _ = self.withheld.set(error.clone());
        }
        try_join_all(found.referrers.iter_mut().map(|one| self.tell_type(one))).await?;
        Ok(found)
    }

    /// What the tags of the repository tell of `subject`, of which the referrers API lists `listed`; and how it has refused to
    /// tell of one that it may have.
    async fn ask_for_tags(&self, subject: &Digest, listed: Option<Vec<Referrer>>) -> Result<(Found, Option<Error>)> {
        let source = &*self.source;
        let fallback = subject.referrers_tag();
        let cosign: Vec<Tag> = subject.cosign_tags().collect();
        // As many HEADs as it takes without the repository's list of tags.
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

    /// `answer` to a question about `tag`; `nothing` in place of a refusal, if the list of tags hasn't got that one.
    async fn unless_absent<T>(&self, tag: &Tag, answer: Result<T>, nothing: T) -> Result<Result<T, Error>> {
        let refusal = match unless_refused(answer)? {
            Ok(answer) => return Ok(Ok(answer)),
            Err(refusal) => refusal,
        };
        let known = self.names.listed(&self.source).await?;
        Ok(if known.is_some_and(|known| !known.contains(tag)) { Ok(nothing) } else { Err(refusal) })
    }

    /// Some who write a fallback index leave the artifact type out, by which a filter goes: then the manifest tells it. One
    /// that is gone stays as it is listed.
    async fn tell_type(&self, referrer: &mut Referrer) -> Result<()> {
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
    /// What refers to `subject`, of which `tagged` are found by cosign's tags.
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

/// `answer`, or how it was refused. What may pass is an error, as is a refused login: an error is never "nothing".
fn unless_refused<T>(answer: Result<T>) -> Result<Result<T, Error>> {
    match answer {
        Ok(answer) => Ok(Ok(answer)),
        Err(error) if error.is_refusal() && !error.kind().retry() => Ok(Err(error)),
        Err(error) => Err(error),
    }
}

/// Who refuses all questions says nothing by refusing this one.
fn doubted(source: &dyn Source, subject: &Digest) -> Error {
    let attempted = format!("list what refers to {subject} in {source}");
    Error::new(Kind::Unsupported, attempted, "the registry only gives what it is asked for by name, and lists nothing")
}

fn explained(refusal: Error) -> Error {
    refusal.on(Side::Source).with_hint(WITHHELD)
}

/// What `tag` names; a HEAD tells no artifact type, but the tag stands for one.
async fn tagged_as(source: &dyn Source, tag: &Tag) -> Result<Option<Referrer>> {
    match source.resolve(&Selector::Tag(tag.clone())).await {
        Ok(Descriptor { media_type, digest, .. }) => {
            Ok(Some(Referrer { digest, media_type, artifact_type: None, tag: Some(tag.clone()) }))
        }
        Err(error) if error.kind() == Kind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
