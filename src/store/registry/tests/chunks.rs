//! Blobs that are sent in several requests.

use super::*;

/// Uploads a blob of `size` bytes until it is stored or fails for good. Returns the result of each attempt.
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
async fn after_a_blob_is_too_large_blobs_are_sent_in_chunks() {
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
    // If even the smallest chunk is too large, nothing else is tried.
    let script = Script::start(chunked(MIB / 2, "0")).await;
    assert_eq!(uploads(&*script.store(), MIB).await, [Err((Kind::Unsupported, Some(413)))]);
}

#[tokio::test]
async fn chunks_have_the_size_that_the_registry_requires() {
    let script = Script::start(chunked(4 * MIB, "3000000")).await;
    assert_eq!(uploads(&*script.store(), 5 * MIB).await.last(), Some(&Ok(())));
    assert_eq!(script.count("PATCH /up?at=4194303"), 1);
    let script = Script::start(chunked(2 * MIB, "1500000")).await;
    // A chunk size below the required minimum isn't tried.
    assert_eq!(uploads(&*script.store(), 3 * MIB).await, [Err((Kind::Unsupported, Some(413)))]);
}

/// A host that always gets chunks, because of its name.
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
async fn a_registry_without_chunked_uploads_gets_the_whole_blob() {
    for status in [400, 405, 416, 201] {
        let script = Script::start(move |asked| match asked.line.split(' ').next() {
            Some("POST") => reply(202, &[("location", "/up")], ""),
            Some("PATCH") => reply(status, &[], ""),
            // The scripted registry reads at most 16 MiB, but this test needs only the number of requests.
            _ => reply(201, &[], ""),
        })
        .await;
        let ends = uploads(&*azure(&script), 16 * MIB + 1).await;
        assert_eq!(ends, [Err((Kind::Unavailable, Some(status))), Ok(())], "{status}");
        assert_eq!((script.count("PATCH"), script.count("PUT"), script.count("POST")), (1, 1, 2));
    }
}

#[tokio::test]
async fn a_lost_chunk_starts_a_new_upload() {
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
async fn splitting_a_body_into_chunks_loses_no_byte() {
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

/// Accepts the bytes of a blob only in PATCHes, and answers a PUT with a body with this status and body.
fn only_patches(status: u16, body: &'static str) -> impl Fn(&Question) -> Response + Send + Sync + 'static {
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
async fn a_registry_that_takes_no_bytes_in_the_closing_put_gets_them_in_a_patch() {
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
        let script = Script::start(only_patches(status, body)).await;
        let store = script.store();
        let refused = Err((Kind::Unavailable, Some(status)));
        assert_eq!(uploads(&*store, 3 * MIB).await, [refused, Ok(())], "{status} {body}");
        // The whole blob is sent in one chunk. The next blob is sent this way from the start.
        assert_eq!(uploads(&*store, MIB).await, [Ok(())]);
        let probe = usize::from([DIGEST, SIZE].contains(&body));
        let asked = (script.count("POST"), script.count("PATCH"), script.count("PUT"));
        assert_eq!(asked, (3 + probe, 2, 3 + probe), "{status} {body}");
        assert_eq!(uploads(&*store, 0).await, [Ok(())]);
    }
    // If both ways are refused, the upload fails. If one way was accepted before, a refusal has another reason.
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
    // Wrong bytes are refused in both ways.
    let script = Script::start(|asked| match (asked.line.split(' ').next(), &asked.body[..]) {
        (Some("POST"), _) => reply(202, &[("location", "/up")], ""),
        (_, b"{}") => reply(201, &[], ""),
        _ => reply(400, &[], DIGEST),
    })
    .await;
    assert_eq!(uploads(&*script.store(), MIB).await, [Err((Kind::Mismatch, Some(400)))]);
    // A missing permission or a full quota doesn't trigger the fallback.
    for status in [401, 403] {
        let script = Script::start(only_patches(status, "")).await;
        assert_eq!(uploads(&*script.store(), MIB).await.len(), 1, "{status}");
        assert_eq!(script.count("PATCH"), 0);
    }
}

#[tokio::test]
async fn a_stored_chunk_counts_whatever_the_status() {
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
