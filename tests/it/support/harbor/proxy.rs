//! A proxy-cache project: missing content is read from its upstream, and kept once a test lets time pass.
//!
//! HEAD of a manifest always goes to the upstream, HEAD of a blob never. Manifests are kept byte for byte, but an
//! index is rewritten with only the children that were pulled, and so gets another digest.

use axum::extract::Request;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use bytes::Bytes;
use serde_json::Value;
use transship::oci::{Digest, Manifest, Selector};
use transship::store::Target as _;

use super::data::Asked;
use super::{Harbor, Shared, refusal};
use crate::support::images::{Blob, tagged};

/// Content that came from an upstream and isn't stored yet.
#[derive(Debug, Clone)]
pub(crate) struct Pulled {
    repository: String,
    kind: &'static str,
    media_type: String,
    body: Bytes,
}

/// A requested tag: for a while Harbor sets it on its manifest, once that is stored.
#[derive(Debug, Clone)]
pub(crate) struct Named {
    repository: String,
    tag: String,
    digest: String,
}

/// The answer to a read. Blobs and referrers are looked up only here, not at the upstream.
pub(super) async fn answer(state: &Shared, upstream: &str, request: Request, asked: &Asked, next: Next) -> Response {
    let is_head = request.method() == Method::HEAD;
    let name = asked.manifest.as_ref().map(|name| ("manifests", name));
    let blob = asked.blob.as_ref().filter(|_| !is_head).map(|digest| ("blobs", digest));
    let accept = request.headers().get("accept").cloned();
    let here = next.run(request).await;
    let is_asked_upstream = here.status() == StatusCode::NOT_FOUND || is_head && name.is_some();
    let Some((kind, name)) = name.or(blob).filter(|_| is_asked_upstream) else { return here };
    let path = asked.repository.split_once('/').map_or("", |(_, path)| path);
    let url = format!("http://{upstream}/v2/{path}/{kind}/{name}");
    let ask = async |method: reqwest::Method| {
        let request = reqwest::Client::new().request(method, &url);
        let request = accept.iter().fold(request, |request, accept| request.header("accept", accept.clone()));
        let answer = request.send().await?.error_for_status()?;
        Ok::<_, reqwest::Error>((answer.headers().clone(), answer.bytes().await?))
    };
    let found = match kind {
        "manifests" => match ask(reqwest::Method::HEAD).await {
            Ok(found) if is_head => Ok(found),
            Ok(_) => ask(reqwest::Method::GET).await,
            Err(error) => Err(error),
        },
        // Once for the client, and once to store it.
        _ => ask(reqwest::Method::GET).await.and(ask(reqwest::Method::GET).await),
    };
    let Ok((told, body)) = found else {
        if here.status().is_success() {
            return here;
        }
        return refusal(404, "NOT_FOUND", &format!("artifact {}:{name} not found", asked.repository));
    };
    remember(state, asked, (kind, name), (&told, &body), is_head);
    let mut headers = HeaderMap::new();
    let is_read_by_tag = kind == "manifests" && !is_head && !name.contains(':');
    for header in ["content-type", "content-length", "docker-content-digest", "etag"] {
        if let Some(value) = told.get(header) {
            headers.insert(header, value.clone());
        }
    }
    if is_read_by_tag {
        headers.insert("docker-content-digest", "".parse().expect("a header value"));
        headers.insert("etag", "".parse().expect("a header value"));
    }
    (headers, body).into_response()
}

fn remember(
    state: &Shared,
    asked: &Asked,
    (kind, name): (&'static str, &String),
    (told, body): (&HeaderMap, &Bytes),
    is_head: bool,
) {
    let repository = asked.repository.clone();
    let header = |name| told.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let mut world = state.lock();
    if is_head && !name.contains(':') {
        world.named.push(Named { repository, tag: name.clone(), digest: header("docker-content-digest") });
    } else if !is_head {
        world.pulled.push(Pulled { repository, kind, media_type: header("content-type"), body: body.clone() });
    }
}

impl Harbor {
    /// Lets time pass: content pulled through proxy caches is stored.
    pub(crate) async fn settle(&self) {
        let (pulled, named) = {
            let mut world = self.state.lock();
            (std::mem::take(&mut world.pulled), std::mem::take(&mut world.named))
        };
        let of = |kind| pulled.iter().filter(move |one| one.kind == kind);
        for one in of("blobs") {
            let blob = Blob::new("application/octet-stream", one.body.clone());
            blob.push(&self.inside(&one.repository)).await.expect("a direct push");
        }
        let is_index = |one: &&Pulled| one.media_type.contains("index") || one.media_type.contains("list");
        let (indexes, images): (Vec<&Pulled>, Vec<&Pulled>) = of("manifests").partition(is_index);
        let kept: Vec<Digest> = images.iter().map(|one| Digest::of(&one.body)).collect();
        for one in images.iter().chain(&indexes) {
            let original = Digest::of(&one.body);
            let body = if is_index(one) { written_anew(&one.body, &kept) } else { one.body.clone() };
            let repository = self.inside(&one.repository);
            let manifest = Manifest::new(Digest::of(&body), Some(&one.media_type), body).expect("a manifest");
            repository.push_manifest(&manifest, &Selector::Digest(manifest.digest().clone())).await.expect("a push");
            let is_it = |name: &&Named| name.repository == one.repository && name.digest == original.as_str();
            for name in named.iter().filter(is_it) {
                repository.push_manifest(&manifest, &tagged(&name.tag)).await.expect("a push");
            }
        }
    }
}

/// An index as Harbor stores it.
fn written_anew(index: &[u8], kept: &[Digest]) -> Bytes {
    let mut index: Value = serde_json::from_slice(index).expect("JSON");
    let children = index["manifests"].as_array_mut().expect("an index");
    children.retain(|child| kept.iter().any(|kept| child["digest"] == kept.as_str()));
    format!("{index:#}").into()
}
