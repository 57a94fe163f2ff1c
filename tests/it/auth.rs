//! Credentials as a user sees them: expiring tokens, wrong passwords, credential helpers of docker.

use std::collections::BTreeSet;

use axum::Router;
use serde_json::Value;
use transship::serve::Server;

use crate::support::cli::{Cli, Run};
use crate::support::docker_registry::{DockerRegistry, Settings as Real};
use crate::support::gate::Gate;
use crate::support::images::image;
use crate::support::jwt::Signer;
use crate::support::registry::{Registry, Settings};
use crate::support::script::Fault;
use crate::support::tokens::Tokens;

/// A registry that requires tokens.
async fn registry_of(tokens: &Tokens) -> Registry {
    Registry::with(Settings { tokens: Some(tokens.clone()), ..Settings::default() }).await
}

fn scopes(tokens: &Tokens, ending: &str) -> usize {
    let has = |scopes: &&BTreeSet<String>| scopes.len() == 1 && scopes.iter().all(|scope| scope.ends_with(ending));
    tokens.requests().iter().filter(has).count()
}

fn mounted(run: &Run) -> u64 {
    let report = run.json();
    let images = report["images"].as_array().expect("images").clone();
    images.iter().map(|image| image["bytes"]["mounted"].as_u64().unwrap_or(0)).sum()
}

/// A separate token service, and a docker-registry that accepts its tokens.
struct Signed {
    tokens: Tokens,
    registry: DockerRegistry,
    _service: Server,
}

impl Signed {
    async fn start() -> Option<Self> {
        let signer = Signer::new();
        let certificate = signer.pem();
        let tokens = Tokens::new().user("robot$mirror", "p4ss").signed_by(signer);
        let service = Server::start_router(tokens.around(Router::new()), 0).await.expect("a free port");
        let realm = format!("http://{}/token", service.address());
        let registry = DockerRegistry::with(Real { tokens: Some((realm, certificate)), ..Real::default() })?;
        Some(Self { tokens, registry, _service: service })
    }

    fn login(&self) -> String {
        format!("  {}: {{username: robot$mirror, password: {{env: REGISTRY_PASSWORD}}}}\n", self.registry.name())
    }
}

#[tokio::test]
async fn real_registries_with_signed_tokens_mount_or_upload() {
    let (Some(source), Some(target)) = (Signed::start().await, Signed::start().await) else { return };
    let open = Registry::start().await;
    for name in ["one", "two"] {
        let app = image(name).shared_layer("base", 100_000).layer(1000).build();
        app.push(&open.inside(name), "1").await;
    }
    let cli = Cli::new().env("REGISTRY_PASSWORD", "p4ss");
    let registries = format!("registries:\n{}{}", source.login(), target.login());
    let list = |to: String, from: String| {
        format!("target: {to}\nlayout: \"{{name}}\"\nimages: [\"{from}/one:1\", \"{from}/two:1\"]\n{registries}")
    };
    let fill = cli.file("mirror.yaml", list(format!("{}", source.registry.name()), open.name().to_string()));
    let filled = fill.run("sync --json --no-lock").await;
    assert_eq!(filled.code, 0, "{filled}");

    let list = |prefix: &str| list(format!("{}/{prefix}", target.registry.name()), source.registry.name().to_string());
    fill.write("mirror.yaml", list("both"));
    let run = fill.run("sync --json --no-lock").await;
    assert_eq!((run.code, mounted(&run)), (0, 100_000), "{run}");
    assert!(target.tokens.requests().iter().any(|scopes| scopes.len() == 2), "a mount needs both scopes");

    target.tokens.one_scope();
    fill.write("mirror.yaml", list("one"));
    let run = fill.run("sync --json --no-lock").await;
    assert_eq!((run.code, mounted(&run)), (0, 0), "{run}");
    assert_eq!((source.tokens.refused(), target.tokens.refused()), (0, 0));
}

#[tokio::test]
async fn a_token_that_expires_during_an_upload_is_renewed_once() {
    // The bytes of a layer, and the manifest after them.
    for held in ["/blobs/uploads/", "/manifests/"] {
        let tokens = Tokens::new().user("u", "right").expires_in(60);
        let (source, target) = (Registry::start().await, registry_of(&tokens).await);
        let app = image("app").layer(300_000).build();
        app.push(&source.inside("app"), "1").await;
        let cli = Cli::new().env("PASSWORD", "right").file(
            "mirror.yaml",
            format!(
                "target: {to}/m\nlayout: \"{{name}}\"\nimages: [\"{}/app:1\"]\nregistries:\n  {to}: {{username: u, password: \
                 {{env: PASSWORD}}}}\n",
                source.name(),
                to = target.name()
            ),
        );
        let gate = Gate::closed();
        // The registry checks the token of the waiting request only after that.
        target.script.once("PUT", held, Fault::Wait(gate.clone()));
        let revoke = async {
            gate.reached(1).await;
            tokens.revoke();
            gate.open();
        };
        let (run, ()) = tokio::join!(cli.run("sync"), revoke);
        assert_eq!(run.code, 0, "{run}");
        app.assert_in(&target.inside("m/app"), "1").await;
        assert_eq!((scopes(&tokens, ":pull,push"), tokens.refused()), (2, 0), "{:?}", tokens.requests());
    }
}

