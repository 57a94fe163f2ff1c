//! Redirected requests: where they may go, and with which credentials.

use super::*;

/// A registry that wants a password, and leads uploads to the location that `of` makes of its address.
async fn located(of: impl Fn(SocketAddr) -> String + Send + Sync + 'static) -> Script {
    Script::start(move |asked| {
        let address = asked.headers["host"].to_str().unwrap().parse().unwrap();
        match (asked.line.split(' ').next(), asked.authorization.as_str()) {
            (_, "") => reply(401, &[("www-authenticate", "Basic")], ""),
            (Some("POST"), _) => reply(202, &[("location", &of(address))], ""),
            _ => reply(if asked.line.contains(" /v2/a/b/blobs/uploads/1?s=x") { 201 } else { 500 }, &[], ""),
        }
    })
    .await
}

fn blob() -> Descriptor {
    Descriptor { media_type: INDEX.parse().unwrap(), digest: Digest::of(b"blob"), size: 4 }
}

async fn push(store: &dyn Target) -> Result<()> {
    let upload = store.open_upload().await?;
    store.push_blob(upload, &blob(), futures::stream::iter([Ok("blob".into())]).boxed()).await
}

#[tokio::test]
async fn a_location_that_means_the_registry_uses_its_known_address() {
    const PATH: &str = "/v2/a/b/blobs/uploads/1?s=x";
    type Location = fn(SocketAddr) -> String;
    let given: [(&str, Location); 9] = [
        ("", |_| PATH.into()),
        ("", |_| "1?s=x".into()),
        ("", |_| "./1?s=x#f".into()),
        ("", |at| format!("//{at}{PATH}")),
        ("", |at| format!("https://{at}{PATH}")),
        ("", |at| format!("http://{}{PATH}", at.ip())),
        ("", |at| format!("https://{}{PATH}", at.ip())),
        ("h.example.com", |_| format!("https://h.example.com{PATH}")),
        ("h.example.com:5000", |_| format!("http://h.example.com{PATH}")),
    ];
    for (name, of) in given {
        let script = located(of).await;
        let registry: Registry =
            if name.is_empty() { script.address.to_string() } else { name.into() }.parse().unwrap();
        let endpoint = Some(format!("http://{}", script.address).parse().unwrap());
        let hosts = Script::hosts_of(registry.clone(), RegistrySettings { endpoint, ..user("p") });
        let repository = Repository::new(registry, "a/b").unwrap();
        push(&*RegistryStores::new(hosts).target(&repository).unwrap()).await.unwrap();
        // 401, POST, PUT: all here, and with our credentials.
        assert_eq!(script.lines().len(), 3, "{:?}", script.lines());
    }
}

#[tokio::test]
async fn no_request_is_sent_to_a_forbidden_destination() {
    for place in [
        "http://169.254.169.254/latest",
        "http://[fe80::1]/x",
        "http://2852039166/x",
        "http://u:p@h.example.com/x",
        "ftp://h/x",
    ] {
        let script = located(move |_| place.to_owned()).await;
        let error = push(&*script.store_with(user("p"))).await.unwrap_err();
        assert!(error.kind() == Kind::Denied && error.attempts() == 1 && error.hint().is_some(), "{place}: {error}");
        for status in [301, 302, 307, 308] {
            let script = Script::start(move |_| reply(status, &[("location", place)], "")).await;
            for error in [
                script.store().blob_size(&digest()).await.unwrap_err(),
                script.store().manifest(&digest()).await.unwrap_err(),
                script.store().tags().await.unwrap_err(),
            ] {
                assert!(error.kind() == Kind::Denied && error.to_string().contains("redirect"), "{place}: {error}");
            }
        }
    }
}

#[tokio::test]
async fn repeatable_requests_follow_redirects_and_continue_there() {
    for status in [307, 308] {
        let moved = Script::start(|asked| match asked.line.split_once(' ').unwrap() {
            // Relative to this host, where the upload was opened.
            ("POST", "/b/uploads/") => reply(202, &[("location", "1?s=x")], ""),
            ("PUT", "/b/manifest") if asked.body == MANIFEST => reply(201, &[], ""),
            ("PUT", path) if path.starts_with("/b/uploads/1?s=x&digest=") && asked.body == "blob" => {
                reply(201, &[], "")
            }
            _ => reply(500, &[], ""),
        })
        .await;
        let address = moved.address;
        let script = Script::start(move |asked| {
            let part = if asked.line.starts_with("POST") { "uploads/" } else { "manifest" };
            reply(status, &[("location", &format!("http://{address}/b/{part}"))], "")
        })
        .await;
        let store = script.store();
        push(&*store).await.unwrap();
        let manifest = Manifest::new(digest(), None, Bytes::from_static(MANIFEST.as_bytes())).unwrap();
        store.push_manifest(&manifest, &tag("v1")).await.unwrap();
        assert_eq!((script.lines().len(), moved.lines().len()), (2, 3), "{:?}", moved.lines());
    }
}

