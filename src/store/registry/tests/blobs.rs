//! Blobs on their way, in both directions.

use super::*;

#[tokio::test]
async fn a_blob_goes_on_where_it_stopped_or_not_at_all() {
    let ranged =
        |range: &'static str, body: &'static str| move |_: &Question| reply(206, &[("content-range", range)], body);
    let whole = Script::start(|_| reply(200, &[], "abcdef")).await;
    let right = Script::start(ranged("bytes 3-5/6", "def")).await;
    let wrong = Script::start(ranged("bytes 2-5/6", "cdef")).await;
    for (script, expected) in [(whole, Ok("def")), (right, Ok("def")), (wrong, Err(Kind::Unsupported))] {
        let got = match script.store().blob(&digest(), 3).await {
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
async fn mounts_are_made_or_declined_and_trouble_is_an_error() {
    for (status, expected) in [
        (201, Ok(Mount::Mounted)),
        (401, Ok(Mount::Declined(None))),
        (404, Ok(Mount::Declined(None))),
        (502, Err(Kind::Unavailable)),
    ] {
        let script = Script::start(move |_| reply(status, &[], "")).await;
        let mount = script.store().mount(&digest(), &script.repository()).await;
        assert_eq!(mount.map_err(|error| error.kind()), expected, "{status}");
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
    for (there, expected) in [("200", Ok(())), ("404", Err(Kind::Unavailable))] {
        let script = Script::start(move |asked| match asked.line.split(' ').next() {
            Some("PUT") => reply(502, &[], ""),
            _ => reply(there.parse().unwrap(), &[("content-length", "4")], Body::empty()),
        })
        .await;
        let blob = Descriptor { media_type: INDEX.parse().unwrap(), digest: Digest::of(b"blob"), size: 4 };
        let upload = Upload(format!("http://{}/up", script.address));
        let pushed = script.store().push_blob(upload, &blob, body(vec![Ok("blob".into())])).await;
        assert_eq!(pushed.map_err(|error| error.kind()), expected);
    }
}

#[tokio::test]
async fn silence_ends() {
    let limits = Limits { idle_timeout: Duration::from_millis(50), ..Limits::default() };
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
    let limits = Limits { idle_timeout: Duration::from_millis(50), ..Limits::default() };
    let hosts = Hosts::with_environment(BTreeMap::new(), &limits, Arc::new(NoChain), Environment::new(|_| None));
    let store = RegistryStores::new(Arc::new(hosts)).source(&script.repository()).unwrap();
    let chunks: Vec<_> = store.blob(&digest(), 0).await.unwrap().collect().await;
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
    let chunks: Vec<_> = store.blob(&digest(), 0).await.unwrap().collect().await;
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
