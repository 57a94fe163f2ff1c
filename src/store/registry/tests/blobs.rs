//! Blob transfers, in both directions.

use super::*;

#[tokio::test]
async fn a_blob_download_is_resumed_only_at_the_right_offset() {
    let ranged =
        |range: &'static str, body: &'static str| move |_: &Question| reply(206, &[("content-range", range)], body);
    let whole = Script::start(|_| reply(200, &[], "abcdef")).await;
    let right = Script::start(ranged("bytes 3-5/6", "def")).await;
    let wrong = Script::start(ranged("bytes 2-5/6", "cdef")).await;
    for (script, expected) in [(whole, Ok("def")), (right, Ok("def")), (wrong, Err(Kind::Unsupported))] {
        let got = match script.store().blob(&blob_of(6), 3).await {
            Ok(stream) => Ok(stream.map(Result::unwrap).collect::<Vec<_>>().await.concat()),
            Err(error) => Err(error.kind()),
        };
        assert_eq!(got, expected.map(|text: &str| text.as_bytes().to_vec()));
    }
}

#[tokio::test]
async fn a_declined_mount_leaves_its_upload() {
    let script = Script::start(|asked| match asked.line.split(' ').next() {
        Some("POST") => reply(202, &[("location", "/up/1?_state=x%3D")], ""),
        Some("PUT") if asked.body == "blob" && asked.headers["content-length"] == "4" => reply(201, &[], ""),
        _ => reply(500, &[], ""),
    })
    .await;
    let store = script.store();
    let Mount::Declined(Some(upload)) = store.mount(&digest(), &script.repository()).await.unwrap() else {
        panic!("an upload comes with 202")
    };
    let blob = Descriptor { media_type: INDEX.parse().unwrap(), digest: Digest::of(b"blob"), size: 4 };
    store.push_blob(upload, &blob, body(vec![Ok("bl".into()), Ok("ob".into())])).await.unwrap();
    let put = format!("PUT /up/1?_state=x%3D&digest=sha256%3A{}", blob.digest.hex());
    assert_eq!(script.lines()[1..], [put]);
}

#[tokio::test]
async fn every_refusal_of_a_mount_counts_as_declined() {
    let address = |location: Option<&str>| location.map(|path| format!("http://HOST{path}"));
    for (status, location, expected) in [
        (201, None, Mount::Mounted),
        (201, Some("/up"), Mount::Mounted),
        (202, Some("/up"), Mount::Declined(address(Some("/up")).map(Upload))),
        (200, Some("/up"), Mount::Declined(None)),
        (200, None, Mount::Declined(None)),
        (202, None, Mount::Declined(None)),
        (303, Some("/x"), Mount::Declined(None)),
        (400, None, Mount::Declined(None)),
        (401, None, Mount::Declined(None)),
        (403, None, Mount::Declined(None)),
        (404, None, Mount::Declined(None)),
        (405, None, Mount::Declined(None)),
        (500, None, Mount::Declined(None)),
        (501, None, Mount::Declined(None)),
    ] {
        let script = Script::start(move |_| match location {
            Some(location) => reply(status, &[("location", location)], ""),
            None => reply(status, &[], ""),
        })
        .await;
        let mount = script.store().mount(&digest(), &script.repository()).await.unwrap();
        let mount = match mount {
            Mount::Declined(Some(Upload(url))) => {
                Mount::Declined(Some(Upload(url.replace(&script.address.to_string(), "HOST"))))
            }
            other => other,
        };
        assert_eq!(mount, expected, "{status}");
    }
}

#[tokio::test]
async fn an_error_of_the_body_is_returned_and_an_empty_body_is_valid() {
    let script = Script::start(|_| reply(201, &[], "")).await;
    let (store, upload) = (script.store(), Upload(format!("http://{}/up", script.address)));
    let mut blob = Descriptor { media_type: INDEX.parse().unwrap(), digest: Digest::of(b""), size: 0 };
    store.push_blob(upload.clone(), &blob, body(vec![])).await.unwrap();
    blob.size = 4;
    let broken = || Error::new(Kind::Mismatch, "read", "broken").with_attempts(7);
    let error = store.push_blob(upload, &blob, body(vec![Ok("bl".into()), Err(broken())])).await.unwrap_err();
    assert_eq!((error.to_string(), error.attempts()), (broken().to_string(), 7));
}