#[tokio::test]
async fn requests_that_cant_be_repeated_report_the_redirect() {
    for status in [301, 302, 303, 307, 308] {
        let script = Script::start(move |asked| match asked.line.starts_with("POST") {
            true => reply(202, &[("location", "/up")], ""),
            false => reply(status, &[("location", "https://h.example.com/up?secret=x")], ""),
        })
        .await;
        let error = push(&*script.store()).await.unwrap_err();
        assert_eq!((error.kind(), error.status()), (Kind::Unsupported, Some(status)), "{error}");
        assert!(error.to_string().ends_with("it leads to https://h.example.com/up"), "{error}");
        assert!(error.hint().unwrap().contains("endpoint:"));
    }
    for status in [301, 302, 303, 307, 308] {
        let script = Script::start(move |asked| {
            let realm = format!(r#"Bearer realm="http://{}/token""#, asked.headers["host"].to_str().unwrap());
            match asked.line.starts_with("GET /token") {
                true => reply(status, &[("location", "https://login.example.com/x")], ""),
                false => reply(401, &[("www-authenticate", &realm)], ""),
            }
        })
        .await;
        let error = script.store_with(user("p")).resolve(&tag("v1")).await.unwrap_err();
        assert!(error.to_string().ends_with("it leads to https://login.example.com/x"), "{error}");
        assert!(error.hint().unwrap().contains("realm") && error.attempts() == 1);
    }
}

#[tokio::test]
async fn a_registry_behind_a_redirect_gets_the_credentials_configured_for_it() {
    for (bearer, known) in [(true, true), (true, false), (false, true), (false, false)] {
        let other = Script::start(move |asked| {
            let host = asked.headers["host"].to_str().unwrap();
            let challenge = match bearer {
                true => format!(r#"Bearer realm="http://{host}/token",scope="repository:c/d:pull""#),
                false => "Basic".to_owned(),
            };
            match (asked.line.as_str(), asked.authorization.as_str()) {
                ("GET /token?scope=repository%3Ac%2Fd%3Apull", ROTATED) => reply(200, &[], r#"{"token":"t"}"#),
                ("GET /token?scope=repository%3Ac%2Fd%3Apull", _) if !known => reply(200, &[], r#"{"token":"t"}"#),
                (line, "Bearer t") if bearer && line.contains("/v2/c/d/manifests/") => manifest_reply(),
                (line, "Bearer t") if bearer && line.contains("/v2/c/d/blobs/") => reply(200, &[], "blob"),
                (line, ROTATED) if !bearer && line.contains("/v2/c/d/manifests/") => manifest_reply(),
                (line, ROTATED) if !bearer && line.contains("/v2/c/d/blobs/") => reply(200, &[], "blob"),
                _ => reply(401, &[("www-authenticate", &challenge)], ""),
            }
        })
        .await;
        let address = other.address;
        let script = Script::start(move |asked| match asked.authorization.as_str() {
            RIGHT => {
                let path = asked.line.split(' ').nth(1).unwrap().replace("/a/b/", "/c/d/");
                reply(307, &[("location", &format!("http://{address}{path}"))], "")
            }
            _ => reply(401, &[("www-authenticate", "Basic")], ""),
        })
        .await;
        let repository = script.repository();
        let there: Registry = address.to_string().parse().unwrap();
        let mut settings = BTreeMap::from([(repository.registry().clone(), user("p"))]);
        if known {
            settings.insert(there, user("new"));
        }
        let environment = Environment::new(|name| name.strip_prefix("SECRET_").map(ToOwned::to_owned));
        let hosts = Hosts::with_environment(settings, &Limits::default(), Arc::new(NoChain), environment);
        let stores = RegistryStores::new(Arc::new(hosts));
        let store = stores.source(&repository).unwrap();
        let resolved = store.resolve(&tag("v1")).await;
        // An anonymous token is a token; a password isn't.
        if !known && !bearer {
            let error = resolved.unwrap_err();
            assert_eq!((error.kind(), error.status()), (Kind::Unauthorized, Some(401)));
            assert!(error.to_string().contains(&address.to_string()), "{error}");
            continue;
        }
        assert_eq!(resolved.unwrap().digest, digest());
        let before = other.lines().len();
        assert_eq!(store.manifest(&digest()).await.unwrap().digest(), &digest());
        assert_eq!(store.blob_size(&Digest::of(b"blob")).await.unwrap(), Some(4));
        assert_eq!(other.count("/token"), usize::from(bearer));
        assert!(other.lines().len() - before <= 4, "{:?}", other.lines());
    }
}
