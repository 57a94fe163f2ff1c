//! Signing in: challenges, tokens, passwords.

use super::*;

async fn bearer(good: impl Fn(&str) -> bool + Send + Sync + 'static, basic: &'static str) -> Script {
    let issued = AtomicUsize::new(0);
    Script::start(move |asked| {
        let host = asked.headers["host"].to_str().unwrap();
        if asked.line.contains("/token") {
            if asked.authorization != basic {
                return reply(401, &[], "no such user");
            }
            let n = issued.fetch_add(1, Ordering::SeqCst) + 1;
            return reply(200, &[], format!(r#"{{"token":"","access_token":"t{n}","expires_in":300}}"#));
        }
        if asked.authorization.strip_prefix("Bearer ").is_some_and(&good) {
            return manifest_reply();
        }
        let challenge = format!(r#"Bearer realm="http://{host}/token",service="s""#);
        reply(401, &[("www-authenticate", "Negotiate"), ("www-authenticate", &challenge)], "")
    })
    .await
}

#[tokio::test]
async fn concurrent_requests_for_a_new_scope_fetch_one_token() {
    let script = bearer(|token| token == "t1", "").await;
    let store = script.store();
    let selectors: Vec<_> = (0..20).map(|i| tag(&format!("v{i}"))).collect();
    let all = futures::future::join_all(selectors.iter().map(|selector| store.resolve(selector))).await;
    assert!(all.iter().all(|result| result.as_ref().is_ok_and(|d| d.digest == digest())), "{all:?}");
    assert_eq!(script.lines().len(), 22, "one 401, one token, twenty answers: {:?}", script.lines());
    assert_eq!(script.count("GET /token?service=s&scope=repository%3Aa%2Fb%3Apull"), 1);
}

#[tokio::test]
async fn a_known_challenge_costs_no_second_401_and_scopes_are_exact() {
    let script = bearer(|_| true, RIGHT).await;
    let store = script.store_with(user("p"));
    store.resolve(&tag("v1")).await.unwrap();
    let manifest = Manifest::new(digest(), None, Bytes::from_static(MANIFEST.as_bytes())).unwrap();
    store.push_manifest(&manifest, &tag("v1")).await.unwrap();
    let other = Repository::new(script.repository().registry().clone(), "c").unwrap();
    store.mount(&digest(), &other).await.unwrap();
    let scope = |line: &str| line.split_once("scope=").unwrap().1.to_owned();
    let scopes: Vec<_> = script.lines().iter().filter(|line| line.contains("/token")).map(|line| scope(line)).collect();
    let both = "repository%3Aa%2Fb%3Apull%2Cpush&scope=repository%3Ac%3Apull";
    assert_eq!(scopes, ["repository%3Aa%2Fb%3Apull", "repository%3Aa%2Fb%3Apull%2Cpush", both]);
    assert_eq!(script.lines().len(), 1 + 3 + 3);
}

#[tokio::test]
async fn a_refused_token_is_renewed_once() {
    let script = bearer(|token| token != "t1", "").await;
    script.store().resolve(&tag("v1")).await.unwrap();
    assert_eq!(script.count("/token"), 2);
    let script = bearer(|_| false, "").await;
    let error = script.store().resolve(&tag("v1")).await.unwrap_err();
    assert_eq!((error.kind(), error.status(), error.attempts()), (Kind::Unauthorized, Some(401), 1));
    assert_eq!((script.count("/token"), script.count("HEAD")), (2, 3));
}

#[tokio::test]
async fn a_refused_token_is_renewed_once_also_if_the_challenge_is_known() {
    let script = bearer(|_| false, "").await;
    let store = script.store();
    for tokens in [2, 4] {
        store.resolve(&tag("v1")).await.unwrap_err();
        assert_eq!(script.count("/token"), tokens, "one refresh a request");
    }
}

#[tokio::test]
async fn a_wrong_password_is_tried_once() {
    let basic = Script::start(|asked| match asked.authorization.as_str() {
        RIGHT => manifest_reply(),
        _ => reply(401, &[("www-authenticate", "basic realm=x")], "wrong"),
    })
    .await;
    for (script, wrong_tries) in [(bearer(|_| true, RIGHT).await, "/token"), (basic, "HEAD")] {
        let hosts = script.hosts(user("wrong"));
        let stores = RegistryStores::new(hosts);
        let all = (0..20).map(|i| {
            let repository = Repository::new(script.repository().registry().clone(), &format!("a/r{i}")).unwrap();
            // All share the refusal, and each tells its own side.
            let (side, store): (Side, Arc<dyn Source>) = match i % 2 {
                0 => (Side::Source, stores.source(&repository).unwrap()),
                _ => (Side::Target, stores.target(&repository).unwrap()),
            };
            async move { (store.resolve(&tag("v1")).await.unwrap_err(), side) }
        });
        for (error, side) in futures::future::join_all(all).await {
            let told = (error.kind(), error.attempts(), error.side());
            assert_eq!(told, (Kind::Unauthorized, 1, Some(side)), "{error}");
        }
        // One request without credentials learns the challenge; with Basic, the try itself is a HEAD too.
        let expected = if wrong_tries == "HEAD" { 2 } else { 1 };
        assert_eq!(script.count(wrong_tries), expected, "{:?}", script.lines());
    }
}

#[tokio::test]
async fn settings_that_cant_be_used_are_told_on_the_side_that_is_opened() {
    let script = Script::start(|_| manifest_reply()).await;
    let stores = |settings| RegistryStores::new(script.hosts(settings));
    let ca = || RegistrySettings { ca: Some("/nowhere/ca.pem".into()), ..RegistrySettings::default() };
    let sides = [
        stores(ca()).source(&script.repository()).unwrap_err(),
        stores(ca()).alternative(&script.repository(), false).unwrap_err(),
        stores(ca()).target(&script.repository()).unwrap_err(),
    ]
    .map(|error| (error.kind(), error.side().unwrap()));
    assert_eq!(sides, [Side::Source, Side::Source, Side::Target].map(|side| (Kind::Configuration, side)));
}

#[tokio::test]
async fn a_rotated_secret_is_read_again() {
    let script = Script::start(|asked| match asked.authorization.as_str() {
        RIGHT if asked.line.ends_with("v1") => manifest_reply(),
        ROTATED if asked.line.ends_with("v2") => manifest_reply(),
        _ => reply(401, &[("www-authenticate", "Basic realm=x")], ""),
    })
    .await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, "p\n").unwrap();
    let settings = RegistrySettings { password: Some(Secret::File(file.path().to_owned())), ..user("") };
    let store = script.store_with(settings);
    store.resolve(&tag("v1")).await.unwrap();
    std::fs::write(&file, "new\n").unwrap();
    store.resolve(&tag("v2")).await.unwrap();
    assert_eq!(script.lines().len(), 4, "two refusals, two answers");
}

#[tokio::test]
async fn basic_credentials_are_sent_with_every_request_once_the_scheme_is_known() {
    let script = Script::start(|asked| match asked.authorization.as_str() {
        RIGHT => manifest_reply(),
        _ => reply(401, &[("www-authenticate", r#"Basic realm="x""#)], ""),
    })
    .await;
    let store = script.store_with(user("p"));
    for _ in 0..3 {
        store.resolve(&tag("v1")).await.unwrap();
    }
    assert_eq!(script.lines().len(), 4);
    let error = script.store().resolve(&tag("v1")).await.unwrap_err();
    assert!(error.kind() == Kind::Unauthorized && error.hint().is_some());
}

#[tokio::test]
async fn a_link_local_realm_gets_no_credentials() {
    let script =
        Script::start(|_| reply(401, &[("www-authenticate", r#"Bearer realm="http://169.254.169.254/t""#)], "")).await;
    let error = script.store_with(user("p")).resolve(&tag("v1")).await.unwrap_err();
    assert!(error.kind() == Kind::Denied && error.to_string().contains("link-local"), "{error}");
}

#[tokio::test]
async fn identity_tokens_are_posted() {
    let script = Script::start(|asked| {
        let host = asked.headers["host"].to_str().unwrap();
        let form = String::from_utf8_lossy(&asked.body).into_owned();
        match (asked.line.as_str(), asked.authorization.as_str()) {
            ("POST /token", "")
                if form.contains("refresh_token=secret") && form.contains("grant_type=refresh_token") =>
            {
                reply(200, &[], r#"{"access_token":"t"}"#)
            }
            (_, "Bearer t") => manifest_reply(),
            _ => reply(401, &[("www-authenticate", &format!(r#"Bearer realm="http://{host}/token""#))], ""),
        }
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("auth.json");
    let json = format!(r#"{{"auths":{{"{}":{{"identitytoken":"secret"}}}}}}"#, script.address);
    std::fs::write(&file, json).unwrap();
    let environment = Environment::new(move |name| (name == "REGISTRY_AUTH_FILE").then(|| file.display().to_string()));
    let hosts = Hosts::with_environment(BTreeMap::new(), &Limits::default(), Arc::new(NoChain), environment);
    let store = RegistryStores::new(Arc::new(hosts)).source(&script.repository()).unwrap();
    store.resolve(&tag("v1")).await.unwrap();
}

/// Gives a new password each time.
#[derive(Debug, Default)]
struct Chain(AtomicUsize);

#[async_trait]
impl BasicTokens for Chain {
    async fn token(&self, _: &Registry, _: &EcrSettings) -> Result<(String, Duration)> {
        Ok((format!("p{}", self.0.fetch_add(1, Ordering::SeqCst)), Duration::from_secs(3600)))
    }
}

#[tokio::test]
async fn the_aws_chain_logs_in_to_ecr_and_again_after_its_token_expires() {
    let script = Script::start(|asked| match asked.authorization.as_str() {
        "Basic p0" if asked.line.contains("v1") => manifest_reply(),
        "Basic p0" if asked.line.starts_with("GET") => {
            reply(403, &[], "Your authorization token has expired. Reauthenticate and try again.")
        }
        "Basic p1" => manifest_reply(),
        _ => reply(401, &[("www-authenticate", "Basic realm=x")], ""),
    })
    .await;
    let repository: Repository = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/a/b".parse().unwrap();
    let endpoint = Some(format!("http://{}/", script.address).parse().unwrap());
    let settings = RegistrySettings { endpoint, ..RegistrySettings::default() };
    let settings = BTreeMap::from([(repository.registry().clone(), settings)]);
    let chain = Arc::new(Chain::default());
    let none = Environment::new(|_| None);
    let hosts = Hosts::with_environment(settings, &Limits::default(), Arc::clone(&chain) as Arc<dyn BasicTokens>, none);
    let store = RegistryStores::new(Arc::new(hosts)).source(&repository).unwrap();
    store.resolve(&tag("v1")).await.unwrap();
    let all = futures::future::join_all((0..20).map(|_| async { store.manifest(&digest()).await })).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    assert_eq!(chain.0.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_request_to_a_busy_token_service_is_retried() {
    let asked_before = AtomicUsize::new(0);
    let script = Script::start(move |asked| {
        let host = asked.headers["host"].to_str().unwrap();
        match asked.line.starts_with("GET /token") {
            true if asked_before.fetch_add(1, Ordering::SeqCst) == 0 => reply(503, &[], ""),
            true => reply(200, &[], r#"{"token":"t"}"#),
            false if asked.authorization == "Bearer t" => manifest_reply(),
            false => reply(401, &[("www-authenticate", &format!(r#"Bearer realm="http://{host}/token""#))], ""),
        }
    })
    .await;
    script.store().resolve(&tag("v1")).await.unwrap();
    assert_eq!(script.count("/token"), 2);
}

#[tokio::test]
async fn a_token_is_renewed_once_if_400_may_mean_that_it_has_expired() {
    let issued = AtomicUsize::new(0);
    let script = Script::start(move |asked| {
        let host = asked.headers["host"].to_str().unwrap();
        match (asked.line.as_str(), asked.authorization.as_str()) {
            (line, _) if line.starts_with("GET /token") => {
                let n = issued.fetch_add(1, Ordering::SeqCst) + 1;
                reply(200, &[], format!(r#"{{"token":"t{n}"}}"#))
            }
            (_, "") => reply(401, &[("www-authenticate", &format!(r#"Bearer realm="http://{host}/token""#))], ""),
            (line, _) if line.starts_with("GET") => reply(400, &[], r#"{"errors":[{"code":"NAME_INVALID"}]}"#),
            (line, token) if line.ends_with("v2") && token != "Bearer t1" => manifest_reply(),
            (line, _) if line.ends_with("v1") => manifest_reply(),
            _ => reply(400, &[], ""),
        }
    })
    .await;
    let public = script.store_called("public.ecr.aws");
    public.resolve(&tag("v1")).await.unwrap();
    public.resolve(&tag("v2")).await.unwrap();
    assert_eq!((script.count("/token"), script.count("s/v2")), (2, 2), "{:?}", script.lines());
    // An unknown reason, as after a HEAD, counts as transient once; a reason that the answer to the GET gives,
    // never.
    let error = public.resolve(&tag("v3")).await.unwrap_err();
    assert_eq!((error.kind(), error.status(), error.attempts()), (Kind::Invalid, Some(400), 1));
    assert_eq!((script.count("/token"), script.count("s/v3")), (3, 2 + 1), "{:?}", script.lines());
    let error = public.manifest(&digest()).await.unwrap_err();
    assert_eq!((error.status(), error.attempts(), script.count("/token")), (Some(400), 1, 3));

    let elsewhere = script.store_called("registry.example.com");
    elsewhere.resolve(&tag("v1")).await.unwrap();
    let error = elsewhere.resolve(&tag("v4")).await.unwrap_err();
    assert_eq!((error.status(), script.count("/token"), script.count("s/v4")), (Some(400), 4, 1 + 1));
}
