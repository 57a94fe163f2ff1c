//! Single requests: what the fake makes of clients that get it wrong.

use base64::Engine as _;

use super::{ROBOT, SECRET};
use crate::support::harbor::{Harbor, Project, Role};
use crate::support::http;

fn basic(name: &str, secret: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{name}:{secret}")))
}

async fn ask(harbor: &Harbor, request: &str, headers: &[(&str, &str)], body: &str) -> http::Answer {
    let (method, path) = request.split_once(' ').unwrap();
    http::send(&harbor.url(path), method, headers, body.to_owned()).await
}

/// A bearer for the scope, as whoever `authorization` says.
async fn bearer(harbor: &Harbor, authorization: &str, scope: &str) -> String {
    let request = format!("GET /service/token?service=harbor-registry&scope={scope}");
    let answer = ask(harbor, &request, &[("authorization", authorization)], "").await;
    let body = answer.json();
    assert_eq!((answer.status, body["access_token"].as_str()), (200, Some("")));
    format!("Bearer {}", body["token"].as_str().unwrap())
}

#[tokio::test]
async fn the_api_wants_credentials_texts_and_good_names() {
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
async fn the_token_service_refuses_nobody_who_asks_for_something() {
    let harbor = Harbor::start().await.account(ROBOT, SECRET, Role::SystemRobot).project("m", Project::default());
    let (robot, wrong) = (basic(ROBOT, SECRET), basic(ROBOT, "no"));
    for (authorization, expected) in [(&robot, 200), (&wrong, 401)] {
        let answer = ask(&harbor, "GET /service/token", &[("authorization", authorization)], "").await;
        assert_eq!(answer.status, expected);
    }
    assert_eq!(ask(&harbor, "POST /service/token", &[("authorization", &robot)], "").await.status, 405);
    // What was asked for doesn't matter, who asks does.
    let (good, useless) = (
        bearer(&harbor, &robot, "repository:m/a:pull").await,
        bearer(&harbor, &wrong, "repository:m/a:pull,push").await,
    );
    let open = "POST /v2/m/a/blobs/uploads/";
    assert_eq!(ask(&harbor, open, &[("authorization", &good)], "").await.status, 202);
    let refused = ask(&harbor, open, &[("authorization", &useless)], "").await;
    assert_eq!((refused.status, refused.header("www-authenticate")), (401, r#"Basic realm="harbor""#));
    // A token is for what it names.
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
    // Young enough, but of no use: nothing was known of the project then.
    assert_eq!(ask(&harbor, head, &[("authorization", &late)], "").await.status, 401);
    assert_eq!(ask(&harbor, "HEAD /v2/a/manifests/1", &[("authorization", &robot)], "").await.status, 400);
    assert_eq!(ask(&harbor, "GET /v2/", &[("authorization", &robot)], "").await.status, 200);
    let anonymous = ask(&harbor, "GET /v2/", &[("authorization", "Basic eDp5")], "").await;
    assert_eq!((anonymous.status, anonymous.header("www-authenticate")), (401, r#"Basic realm="harbor""#));
}

#[tokio::test]
async fn mounts_and_pushes_meet_the_rules_of_the_project() {
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
