//! Single requests to the registry in this process, for tests of the protocol itself.

use reqwest::header::HeaderMap;
use serde_json::Value;

use super::registry::Registry;

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("a text"))
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e} in {self:?}"))
    }

    /// The status and the first error's code.
    pub(crate) fn refusal(&self) -> (u16, String) {
        (self.status, self.json()["errors"][0]["code"].as_str().unwrap_or_default().to_owned())
    }
}

/// The manifest types that clients accept.
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// One request with the given headers; by default it accepts every type of manifest.
pub(crate) async fn ask(
    registry: &Registry,
    request: &str,
    headers: &[(&str, &str)],
    body: impl Into<reqwest::Body>,
) -> Answer {
    let (method, path) = request.split_once(' ').expect("METHOD PATH");
    let url = if path.starts_with('/') { registry.url(path) } else { path.to_owned() };
    match headers.iter().any(|(name, _)| *name == "accept") {
        true => send(&url, method, headers, body).await,
        false => send(&url, method, &[headers, &[("accept", MANIFESTS)]].concat(), body).await,
    }
}

/// One request to a URL.
pub(crate) async fn send(url: &str, method: &str, headers: &[(&str, &str)], body: impl Into<reqwest::Body>) -> Answer {
    let request = reqwest::Client::new().request(method.parse().expect("a method"), url).body(body);
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let response = request.send().await.expect("an answer");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Answer { status, headers, body: response.bytes().await.expect("a body").to_vec() }
}

pub(crate) async fn get(registry: &Registry, path: &str) -> Answer {
    ask(registry, &format!("GET {path}"), &[], "").await
}
