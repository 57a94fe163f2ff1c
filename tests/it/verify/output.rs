//! The text that `verify` prints.

use super::three;
use crate::support::images::image;
use crate::support::scene::Scene;
use crate::support::script::Fault;

/// The output of a run, with `SRC` and `DST` for the registries.
async fn shown(scene: &Scene, line: &str) -> String {
    let mut run = scene.cli.run(line).await;
    run.stdout = run.stdout.replace(scene.source.name().as_str(), "SRC").replace(scene.target.name().as_str(), "DST");
    run.filtered()
}

#[tokio::test]
async fn the_text_for_people() {
    let (scene, images) = three().await;
    insta::assert_snapshot!(shown(&scene, "verify --deep").await, @"
    exit 0
    -- stdout
    3 images, 1 target: 3 as pinned; 0 differences, 2.0 kB checked in [SECONDS]
    -- stderr
    ");
    scene.mirrored("app", "2", &image("moved").build()).await;
    scene.mirrored("app", "old", &image("old").build()).await;
    scene.delete(&format!("/blobs/{}", images[0].blobs[1].digest()));
    scene.target.script.always("GET", format!("/blobs/{}", images[0].blobs[2].digest()), Fault::Corrupt);
    scene.target.script.always("HEAD", "/v2/mirror/db/", Fault::refuse(403, "DENIED"));
    insta::assert_snapshot!(shown(&scene, "verify --content --extra --progress none").await, @"
    exit 1
    -- stdout
    DST/mirror/app:1
      missing     blob      sha256:[DIGEST]
      damaged     blob      expected sha256:[DIGEST], found sha256:[DIGEST]
    DST/mirror/app:2
      different   tag       expected sha256:[DIGEST], found sha256:[DIGEST]
    DST/mirror/app:old
      extra       tag       sha256:[DIGEST], which isn't in the lock
      hint: tag, referrer: `transship sync` sets it again, or reports why it can't
      hint: missing part: `transship sync --repair` restores it
      hint: damaged part: delete it there, run the registry's garbage collection, then `transship sync --repair`
      hint: extra tag: transship deletes nothing; remove it at the target, or add it to mirror.yaml

    failed      SRC/db:1
      resolve 1 in DST/mirror/db: 403 Forbidden
      hint: authenticated but not authorized: ask the registry's owner for permission

    3 images, 1 target: 2 differ, 1 failed; 4 differences, 682 B checked in [SECONDS]
    next: `transship verify --content --extra`
    -- stderr
    ");
    insta::assert_snapshot!(shown(&scene, "verify -q --only */app:2").await, @"
    exit 3
    -- stdout
    DST/mirror/app:2
      different   tag       expected sha256:[DIGEST], found sha256:[DIGEST]
      hint: tag, referrer: `transship sync` sets it again, or reports why it can't

    1 image, 1 target: 1 differs; 1 difference in [SECONDS]
    next: `transship sync --only '*/app:2'`
    -- stderr
    ");
    let said = scene.cli.run("verify -v --only */app:*").await.stdout;
    assert!(said.starts_with("up to date ") && said.contains("\n\n") && !said.contains("skipped"), "{said}");
}
