//! Lists of tags and referrers, in pages (distribution-spec, "Listing Tags", "Listing Referrers").
//!
//! A list is complete or an error. A repeated page, a page on another host, and too many pages are errors.

use std::collections::HashSet;

use http::header::{ACCEPT, HeaderValue, LINK};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::RegistryStore;
use crate::error::{Kind, Result};
use crate::oci::{Digest, MediaType, Referrer, Selector, Tag, bounds};
use crate::registry::{Absence, Action, Answer, Request, is_same_origin};
use crate::store::{self, Referrers, Source as _};

#[derive(Deserialize)]
struct TagPage {
    /// GHCR and Nexus return `null` for an empty list.
    tags: Option<Vec<Option<String>>>,
}

impl RegistryStore {
    /// All tags; `None` if they have more than `most` pages.
    pub(super) async fn list_tags(&self, most: usize) -> Result<Option<Vec<Tag>>> {
        let request = self.request(Action::ListTags, "", &format!("tags/list?n={}", self.host.tag_page()))?;
        let mut tags = Vec::new();
        let read = |request: &Request, answer: &Answer| {
            let page: TagPage = serde_json::from_slice(&answer.body).map_err(|e| answer.unreadable(request, e))?;
            // Names that violate the grammar can't be requested: Artifactory lists digests here.
            tags.extend(page.tags.into_iter().flatten().flatten().filter_map(|text| text.parse::<Tag>().ok()));
            Ok(())
        };
        let whole = self.pages(request, most, read).await?;
        Ok(whole.then_some(tags))
    }

    /// The referrers that the API lists for `subject`; `None` if there is no such API, or it doesn't know the
    /// repository. (Some registries take the path of the API for that of a repository, so only the fallback tag can
    /// tell.) The registry isn't asked to filter: several artifact types may be wanted, but the API accepts only
    /// one, and cosign's tags stand for types that it doesn't know.
    pub(super) async fn list_referrers(&self, subject: &Digest) -> Result<Option<Vec<Referrer>>> {
        match self.host.referrers_api().ask(|| self.ask_for_referrers(subject)).await? {
            Ok(listed) => Ok(Some(listed)),
            Err(Absence::Api | Absence::Repository) => Ok(None),
        }
    }

    async fn ask_for_referrers(&self, subject: &Digest) -> Result<Result<Vec<Referrer>, Absence>> {
        let mut request = self.request(Action::ListReferrers, subject.as_str(), &format!("referrers/{subject}"))?;
        request.headers.insert(ACCEPT, HeaderValue::from_static(MediaType::OCI_INDEX));
        let (mut listed, mut seen, mut absent) = (Vec::new(), HashSet::from([subject.clone()]), None);
        let mut is_first = true;
        let read = |request: &Request, answer: &Answer| {
            match answer.absence() {
                None => {
                    let page = referrers_in(request, answer)?;
                    listed.extend(page.into_iter().filter(|referrer| seen.insert(referrer.digest.clone())));
                    if listed.len() > bounds::REFERRERS {
                        let why = format!("more than {} manifests refer to it", bounds::REFERRERS);
                        return Err(request.error(Kind::Invalid, why));
                    }
                }
                absence if is_first => absent = absence,
                Some(_) => return Err(answer.failure(request)),
            }
            is_first = false;
            Ok(())
        };
        self.pages(request, bounds::PAGES, read).await?;
        Ok(absent.map_or(Ok(listed), Err))
    }

    /// The content of the fallback tag of `subject`.
    pub(super) async fn fallback(&self, subject: &Digest) -> Result<Referrers> {
        if self.meters_pulls() {
            return store::fallback_by_digest(self, subject).await;
        }
        match self.get_manifest(&Selector::Tag(subject.referrers_tag())).await {
            Ok(found) => Ok(Referrers::under_tag(found, subject)),
            Err(error) if error.kind() == Kind::NotFound => Ok(Referrers::Tagged(None)),
            Err(error) => Err(error),
        }
    }

