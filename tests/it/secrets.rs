//! Secrets are never shown: runs with every kind of secret at the highest log level, and a search through their
//! output.

use axum::Router;
use axum::extract::Request;
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use transship::serve::{self, Server};
use transship::store::memory::Memory;

use crate::support::certificates::FAR_HOST;
use crate::support::cli::{Cli, Run};
use crate::support::docker_registry::DockerRegistry;
use crate::support::images::image;
use crate::support::proxy::Proxy;
use crate::support::registry::{Registry, Settings};
use crate::support::script::Fault;
use crate::support::tokens::Tokens;

const ECR: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";

/// The secrets that must not be shown. Bearer tokens are added as they are issued.
const SECRETS: &[&str] = &[
    "password+of/hub",
    "password+of/file",
    "password+of/docker",
    "password+of/proxy",
    "identity+token/x",
    "ready+bearer/token",
    "signature+of/cdn",
    "secret+key/of/aws",
    "session+token/of/aws",
    "password+of/ecr",
];

async fn registry_for(user: &str, password: &str) -> (Registry, Tokens) {
    let tokens = Tokens::new().user(user, password);
    let registry = Registry::with(Settings { tokens: Some(tokens.clone()), ..Settings::default() }).await;
    (registry, tokens)
}

/// A registry that requires credentials with each request, like ECR.
async fn basic() -> Server {
    async fn check(request: Request, next: Next) -> Response {
        let expected = format!("Basic {}", STANDARD.encode("AWS:password+of/ecr"));
        match request.headers().get(AUTHORIZATION).is_some_and(|value| value.as_bytes() == expected.as_bytes()) {
            true => next.run(request).await,
            false => (axum::http::StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, "Basic realm=\"x\"")]).into_response(),
        }
    }
    let router = serve::router(std::sync::Arc::new(Memory::new()), serve::Options::default());
    Server::start_router(router.layer(middleware::from_fn(check)), 0).await.expect("a free port")
}

/// The part of ECR's API that is used: a token, and an existing repository.
async fn ecr_api() -> Server {
    async fn answer(request: Request) -> Response {
        let action = request.headers().get("x-amz-target").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let body = match action.rsplit('.').next().unwrap_or_default() {
            "GetAuthorizationToken" => serde_json::json!({ "authorizationData": [{
                "authorizationToken": STANDARD.encode("AWS:password+of/ecr"), "expiresAt": 4_000_000_000_u32,
            }]}),
            _ => serde_json::json!({ "repositories": [{ "repositoryName": "m/app" }] }),
        };
        ([("content-type", "application/x-amz-json-1.1")], body.to_string()).into_response()
    }
    Server::start_router(Router::new().fallback(answer), 0).await.expect("a free port")
}

/// The encodings of `secret`.
fn spellings(secret: &str) -> Vec<String> {
    let escaped: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    let users = ["hub", "filed", "docked", "me", "AWS"];
    let basic = users.iter().map(|user| STANDARD_NO_PAD.encode(format!("{user}:{secret}")));
    [secret.to_owned(), escaped, STANDARD_NO_PAD.encode(secret)].into_iter().chain(basic).collect()
}

fn assert_nothing_shown(what: &str, text: &str, issued: &[String]) {
    let secrets = SECRETS.iter().map(|secret| (*secret).to_owned()).chain(issued.iter().cloned());
    for spelling in secrets.flat_map(|secret| spellings(&secret)) {
        let line = text.lines().find(|line| line.contains(&spelling));
        assert_eq!(line, None, "{what} shows {spelling}");
    }
    // The state of docker-registry's uploads.
    assert!(!text.contains("_state="), "{what} shows the state of an upload");
}

