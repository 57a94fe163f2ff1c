//! The fake Harbor itself: how it answers single requests, right and wrong.

use base64::Engine as _;

use super::{ROBOT, SECRET};
use crate::support::harbor::{Harbor, Project, Role};
use crate::support::http;
use crate::support::images::{Blob, image};
use crate::support::registry::Registry;

fn basic(name: &str, secret: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{name}:{secret}")))
}

async fn ask(harbor: &Harbor, request: &str, headers: &[(&str, &str)], body: &str) -> http::Answer {
    let (method, path) = request.split_once(' ').unwrap();
    http::send(&harbor.url(path), method, headers, body.to_owned()).await
}

/// A bearer token for the scope, for the account of `authorization`.
async fn bearer(harbor: &Harbor, authorization: &str, scope: &str) -> String {
    let request = format!("GET /service/token?service=harbor-registry&scope={scope}");
    let answer = ask(harbor, &request, &[("authorization", authorization)], "").await;
    let body = answer.json();
    assert_eq!((answer.status, body["access_token"].as_str()), (200, Some("")));
    format!("Bearer {}", body["token"].as_str().unwrap())
}

#[tokio::test]
async fn the_api_requires_credentials_text_values_and_valid_names() {
    let harbor = Harbor::start().await.account("admin", "p", Role::Admin).account(ROBOT, SECRET, Role::SystemRobot);
    let (admin, robot, wrong) = (basic("admin", "p"), basic(ROBOT, SECRET), basic(ROBOT, "no"));
    let create = |metadata: &str, name: &str| format!(r#"{{"project_name":"{name}","metadata":{metadata}}}"#);
    let good = create(r#"{"public":"false"}"#, "m");
    let json = ("content-type", "application/json");
    for (authorization, headers, body, expected) in [
        ("", vec![json], good.clone(), 401),
        (&wrong, vec![json], good.clone(), 401),
        (&robot, vec![], good.clone(), 422),
        (&robot, vec![json], create(r#"{"public":false}"#, "m"), 422),
        (&robot, vec![json], create("{}", "M_"), 400),
        (&robot, vec![json], good.clone(), 201),
        (&robot, vec![json], good, 409),
    ] {
        let mut headers = headers;
        headers.extend((!authorization.is_empty()).then_some(("authorization", authorization)));
        let answer = ask(&harbor, "POST /api/v2.0/projects", &headers, &body).await;
        assert_eq!(answer.status, expected, "{body}");
    }
    harbor.state.lock().projects.insert("12".into(), Project::default());
    let name = ("x-is-resource-name", "true");
    for (request, authorization, headers, expected) in [
        ("HEAD /api/v2.0/projects?project_name=m", &robot, vec![], 200),
        ("HEAD /api/v2.0/projects?project_name=x", &robot, vec![], 404),
        ("GET /api/v2.0/projects/x", &robot, vec![name], 403),
        ("GET /api/v2.0/projects/x", &admin, vec![name], 404),
        ("GET /api/v2.0/projects/12", &admin, vec![name], 200),
        ("GET /api/v2.0/projects/12", &admin, vec![], 404),
        ("DELETE /api/v2.0/projects/12", &admin, vec![], 405),
    ] {
        let mut headers = headers;
        headers.push(("authorization", authorization));
        assert_eq!(ask(&harbor, request, &headers, "").await.status, expected, "{request}");
    }
    assert_eq!(ask(&harbor, "GET /api/v2.0/systeminfo", &[], "").await.status, 200);
}

#[tokio::test]
async fn the_token_service_answers_every_request_with_a_scope() {
    let harbor = Harbor::start().await.account(ROBOT, SECRET, Role::SystemRobot).project("m", Project::default());
    let (robot, wrong) = (basic(ROBOT, SECRET), basic(ROBOT, "no"));
    for (authorization, expected) in [(&robot, 200), (&wrong, 401)] {
        let answer = ask(&harbor, "GET /service/token", &[("authorization", authorization)], "").await;
        assert_eq!(answer.status, expected);
    }
    assert_eq!(ask(&harbor, "POST /service/token", &[("authorization", &robot)], "").await.status, 405);
    // The scope doesn't matter, only the account.
    let (good, useless) = (
        bearer(&harbor, &robot, "repository:m/a:pull").await,
        bearer(&harbor, &wrong, "repository:m/a:pull,push").await,
    );
    let open = "POST /v2/m/a/blobs/uploads/";
    assert_eq!(ask(&harbor, open, &[("authorization", &good)], "").await.status, 202);
    let refused = ask(&harbor, open, &[("authorization", &useless)], "").await;
    assert_eq!((refused.status, refused.header("www-authenticate")), (401, r#"Basic realm="harbor""#));
    // A token is valid only for its scopes.
    let other = "POST /v2/m/b/blobs/uploads/";
    assert_eq!(ask(&harbor, other, &[("authorization", &good)], "").await.status, 401);
}

#[tokio::test]
async fn each_401_has_its_challenge_and_old_tokens_are_refused() {
    let harbor = Harbor::start().await.account(ROBOT, SECRET, Role::SystemRobot);
    let robot = basic(ROBOT, SECRET);
    let early = bearer(&harbor, &robot, "repository:m/a:pull,push").await;
    let head = "HEAD /v2/m/a/manifests/1";
    let unadorned = ask(&harbor, head, &[], "").await;
    assert!(unadorned.header("www-authenticate").ends_with(r#"service="harbor-registry""#));
    let missing = ask(&harbor, "GET /v2/m/a/manifests/1", &[("authorization", &early)], "").await;
    assert_eq!((missing.status, missing.header("www-authenticate")), (401, ""));
    assert!(missing.json()["errors"][0]["message"].as_str().unwrap().contains("project m not found"));
    harbor.state.lock().now = 61;
    let late = bearer(&harbor, &robot, "repository:m/a:pull,push").await;
    harbor.state.lock().projects.insert("m".into(), Project { created: 61, ..Project::default() });
    for (authorization, expected) in [(&early, 401), (&robot, 404)] {
        assert_eq!(ask(&harbor, head, &[("authorization", authorization)], "").await.status, expected);
    }
    // Young enough, but useless: the project didn't exist when it was issued.
    assert_eq!(ask(&harbor, head, &[("authorization", &late)], "").await.status, 401);
    assert_eq!(ask(&harbor, "HEAD /v2/a/manifests/1", &[("authorization", &robot)], "").await.status, 400);
    assert_eq!(ask(&harbor, "GET /v2/", &[("authorization", &robot)], "").await.status, 200);
    let anonymous = ask(&harbor, "GET /v2/", &[("authorization", "Basic eDp5")], "").await;
    assert_eq!((anonymous.status, anonymous.header("www-authenticate")), (401, r#"Basic realm="harbor""#));
}

#[tokio::test]
async fn mounts_and_pushes_follow_the_rules_of_the_project() {
    let harbor = Harbor::start().await.account("team", "p", Role::ProjectRobot("m"));
    let harbor = harbor.project("m", Project::default()).project("other", Project::default());
    let robot = basic("team", "p");
    let auth = [("authorization", robot.as_str())];
    let mount = |from: &str| format!("POST /v2/m/a/blobs/uploads/?mount=sha256:{}&from={from}", "0".repeat(64));
    for (from, expected) in [("m/b", 202), ("other/b", 401), ("gone/b", 401), ("b", 400)] {
        assert_eq!(ask(&harbor, &mount(from), &auth, "").await.status, expected, "{from}");
    }
    let too_large = " ".repeat((4 << 20) + 1);
    let put = "PUT /v2/m/a/manifests/1";
    assert_eq!(ask(&harbor, put, &auth, &too_large).await.refusal(), (413, "REQUEST_ENTITY_TOO_LARGE".into()));
    harbor.state.lock().read_only = true;
    assert_eq!(ask(&harbor, put, &auth, "{}").await.refusal(), (403, "DENIED".into()));
}

#[tokio::test]
async fn policies_refuse_existing_images_and_a_head_without_a_reason() {
    let app = image("app").build();
    let path = format!("/v2/m/a/manifests/{}", app.digest());
    for (prevents, trusts, code) in [(true, false, 412), (false, true, 412), (false, false, 200)] {
        let project = Project { prevents, trusts, ..Project::default() };
        let harbor = Harbor::start().await.account(ROBOT, SECRET, Role::SystemRobot).project("m", project);
        let robot = basic(ROBOT, SECRET);
        let accept = ("accept", app.manifest.media_type().as_str());
        let auth = [("authorization", robot.as_str()), accept];
        harbor.hold(&app, "m/a", "1").await;
        let head = ask(&harbor, &format!("HEAD {path}"), &auth, "").await;
        assert_eq!((head.status, head.body.len()), (code, 0));
        assert_eq!(ask(&harbor, "HEAD /v2/m/a/manifests/1", &auth, "").await.status, code);
        if code == 412 {
            let get = ask(&harbor, &format!("GET {path}"), &auth, "").await;
            assert_eq!(get.refusal(), (412, "PROJECTPOLICYVIOLATION".into()));
        }
        assert_eq!(ask(&harbor, "HEAD /v2/m/a/manifests/2", &auth, "").await.status, 404);
        assert_eq!(ask(&harbor, "GET /v2/m/a/tags/list", &auth, "").await.status, 200);
        let blob = format!("HEAD /v2/m/a/blobs/{}", app.blobs[0].digest());
        assert_eq!(ask(&harbor, &blob, &auth, "").await.status, 200);
        let bytes = String::from_utf8(app.manifest.bytes().to_vec()).unwrap();
        let headers = [auth[0], ("content-type", app.manifest.media_type().as_str())];
        assert_eq!(ask(&harbor, "PUT /v2/m/a/manifests/1", &headers, &bytes).await.status, 201);
    }
}

#[tokio::test]
async fn each_permission_of_a_robot_is_checked() {
    let harbor = Harbor::start().await.account(ROBOT, SECRET, Role::SystemRobot).account("me", "p", Role::User);
    let harbor = harbor.account("maker", "p", Role::SystemRobot).grant("maker", "project: create");
    let harbor = harbor.account("reader", "p", Role::SystemRobot).grant("reader", "artifact: read");
    let harbor = harbor.account("cleaner", "p", Role::SystemRobot).grant("cleaner", "repository: delete");
    harbor.state.lock().projects.insert("m".into(), Project::default());
    let app = image("app").build();
    harbor.hold(&app, "m/a/b", "1").await;
    let artifact = "GET /api/v2.0/projects/m/repositories/a%252Fb/artifacts/1";
    for (name, secret, expected) in [(ROBOT, SECRET, 403), ("reader", "p", 200)] {
        let answer = ask(&harbor, artifact, &[("authorization", &basic(name, secret))], "").await;
        assert_eq!(answer.status, expected, "{name}");
        if expected == 200 {
            assert_eq!(answer.json()["digest"], app.digest().to_string());
        }
    }
    for (name, secret, expected) in [(ROBOT, SECRET, 401), ("cleaner", "p", 204)] {
        let authorization = basic(name, secret);
        let auth = [("authorization", authorization.as_str())];
        let opened = ask(&harbor, "POST /v2/m/a/blobs/uploads/", &auth, "").await;
        let location = opened.header("location").to_owned();
        let path = &location[location.find("/v2/").unwrap()..];
        let deleted = ask(&harbor, &format!("DELETE {path}"), &auth, "").await;
        assert_eq!(deleted.status, expected, "{name}");
        if expected == 401 {
            assert_eq!(deleted.header("www-authenticate"), r#"Basic realm="harbor""#);
        }
    }
    // The limit is ignored, and only its owner can see that.
    for (project, name, secret, limit, summary) in
        [("one", ROBOT, SECRET, None, 403), ("two", "maker", "p", Some(5), 403), ("three", "me", "p", None, 200)]
    {
        let authorization = basic(name, secret);
        let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
        let body = format!(r#"{{"project_name":"{project}","storage_limit":5,"metadata":{{}}}}"#);
        assert_eq!(ask(&harbor, "POST /api/v2.0/projects", &headers, &body).await.status, 201, "{name}");
        assert_eq!(harbor.state.lock().projects[project].storage_limit, limit, "{name}");
        let answer = ask(&harbor, &format!("GET /api/v2.0/projects/{project}/summary"), &headers, "").await;
        assert_eq!(answer.status, summary, "{name}");
        let info = ask(&harbor, "GET /api/v2.0/systeminfo", &headers, "").await.json();
        assert_eq!(
            (info["project_creation_restriction"].as_str(), info["read_only"].as_bool()),
            (Some("everyone"), Some(false))
        );
    }
}

#[tokio::test]
async fn a_proxy_cache_answers_for_its_upstream() {
    let upstream = Registry::start().await;
    let app = image("app").build();
    app.push(&upstream.inside("team/a"), "1").await;
    let harbor = Harbor::start().await.account(ROBOT, SECRET, Role::SystemRobotOn("p"));
    let harbor = harbor.project("p", Project::proxy_of(&upstream.name()));
    let robot = basic(ROBOT, SECRET);
    let auth = [("authorization", robot.as_str()), ("accept", "application/vnd.oci.image.manifest.v1+json")];
    let manifest = format!("/v2/p/team/a/manifests/{}", app.digest());
    let blob = format!("/v2/p/team/a/blobs/{}", app.blobs[0].digest());
    let head = ask(&harbor, "HEAD /v2/p/team/a/manifests/1", &auth, "").await;
    assert_eq!((head.status, head.header("docker-content-digest")), (200, app.digest().to_string().as_str()));
    let get = ask(&harbor, "GET /v2/p/team/a/manifests/1", &auth, "").await;
    assert_eq!(
        (get.status, get.header("docker-content-digest"), get.body.len()),
        (200, "", app.manifest.bytes().len())
    );
    assert_eq!(ask(&harbor, &format!("GET {manifest}"), &auth, "").await.status, 200);
    assert_eq!(ask(&harbor, &format!("HEAD {blob}"), &auth, "").await.status, 404);
    assert_eq!(ask(&harbor, &format!("GET {blob}"), &auth, "").await.status, 200);
    assert_eq!(upstream.script.count("GET", "/blobs/"), 2);
    let referrers = format!("GET /v2/p/team/a/referrers/{}", app.digest());
    let listed = ask(&harbor, &referrers, &auth, "").await;
    assert_eq!((listed.status, listed.json()["manifests"].as_array().map(Vec::len)), (200, Some(0)));
    let push = ask(&harbor, "POST /v2/p/team/a/blobs/uploads/", &auth, "").await;
    assert_eq!(push.refusal(), (403, "DENIED".into()));
    drop(upstream);
    assert_eq!(ask(&harbor, &format!("GET {manifest}"), &auth, "").await.refusal(), (404, "NOT_FOUND".into()));
}

#[tokio::test]
async fn a_missing_project_has_no_challenge_and_an_unusual_config_fails() {
    let harbor = Harbor::start().await.account(ROBOT, SECRET, Role::SystemRobot);
    let open = ask(&harbor, "POST /v2/nope/a/blobs/uploads/", &[], "").await;
    assert_eq!((open.status, open.header("www-authenticate")), (401, ""));
    // Several scopes in one request, with all permissions of the account.
    harbor.state.lock().projects.extend(["a", "b"].map(|name| (name.to_owned(), Project::default())));
    let robot = basic(ROBOT, SECRET);
    let both = bearer(&harbor, &robot, "repository:a/x:pull&scope=repository:b/x:pull").await;
    for path in ["/v2/a/x/blobs/uploads/", "/v2/b/x/blobs/uploads/"] {
        let answer = ask(&harbor, &format!("POST {path}"), &[("authorization", &both)], "").await;
        assert_eq!(answer.status, 202);
    }
    let odd = image("odd").config(Blob::seeded("application/vnd.oci.image.config.v1+json", "odd", 100)).build();
    for blob in odd.blobs() {
        blob.push(&harbor.inside("a/x")).await.unwrap();
    }
    let bytes = String::from_utf8(odd.manifest.bytes().to_vec()).unwrap();
    let headers = [("authorization", robot.as_str()), ("content-type", odd.manifest.media_type().as_str())];
    let put = ask(&harbor, "PUT /v2/a/x/manifests/1", &headers, &bytes).await;
    assert_eq!(put.refusal(), (500, "UNKNOWN".into()));
}
