//! Blobs with a content encoding that wasn't requested: harmless as a mere label, and named if it has changed the
//! bytes.

use crate::support::images::image;
use crate::support::scene::Scene;
use crate::support::script::Fault;

#[tokio::test]
async fn a_content_encoding_header_is_harmless_and_explains_wrong_bytes() {
    let app = image("app").layer(3000).build();
    let layer = app.blobs.iter().find(|blob| blob.descriptor.size == 3000).unwrap();
    let encoded = |body: String| Fault::Answer {
        status: 200,
        headers: vec![("content-encoding", "gzip".into()), ("content-type", "application/octet-stream".into())],
        body,
    };
    let cases = [
        (Fault::Set("content-encoding", "gzip".into()), true),
        (Fault::Set("content-encoding", "identity".into()), true),
        (encoded("x".repeat(3000)), false),
        (encoded("x".repeat(2000)), false),
        (encoded("x".repeat(4000)), false),
    ];
    for (fault, arrives) in cases {
        let scene = Scene::new().await;
        app.push(&scene.source.inside("app"), "1").await;
        scene.source.script.always("GET", format!("/blobs/{}", layer.digest()), fault.clone());
        scene.list("  - SRC/app:1\n");
        let run = scene.cli.run("sync --json").await;
        assert_eq!(run.code, i32::from(!arrives), "{fault:?}: {run}");
        if arrives {
            scene.assert_mirrored(&app, "app", "1").await;
            continue;
        }
        let error = run.json()["images"][0]["error"].clone();
        assert_eq!((&error["kind"], &error["side"]), (&"mismatch".into(), &"source".into()), "{error:#}");
        let told = format!("{} {}", error["message"], error["hint"]);
        assert!(told.contains("Content-Encoding: gzip") && told.contains("gzip off"), "{told}");
        // A retry would be encoded too.
        assert_eq!(scene.source.script.count("GET", layer.digest().as_str()), 1, "{fault:?}");
    }
}
