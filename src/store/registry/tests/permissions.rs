//! What a refusal means: a wrong login, a missing permission, or content hidden from anonymous clients.

use super::*;

#[tokio::test]
async fn a_missing_permission_and_a_missing_login_give_different_errors() {
    let script = Script::start(|asked| {
        let host = asked.headers["host"].to_str().unwrap();
        let challenge = format!(r#"Bearer realm="http://{host}/token",error="insufficient_scope""#);
        match asked.line.starts_with("GET /token") {
            true => reply(200, &[], r#"{"token":"t"}"#),
            false => reply(401, &[("www-authenticate", &challenge)], ""),
        }
    })
    .await;
    for (settings, kind) in [(user("p"), Kind::Denied), (RegistrySettings::default(), Kind::Unauthorized)] {
        let error = script.store_with(settings).resolve(&tag("v1")).await.unwrap_err();
        assert_eq!((error.kind(), error.status()), (kind, Some(401)));
    }
    // The token was new and covered the requested scope: another one wouldn't help.
    assert_eq!((script.count("GET /token"), script.count("HEAD")), (2, 4), "{:?}", script.lines());
}

/// A registry with tokens whose token service answers to the scope of `a/r7` with `refusal`, and to a wrong
/// password with `wrong`.
async fn choosy(refusal: (u16, &'static str), wrong: u16) -> Script {
    Script::start(move |asked| {
        let host = asked.headers["host"].to_str().unwrap();
        if asked.line.starts_with("GET /token") {
            return match (asked.authorization.as_str(), asked.line.contains("a%2Fr7%3A")) {
                (RIGHT, true) => reply(refusal.0, &[], refusal.1),
                (RIGHT, false) => reply(200, &[], r#"{"token":"t"}"#),
                _ => reply(wrong, &[], "wrong"),
            };
        }
        match asked.authorization.as_str() {
            "Bearer t" => manifest_reply(),
            _ => reply(401, &[("www-authenticate", &format!(r#"Bearer realm="http://{host}/token""#))], ""),
        }
    })
    .await
}

/// The results for the images of these repositories, requested concurrently.
async fn resolve_all(script: &Script, password: &str, numbers: impl Iterator<Item = usize>) -> Vec<Result<Descriptor>> {
    let stores = RegistryStores::new(script.hosts(user(password)));
    let all = numbers.map(|i| {
        let repository = Repository::new(script.repository().registry().clone(), &format!("a/r{i}")).unwrap();
        let store = stores.source(&repository).unwrap();
        async move { store.resolve(&tag("v1")).await }
    });
    futures::future::join_all(all).await
}

#[tokio::test]
async fn a_refused_scope_isnt_reported_as_a_wrong_password() {
    const DENIED: &str = r#"{"errors":[{"code":"DENIED","message":"m"}]}"#;
    for (refusal, may_be_first) in [
        ((401, ""), false),
        ((401, r#"{"errors":[{"code":"UNAUTHORIZED","message":"m"}]}"#), false),
        ((401, DENIED), true),
        ((401, r#"{"error":"insufficient_scope"}"#), true),
        ((403, ""), true),
        ((403, DENIED), true),
        ((403, "<html>"), true),
    ] {
        // The refused one comes eighth, or first.
        for order in [(0..101).collect::<Vec<_>>(), [7].into_iter().chain(0..7).collect()] {
            if order[0] == 7 && !may_be_first {
                continue;
            }
            let script = choosy(refusal, 401).await;
            for (i, resolved) in order.iter().zip(resolve_all(&script, "p", order.clone().into_iter()).await) {
                match resolved {
                    Ok(_) => assert_ne!(*i, 7, "{refusal:?}"),
                    Err(error) => assert_eq!((*i, error.kind()), (7, Kind::Denied), "{refusal:?}: {error}"),
                }
            }
        }
    }
}

#[tokio::test]
async fn at_most_one_request_distinguishes_a_wrong_password_from_a_refused_scope() {
    for (status, tries) in [(401, 1), (403, 2)] {
        let script = choosy((status, ""), status).await;
        let all = resolve_all(&script, "wrong", 0..20).await;
        for error in all.into_iter().map(Result::unwrap_err) {
            assert_eq!(
                (error.kind(), error.status(), error.attempts()),
                (Kind::Unauthorized, Some(status), 1),
                "{error}"
            );
        }
        assert_eq!(script.count("/token"), tries);
    }
    // Without a login there are no missing permissions.
    let script = Script::start(|asked| match asked.line.starts_with("GET /token") {
        true => reply(403, &[], r#"{"errors":[{"code":"DENIED","message":"denied"}]}"#),
        false => {
            let realm = format!(r#"Bearer realm="http://{}/token""#, asked.headers["host"].to_str().unwrap());
            reply(401, &[("www-authenticate", &realm)], "")
        }
    })
    .await;
    let error = script.store().resolve(&tag("v1")).await.unwrap_err();
    assert!(error.kind() == Kind::Unauthorized && error.hint().unwrap().contains("without a login"), "{error}");
}

#[tokio::test]
async fn content_hidden_from_anonymous_clients_is_read_with_credentials() {
    for status in [401, 403, 404] {
        for bearer in [false, true] {
            let script = Script::start(move |asked| {
                let host = asked.headers["host"].to_str().unwrap();
                let challenge = if bearer { format!("Bearer realm=http://{host}/token") } else { "Basic".to_owned() };
                match (asked.line.as_str(), asked.authorization.as_str()) {
                    ("GET /v2/", "") => reply(401, &[("www-authenticate", &challenge)], ""),
                    ("GET /token?scope=repository%3Aa%2Fb%3Apull", RIGHT) => reply(200, &[], r#"{"token":"t"}"#),
                    (_, "Bearer t") if bearer => manifest_reply(),
                    (_, RIGHT) if !bearer => manifest_reply(),
                    _ => reply(status, &[], ""),
                }
            })
            .await;
            let store = script.store_with(user("p"));
            let selectors: Vec<_> = (0..20).map(|i| tag(&format!("v{i}"))).collect();
            let all = futures::future::join_all(selectors.iter().map(|selector| store.resolve(selector))).await;
            assert!(all.iter().all(Result::is_ok), "{status} {bearer}: {all:?}");
            assert_eq!((script.count("GET /v2/"), script.count("HEAD")), (1, 21), "{:?}", script.lines());
            // Without credentials a refusal is final.
            let before = script.lines().len();
            script.store().manifest(&digest()).await.unwrap_err();
            assert_eq!(script.lines().len() - before, 1, "{status}");
        }
    }
}

#[tokio::test]
async fn a_host_without_a_challenge_is_probed_once_and_gets_no_credentials() {
    for (status, kind) in [(401, Kind::Unauthorized), (403, Kind::Denied), (404, Kind::NotFound)] {
        let script = Script::start(move |asked| {
            assert_eq!(asked.authorization, "");
            reply(if asked.line == "GET /v2/" { 200 } else { status }, &[], "")
        })
        .await;
        let store = script.store_with(user("p"));
        let errors = [store.manifest(&digest()).await.unwrap_err(), store.manifest(&digest()).await.unwrap_err()];
        assert!(errors.iter().all(|error| error.kind() == kind && error.status() == Some(status)), "{errors:?}");
        assert_eq!(script.lines().len(), 3, "{:?}", script.lines());
        if status == 401 {
            assert!(errors[1].why().contains("weren't sent") && errors[1].hint().unwrap().contains("WWW-Authenticate"));
        }
    }
}

#[tokio::test]
async fn after_an_accepted_login_a_refusal_means_a_missing_permission() {
    // Gitea gives a token to every user, and answers 401 to an upload without permission.
    for (challenge, kind) in [
        ("", Kind::Denied),
        (r#",error="insufficient_scope""#, Kind::Denied),
        (r#",error="invalid_token""#, Kind::Unauthorized),
    ] {
        let script = Script::start(move |asked| {
            let realm =
                format!(r#"Bearer realm="http://{}/token"{challenge}"#, asked.headers["host"].to_str().unwrap());
            match asked.line.starts_with("GET /token") {
                true => reply(200, &[], r#"{"token":"t"}"#),
                false => reply(401, &[("www-authenticate", &realm)], "reqPackageAccess"),
            }
        })
        .await;
        let error = script.store_with(user("p")).open_upload().await.unwrap_err();
        assert_eq!((error.kind(), error.status()), (kind, Some(401)), "{challenge}: {error}");
        assert!(!error.hint().unwrap().contains("the login is wrong"), "{error:?}");
    }
    let script = Script::start(|asked| match asked.authorization.as_str() {
        RIGHT if asked.line.starts_with("HEAD") => manifest_reply(),
        _ => reply(401, &[("www-authenticate", "Basic")], ""),
    })
    .await;
    let store = script.store_with(user("p"));
    store.resolve(&tag("v1")).await.unwrap();
    assert_eq!(store.open_upload().await.unwrap_err().kind(), Kind::Denied);
}
