//! Manifests: what a tag names, and the bytes (distribution-spec, "Pulling manifests").
//!
//! A HEAD costs nothing and may tell all; what it says is a label, though, and the bytes say what they are.

use reqwest::header::ACCEPT;

use super::{DIGEST, RegistryStore, insert, length};
use crate::error::{Error, Kind, Result, Task};
use crate::oci::{self, Descriptor, Digest, Manifest, ManifestError, MediaType, Selector};
use crate::registry::{Action, Answer, Request};
use crate::store::Source as _;

impl RegistryStore {
    /// A request for a manifest, of any type that exists, and of its own if an index has told another.
    fn manifest_request(&self, action: Action, selector: &Selector) -> Result<Request> {
        let name = selector.as_str();
        let mut request = self.request(action, name, &format!("manifests/{name}"))?;
        let own = match selector {
            Selector::Digest(digest) => self.host.odd_types().of(digest),
            Selector::Tag(_) => None,
        };
        match own {
            Some(own) => insert(&mut request, ACCEPT, &format!("{}, {own}", oci::ACCEPT)),
            None => insert(&mut request, ACCEPT, oci::ACCEPT),
        }
        Ok(request)
    }

    /// What `selector` names: by a HEAD, or by the manifest itself where that doesn't tell.
    pub(super) async fn look_up(&self, selector: &Selector) -> Result<(Descriptor, Option<Manifest>)> {
        let mut refused = false;
        if !self.host.refuses_heads() {
            let request = self.manifest_request(Action::Resolve, selector)?;
            match self.host.send(&request).await {
                Ok(answer) => {
                    if let Some(descriptor) = Self::described(&request, selector, &answer)? {
                        return Ok((descriptor, None));
                    }
                }
                Err(error) if self.is_about_asking(&error) => refused = true,
                Err(error) => return Err(error),
            }
        }
        let manifest = self.get_manifest(selector).await?;
        if refused && !self.meters_pulls() {
            self.host.has_refused_heads();
        }
        Ok((manifest.descriptor().clone(), Some(manifest)))
    }

    /// Has the registry tell its pull quota, if it has one and it isn't known yet, by a HEAD, which isn't counted.
    pub(super) async fn learn_quota(&self, selector: &Selector) {
        let ask = || async {
            let request = self.manifest_request(Action::Resolve, selector)?;
            self.host.send(&request).await
        };
        self.host.learn_quota(self.repository.path(), ask).await;
    }

    pub(super) async fn get_manifest(&self, selector: &Selector) -> Result<Manifest> {
        let mut request = self.manifest_request(Action::PullManifest, selector)?;
        self.learn_quota(selector).await;
        let path = self.repository.path();
        let wanted = (path.to_owned(), selector.as_str().to_owned());
        request.ticket = Some(self.host.budget(path).await.ticket(wanted, self.host.in_trouble()).await);
        let mut answer = self.host.send(&request).await?;
        if let Selector::Digest(digest) = selector
            && is_damaged(&answer, digest)
        {
            tracing::debug!("{}: other bytes came, reading it once more", request.attempted);
            answer = self.host.send(&request).await?;
        }
        let digest = match selector {
            Selector::Digest(digest) if digest.matches(&answer.body) => digest.clone(),
            _ if answer.is_markup() => return Err(answer.unreadable(&request, "")),
            Selector::Digest(_) if answer.is_web_page() => return Err(answer.unreadable(&request, "")),
            Selector::Digest(_) => {
                let why = format!("the {} bytes that came hash to {}", answer.body.len(), Digest::of(&answer.body));
                return Err(answer.mismatch(&request, why));
            }
            Selector::Tag(_) => Digest::of(&answer.body),
        };
        let read = Manifest::new(digest, answer.content_type(), answer.body.clone());
        let manifest = read.map_err(|error| match error {
            ManifestError::Schema1 => schema1(&request),
            ManifestError::Invalid(_) if answer.encoding().is_some() => answer.mismatch(&request, error.to_string()),
            ManifestError::Invalid(_) => request.error(Kind::Invalid, error.to_string()),
        })?;
        self.host.odd_types().learn(&manifest);
        Ok(manifest)
    }

    /// Whether a HEAD may be refused where a GET isn't: some proxies don't know the method, and some rights are for reading
    /// alone. Where a 401 asks who we are, that was tried; and a target that refuses to tell isn't read instead.
    fn is_about_asking(&self, error: &Error) -> bool {
        let may_be = match error.status() {
            Some(400 | 405 | 406 | 415 | 501) => true,
            Some(403) => self.is_source,
            Some(401) => self.is_source && !self.host.asks_who_we_are(),
            _ => false,
        };
        may_be && error.task() == Some(Task::Resolve)
    }

    /// What a HEAD tells; `None` if it doesn't tell all, or not what it is about: a label that anything may have, or the length
    /// of its own empty body.
    fn described(request: &Request, selector: &Selector, answer: &Answer) -> Result<Option<Descriptor>> {
        let media_type = answer.content_type().and_then(|text| text.parse::<MediaType>().ok());
        let Some(media_type) = media_type.filter(|media_type| !media_type.is_generic()) else {
            return Ok(None);
        };
        if media_type.is_schema1() {
            return Err(schema1(request));
        }
        let told = answer.header(DIGEST).and_then(|text| text.parse::<Digest>().ok());
        let digest = match selector {
            Selector::Digest(digest) if told.is_none() => Some(digest.clone()),
            // Another digest than the one asked for: only the bytes can tell.
            Selector::Digest(digest) => told.filter(|told| told == digest),
            Selector::Tag(_) => told,
        };
        let size = length(answer).filter(|size| *size > 0 && answer.encoding().is_none());
        Ok(digest.zip(size).map(|(digest, size)| Descriptor { media_type, digest, size }))
    }
}

/// Whether the bytes may have been damaged on their way: neither a page nor an encoding explains that they are others.
fn is_damaged(answer: &Answer, digest: &Digest) -> bool {
    !digest.matches(&answer.body) && !answer.is_web_page() && answer.encoding().is_none()
}

fn schema1(request: &Request) -> Error {
    request
        .error(Kind::Unsupported, ManifestError::Schema1.to_string())
        .with_hint("ask its publisher for a current image: Docker schema 1 can't be mirrored byte for byte")
}