#[tokio::test]
async fn a_wrong_password_fails_its_registry_at_once() {
    let tokens = Tokens::new().user("u", "right");
    let (source, target) = (registry_of(&tokens).await, Registry::start().await);
    let from = source.name();
    let images: String = (0..6).map(|i| format!("  - {from}/app{i}:1\n")).collect();
    let list = format!(
        "target: {}/m\nimages:\n{images}registries:\n  {from}: {{username: u, password: {{env: PASSWORD}}}}\n",
        target.name()
    );
    let run = Cli::new().env("PASSWORD", "wrong").file("mirror.yaml", list).run("sync --json").await;
    assert_eq!(run.code, 1, "{run}");
    let report = run.json();
    let failed = |image: &Value| image["error"]["kind"] == "unauthorized" && image["error"]["attempts"] == 1;
    assert!(report["images"].as_array().expect("images").iter().all(failed), "{run}");
    assert_eq!((tokens.refused(), tokens.issued()), (1, 0));
    // One request for the challenge, and one for the token.
    assert_eq!(source.script.seen().len(), 2, "{:?}", source.script.lines());
}

#[tokio::test]
async fn an_expired_token_of_ecr_public_is_renewed_once() {
    for held in ["/manifests/sha256:", "/blobs/"] {
        let tokens = Tokens::new().stale_is_400();
        let (source, target) = (registry_of(&tokens).await, Registry::start().await);
        let app = image("app").layer(1000).build();
        app.push(&source.inside("team/app"), "1").await;
        let list = format!(
            "target: {}/m\nlayout: \"{{name}}\"\nimages: [\"public.ecr.aws/team/app:1\"]\nregistries:\n  public.ecr.aws: \
             {{endpoint: \"{}\"}}\n",
            target.name(),
            source.url("")
        );
        let ended = tokens.clone();
        source.script.once("GET", held, Fault::meanwhile(move || ended.revoke()));
        let run = Cli::new().file("mirror.yaml", list).run("sync").await;
        assert_eq!(run.code, 0, "{run}");
        app.assert_in(&target.inside("m/app"), "1").await;
        assert_eq!(tokens.issued(), 2, "{:?}", source.script.lines());
        assert!(source.script.lines().iter().any(|line| line.ends_with(" 400")), "{:?}", source.script.lines());
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_docker_credential_helper_is_used() {
    use std::os::unix::fs::PermissionsExt as _;
    let tokens = Tokens::new().user("helped", "by the keychain");
    let (source, target) = (registry_of(&tokens).await, Registry::start().await);
    let app = image("app").build();
    app.push(&source.inside("app"), "1").await;
    let helper = format!(
        "#!/bin/sh\nread host\n[ \"$1 $host\" = \"get {}\" ] && echo '{{\"Username\":\"helped\",\"Secret\":\"by the keychain\"}}'\n",
        source.name()
    );
    let cli = Cli::new().file("bin/docker-credential-test", helper).file(
        "mirror.yaml",
        format!("target: {}/m\nlayout: x\nimages: [\"{}/app:1\"]\n", target.name(), source.name()),
    );
    let program = cli.path("bin/docker-credential-test");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("our own file");
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:{path}", cli.path("bin").display());
    let cli = cli.env("PATH", path);
    for settings in
        [format!(r#"{{"credHelpers":{{"{}":"test"}}}}"#, source.name()), r#"{"credsStore":"test"}"#.to_owned()]
    {
        cli.write("home/.docker/config.json", settings);
        let run = cli.run("sync --no-lock").await;
        assert_eq!(run.code, 0, "{run}");
    }
    cli.write("home/.docker/config.json", r#"{"credsStore":"absent"}"#);
    let run = cli.run("sync --no-lock").await;
    assert_eq!(run.code, 1, "{run}");
    for words in
        ["docker-credential-absent isn't on the PATH", "config.json names this helper", "hint: install or repair"]
    {
        assert!(run.stdout.contains(words), "{words}: {run}");
    }
}
