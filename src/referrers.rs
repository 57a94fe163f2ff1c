//! What refers to a manifest, found in every way: by the referrers API, or the fallback tag where a registry has none, and
//! by the tags under which cosign keeps signatures, attestations and SBOMs.
//!
//! A repository is asked once about each subject, for whatever reason and by whomever.

mod names;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::{join_all, try_join_all};

use self::names::Names;
use crate::error::{Error, Kind, Result};
use crate::oci::{self, Descriptor, Digest, Manifest, Referrer, Repository, Selector, Tag};
use crate::once::OnceMap;
use crate::store::{Referrers, Source, Stores};

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
}

/// A repository that is looked through.
#[derive(Debug)]
struct Place {
    source: Arc<dyn Source>,
    names: Names,
    found: OnceMap<Digest, Result<Arc<Found>>>,
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
    /// Any answer but a clear yes or no, about any of them: an error is never "no signatures".
    pub async fn find(&self, repository: &Repository, subjects: &[Digest]) -> Result<Vec<Arc<Found>>> {
        self.find_each(repository, subjects).await.into_iter().collect()
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

    fn place(&self, repository: &Repository) -> Result<Arc<Place>> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = places.get(repository) {
            return Ok(Arc::clone(place));
        }
        let source = self.stores.source(repository)?;
        let place = Arc::new(Place { source, names: Names::default(), found: OnceMap::default() });
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
        let mut listed = source.listed_referrers(subject).await?;
        if listed.as_ref().is_some_and(Vec::is_empty) && source.may_miss_referrers().await {
            listed = None;
        }
        let fallback = subject.referrers_tag();
        let cosign: Vec<Tag> = subject.cosign_tags().collect();
        // As many HEADs as it takes without the repository's list of tags.
        let heads = cosign.len() + usize::from(listed.is_none());
        let known = self.names.known(&self.source, heads).await?;
        let may_exist = |tag: &Tag| known.as_ref().is_none_or(|known| known.contains(tag));
        let by_subject = async {
            match listed {
                Some(listed) => Ok(Referrers::Listed(listed)),
                None if may_exist(&fallback) => source.tagged_referrers(subject).await,
                None => Ok(Referrers::Tagged(None)),
            }
        };
        let by_tag = try_join_all(cosign.iter().filter(|tag| may_exist(tag)).map(|tag| tagged(source, tag)));
        let (by_subject, by_tag) = futures::try_join!(by_subject, by_tag)?;
        let mut found = Found::of(subject, by_tag.into_iter().flatten().collect(), by_subject);
        try_join_all(found.referrers.iter_mut().map(|one| self.tell_type(one))).await?;
        Ok(found)
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
        Self { referrers: all.filter(|referrer| seen.insert(referrer.digest.clone())).collect(), index }
    }
}

/// What `tag` names; a HEAD tells no artifact type, but the tag stands for one.
async fn tagged(source: &dyn Source, tag: &Tag) -> Result<Option<Referrer>> {
    match source.resolve(&Selector::Tag(tag.clone())).await {
        Ok(Descriptor { media_type, digest, .. }) => {
            Ok(Some(Referrer { digest, media_type, artifact_type: None, tag: Some(tag.clone()) }))
        }
        Err(error) if error.kind() == Kind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