    /// Reads at most `most` pages of a list with `read`. Returns whether the list is complete.
    async fn pages(
        &self,
        mut request: Request,
        most: usize,
        mut read: impl FnMut(&Request, &Answer) -> Result<()> + Send,
    ) -> Result<bool> {
        let mut seen = HashSet::from([request.url.clone()]);
        let mut bytes = 0;
        loop {
            let answer = self.host.send(&request).await?;
            bytes += answer.body.len() as u64;
            if bytes > bounds::LIST {
                let why = format!("the list is larger than {} MiB and may be endless", bounds::LIST >> 20);
                return Err(request.error(Kind::Invalid, why));
            }
            read(&request, &answer)?;
            let Some(next) = self.next_page(&request, &answer)? else { return Ok(true) };
            if !seen.insert(next.clone()) {
                return Err(request.error(Kind::Invalid, "the pages of the list form a loop"));
            }
            if seen.len() > bounds::PAGES {
                return Err(request.error(Kind::Invalid, format!("the list has more than {} pages", bounds::PAGES)));
            }
            if seen.len() > most {
                return Ok(false);
            }
            request.url = next;
        }
    }

    /// The next page. At the registry itself only the path and query of the link are used: a proxy may have set a
    /// wrong scheme or port.
    fn next_page(&self, request: &Request, answer: &Answer) -> Result<Option<url::Url>> {
        let unreadable = |text: &str| {
            let why = format!("can't parse the link to the next page: Link: {}", text.escape_debug());
            request
                .error(Kind::Invalid, why)
                .with_hint("the list may be truncated: a proxy in front of the registry may have changed the header")
        };
        for value in answer.headers.get_all(LINK) {
            let text = String::from_utf8_lossy(value.as_bytes());
            let Some(target) = next_link(&text).map_err(|()| unreadable(&text))? else { continue };
            let next = self.host.located(answer, target).map_err(|_| unreadable(&text))?;
            let base = self.host.base();
            if next.host_str() == base.host_str() {
                let mut url = base.clone();
                url.set_path(next.path());
                url.set_query(next.query());
                return Ok(Some(url));
            }
            // A host that a redirect led to may continue on itself.
            if is_same_origin(&next, &answer.url) {
                return Ok(Some(next));
            }
            return Err(request.error(Kind::Invalid, "the next page of the list is on another host"));
        }
        Ok(None)
    }
}

/// The entries of one page. JSON that isn't a list of manifests is an error; otherwise a proxy's answer could pass
/// for an empty list.
fn referrers_in(request: &Request, answer: &Answer) -> Result<Vec<Referrer>> {
    let is_json = |text: &str| text.split(';').next().unwrap_or_default().trim().ends_with("json");
    if answer.content_type().is_some_and(|text| !is_json(text)) {
        return Err(answer.unreadable(request, "it isn't JSON"));
    }
    let members: Map<String, Value> =
        serde_json::from_slice(&answer.body).map_err(|e| answer.unreadable(request, e))?;
    if !members.contains_key("manifests") {
        return Err(answer.unreadable(request, "it isn't an index"));
    }
    Referrer::in_index(&answer.body).map_err(|e| answer.unreadable(request, e))
}

/// The target of `rel=next` in a `Link` header (RFC 8288), or of a link without a relation, as some registries only
/// send that link.
///
/// # Errors
/// If the header can't be parsed: ignoring it would truncate the list.
pub(crate) fn next_link(value: &str) -> Result<Option<&str>, ()> {
    let between = |c: char| c.is_ascii_whitespace() || c == ',';
    let mut rest = value.trim_start_matches(between);
    while !rest.is_empty() {
        let (target, after) = rest.strip_prefix('<').and_then(|rest| rest.split_once('>')).ok_or(())?;
        let (parameters, after) = parameters(after);
        let relation = parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case("rel")).map(|(_, value)| *value);
        if relation.is_none_or(|words| words.split_ascii_whitespace().any(|word| word.eq_ignore_ascii_case("next"))) {
            return if target.trim().is_empty() { Err(()) } else { Ok(Some(target.trim())) };
        }
        rest = after.trim_start_matches(between);
    }
    Ok(None)
}

/// The parameters of a link at the start of `text`, and the rest.
fn parameters(text: &str) -> (Vec<(&str, &str)>, &str) {
    let mut parameters = Vec::new();
    let mut rest = text.trim_start();
    while let Some(after) = rest.strip_prefix(';') {
        let after = after.trim_start();
        let end = after.find(['=', ';', ',']).unwrap_or(after.len());
        let (key, after) = after.split_at(end);
        let Some(value) = after.strip_prefix('=').map(str::trim_start) else {
            parameters.push((key.trim(), ""));
            rest = after;
            continue;
        };
        let (value, after) = match value.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => value.split_at(value.find([';', ',']).unwrap_or(value.len())),
        };
        parameters.push((key.trim(), value.trim()));
        rest = after.trim_start();
    }
    (parameters, rest)
}
