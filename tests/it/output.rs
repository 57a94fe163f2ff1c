//! The text that a run prints, in a pipe and without colour: each snapshot is the whole output.

use crate::support::cli::Cli;
use crate::support::images::image;
use crate::support::registry::{Registry, Settings};
use crate::support::script::Fault;
use crate::support::tokens::Tokens;

struct Scene {
    source: Registry,
    target: Registry,
    cli: Cli,
}

impl Scene {
    async fn new(settings: Settings) -> Self {
        let source = Registry::with(settings).await;
        for (name, tag) in [("app", "1"), ("db", "16"), ("db", "17")] {
            image(&format!("{name}:{tag}")).build().push(&source.inside(name), tag).await;
        }
        Self { source, target: Registry::start().await, cli: Cli::new() }
    }

    async fn plain() -> Self {
        Self::new(Settings::default()).await
    }

    fn list(&self, entries: &str, more: &str) {
        let text = format!("target: DST/m\nlayout: \"{{repository}}\"\nimages:\n{entries}{more}");
        let text = text.replace("SRC", self.source.name().as_str()).replace("DST", self.target.name().as_str());
        self.cli.write("mirror.yaml", text);
    }

    /// The output of a run, with `SRC` and `DST` for the registries.
    async fn shown(&self, line: &str) -> String {
        // The order of progress lines isn't deterministic.
        let mut run = self.cli.run(&format!("{line} --progress none")).await;
        for text in [&mut run.stdout, &mut run.stderr] {
            *text = text.replace(self.source.name().as_str(), "SRC").replace(self.target.name().as_str(), "DST");
        }
        run.filtered()
    }
}

