//! Requests and answers: retries, pauses, redirects, manifests, tags.

use super::*;

/// A registry with Bearer tokens and its own token service; `good` says which token it takes.

#[tokio::test]
async fn a_redirect_to_another_host_carries_no_authorization() {
    let elsewhere = Script::start(|asked| match asked.authorization.as_str() {
        "" => reply(200, &[], "blob"),
        _ => reply(400, &[], ""),
    })
    .await;
    let target = format!("http://{}/signed?x=secret", elsewhere.address);
    let script = Script::start(move |asked| match asked.authorization.as_str() {
        RIGHT => reply(307, &[("location", &target)], ""),
        _ => reply(401, &[("www-authenticate", "Basic realm=x")], ""),
    })
    .await;
    let store = script.store_with(user("p"));
    let blob: Vec<_> = store.blob(&digest(), 0).await.unwrap().collect().await;
    assert_eq!(blob.into_iter().map(Result::unwrap).collect::<Vec<_>>(), ["blob"]);
    assert_eq!(elsewhere.lines(), ["GET /signed?x=secret"]);
}

#[tokio::test]
async fn redirects_end() {
    let script = Script::start(|_| reply(307, &[("location", "/v2/again")], "")).await;
    let error = script.store().resolve(&tag("v1")).await.unwrap_err();
    assert_eq!((error.kind(), script.lines().len()), (Kind::Invalid, 11));
}

#[tokio::test]
async fn failures_are_retried_counted_and_told() {
    for (status, kind, tries) in
        [(503, Kind::Unavailable, 5), (429, Kind::RateLimited, 5), (404, Kind::NotFound, 1), (403, Kind::Denied, 1)]
    {
        let script = Script::start(move |_| reply(status, &[], "")).await;
        let hosts = script.hosts(RegistrySettings::default());
        let store = RegistryStores::new(Arc::clone(&hosts)).source(&script.repository()).unwrap();
        let error = store.manifest(&digest()).await.unwrap_err();
        assert_eq!((error.kind(), error.status(), error.attempts()), (kind, Some(status), tries));
        let stats = hosts.stats().remove(0);
        let throttled = if status == 429 { 5 } else { 0 };
        let tries = u64::from(tries);
        assert_eq!((stats.requests, stats.manifest_gets, stats.throttled), (tries, tries, throttled));
    }
}

#[tokio::test]
async fn a_used_up_quota_is_not_retried() {
    let headers = [("ratelimit-limit", "100;w=21600"), ("ratelimit-remaining", "0;w=21600")];
    let script = Script::start(move |_| reply(429, &headers, "You have reached your pull rate limit.")).await;
    let hosts = script.hosts(RegistrySettings::default());
    let store = RegistryStores::new(Arc::clone(&hosts)).source(&script.repository()).unwrap();
    assert!(!store.counts_pulls());
    assert_eq!(store.manifest(&digest()).await.unwrap_err().kind(), Kind::QuotaExceeded);
    assert!(store.counts_pulls());
    let quota = Quota { limit: 100, remaining: 0, window_seconds: Some(21600) };
    assert_eq!((script.lines().len(), hosts.stats()[0].quota), (1, Some(quota)));
}

#[tokio::test]
async fn retry_after_pauses_the_host_and_too_long_a_one_ends_the_request() {
    let script = Script::start(|_| reply(429, &[("retry-after", "100000")], "")).await;
    let error = script.store().resolve(&tag("v1")).await.unwrap_err();
    assert_eq!((error.attempts(), error.retry_after()), (1, Some(Duration::from_secs(100_000))));
    let script = Script::start(|_| reply(503, &[("retry-after", "600")], "")).await;
    let hosts = script.hosts(RegistrySettings::default());
    let host = hosts.host(script.repository().registry()).unwrap();
    let store = RegistryStores::new(hosts).source(&script.repository()).unwrap();
    let selector = tag("v1");
    let mut waiting = store.resolve(&selector);
    while !host.is_paused() {
        assert!(futures::poll!(&mut waiting).is_pending());
        tokio::task::yield_now().await;
    }
    assert!(futures::poll!(Box::pin(store.resolve(&selector))).is_pending());
    assert_eq!(script.lines().len(), 1);
}

#[tokio::test]
async fn without_a_digest_header_the_bytes_are_fetched() {
    let script = Script::start(|_| reply(200, &[("content-type", INDEX)], MANIFEST)).await;
    let store = script.store();
    assert_eq!(store.resolve(&tag("v1")).await.unwrap().digest, digest());
    assert_eq!(script.lines(), ["HEAD /v2/a/b/manifests/v1", "GET /v2/a/b/manifests/v1"]);
    assert_eq!(store.resolve(&Selector::Digest(digest())).await.unwrap().size, MANIFEST.len() as u64);
    assert_eq!(script.lines().len(), 3, "by digest, the size is enough");
}

#[tokio::test]
async fn answers_that_are_no_manifest_have_a_kind() {
    let v1 = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    for (content_type, body, kind) in [
        ("text/html", "<html>".to_owned(), Kind::Invalid),
        (INDEX, "{}".to_owned(), Kind::Mismatch),
        (v1, MANIFEST.to_owned(), Kind::Unsupported),
        (INDEX, "x".repeat(2000), Kind::Unsupported),
    ] {
        let script = Script::start(move |_| reply(200, &[("content-type", content_type)], body.clone())).await;
        let error = script.store().manifest(&digest()).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
    }
}
