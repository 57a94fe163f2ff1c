//! A proxy-cache project: what isn't there is asked of its upstream, and what comes isn't kept, as a test is over before
//! Harbor gets to it.

use axum::extract::Request;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::data::Asked;
use super::refusal;

/// The answer to a request that reads. Blobs are looked for here alone, and so are referrers.
pub(super) async fn answer(upstream: &str, request: Request, asked: &Asked, next: Next) -> Response {
    let is_head = request.method() == Method::HEAD;
    let name = asked.manifest.as_ref().map(|name| ("manifests", name));
    let blob = asked.blob.as_ref().filter(|_| !is_head).map(|digest| ("blobs", digest));
    let accept = request.headers().get("accept").cloned();
    let here = next.run(request).await;
    let Some((kind, name)) = name.or(blob).filter(|_| here.status() == StatusCode::NOT_FOUND) else { return here };
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
        // Once for the client, and once to keep it.
        _ => ask(reqwest::Method::GET).await.and(ask(reqwest::Method::GET).await),
    };
    let Ok((told, body)) = found else {
        return refusal(404, "NOT_FOUND", &format!("artifact {}:{name} not found", asked.repository));
    };
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
