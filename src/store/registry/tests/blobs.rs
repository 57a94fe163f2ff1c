//! Blob transfers, in both directions.

use super::*;

#[tokio::test]
async fn a_blob_goes_on_where_it_stopped_or_not_at_all() {
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

fn body(chunks: Vec<Result<Bytes>>) -> BlobStream {
    futures::stream::iter(chunks).boxed()
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
async fn a_mount_is_made_or_declined_and_never_in_the_way() {
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
async fn the_error_of_a_body_is_given_back_and_an_empty_one_is_fine() {
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
async fn a_lost_commit_is_asked_for() {
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

/// Sends a blob of `size` bytes repeatedly until it is there or fails for good. Returns the result of each upload.
async fn uploads(store: &dyn Target, size: usize) -> Vec<Result<(), (Kind, Option<u16>)>> {
    let bytes = Bytes::from(vec![7; size]);
    let blob = Descriptor { media_type: INDEX.parse().unwrap(), digest: Digest::of(&bytes), size: bytes.len() as u64 };
    let mut ends = Vec::new();
    while ends.last().is_none_or(|end: &Result<_, (Kind, _)>| end.is_err_and(|(kind, _)| kind.retry()))
        && ends.len() < 5
    {
        let mut rest = bytes.clone();
        let chunks = std::iter::from_fn(move || (!rest.is_empty()).then(|| Ok(rest.split_to(rest.len().min(700_000)))));
        let upload = store.open_upload().await.unwrap();
        let pushed = store.push_blob(upload, &blob, body(chunks.collect())).await;
        ends.push(pushed.map_err(|error| (error.kind(), error.status())));
    }
    ends
}

/// Accepts chunks of at most `most` bytes, as in the specification, and asks for `least`.
fn chunked(most: usize, least: &'static str) -> impl Fn(&Question) -> Response + Send + Sync + 'static {
    move |asked| {
        let last = asked.headers.get("content-range").map(|range| range.to_str().unwrap().split_once('-').unwrap().1);
        let location = format!("/up?at={}", last.unwrap_or("start"));
        match asked.line.split(' ').next() {
            Some("POST") => reply(202, &[("location", &location), ("oci-chunk-min-length", least)], ""),
            Some("PATCH" | "PUT") if asked.body.len() > most => reply(413, &[], ""),
            Some("PATCH") => {
                let range = format!("0-{}", last.unwrap());
                reply(202, &[("location", &location), ("range", &range)], "")
            }
            _ => reply(201, &[], ""),
        }
    }
}

const MIB: usize = 1 << 20;

#[tokio::test]
async fn what_is_too_large_goes_in_chunks_from_then_on() {
    let script = Script::start(chunked(2 * MIB, "0")).await;
    let store = script.store();
    let refused = Err((Kind::Unavailable, Some(413)));
    assert_eq!(uploads(&*store, 3 * MIB - 1).await, [refused, Ok(())]);
    let patches: Vec<_> = script.lines().into_iter().filter(|line| line.starts_with("PATCH")).collect();
    assert_eq!(patches, ["PATCH /up?at=start", "PATCH /up?at=1048575", "PATCH /up?at=2097151"]);
    assert!(script.lines().last().unwrap().starts_with("PUT /up?at=3145726&digest="));
    // The host is remembered; what fits in one request is still sent in one.
    assert_eq!(uploads(&*store, 3 * MIB).await, [Ok(())]);
    let before = script.count("PATCH");
    assert_eq!(uploads(&*store, MIB).await, [Ok(())]);
    assert_eq!(script.count("PATCH"), before);
    // Smaller than any chunk: there is no other way, and no use in trying.
    let script = Script::start(chunked(MIB / 2, "0")).await;
    assert_eq!(uploads(&*script.store(), MIB).await, [Err((Kind::Unsupported, Some(413)))]);
}

#[tokio::test]
async fn a_chunk_is_as_large_as_the_registry_wants_it() {
    let script = Script::start(chunked(4 * MIB, "3000000")).await;
    assert_eq!(uploads(&*script.store(), 5 * MIB).await.last(), Some(&Ok(())));
    assert_eq!(script.count("PATCH /up?at=4194303"), 1);
    let script = Script::start(chunked(2 * MIB, "1500000")).await;
    // A maximum below the required minimum isn't tried.
    assert_eq!(uploads(&*script.store(), 3 * MIB).await, [Err((Kind::Unsupported, Some(413)))]);
}

/// A host that is always sent chunks because of its name.
fn azure(script: &Script) -> Arc<dyn Target> {
    let repository: Repository = "me.azurecr.io/a/b".parse().unwrap();
    let endpoint = Some(format!("http://{}/", script.address).parse().unwrap());
    let settings = RegistrySettings { endpoint, ..RegistrySettings::default() };
    let settings = BTreeMap::from([(repository.registry().clone(), settings)]);
    let none = Environment::new(|_| None);
    let hosts = Hosts::with_environment(settings, &Limits::default(), Arc::new(NoChain), none);
    RegistryStores::new(Arc::new(hosts)).target(&repository).unwrap()
}

#[tokio::test]
async fn who_takes_no_chunks_gets_the_blob_whole() {
    for status in [400, 405, 416, 201] {
        let script = Script::start(move |asked| match asked.line.split(' ').next() {
            Some("POST") => reply(202, &[("location", "/up")], ""),
            Some("PATCH") => reply(status, &[], ""),
            // The scripted registry reads no more than 16 MiB: what counts is that it comes at once.
            _ => reply(201, &[], ""),
        })
        .await;
        let ends = uploads(&*azure(&script), 16 * MIB + 1).await;
        assert_eq!(ends, [Err((Kind::Unavailable, Some(status))), Ok(())], "{status}");
        assert_eq!((script.count("PATCH"), script.count("PUT"), script.count("POST")), (1, 1, 2));
    }
}

#[tokio::test]
async fn a_chunk_that_goes_astray_makes_a_fresh_upload() {
    for (status, range) in [(416, "0-16777215"), (202, "0-16777215"), (503, "")] {
        let failed = AtomicUsize::new(0);
        let right = chunked(17 * MIB, "0");
        let script = Script::start(move |asked| {
            let second = asked.headers.get("content-range").is_some_and(|range| range == "16777216-16777216");
            match second && failed.fetch_add(1, Ordering::SeqCst) == 0 {
                true => reply(status, &[("range", range), ("location", "/up")], ""),
                false => right(asked),
            }
        })
        .await;
        let ends = uploads(&*azure(&script), 16 * MIB + 1).await;
        assert_eq!(ends, [Err((Kind::Unavailable, Some(status))), Ok(())], "{status}");
        assert_eq!((script.count("POST"), script.count("PATCH"), script.count("PUT")), (2, 4, 1));
    }
}

#[tokio::test]
async fn no_byte_is_lost_where_a_body_is_cut() {
    let bytes: Vec<u8> = (0..3 * MIB + 5).map(|i| u8::try_from(i % 251).unwrap()).collect();
    let got = Arc::new(Mutex::new(Vec::new()));
    let (kept, right) = (Arc::clone(&got), chunked(MIB, "0"));
    let script = Script::start(move |asked| {
        if asked.line.starts_with("PATCH") && asked.body.len() <= MIB {
            kept.lock().unwrap().extend_from_slice(&asked.body);
        }
        right(asked)
    })
    .await;
    let store = script.store();
    // Learns the size of chunks.
    assert_eq!(uploads(&*store, 2 * MIB).await.len(), 2);
    got.lock().unwrap().clear();
    let blob = Descriptor { media_type: INDEX.parse().unwrap(), digest: Digest::of(&bytes), size: bytes.len() as u64 };
    let chunks = bytes.chunks(70_001).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
    store.push_blob(store.open_upload().await.unwrap(), &blob, body(chunks)).await.unwrap();
    assert!(*got.lock().unwrap() == bytes);
}

#[tokio::test]
async fn silence_ends() {
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
async fn a_gap_in_a_blob_ends_and_a_short_one_is_an_error() {
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
    assert_eq!(chunks[1].as_ref().unwrap_err().kind(), Kind::Unavailable);
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
async fn a_registry_that_takes_no_sha512_is_told_from_one_that_got_wrong_bytes() {
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
    let broken = Error::new(Kind::Mismatch, "read", "broken").on(crate::error::Side::Source).with_status(200);
    let error = store.push_blob(upload, &blob.descriptor, body(vec![Err(broken)])).await.unwrap_err();
    assert_eq!((error.kind(), error.why()), (Kind::Mismatch, "broken"));
}

/// Takes the bytes of a blob in PATCHes alone, and answers a PUT that holds some like this.
fn before_the_end(status: u16, body: &'static str) -> impl Fn(&Question) -> Response + Send + Sync + 'static {
    move |asked| match asked.line.split(' ').next() {
        Some("POST") => reply(202, &[("location", "/up")], ""),
        Some("PATCH") => {
            let end = asked.headers["content-range"].to_str().unwrap();
            let range = format!("0-{}", end.split_once('-').unwrap().1);
            reply(202, &[("location", "/up?s=2"), ("range", &range)], "")
        }
        Some("PUT") if asked.body.is_empty() && asked.headers["content-length"] == "0" => reply(201, &[], ""),
        _ => reply(status, &[], body),
    }
}

#[tokio::test]
async fn who_takes_no_blob_in_the_request_that_ends_the_upload_gets_it_before() {
    const DIGEST: &str = r#"{"errors":[{"code":"DIGEST_INVALID","message":"m"}]}"#;
    const UPLOAD: &str = r#"{"errors":[{"code":"BLOB_UPLOAD_INVALID","message":"m"}]}"#;
    const SIZE: &str = r#"{"errors":[{"code":"SIZE_INVALID","message":"m"}]}"#;
    for (status, body) in [
        (400, ""),
        (400, DIGEST),
        (400, UPLOAD),
        (400, SIZE),
        (405, ""),
        (411, ""),
        (415, ""),
        (416, ""),
        (422, ""),
        (501, ""),
    ] {
        let script = Script::start(before_the_end(status, body)).await;
        let store = script.store();
        let refused = Err((Kind::Unavailable, Some(status)));
        assert_eq!(uploads(&*store, 3 * MIB).await, [refused, Ok(())], "{status} {body}");
        // All of it in one chunk; and from then on at once.
        assert_eq!(uploads(&*store, MIB).await, [Ok(())]);
        let probe = usize::from([DIGEST, SIZE].contains(&body));
        let asked = (script.count("POST"), script.count("PATCH"), script.count("PUT"));
        assert_eq!(asked, (3 + probe, 2, 3 + probe), "{status} {body}");
        assert_eq!(uploads(&*store, 0).await, [Ok(())]);
    }
    // If both ways are refused, that is the error, and a host that has accepted one way refuses for another reason.
    let script = Script::start(|asked| match asked.line.starts_with("POST") {
        true => reply(202, &[("location", "/up")], ""),
        false => reply(400, &[], ""),
    })
    .await;
    let ends = uploads(&*script.store(), MIB).await;
    assert_eq!((ends.len(), ends.last()), (3, Some(&Err((Kind::Invalid, Some(400))))), "{ends:?}");
    let taken = AtomicUsize::new(0);
    let script = Script::start(move |asked| match asked.line.starts_with("POST") {
        true => reply(202, &[("location", "/up")], ""),
        false => reply(if taken.fetch_add(1, Ordering::SeqCst) == 0 { 201 } else { 400 }, &[], ""),
    })
    .await;
    let store = script.store();
    assert_eq!(uploads(&*store, MIB).await, [Ok(())]);
    assert_eq!(uploads(&*store, MIB).await, [Err((Kind::Invalid, Some(400)))]);
    // Wrong bytes are wrong in either way.
    let script = Script::start(|asked| match (asked.line.split(' ').next(), &asked.body[..]) {
        (Some("POST"), _) => reply(202, &[("location", "/up")], ""),
        (_, b"{}") => reply(201, &[], ""),
        _ => reply(400, &[], DIGEST),
    })
    .await;
    assert_eq!(uploads(&*script.store(), MIB).await, [Err((Kind::Mismatch, Some(400)))]);
    // Missing permissions and quotas are unrelated.
    for status in [401, 403] {
        let script = Script::start(before_the_end(status, "")).await;
        assert_eq!(uploads(&*script.store(), MIB).await.len(), 1, "{status}");
        assert_eq!(script.count("PATCH"), 0);
    }
}

#[tokio::test]
async fn a_chunk_that_was_kept_counts_whatever_the_status() {
    for status in [200, 201, 202, 204] {
        for (prefix, location) in [("", true), ("bytes=", true), ("bytes ", false), ("", false)] {
            let script = Script::start(move |asked| match asked.line.split(' ').next() {
                Some("POST") => reply(202, &[("location", "/up")], ""),
                Some("PATCH") => {
                    let last = asked.headers["content-range"].to_str().unwrap().split_once('-').unwrap().1.to_owned();
                    let range = format!("{prefix}0-{last}");
                    let headers = [("range", range.as_str()), ("location", "/up")];
                    reply(status, if location { &headers } else { &headers[..1] }, "")
                }
                _ => reply(201, &[], ""),
            })
            .await;
            assert_eq!(uploads(&*azure(&script), 16 * MIB + 1).await, [Ok(())], "{status} {prefix}");
            assert_eq!((script.count("PATCH"), script.count("PUT")), (2, 1));
        }
    }
}

#[tokio::test]
async fn an_upload_is_found_by_its_location_or_by_its_name() {
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