#[tokio::test]
async fn a_sync_in_which_much_goes_wrong() {
    let scene = Scene::plain().await;
    scene.list("  - SRC/app:1\n  - SRC/app:nope\n  - SRC/gone:1\n  - SRC/db:16\n", "");
    scene.target.script.always("PUT", "/v2/m/db/manifests/", Fault::refuse(403, "DENIED"));
    insta::assert_snapshot!(scene.shown("sync").await, @"
    exit 1
    -- stdout
    copied      SRC/app:1 → DST/m/app:1    3.0 kB  [SECONDS]

    failed      resolve IMAGE: 404 Not Found
      hint: check the spelling, and that the tag still exists
      2 images:
        SRC/app:nope
        SRC/gone:1

    failed      SRC/db:16
      push manifest sha256:[DIGEST] as 16 to DST/m/db: 403 Forbidden: DENIED as the script has it
      hint: authenticated but not authorized: ask the registry's owner for permission

    4 images, 1 target: 1 copied, 3 failed
    3.0 kB copied in [SECONDS]
    next: `transship sync`
    -- stderr
    ");
}

#[tokio::test]
async fn the_next_command_names_the_same_images_and_targets() {
    let scene = Scene::plain().await;
    scene.list("  - SRC/app:1\n  - SRC/db:16\n", "");
    let to = format!("{}/other", scene.target.name());
    let mut line = format!("plan --update --target {to} --only */app:*");
    for next in ["sync --update", "verify"] {
        let run = scene.cli.run(&line).await;
        let told = format!("next: `transship {next} --target {to} --only '*/app:*'`\n");
        assert!(run.code == 0 && run.stdout.ends_with(&told), "{line}: {run}");
        line = format!("{next} --target {to} --only */app:*");
    }
    let verified = scene.cli.run(&line).await;
    assert!(verified.code == 0 && verified.stdout.contains("1 image, 1 target: 1 as pinned"), "{verified}");
    // A verification needs pins.
    let run = scene.cli.run("sync --no-lock").await;
    assert!(run.code == 0 && !run.stdout.contains("next:"), "{run}");
}

#[tokio::test]
async fn a_sync_with_a_wrong_password() {
    let tokens = Tokens::new().user("me", "right");
    let scene = Scene::new(Settings { tokens: Some(tokens), ..Settings::default() }).await;
    scene.cli.write("password", "wrong\n");
    scene.list("  - SRC/app:1\n  - SRC/db:16\n", "registries:\n  SRC: {username: me, password: {file: ./password}}\n");
    insta::assert_snapshot!(scene.shown("sync").await, @"
    exit 1
    -- stdout
    failed      get a token for REPOSITORY from SRC: 401 Unauthorized: UNAUTHORIZED
      hint: the login is wrong, expired or missing: check registries: in mirror.yaml, or use docker login
      2 images:
        SRC/app:1
        SRC/db:16

    2 images, 1 target: 2 failed in [SECONDS]
    next: `transship sync`
    -- stderr
    ");
}

#[tokio::test]
async fn a_sync_without_a_login() {
    let tokens = Tokens::new().user("me", "right");
    let scene = Scene::new(Settings { tokens: Some(tokens), ..Settings::default() }).await;
    scene.list("  - SRC/app:1\n", "");
    insta::assert_snapshot!(scene.shown("sync").await, @"
    exit 1
    -- stdout
    failed      SRC/app:1
      get a token for SRC/app from SRC: 401 Unauthorized: UNAUTHORIZED
      hint: the login is wrong, expired or missing: check registries: in mirror.yaml, or use docker login

    1 image, 1 target: 1 failed in [SECONDS]
    next: `transship sync`
    -- stderr
    ");
}

#[tokio::test]
async fn a_sync_to_a_target_that_is_down() {
    let scene = Scene::plain().await;
    scene.cli.write("mirror.yaml", format!("target: 127.0.0.1:1/m\nimages: [\"{}/app:1\"]\n", scene.source.name()));
    insta::assert_snapshot!(scene.shown("sync").await, @"
    exit 2
    -- stdout
    failed      SRC/app:1
      reach 127.0.0.1:[PORT]: Connection refused (5 attempts)
      hint: check the network and the registry's status, then run it again

    1 image, 1 target: 1 failed in [SECONDS]
    next: `transship sync`
    no target answered: nothing was done
    -- stderr
    ");
}

#[tokio::test]
async fn a_plan_and_a_dry_run() {
    let scene = Scene::plain().await;
    scene.list("  - SRC/app:1\n  - SRC/db:16\n  - SRC/app:nope\n", "");
    insta::assert_snapshot!(scene.shown("plan --bytes").await, @"
    exit 1
    -- stdout
    copy        SRC/app:1 → DST/m/app:1    3.0 kB
    copy        SRC/db:16 → DST/m/db:16    3.0 kB

    failed      SRC/app:nope
      resolve nope in SRC/app: 404 Not Found
      hint: check the spelling, and that the tag still exists

    3 images, 1 target: 2 to copy, 1 failed
    6.0 kB to move
    next: `transship plan --bytes`
    -- stderr
    ");
    insta::assert_snapshot!(scene.shown("sync --dry-run --only */app:1").await, @"
    exit 0
    -- stdout
    copy        SRC/app:1 → DST/m/app:1    3.0 kB

    1 image, 1 target: 1 to copy
    3.0 kB to move
    next: `transship sync --only '*/app:1'`
    -- stderr
    ");
}

#[tokio::test]
async fn a_conflict() {
    let scene = Scene::plain().await;
    image("other").build().push(&scene.target.inside("m/app"), "1").await;
    scene.list("  - {image: \"SRC/app:1\", overwrite: false}\n", "");
    insta::assert_snapshot!(scene.shown("sync").await, @"
    exit 1
    -- stdout
    conflict    SRC/app:1
      set DST/m/app:1: it holds sha256:[DIGEST], not the pinned sha256:[DIGEST], and must not be replaced
      hint: remove the tag at the target, or set overwrite: true or keep

    1 image, 1 target: 1 conflict in [SECONDS]
    next: `transship sync`
    -- stderr
    ");
}

#[tokio::test]
async fn pins_that_move() {
    let scene = Scene::plain().await;
    scene.list("  - SRC/app:1\n  - SRC/db:16\n", "");
    insta::assert_snapshot!(scene.shown("lock").await, @"
    exit 0
    -- stdout
    SRC/app:1  new → sha256:[DIGEST]
    SRC/db:16  new → sha256:[DIGEST]

    2 pins changed
    next: `transship sync`
    -- stderr
    ");
    image("moved").build().push(&scene.source.inside("app"), "1").await;
    scene.list("  - SRC/app:1\n  - SRC/db:17\n", "");
    insta::assert_snapshot!(scene.shown("lock --check").await, @"
    exit 3
    -- stdout
    differs     SRC/app:1  pinned to sha256:[DIGEST], upstream has sha256:[DIGEST]
    differs     SRC/db:16  pinned to sha256:[DIGEST], no longer in mirror.yaml
    differs     SRC/db:17  not pinned yet, upstream has sha256:[DIGEST]
      hint: `transship update` pins what upstream serves now, `transship lock` only images without a pin

    3 differences
    next: `transship update`
    -- stderr
    ");
    insta::assert_snapshot!(scene.shown("update").await, @"
    exit 0
    -- stdout
    SRC/app:1  sha256:[DIGEST] → sha256:[DIGEST]
    SRC/db:16  sha256:[DIGEST] → dropped
    SRC/db:17  new → sha256:[DIGEST]

    3 pins changed
    next: `transship sync`
    -- stderr
    ");
    insta::assert_snapshot!(scene.shown("lock --check").await, @"
    exit 0
    -- stdout
    0 differences
    -- stderr
    ");
    insta::assert_snapshot!(scene.shown("update nope").await, @"
    exit 2
    -- stdout
    -- stderr
    error: nope isn't in mirror.yaml
    hint: name it as in mirror.yaml, or omit the tag for the whole repository
    ");
}

#[tokio::test]
async fn a_check_in_which_some_things_fail() {
    let tokens = Tokens::new().user("me", "right");
    let scene = Scene::new(Settings { tokens: Some(tokens), ..Settings::default() }).await;
    scene.cli.write("password", "right\n");
    scene.list(
        "  - SRC/app:1\n  - SRC/app:nope\n  - 127.0.0.1:1/a:1\n  - {image: SRC/db, select: {latest: 1}}\n",
        "registries:\n  SRC: {username: me, password: {file: ./password}}\n",
    );
    scene.target.script.always("POST", "/v2/m/app/blobs/uploads/", Fault::refuse(403, "DENIED"));
    insta::assert_snapshot!(scene.shown("check").await, @"
    exit 1
    -- stdout
    SRC
      ok          connect  plain HTTP
      ok          log in   as me, from registries.SRC in the configuration
      failed      pull     app
        resolve nope in SRC/app: 404 Not Found
        hint: check the spelling, and that the tag still exists
      unknown     pull     db
        no tag of it is pinned yet, so there is none to check
        hint: run `transship lock` first, then check again

    127.0.0.1:[PORT]
      failed      connect
        reach 127.0.0.1:[PORT]: Connection refused (5 attempts)
        hint: check the network and the registry's status, then run it again

    DST
      ok          connect  plain HTTP
      ok          log in   anonymous: there are no credentials for it
      ok          pull     m/a
      ok          push     m/a
      ok          pull     m/app
      failed      push     m/app
        open an upload to DST/m/app: 403 Forbidden: DENIED as the script has it
        hint: authenticated but not authorized: ask the registry's owner for permission
      ok          push     m/db

    12 checks: 8 ok, 1 unknown, 3 failed in [SECONDS]
    next: `transship check`
    -- stderr
    ");
    scene.cli.write("password", "wrong\n");
    insta::assert_snapshot!(scene.shown("check -q").await, @"
    exit 1
    -- stdout
    SRC
      failed      log in
        get a token for SRC/app from SRC: 401 Unauthorized: UNAUTHORIZED
        hint: the login is wrong, expired or missing: check registries: in mirror.yaml, or use docker login

    127.0.0.1:[PORT]
      failed      connect
        reach 127.0.0.1:[PORT]: Connection refused (5 attempts)
        hint: check the network and the registry's status, then run it again

    DST
      failed      push     m/app
        open an upload to DST/m/app: 403 Forbidden: DENIED as the script has it
        hint: authenticated but not authorized: ask the registry's owner for permission

    10 checks: 7 ok, 3 failed in [SECONDS]
    next: `transship check`
    -- stderr
    ");
}

#[tokio::test]
async fn nothing_to_read() {
    let cli = Cli::new();
    insta::assert_snapshot!(cli.run("sync").await.filtered(), @"
    exit 2
    -- stdout
    -- stderr
    error: mirror.yaml doesn't exist
    hint: write one with `transship init`, or name another with --config FILE
    ");
    insta::assert_snapshot!(cli.run("copy nginx nginx").await.filtered(), @"
    exit 2
    -- stdout
    -- stderr
    error: `nginx` has no registry
    hint: DST is REGISTRY/REPOSITORY[:TAG], such as harbor.example.com/mirror/nginx:1.27
    ");
}
