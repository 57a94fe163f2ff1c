//! TLS in practice: private authorities, handmade certificates, and wrong schemes.

use std::path::Path;
use std::process::Command;

use transship::oci::Digest;

use crate::support::certificates::{Authority, Pair, self_signed};
use crate::support::cli::{Cli, Run};
use crate::support::docker_registry::{DockerRegistry, Settings as Real};
use crate::support::images::{Image, image};
use crate::support::registry::Registry;
use crate::support::script::Fault;
use crate::support::tls::TlsFront;

/// A source behind TLS, a target, and a folder with `mirror.yaml`.
struct Scene {
    source: Registry,
    target: Registry,
    front: TlsFront,
    app: Image,
    cli: Cli,
}

impl Scene {
    async fn new(pair: &Pair) -> Self {
        let (source, target) = (Registry::start().await, Registry::start().await);
        let app = image("app").layer(50_000).build();
        app.push(&source.inside("app"), "1").await;
        let front = TlsFront::with(source.address(), pair, None).await;
        Self { source, target, front, app, cli: Cli::new() }
    }

    /// Runs `line` with these settings for the source.
    async fn run(&self, settings: &str, line: &str) -> Run {
        let from = self.front.address;
        let list = format!(
            "target: {}/m\nlayout: \"{{name}}\"\nimages: [\"{from}/app:1\"]\nregistries:\n  \"{from}\": {settings}\n",
            self.target.name()
        );
        self.cli.write("mirror.yaml", list);
        self.cli.run(line).await
    }

    async fn assert_mirrored(&self) {
        self.app.assert_in(&self.target.inside("m/app"), "1").await;
    }
}

/// The error of the only image, after one attempt and without log output.
fn told(run: &Run) -> String {
    let error = &run.json()["images"][0]["error"];
    assert_eq!((run.code, &error["kind"], &error["attempts"]), (1, &"configuration".into(), &1.into()), "{run}");
    // Progress lines start with the elapsed time.
    let is_raw = |line: &str| !line.starts_with('[') && line.contains("certificate");
    assert!(!run.stderr.lines().any(is_raw), "no raw log line: {run}");
    format!("{} | {}", error["message"].as_str().expect("a message"), error["hint"].as_str().expect("a hint"))
}

/// The lines of `check` with failures.
fn found(check: &Run) -> String {
    let json = check.json();
    let checks = json["checks"].as_array().expect("checks").iter().filter(|check| check["ok"] == false);
    let lines = checks.map(|check| format!("{} {} | {}", check["kind"], check["message"], check["hint"]));
    lines.collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn every_certificate_error_is_explained() {
    let authority = Authority::new();
    let (past, future) = ((2019, 2020), (2090, 2091));
    let clock = "this machine's clock";
    for (pair, words, hint) in [
        (authority.server_between(past), "its certificate expired at 2020-01-01T00:00:00Z (now: 2", clock),
        (authority.server_between(future), "its certificate is valid only from 2090-01-01T00:00:00Z on", clock),
        (
            authority.server_for(&["other.example"]),
            "its certificate is for other.example, not for 127.0.0.1",
            "endpoint:",
        ),
        (authority.server_for(&[]), "its certificate has no name in it, not for 127.0.0.1", "endpoint:"),
        (authority.client(), "its certificate isn't for servers", "serverAuth"),
        (
            Authority::new().server(),
            "isn't signed by an authority that this machine or ca: (ca.pem) trusts",
            "into ca.pem",
        ),
        (self_signed(&["localhost", "127.0.0.1"], true), "an authority's, not a server's", "into ca.pem"),
        (self_signed(&["localhost", "127.0.0.1"], false), "isn't signed by an authority", "into ca.pem"),
    ] {
        let scene = Scene::new(&pair).await;
        scene.cli.write("ca.pem", authority.pem());
        let sync = scene.run("{ca: ca.pem}", "sync --json").await;
        let told = told(&sync);
        assert!(told.contains(words) && told.contains(hint), "expected {words} … {hint}\n   found {told}");
        assert!(!told.contains("set ca:"), "it is set: {told}");
        let check = scene.run("{ca: ca.pem}", "check --json").await;
        assert!(check.code == 1 && found(&check).contains(words), "{words}: {check}");
        // Without verification this one is accepted, too.
        let insecure = scene.run("{insecure: true}", "sync").await;
        assert_eq!(insecure.code, 0, "{words}: {insecure}");
        scene.assert_mirrored().await;
    }
    let scene = Scene::new(&authority.server()).await;
    let unset = told(&scene.run("{plain_http: false}", "sync --json").await);
    assert!(
        unset.contains("isn't signed by an authority that this machine trusts")
            && unset.contains("set ca: of registries.127"),
        "{unset}"
    );
}

#[tokio::test]
async fn a_server_certificate_listed_in_ca_is_trusted_for_its_names() {
    let here = ["localhost", "127.0.0.1"];
    for (pair, problem) in [
        (self_signed(&here, true), None),
        (self_signed(&here, false), None),
        // Signed by an unknown authority.
        (Authority::new().server(), None),
        (self_signed(&["other.example"], true), Some("is for other.example, not for 127.0.0.1")),
        (Authority::new().server_for(&["other.example"]), Some("is for other.example, not for 127.0.0.1")),
        (Authority::new().server_between((2019, 2020)), Some("expired at 2020")),
    ] {
        let scene = Scene::new(&pair).await;
        let other = Authority::new();
        // Together with others, in any order.
        scene.cli.write("ca.pem", format!("{}\n# ours\n{}", other.pem(), pair.certificate));
        match problem {
            None => {
                let run = scene.run("{ca: ca.pem}", "sync").await;
                assert_eq!(run.code, 0, "{run}");
                scene.assert_mirrored().await;
                let check = scene.run("{ca: ca.pem}", "check").await;
                assert_eq!(check.code, 0, "{check}");
            }
            Some(problem) => {
                let told = told(&scene.run("{ca: ca.pem}", "sync --json").await);
                assert!(told.contains(problem), "{problem}: {told}");
            }
        }
    }
}

/// The output of `openssl req -x509` with these arguments.
fn openssl(folder: &Path, arguments: &[&str]) -> Option<Pair> {
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-keyout", "key.pem"]);
    let made = command.args(["-out", "crt.pem"]).args(arguments).current_dir(folder).output();
    let output = crate::support::docker_registry::installed("openssl", made)?;
    assert!(output.status.success(), "{output:?}");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).expect("a file");
    Some(Pair { certificate: read("crt.pem"), key: read("key.pem") })
}

