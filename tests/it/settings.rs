//! Files beside mirror.yaml: those named by settings, and docker's configuration.

use crate::support::scene::Scene;

#[tokio::test]
async fn files_of_hosts_in_use_are_checked_before_the_first_request() {
    let scene = Scene::new().await;
    scene.publish("app", "1").await;
    scene.cli.write("there", "x");
    let run = async |registries: &str, words: &str| {
        scene.clear();
        scene.write(
            "mirror.yaml",
            &format!("target: DST/m\nlayout: \"{{name}}\"\nimages: [\"SRC/app:1\"]\nregistries:\n{registries}"),
        );
        let run = scene.cli.run(words).await;
        let asked = scene.source.script.lines().len() + scene.target.script.lines().len();
        (run, asked)
    };
    for (host, key) in [("SRC", "source"), ("DST", "target")] {
        for settings in [
            "username: u, password: {file: gone}",
            "username: {file: gone}, password: {file: there}",
            "token: {file: gone}",
            "proxy: {file: gone}",
            "ca: gone",
            "client_cert: gone, client_key: there",
            "client_cert: there, client_key: gone",
        ] {
            for words in ["sync", "plan", "lock", "check"] {
                let (run, asked) = run(&format!("  \"{host}\": {{{settings}}}\n"), words).await;
                assert_eq!((run.code, asked, run.stdout.as_str()), (2, 0, ""), "{key} {settings} {words}: {run}");
                assert!(run.stderr.contains("gone can't be read: No such file"), "{run}");
                assert!(run.stderr.contains("mirror.yaml:5:") && run.stderr.contains("hint: "), "{run}");
            }
        }
    }
    // Existing but invalid files are found then, too.
    for settings in ["ca: there", "client_cert: there, client_key: there"] {
        for words in ["sync", "plan", "check"] {
            let (run, asked) = run(&format!("  \"SRC\": {{{settings}}}\n"), words).await;
            assert_eq!((run.code, asked, run.stdout.as_str()), (2, 0, ""), "{settings} {words}: {run}");
            assert!(run.stderr.contains("contains no certificate in PEM format"), "{run}");
        }
    }
    // Files of unused hosts aren't checked.
    let (unused, _) = run("  other.example: {ca: gone, token: {file: gone}}\n", "sync --no-lock").await;
    assert_eq!(unused.code, 0, "{unused}");
    let (run, _) = run("  \"SRC\": {token: {file: gone}}\n", "verify").await;
    assert!(run.stderr.contains("mirror.lock doesn't exist"), "it asks targets alone: {run}");
    let copy = format!("copy {0}/app:1 {0}/copied:1", scene.target.name());
    let copied = scene.cli.run(&copy).await;
    assert!(copied.code == 1 && copied.stdout.contains("404"), "it asks the target alone: {copied}");
}

#[cfg(unix)]
#[tokio::test]
async fn a_secret_from_a_pipe_is_read_once() {
    use crate::support::registry::{Registry, Settings};
    use crate::support::tokens::Tokens;
    let tokens = Tokens::new().user("me", "word");
    let source = Registry::with(Settings { tokens: Some(tokens), ..Settings::default() }).await;
    let scene = Scene::new().await;
    crate::support::images::image("app").build().push(&source.inside("app"), "1").await;
    let pipe = scene.cli.pipe("pipe");
    let writer = std::thread::spawn(move || std::fs::write(pipe, "word\n"));
    scene.write(
        "mirror.yaml",
        &format!(
            "target: DST/m\nimages: [\"{0}/app:1\"]\nregistries: {{\"{0}\": {{username: me, password: {{file: pipe}}}}}}\n",
            source.name()
        ),
    );
    let run = scene.cli.run("sync").await;
    assert_eq!(run.code, 0, "{run}");
    writer.join().expect("the task doesn't panic").expect("it was read");
}

#[cfg(unix)]
#[tokio::test]
async fn the_error_output_of_a_credential_helper_is_shown() {
    use std::os::unix::fs::PermissionsExt as _;
    let scene = Scene::new().await;
    scene.publish("app", "1").await;
    let tokens = crate::support::tokens::Tokens::new().user("me", "word");
    let settings = crate::support::registry::Settings { tokens: Some(tokens), ..Default::default() };
    let source = crate::support::registry::Registry::with(settings).await;
    for (script, expected) in [
        ("echo the keyring is locked >&2; exit 1", "failed (exit status: 1): the keyring is locked"),
        ("echo the keyring is locked; exit 1", "failed (exit status: 1): the keyring is locked"),
        (
            r"printf 'bad \033]0;x\007 https://me:hunter2@h.io\n' >&2; exit 7",
            r"failed (exit status: 7): bad \u{1b}]0;x\u{7} https://…@h.io",
        ),
        (
            r#"echo '{"Username":"me","Secret":"hunter2"}'; exit 1"#,
            r#"failed (exit status: 1): {"Username":"me","Secret":…}"#,
        ),
    ] {
        let cli = crate::support::cli::Cli::new()
            .file("bin/docker-credential-test", format!("#!/bin/sh\n{script}\n"))
            .file("home/.docker/config.json", r#"{"credsStore":"test","auths":{"other.io":"not an object"}}"#);
        let program = cli.path("bin/docker-credential-test");
        std::fs::set_permissions(program, std::fs::Permissions::from_mode(0o755)).expect("it exists");
        let path = format!("{}:{}", cli.path("bin").display(), std::env::var("PATH").unwrap_or_default());
        let list = format!("target: {}/m\nimages: [\"{}/app:1\"]\n", scene.target.name(), source.name());
        let run = cli.env("PATH", path).file("mirror.yaml", list).run("sync").await;
        assert!(run.code == 1 && run.stdout.contains(expected), "{script}: {run}");
        assert!(!format!("{run}").contains("hunter2"), "{run}");
    }
}