#[tokio::test]
async fn no_secret_is_printed_at_any_log_level() {
    let Some(real) = DockerRegistry::start() else { return };
    let (source, hub_tokens) = registry_for("hub", "password+of/hub").await;
    let (filed, file_tokens) = registry_for("filed", "password+of/file").await;
    let (docked, docker_tokens) = registry_for("docked", "password+of/docker").await;
    let (identified, identity_tokens) = registry_for("nobody", "nothing").await;
    let (ready, far, cdn, ecr, api) =
        (Registry::start().await, Registry::start().await, Registry::start().await, basic().await, ecr_api().await);
    let app = image("app").layer(50_000).build();
    for registry in [&source, &cdn] {
        app.push(&registry.inside("app"), "1").await;
    }
    for blob in app.blobs() {
        let path = format!("/v2/app/blobs/{}", blob.digest());
        let signed = format!("{}?X-Amz-Signature=signature%2Bof%2Fcdn", cdn.url(&path));
        source.script.always("GET", path, Fault::redirect(307, signed));
    }
    let proxy = Proxy::start("me", "password+of/proxy", &[(FAR_HOST, far.address())]).await;
    let registries = format!(
        "registries:\n  {}: {{username: hub, password: {{env: HUB}}}}\n  {}: {{username: filed, password: {{file: password}}}}\n  \
         {}: {{token: {{env: READY}}}}\n  {FAR_HOST}: {{plain_http: true, proxy: {{file: proxy}}}}\n  {ECR}: {{endpoint: \"http://{}\"}}\n",
        source.name(),
        filed.name(),
        ready.name(),
        ecr.address()
    );
    let targets = [filed.name(), docked.name(), identified.name(), ready.name(), real.name()];
    let targets: Vec<String> = targets.iter().map(ToString::to_string).chain([FAR_HOST.into(), ECR.into()]).collect();
    let docker = format!(
        r#"{{"auths":{{"{}":{{"auth":"{}"}},"{}":{{"identitytoken":"identity+token/x"}}}}}}"#,
        docked.name(),
        STANDARD.encode("docked:password+of/docker"),
        identified.name()
    );
    let mut cli = Cli::new()
        .file("password", "password+of/file\n")
        .file("proxy", proxy.url("me:password%2Bof%2Fproxy@"))
        .file("home/.docker/config.json", docker)
        .env("HUB", "password+of/hub")
        .env("READY", "ready+bearer/token")
        .env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
        .env("AWS_SECRET_ACCESS_KEY", "secret+key/of/aws")
        .env("AWS_SESSION_TOKEN", "session+token/of/aws")
        .env("AWS_ENDPOINT_URL", format!("http://{}", api.address()));
    for (round, line) in ["sync -vvv", "sync -vvv --json", "sync -v --json"].into_iter().enumerate() {
        if round == 2 {
            cli = cli.env("TRANSSHIP_LOG", "trace,hyper=trace,aws_smithy_runtime=trace,reqwest=trace");
        }
        let to: String = targets.iter().map(|target| format!("\"{target}/m{round}\", ")).collect();
        let image = format!("{}/app:1", source.name());
        cli.write("mirror.yaml", format!("targets: [{to}]\nlayout: \"{{name}}\"\nimages: [\"{image}\"]\n{registries}"));
        let run = cli.run(line).await;
        let all = format!("{run}\n{}\n{}", cli.read("mirror.lock").unwrap_or_default(), cached(&cli));
        let services = [&hub_tokens, &file_tokens, &docker_tokens, &identity_tokens];
        let issued: Vec<String> = services.iter().flat_map(|tokens| tokens.secrets()).collect();
        assert_nothing_shown(line, &all, &issued);
        assert_used(&run, &proxy);
    }
    assert!(
        !hub_tokens.secrets().is_empty() && !file_tokens.secrets().is_empty() && !docker_tokens.secrets().is_empty()
    );
}

/// All that the cache holds.
fn cached(cli: &Cli) -> String {
    let files = std::fs::read_dir(cli.path("cache/blobs/sha256")).expect("a cache");
    files.map(|file| std::fs::read_to_string(file.expect("a file").path()).expect("JSON")).collect()
}

/// A secret that isn't used can't be shown: all got the image except the registry that refuses the identity token.
fn assert_used(run: &Run, proxy: &Proxy) {
    assert_eq!(run.code, 1, "{run}");
    assert!(run.stdout.matches("failed").count() > 0 && run.stderr.lines().count() > 100, "{run}");
    assert!(!proxy.seen().is_empty());
    for line in run.stderr.lines() {
        assert!(!line.chars().any(char::is_control), "{line:?}");
    }
}