#[tokio::test]
async fn default_certificates_of_openssl_are_trusted_as_by_curl() {
    let folder = tempfile::tempdir().expect("a folder");
    for arguments in [
        &["-days", "30", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"][..],
        &["-days", "30", "-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"],
        &["-days", "30", "-addext", "subjectAltName=IP:127.0.0.1", "-addext", "keyUsage=keyCertSign"],
    ] {
        let Some(pair) = openssl(folder.path(), arguments) else { return };
        let scene = Scene::new(&pair).await;
        scene.cli.write("crt.pem", &pair.certificate);
        let run = scene.run("{ca: crt.pem}", "sync").await;
        assert_eq!((run.code, run.stderr.matches("ERROR").count()), (0, 0), "{arguments:?}: {run}");
        scene.assert_mirrored().await;
    }
    let Some(pair) = openssl(folder.path(), &["-days", "30"]) else { return };
    let scene = Scene::new(&pair).await;
    scene.cli.write("crt.pem", &pair.certificate);
    let told = told(&scene.run("{ca: crt.pem}", "sync --json").await);
    assert!(told.contains("has no name in it"), "a common name is none: {told}");
}

#[tokio::test]
async fn insecure_and_the_client_certificate_apply_only_to_the_registrys_host_and_port() {
    let (authority, others) = (Authority::new(), Authority::new());
    let client = authority.client();
    let strict = Some(&authority);
    for (settings, own, clients, problem) in [
        ("{insecure: true}", &others, None, Some("its certificate isn't signed by")),
        // The authority of both servers is configured for the registry.
        ("{ca: both.pem}", &others, None, None),
        ("{insecure: true, ca: others.pem}", &others, None, None),
        // The storage requests a certificate, but the configured one is for the registry.
        (
            "{ca: both.pem, client_cert: client.pem, client_key: client.key}",
            &authority,
            strict,
            Some("the server wants a client certificate"),
        ),
    ] {
        let (scene, storage) = (Scene::new(&authority.server()).await, Registry::start().await);
        scene.app.push(&storage.inside("app"), "1").await;
        let front = TlsFront::with(storage.address(), &own.server(), clients).await;
        for blob in scene.app.blobs() {
            let path = format!("/v2/app/blobs/{}", blob.digest());
            let signed = format!("https://{}{path}?X-Amz-Signature=secret", front.address);
            scene.source.script.always("GET", path, Fault::redirect(307, signed));
        }
        scene.cli.write("others.pem", others.pem());
        scene.cli.write("both.pem", format!("{}{}", authority.pem(), others.pem()));
        scene.cli.write("client.pem", &client.certificate);
        scene.cli.write("client.key", &client.key);
        match problem {
            None => {
                let run = scene.run(settings, "sync").await;
                assert_eq!(run.code, 0, "{settings}: {run}");
                scene.assert_mirrored().await;
            }
            Some(problem) => {
                let told = told(&scene.run(settings, "sync --json").await);
                assert!(
                    told.contains(&format!(": {}: {problem}", front.address)) && !told.contains("secret"),
                    "{told}"
                );
                let exception = format!("insecure: holds for {} alone", scene.front.address);
                assert_eq!(told.contains(&exception), settings.contains("insecure"), "{told}");
            }
        }
    }
}

/// The refusals of plain HTTP, from the servers' sources and documentation.
const REFUSALS: &[(u16, &str)] = &[
    (400, "Client sent an HTTP request to an HTTPS server.\n"),
    (
        400,
        "<html>\r\n<head><title>400 The plain HTTP request was sent to HTTPS port</title></head>\r\n<body>\r\n<center><h1>400 \
         Bad Request</h1></center>\r\n<center>The plain HTTP request was sent to HTTPS port</center>\r\n</body>\r\n</html>",
    ),
    (
        400,
        "<html><head><title>400 Bad Request</title></head><body><h1>Bad Request</h1><p>Your browser sent a request that this \
         server could not understand.<br />Reason: You're speaking plain HTTP to an SSL-enabled server port.<br /> Instead use \
         the HTTPS scheme to access this URL, please.</p></body></html>",
    ),
    (400, "Bad Request\r\nThis combination of host and port requires TLS.\r\n"),
    (426, "This service requires use of the TLS protocol"),
];

#[tokio::test]
async fn plain_http_to_a_tls_server_is_tried_once_and_explained() {
    for (status, body) in REFUSALS {
        let (source, target) = (Registry::start().await, Registry::start().await);
        for method in ["GET", "HEAD", "POST", "PUT"] {
            let answer = Fault::Answer { status: *status, headers: Vec::new(), body: (*body).to_owned() };
            source.script.always(method, "", answer);
        }
        let cli = Cli::new().file(
            "mirror.yaml",
            format!(
                "target: {}/m\nlimits: {{idle_timeout: 5s}}\nimages: [\"{}/app:1\"]\n",
                target.name(),
                source.name()
            ),
        );
        let told = told(&cli.run("sync --json").await);
        assert!(told.contains("plain_http: false") && !told.contains("login page"), "{body}: {told}");
        assert!(source.script.lines().len() <= 2 && source.script.count("GET", "") <= 1, "{:?}", source.script.lines());
        let check = cli.run("check --json").await;
        assert!(check.code == 1 && found(&check).contains("plain_http: false"), "{body}: {check}");
    }
}

#[tokio::test]
async fn a_wrong_scheme_is_explained_for_source_and_target() {
    let (Some(plain), Some(secure)) =
        (DockerRegistry::start(), DockerRegistry::with(Real { tls: true, ..Real::default() }))
    else {
        return;
    };
    let target = Registry::start().await;
    let authority = Authority::new();
    let front = TlsFront::with(target.address(), &authority.server(), None).await;
    let front = front.address.to_string();
    let ours = target.name().to_string();
    let cli = Cli::new();
    let digest = Digest::of(b"x");
    for (registry, settings, expected) in [
        (plain.name().to_string(), "{plain_http: false}", "plain_http: true"),
        (plain.name().to_string(), "{insecure: true}", "plain_http: true"),
        (plain.name().to_string(), "{endpoint: \"https://HOST\"}", "write http:// in endpoint: of registries.127"),
        (ours.clone(), "{plain_http: false}", "plain_http: true"),
        (secure.name().to_string(), "{plain_http: true}", "plain_http: false"),
        (secure.name().to_string(), "{}", "plain_http: false"),
        (secure.name().to_string(), "{endpoint: \"http://HOST\"}", "write https:// in endpoint: of registries.127"),
        // This one answers with a TLS alert instead of HTTP.
        (front.clone(), "{}", "plain_http: false"),
        (front.clone(), "{endpoint: \"http://HOST\"}", "write https:// in endpoint: of registries.127"),
    ] {
        let settings = settings.replace("HOST", &registry);
        for (line, to, from) in
            [("sync --json", ours.as_str(), registry.as_str()), ("sync --json", registry.as_str(), ours.as_str())]
        {
            if to == from {
                continue;
            }
            cli.write(
                "mirror.yaml",
                format!(
                    "target: {to}/m\nimages: [\"{from}/app@{digest}\"]\ndefaults: {{referrers: none}}\nregistries:\n  \"{registry}\": {settings}\n"
                ),
            );
            let run = cli.run(&format!("{line} --no-lock")).await;
            let check = cli.run("check --json").await;
            assert!(check.code == 1 && found(&check).contains(expected), "{registry} {settings}: {check}");
            if from == registry {
                let told = told(&run);
                assert!(told.contains(expected), "{settings}: {told}");
            }
        }
    }
}
