//! Manifests: resolving tags, and reading the bytes (distribution-spec, "Pulling manifests").
//!
//! A HEAD is free and may be enough. But its headers are only labels; the bytes are authoritative.

use http::header::ACCEPT;

use super::{DIGEST, RegistryStore, insert, length};
use crate::error::{Error, Kind, Result, Side, Task};
use crate::oci::{self, Descriptor, Digest, Manifest, ManifestError, MediaType, Mismatch, Selector};
use crate::registry::{Action, Answer, Request};
use crate::store::Source as _;

impl RegistryStore {
    /// A request for a manifest: it accepts every known type, and the type that an index has declared, if any.
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

    /// Resolves `selector`: by a HEAD, or by the manifest itself if the answer isn't sufficient.
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
            self.host.record_refused_head();
        }
        Ok((manifest.descriptor().clone(), Some(manifest)))
    }

    /// Learns the registry's pull quota, if it has one and it isn't known yet, by a HEAD, which isn't metered.
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
        let is_right = |answer: &Answer| match selector {
            Selector::Digest(digest) => digest.matches(&answer.body),
            Selector::Tag(_) => true,
        };
        let mut answer = self.host.send(&request).await?;
        let mut is_sound = is_right(&answer);
        if !is_sound && may_be_damaged(&answer) {
            tracing::debug!("{}: got wrong bytes, reading it again", request.attempted);
            answer = self.host.send(&request).await?;
            is_sound = is_right(&answer);
        }
        let digest = match selector {
            Selector::Digest(digest) if is_sound => digest.clone(),
            _ if answer.is_markup() => return Err(answer.unreadable(&request, "")),
            Selector::Digest(_) if answer.is_web_page() => return Err(answer.unreadable(&request, "")),
            Selector::Digest(digest) => {
                let mismatch = Mismatch::Digest { expected: digest.clone(), got: Digest::of(&answer.body) };
                return Err(answer.mismatch(&request, mismatch.to_string()));
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

    /// Whether a HEAD may be refused although a GET isn't: some proxies don't support the method, and some
    /// permissions cover only reading. A 401 that asked for credentials was already answered with them, and a
    /// target that refuses a HEAD isn't read by GET.
    fn is_about_asking(&self, error: &Error) -> bool {
        let may_be = match error.status() {
            Some(400 | 405 | 406 | 415 | 501) => true,
            Some(403) => self.side == Side::Source,
            Some(401) => self.side == Side::Source && !self.host.has_asked_for_credentials(),
            _ => false,
        };
        may_be && error.task() == Some(Task::Resolve)
    }

    /// The descriptor in the answer to a HEAD; `None` if it is incomplete or unreliable: a generic content type, or
    /// the length of the answer's own empty body.
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
            // If the digest isn't the requested one, only the bytes can tell.
            Selector::Digest(digest) => told.filter(|told| told == digest),
            Selector::Tag(_) => told,
        };
        let size = length(answer).filter(|size| *size > 0 && answer.encoding().is_none());
        Ok(digest.zip(size).map(|(digest, size)| Descriptor { media_type, digest, size }))
    }
}

/// Whether wrong bytes may have been damaged in transit, because neither an HTML page nor an encoding explains them.
fn may_be_damaged(answer: &Answer) -> bool {
    !answer.is_web_page() && answer.encoding().is_none()
}

fn schema1(request: &Request) -> Error {
    request
        .error(Kind::Unsupported, ManifestError::Schema1.to_string())
        .with_hint("ask its publisher for a current image: Docker schema 1 can't be mirrored byte for byte")
}