#[tokio::test]
async fn after_an_uncertain_commit_the_blob_is_looked_up() {
    // GHCR commits for seconds: a PUT that is repeated meanwhile gets 404, with the blob there or lost.
    for (commit, there, expected) in [
        (502, 200, Ok(())),
        (502, 404, Err(Kind::Unavailable)),
        (404, 200, Ok(())),
        (404, 404, Err(Kind::Unavailable)),
        (403, 200, Err(Kind::Denied)),
    ] {
        let script = Script::start(move |asked| match asked.line.split(' ').next() {
            Some("PUT") => reply(commit, &[], ""),
            _ => reply(there, &[("content-length", "4")], Body::empty()),
        })
        .await;
        let blob = Descriptor { media_type: INDEX.parse().unwrap(), digest: Digest::of(b"blob"), size: 4 };
        let upload = Upload(format!("http://{}/up", script.address));
        let pushed = script.store().push_blob(upload, &blob, body(vec![Ok("blob".into())])).await;
        assert_eq!(pushed.map_err(|error| error.kind()), expected, "{commit} {there}");
    }
}

#[tokio::test]
async fn a_silent_download_times_out() {
    let limits =
        Limits { idle_timeout: Duration::from_millis(50), max_wait: Duration::from_secs(1), ..Limits::default() };
    // Takes connections and says nothing.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let repository: Repository = format!("{}/a", listener.local_addr().unwrap()).parse().unwrap();
    let hosts = Hosts::with_environment(BTreeMap::new(), &limits, Arc::new(NoChain), Environment::new(|_| None))
        .with_backoff(Backoff { attempts: 1, ..Backoff::default() });
    let store = RegistryStores::new(Arc::new(hosts)).target(&repository).unwrap();
    let blob = Descriptor { media_type: INDEX.parse().unwrap(), digest: Digest::of(b"blob"), size: 4 };
    let upload = Upload(format!("http://{}/up", listener.local_addr().unwrap()));
    let stuck = futures::stream::iter([Ok(Bytes::from("bl"))]).chain(futures::stream::pending()).boxed();
    for error in [
        store.resolve(&tag("v1")).await.unwrap_err(),
        store.push_blob(upload.clone(), &blob, stuck).await.unwrap_err(),
        store.push_blob(upload, &blob, body(vec![Ok("blob".into())])).await.unwrap_err(),
    ] {
        assert!(error.kind() == Kind::Unavailable && error.to_string().contains("idle_timeout"), "{error}");
    }
}

#[tokio::test]
async fn a_download_with_a_gap_times_out_and_a_short_one_is_an_error() {
    let script = Script::start(|_| {
        let stuck =
            futures::stream::iter([Ok::<_, std::io::Error>(Bytes::from("bl"))]).chain(futures::stream::pending());
        reply(200, &[], Body::from_stream(stuck))
    })
    .await;
    let limits =
        Limits { idle_timeout: Duration::from_millis(50), max_wait: Duration::from_secs(1), ..Limits::default() };
    let hosts = Hosts::with_environment(BTreeMap::new(), &limits, Arc::new(NoChain), Environment::new(|_| None));
    let store = RegistryStores::new(Arc::new(hosts)).source(&script.repository()).unwrap();
    let chunks: Vec<_> = store.blob(&blob_of(4), 0).await.unwrap().collect().await;
    assert_eq!(chunks.len(), 2);
    let error = chunks[1].as_ref().unwrap_err();
    assert_eq!((error.kind(), error.side()), (Kind::Unavailable, Some(Side::Source)));
    // Too short an answer, which an orderly server doesn't give.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let repository: Repository = format!("{}/a", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await.unwrap();
        let mut asked = [0; 4096];
        let _ = tokio::io::AsyncReadExt::read(&mut connection, &mut asked).await;
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbl";
        tokio::io::AsyncWriteExt::write_all(&mut connection, answer).await.unwrap();
    });
    let store = RegistryStores::new(script.hosts(RegistrySettings::default())).source(&repository).unwrap();
    let chunks: Vec<_> = store.blob(&blob_of(9), 0).await.unwrap().collect().await;
    assert_eq!(chunks.last().unwrap().as_ref().unwrap_err().kind(), Kind::Unavailable);
}

