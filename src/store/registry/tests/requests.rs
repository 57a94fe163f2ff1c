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
    let blob: Vec<_> = store.blob(&blob_of(4), 0).await.unwrap().collect().await;
    assert_eq!(blob.into_iter().map(Result::unwrap).collect::<Vec<_>>(), ["blob"]);
    assert_eq!(elsewhere.lines(), ["GET /signed?x=secret"]);
}

#[tokio::test]
async fn endless_redirects_are_given_up() {
    let script = Script::start(|_| reply(307, &[("location", "/v2/again")], "")).await;
    let error = script.store().resolve(&tag("v1")).await.unwrap_err();
    assert_eq!((error.kind(), script.lines().len()), (Kind::Invalid, 11));
}

#[tokio::test]
async fn failures_are_retried_counted_and_reported() {
    for (status, kind, tries) in [
        (500, Kind::Unavailable, 5),
        (507, Kind::Unavailable, 5),
        (501, Kind::Unsupported, 1),
        (404, Kind::NotFound, 1),
        (403, Kind::Denied, 1),
    ] {
        let script = Script::start(move |_| reply(status, &[], "")).await;
        let hosts = script.hosts(RegistrySettings::default());
        let store = RegistryStores::new(Arc::clone(&hosts)).source(&script.repository()).unwrap();
        let error = store.manifest(&digest()).await.unwrap_err();
        assert_eq!((error.kind(), error.status(), error.attempts()), (kind, Some(status), tries));
        let stats = hosts.stats().remove(0);
        let tries = u64::from(tries);
        assert_eq!((stats.requests, stats.manifest_gets, stats.throttled), (tries, tries, 0));
    }
}

#[tokio::test]
async fn a_host_in_trouble_is_given_up_after_the_allowed_time() {
    let odd = [520, 521, 522, 523, 524, 525, 526, 527, 529].map(|status| (status, Kind::Unavailable));
    let plain =
        [(429, Kind::RateLimited), (502, Kind::Unavailable), (503, Kind::Unavailable), (504, Kind::Unavailable)];
    for (status, kind) in odd.into_iter().chain(plain) {
        let script = Script::start(move |_| reply(status, &[], "")).await;
        let hosts = script.hosts(RegistrySettings::default());
        let store = RegistryStores::new(Arc::clone(&hosts)).source(&script.repository()).unwrap();
        let error = store.resolve(&tag("v1")).await.unwrap_err();
        assert_eq!((error.kind(), error.status(), error.retry()), (kind, Some(status), false));
        // No other repository was asked, so the problem may be this one's alone.
        assert!(error.attempts() > 5 && error.to_string().starts_with("resolve v1 in "), "{error}");
        let stats = hosts.stats().remove(0);
        let attempts = u64::from(error.attempts());
        assert_eq!((stats.requests, stats.throttled), (attempts, if status == 429 { attempts } else { 0 }));
        let same = store.resolve(&tag("v2")).await.unwrap_err().to_string();
        assert!(same.starts_with(&format!("reach a/b at {}: ", script.address)), "{same}");
        // Another repository gets no answer, either.
        let other = Repository::new(script.repository().registry().clone(), "a/c").unwrap();
        let store = RegistryStores::new(Arc::clone(&hosts)).source(&other).unwrap();
        let given_up = store.blob(&blob_of(1), 0).await.err().unwrap().to_string();
        assert!(given_up.starts_with(&format!("reach {}: ", script.address)), "{given_up}");
        let later = store.resolve(&tag("v2")).await.unwrap_err();
        assert_eq!(
            (later.to_string(), script.lines().len() as u64),
            (given_up, attempts + 1),
            "one more request, and no further one"
        );
    }
}

#[tokio::test]
async fn requests_wait_for_a_host_that_has_served_others_before() {
    let tries = AtomicUsize::new(0);
    let script = Script::start(move |asked| {
        match asked.line.contains("manifests/slow") && tries.fetch_add(1, Ordering::Relaxed) < 120 {
            true => reply(503, &[], ""),
            false => manifest_reply(),
        }
    })
    .await;
    let registry = script.repository().registry().clone();
    let hosts = Script::hosts_with(registry, RegistrySettings::default(), Duration::from_secs(60));
    let store = RegistryStores::new(hosts).source(&script.repository()).unwrap();
    store.resolve(&tag("good")).await.unwrap();
    let slow = tag("slow");
    let mut slow = std::pin::pin!(store.resolve(&slow));
    assert!(futures::poll!(&mut slow).is_pending());
    store.resolve(&tag("good")).await.unwrap();
    slow.await.unwrap();
    assert_eq!(script.count("/slow"), 121);
}

