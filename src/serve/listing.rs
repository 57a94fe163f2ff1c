//! Lists: tags in pages, and referrers (distribution-spec, "Listing Tags", "Listing Referrers").

use axum::http::HeaderName;
use axum::http::header::{CONTENT_TYPE, LINK};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use super::reply::{Code, Refusal};
use super::{Served, parameter};
use crate::error::Kind;
use crate::oci::{Digest, MediaType, Referrer, Repository};

impl Served {
    pub(super) async fn list_tags(&self, repository: &Repository, query: Option<&str>) -> Result<Response, Refusal> {
        let asked = parameter(query, "n").map(|n| n.parse::<usize>()).transpose();
        let asked = asked.map_err(|_| Refusal::new(Code::PageInvalid, "n isn't a number"))?;
        let count = asked.unwrap_or(usize::MAX).min(self.options.page);
        let read = async { self.world.source(repository)?.tags().await };
        let mut tags = read.await.map_err(|e| Refusal::of(&e, Code::NameUnknown))?;
        tags.sort();
        if let Some(last) = parameter(query, "last") {
            tags.retain(|tag| tag.as_str() > last.as_str());
        }
        let more = tags.len() > count;
        tags.truncate(count);
        let body = json!({ "name": repository.path(), "tags": tags }).to_string();
        let mut response = ([(CONTENT_TYPE, "application/json")], body).into_response();
        if let Some(last) = tags.last().filter(|_| more) {
            // Relative to the host, as in the specification's examples.
            let link = format!("</v2/{}/tags/list?n={count}&last={last}>; rel=\"next\"", repository.path());
            response.headers_mut().insert(LINK, link.parse().expect("names, tags and digits"));
        }
        Ok(response)
    }

    pub(super) async fn list_referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
        query: Option<&str>,
    ) -> Result<Response, Refusal> {
        let manifests = match self.world.manifests(repository).await {
            Ok(manifests) => manifests,
            // No referrers, which isn't an error.
            Err(e) if e.kind() == Kind::NotFound => Vec::new(),
            Err(e) => return Err(Refusal::of(&e, Code::ManifestUnknown)),
        };
        let filter = parameter(query, "artifactType");
        let wanted = |found: &Value| filter.as_deref().is_none_or(|filter| found["artifactType"] == filter);
        let referrers: Vec<Value> = manifests
            .iter()
            .filter(|manifest| manifest.subject().is_some_and(|of| of.digest == *subject))
            .map(Referrer::entry)
            .filter(wanted)
            .collect();
        // The world lists manifests in a stable order: a page begins after the last entry of the previous one.
        let last = parameter(query, "last");
        let skip = last.and_then(|last| Some(referrers.iter().position(|entry| entry["digest"] == last)? + 1));
        let mut page: Vec<Value> = referrers.into_iter().skip(skip.unwrap_or(0)).collect();
        let more = page.len() > self.options.page;
        page.truncate(self.options.page);
        let last = page.last().filter(|_| more).and_then(|entry| entry["digest"].as_str().map(str::to_owned));
        let index = json!({ "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": page });
        let mut response = ([(CONTENT_TYPE, MediaType::OCI_INDEX)], index.to_string()).into_response();
        if let Some(last) = last {
            let mut next = url::form_urlencoded::Serializer::new(String::new());
            next.append_pair("last", &last).extend_pairs(filter.iter().map(|filter| ("artifactType", filter)));
            let link = format!("</v2/{}/referrers/{subject}?{}>; rel=\"next\"", repository.path(), next.finish());
            response.headers_mut().insert(LINK, link.parse().expect("names and what is encoded"));
        }
        if filter.is_some() {
            let name = HeaderName::from_static("oci-filters-applied");
            response.headers_mut().insert(name, "artifactType".parse().expect("a constant value"));
        }
        Ok(response)
    }
}