#[tokio::test]
async fn an_upload_location_elsewhere_gets_no_credentials() {
    let elsewhere = Script::start(|asked| reply(if asked.authorization.is_empty() { 201 } else { 400 }, &[], "")).await;
    let location = format!("http://{}/up", elsewhere.address);
    let script = Script::start(move |asked| match asked.authorization.as_str() {
        RIGHT => reply(202, &[("location", &location)], ""),
        _ => reply(401, &[("www-authenticate", "Basic realm=x")], ""),
    })
    .await;
    let store = script.store_with(user("p"));
    let upload = store.open_upload().await.unwrap();
    let blob = Descriptor { media_type: INDEX.parse().unwrap(), digest: Digest::of(b"blob"), size: 4 };
    store.push_blob(upload.clone(), &blob, body(vec![Ok("blob".into())])).await.unwrap();
    store.abandon(upload).await;
    assert_eq!(elsewhere.lines().len(), 2);
}

#[tokio::test]
async fn an_unsupported_sha512_and_wrong_bytes_give_different_errors() {
    let script = Script::start(|asked| match asked.line.contains("sha512") {
        true => reply(400, &[], r#"{"errors":[{"code":"DIGEST_INVALID","message":"did not match"}]}"#),
        false => reply(201, &[], ""),
    })
    .await;
    let (store, upload) = (script.store(), Upload(format!("http://{}/up", script.address)));
    let app = crate::images::image("app").build().by_sha512();
    let blob = app.blobs[0].clone().by_sha512();
    let by_digest = Selector::Digest(app.digest().clone());
    let refused = [
        store.push_manifest(&app.manifest, &by_digest).await.unwrap_err(),
        store.push_blob(upload.clone(), &blob.descriptor, blob.stream(100)).await.unwrap_err(),
    ];
    for error in refused {
        assert_eq!((error.kind(), error.status()), (Kind::Unsupported, Some(400)), "{error}");
        assert!(error.why().contains("with a sha512 digest") && error.hint().is_some(), "{error}");
    }
    // A tag has no algorithm.
    store.push_manifest(&app.manifest, &tag("1")).await.unwrap();
    let broken = Error::new(Kind::Mismatch, "read", "broken").on(Side::Source).with_status(200);
    let error = store.push_blob(upload, &blob.descriptor, body(vec![Err(broken)])).await.unwrap_err();
    assert_eq!((error.kind(), error.why()), (Kind::Mismatch, "broken"));
}

#[tokio::test]
async fn an_upload_is_identified_by_its_location_or_its_uuid() {
    for (status, headers, expected) in [
        (202, &[("location", "/up/1")][..], Some("/up/1")),
        (200, &[("location", "/up/1")], Some("/up/1")),
        (201, &[("location", "/up/1"), ("docker-upload-uuid", "2")], Some("/up/1")),
        (202, &[("docker-upload-uuid", "2")], Some("/v2/a/b/blobs/uploads/2")),
        (202, &[], None),
        (202, &[("location", "http://[")], None),
    ] {
        let script = Script::start(move |_| reply(status, headers, "")).await;
        let opened = script.store().open_upload().await;
        let expected = expected.map(|path| Upload(format!("http://{}{path}", script.address)));
        assert_eq!(opened.map_err(|error| error.kind()), expected.ok_or(Kind::Invalid), "{status} {headers:?}");
    }
}