#[tokio::test]
async fn a_request_that_alone_gets_errors_fails_alone() {
    let script = Script::start(|asked| match asked.line.contains("manifests/bad") {
        true => reply(503, &[], ""),
        false => manifest_reply(),
    })
    .await;
    let store = script.store();
    store.resolve(&tag("good")).await.unwrap();
    let others = async {
        loop {
            store.resolve(&tag("good")).await.unwrap();
        }
    };
    let bad = tag("bad");
    let error = tokio::select! { error = store.resolve(&bad) => error.unwrap_err(), () = others => unreachable!() };
    assert_eq!((error.status(), error.attempts() as usize, error.is_final()), (Some(503), script.count("/bad"), true));
    assert!(error.to_string().contains("resolve bad in"), "{error}");
    store.resolve(&tag("good")).await.unwrap();
}

#[tokio::test]
async fn a_connection_closed_at_the_moment_of_use_costs_no_attempt() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let repository: Repository = format!("{}/a", listener.local_addr().unwrap()).parse().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            let mut asked = [0; 4096];
            let _ = tokio::io::AsyncReadExt::read(&mut connection, &mut asked).await;
            let answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
            tokio::io::AsyncWriteExt::write_all(&mut connection, answer).await.unwrap();
            // The next request on it is read, and never answered.
            let _ = tokio::io::AsyncReadExt::read(&mut connection, &mut asked).await;
        }
    });
    let store = RegistryStores::new(Script::hosts_of(repository.registry().clone(), RegistrySettings::default()));
    let store = store.source(&repository).unwrap();
    for _ in 0..3 {
        let error = store.resolve(&tag("v1")).await.unwrap_err();
        assert_eq!((error.kind(), error.attempts()), (Kind::NotFound, 1));
    }
    assert_eq!(connections.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn no_pull_is_sent_once_the_quota_is_known_to_be_exhausted() {
    let script = Script::start(|asked| match asked.line.split(' ').next() {
        Some("HEAD") => manifest_reply(),
        _ => reply(429, &[], "You have reached your pull rate limit."),
    })
    .await;
    let store = script.store();
    let wanted = digest();
    let pulls = (0..50).map(|_| store.manifest(&wanted));
    for pulled in futures::future::join_all(pulls).await {
        let error = pulled.unwrap_err();
        assert_eq!((error.kind(), error.status()), (Kind::QuotaExceeded, Some(429)), "{error}");
    }
    assert_eq!(script.count("GET "), 1);
    store.resolve(&tag("v1")).await.unwrap();
}

#[tokio::test]
async fn an_exhausted_quota_is_not_retried() {
    let headers = [("ratelimit-limit", "100;w=21600"), ("ratelimit-remaining", "0;w=21600")];
    let script = Script::start(move |_| reply(429, &headers, "You have reached your pull rate limit.")).await;
    let hosts = script.hosts(RegistrySettings::default());
    let store = RegistryStores::new(Arc::clone(&hosts)).source(&script.repository()).unwrap();
    assert!(!store.meters_pulls());
    assert_eq!(store.manifest(&digest()).await.unwrap_err().kind(), Kind::QuotaExceeded);
    assert!(store.meters_pulls());
    let quota = Quota { limit: 100, remaining: 0, window_seconds: Some(21600) };
    assert_eq!((script.lines().len(), hosts.stats()[0].quota), (1, Some(quota)));
}

#[tokio::test]
async fn retry_after_pauses_the_host_and_fails_the_request_if_too_long() {
    let script = Script::start(|_| reply(429, &[("retry-after", "100000")], "")).await;
    let error = script.store().resolve(&tag("v1")).await.unwrap_err();
    assert_eq!((error.attempts(), error.retry_after()), (1, Some(Duration::from_secs(100_000))));
    assert!(error.hint().unwrap().starts_with("run it again after 2"), "{error:?}");
    let date = httpdate::fmt_http_date(std::time::SystemTime::now() + Duration::from_secs(20));
    let script = Script::start(move |_| reply(503, &[("retry-after", &date)], "")).await;
    let limits = Limits::default();
    let hosts =
        Arc::new(Hosts::with_environment(BTreeMap::new(), &limits, Arc::new(NoChain), Environment::new(|_| None)));
    let host = hosts.host(script.repository().registry()).unwrap();
    let store = RegistryStores::new(Arc::clone(&hosts)).source(&script.repository()).unwrap();
    let selector = tag("v1");
    let mut waiting = store.resolve(&selector);
    tokio::select! {
        answered = &mut waiting => panic!("{answered:?}"),
        () = host.in_trouble() => {}
    }
    assert!(futures::poll!(Box::pin(store.resolve(&selector))).is_pending());
    assert_eq!((script.lines().len(), hosts.stats()[0].throttled), (1, 1));
}

#[tokio::test]
async fn without_a_digest_header_the_manifest_is_read() {
    let script = Script::start(|_| reply(200, &[("content-type", INDEX)], MANIFEST)).await;
    let store = script.store();
    assert_eq!(store.resolve(&tag("v1")).await.unwrap().digest, digest());
    assert_eq!(script.lines(), ["HEAD /v2/a/b/manifests/v1", "GET /v2/a/b/manifests/v1"]);
    assert_eq!(store.resolve(&Selector::Digest(digest())).await.unwrap().size, MANIFEST.len() as u64);
    assert_eq!(script.lines().len(), 3, "by digest, the size is enough");
}

#[tokio::test]
async fn answers_without_a_manifest_have_a_kind() {
    let v1 = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    for (content_type, body, kind) in [
        ("text/html", "<html>".to_owned(), Kind::Invalid),
        (INDEX, "{}".to_owned(), Kind::Mismatch),
        (v1, r#"{"layers":[]}"#.to_owned(), Kind::Unsupported),
        (INDEX, "x".repeat(2000), Kind::Unsupported),
    ] {
        let digest = if content_type == v1 { Digest::of(body.as_bytes()) } else { digest() };
        let script = Script::start(move |_| reply(200, &[("content-type", content_type)], body.clone())).await;
        let error = script.store().manifest(&digest).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
    }
}

/// A manifest that contains its media type, which isn't the one that [`manifest_reply`] sends.
const DOCKER: &str =
    r#"{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json","layers":[]}"#;

#[tokio::test]
async fn a_meaningless_content_type_is_ignored_and_the_manifest_is_read() {
    let docker = Digest::of(DOCKER.as_bytes());
    for (headers, asked) in [
        (&[("content-type", "text/plain; charset=utf-8")][..], 2),
        (&[("content-type", "application/json")], 2),
        (&[("content-type", "application/octet-stream")], 2),
        (&[("content-type", "text/html")], 2),
        (&[("content-type", "odd one")], 2),
        (&[], 2),
        (&[("content-type", "application/vnd.docker.distribution.manifest.v2+json; charset=utf-8")], 1),
    ] {
        let named = docker.clone();
        let script = Script::start(move |_| {
            let mut headers = headers.to_vec();
            headers.push(("docker-content-digest", named.as_str()));
            reply(200, &headers, DOCKER)
        })
        .await;
        let found = script.store().resolve(&tag("v1")).await.unwrap();
        let media_type = "application/vnd.docker.distribution.manifest.v2+json".parse().unwrap();
        assert_eq!(found, Descriptor { media_type, digest: docker.clone(), size: DOCKER.len() as u64 }, "{headers:?}");
        assert_eq!(script.lines().len(), asked, "{headers:?}");
    }
}

#[tokio::test]
async fn the_length_of_an_empty_answer_isnt_used_as_the_size() {
    let script = Script::start(|asked| match asked.line.starts_with("HEAD") {
        true => reply(
            200,
            &[("content-type", INDEX), ("docker-content-digest", digest().as_str()), ("content-length", "0")],
            "",
        ),
        false => manifest_reply(),
    })
    .await;
    let store = script.store();
    for selector in [tag("v1"), Selector::Digest(digest())] {
        assert_eq!(store.resolve(&selector).await.unwrap().size, MANIFEST.len() as u64);
    }
    assert_eq!(store.blob_size(&digest()).await.unwrap_err().kind(), Kind::Invalid);
    assert_eq!(store.blob_size(&Digest::of(b"")).await.unwrap(), Some(0));
}

#[tokio::test]
async fn requests_accept_every_manifest_type_and_no_encoding() {
    let script = Script::start(|asked| {
        let accepted: Vec<_> = asked.headers["accept"].to_str().unwrap().split(", ").collect();
        for media_type in [
            INDEX,
            "application/vnd.oci.image.manifest.v1+json",
            "application/vnd.oci.artifact.manifest.v1+json",
            "application/vnd.docker.distribution.manifest.list.v2+json",
            "application/vnd.docker.distribution.manifest.v2+json",
            "application/vnd.docker.distribution.manifest.v1+prettyjws",
            "*/*;q=0.1",
        ] {
            assert!(accepted.contains(&media_type), "{media_type}");
        }
        assert_eq!(asked.headers["accept-encoding"], "identity");
        manifest_reply()
    })
    .await;
    script.store().resolve(&tag("v1")).await.unwrap();
    script.store().manifest(&digest()).await.unwrap();
}

#[tokio::test]
async fn a_content_encoding_that_changes_the_bytes_is_named() {
    for encoding in ["gzip", "br", "deflate, gzip"] {
        let script = Script::start(move |_| {
            reply(200, &[("content-type", INDEX), ("content-encoding", encoding)], "\u{1f}\u{8b}x")
        })
        .await;
        let store = script.store();
        for error in [store.manifest(&digest()).await.unwrap_err(), store.resolve(&tag("v1")).await.unwrap_err()] {
            assert!(error.kind() == Kind::Mismatch && error.to_string().contains(encoding), "{error}");
            assert!(error.hint().unwrap().contains("compresses"));
        }
    }
    // An encoding that changes nothing is a label.
    for encoding in ["identity", "", "gzip"] {
        let script = Script::start(move |_| {
            reply(
                200,
                &[
                    ("content-type", INDEX),
                    ("content-encoding", encoding),
                    ("docker-content-digest", digest().as_str()),
                ],
                MANIFEST,
            )
        })
        .await;
        assert_eq!(script.store().manifest(&digest()).await.unwrap().digest(), &digest());
        assert_eq!(script.store().resolve(&tag("v1")).await.unwrap().digest, digest());
    }
}

#[tokio::test]
async fn a_refused_head_falls_back_to_get_and_is_remembered() {
    for status in [400, 401, 403, 405, 406, 415, 501] {
        let script = Script::start(move |asked| match asked.line.starts_with("HEAD") {
            true => reply(status, &[], ""),
            false => manifest_reply(),
        })
        .await;
        let hosts = script.hosts(RegistrySettings::default());
        let store = RegistryStores::new(Arc::clone(&hosts)).source(&script.repository()).unwrap();
        for name in ["v1", "v2"] {
            let (found, read) = store.resolve_whole(&tag(name)).await.unwrap();
            assert_eq!((found.digest, read.unwrap().digest()), (digest(), &digest()), "{status}");
        }
        // A pull is counted as one.
        assert_eq!(script.lines().iter().filter(|line| line.starts_with("HEAD")).count(), 1, "{status}");
        assert_eq!(hosts.stats()[0].manifest_gets, 2);
        // Where both are refused, the answer to the GET has the reason.
        let script =
            Script::start(move |asked| reply(status, &[], if asked.line.starts_with("HEAD") { "" } else { "because" }))
                .await;
        let stores = RegistryStores::new(script.hosts(RegistrySettings::default()));
        let error = stores.source(&script.repository()).unwrap().resolve(&tag("v1")).await.unwrap_err();
        assert!(error.status() == Some(status) && error.why().contains("because"), "{error}");
        // A target that refuses a HEAD isn't read by GET.
        script.store().resolve(&tag("v1")).await.unwrap_err();
        let is_a_right = matches!(status, 401 | 403);
        assert_eq!(script.count("GET"), if is_a_right { 1 } else { 2 }, "{status}");
    }
    for status in [404, 429, 500] {
        let script = Script::start(move |_| reply(status, &[], "")).await;
        script.store().resolve(&tag("v1")).await.unwrap_err();
        assert_eq!(script.count("GET"), 0, "{status}");
    }
}

#[tokio::test]
async fn a_child_of_an_unusual_type_is_requested_by_that_type() {
    const CHILD: &str = r#"{"schemaVersion":2,"mediaType":"application/vnd.example.manifest.v1+json","layers":[]}"#;
    let child = Digest::of(CHILD.as_bytes());
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{{"mediaType":"application/vnd.example.manifest.v1+json","digest":"{child}","size":{}}}]}}"#,
        CHILD.len()
    );
    let (digest, named) = (Digest::of(index.as_bytes()), child.clone());
    let script = Script::start(move |asked| {
        let accepted = asked.headers["accept"].to_str().unwrap();
        match asked.line.ends_with(named.as_str()) {
            false => reply(200, &[("content-type", INDEX)], index.clone()),
            true if accepted.split(", ").any(|one| one == "application/vnd.example.manifest.v1+json") => {
                reply(200, &[("content-type", "application/vnd.example.manifest.v1+json")], CHILD)
            }
            true => reply(404, &[], r#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#),
        }
    })
    .await;
    let store = script.store();
    assert_eq!(store.manifest(&child).await.unwrap_err().kind(), Kind::NotFound);
    store.manifest(&digest).await.unwrap();
    assert_eq!(store.manifest(&child).await.unwrap().media_type().as_str(), "application/vnd.example.manifest.v1+json");
}
