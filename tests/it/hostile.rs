//! Hostile answers: which images each may fail, and that nothing breaks here.

use futures::{StreamExt as _, stream};

use crate::support::images::image;
use crate::support::scene::Scene;
use crate::support::script::Fault;

/// Which images an answer may fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cost {
    Nothing,
    /// The image that the request is for, if any.
    One,
    /// All images of the host.
    All,
}

/// Where the answer is sent: at the source or the target, and to which request.
type Place = (bool, &'static str, &'static str);

const RESOLVE: Place = (true, "HEAD", "/bad/manifests/");
const MANIFEST: Place = (true, "GET", "/bad/manifests/");
const BLOB: Place = (true, "GET", "/bad/blobs/");
const HELD: Place = (false, "HEAD", "/bad/manifests/");
const OPEN: Place = (false, "POST", "/bad/blobs/uploads/");
const UPLOAD: Place = (false, "PUT", "/bad/blobs/uploads/");
const PUSH: Place = (false, "PUT", "/bad/manifests/");

fn answer(status: u16, headers: &[(&'static str, &str)], body: &str) -> Fault {
    let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    Fault::Answer { status, headers, body: body.to_owned() }
}

fn set(name: &'static str, value: &str) -> Fault {
    Fault::Set(name, value.to_owned())
}

fn rows() -> Vec<(Place, Fault, Cost)> {
    let (endless, longest) = ("99999999999999999999", "18446744073709551615");
    let mut rows = vec![
        // Clocks.
        (RESOLVE, answer(429, &[("retry-after", longest)], ""), Cost::All),
        (BLOB, answer(503, &[("retry-after", endless)], ""), Cost::All),
        (OPEN, answer(429, &[("retry-after", "Fri, 31 Dec 9999 23:59:59 GMT")], ""), Cost::All),
        (RESOLVE, answer(200, &[("retry-after", longest)], ""), Cost::One),
        // A manifest that isn't one.
        (MANIFEST, answer(200, &[], ""), Cost::One),
        (MANIFEST, answer(204, &[], ""), Cost::One),
        (MANIFEST, answer(206, &[("content-range", "bytes 0-1/2")], "{}"), Cost::One),
        (MANIFEST, answer(304, &[], ""), Cost::One),
        (MANIFEST, answer(300, &[("location", "/v2/")], ""), Cost::One),
        (MANIFEST, answer(200, &[], &"[".repeat(100_000)), Cost::One),
        (MANIFEST, set("content-encoding", "gzip"), Cost::Nothing),
        // Names in lists.
        (RESOLVE, set("docker-content-digest", "sha256:../../../../etc/passwd"), Cost::One),
        (RESOLVE, set("docker-content-digest", "md5:d41d8cd98f00b204e9800998ecf8427e"), Cost::One),
        (RESOLVE, set("content-length", longest), Cost::One),
        (RESOLVE, set("content-type", "text/html\u{9b}31m"), Cost::One),
        // Bytes.
        (BLOB, answer(206, &[("content-range", "bytes 0-1/2")], "xx"), Cost::One),
        (BLOB, answer(204, &[], ""), Cost::One),
        (BLOB, set("content-range", "bytes 18446744073709551615-0/1"), Cost::Nothing),
        // Uploads.
        (OPEN, answer(202, &[], ""), Cost::One),
        (OPEN, answer(202, &[("location", "")], ""), Cost::One),
        (OPEN, answer(202, &[("location", "http://[")], ""), Cost::One),
        (OPEN, answer(201, &[("location", "/v2/")], ""), Cost::One),
        (OPEN, set("oci-chunk-min-length", longest), Cost::Nothing),
        (UPLOAD, answer(202, &[("range", "0-18446744073709551615")], ""), Cost::One),
        (UPLOAD, set("docker-content-digest", "sha256:nonsense"), Cost::Nothing),
        (PUSH, set("docker-content-digest", "nonsense"), Cost::Nothing),
        (PUSH, answer(500, &[], &"<".repeat(1 << 20)), Cost::One),
        (HELD, set("docker-content-digest", "sha256:nonsense"), Cost::One),
    ];
    for location in
        ["file:///etc/passwd", "data:,x", "http://[::1", "//", "ftp://127.0.0.1/", "https://127.0.0.1:1/%7f"]
    {
        rows.push((BLOB, answer(307, &[("location", location)], ""), Cost::One));
    }
    for challenge in [
        "Bearer",
        "Bearer realm=\"\"",
        "Bearer realm=\"file:///etc/passwd\"",
        "Bearer realm=\"http://169.254.169.254/token\"",
        "Negotiate",
        &format!("Bearer realm=\"{}\"", "a".repeat(10_000)),
        &"Bearer x=y,".repeat(2000),
    ] {
        rows.push((RESOLVE, answer(401, &[("www-authenticate", challenge)], ""), Cost::One));
    }
    rows
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_answer_fails_only_its_image() {
    let tried = stream::iter(rows()).map(|(place, fault, cost)| async move {
        let (is_source, method, path) = place;
        let scene = Scene::new().await;
        let good = scene.publish("good", "1").await;
        let bad = image("bad").layer(1000).build();
        bad.push(&scene.source.inside("bad"), "1").await;
        let shown = format!("{method} {path} {fault:?}").chars().take(300).collect::<String>();
        let script = if is_source { &scene.source.script } else { &scene.target.script };
        script.always(method, path, fault);
        scene.list("  - SRC/good:1\n  - SRC/bad:1\nlimits: {max_wait: 10s}\n");
        let run = scene.cli.run("sync --json -v").await;
        let mut wrong = Vec::new();
        let is_broken =
            ["panicked", "defect"].iter().any(|word| run.stderr.contains(word) || run.stdout.contains(word));
        if is_broken || cost == Cost::Nothing && run.code != 0 || cost == Cost::All && run.code == 0 {
            wrong.push(format!("{shown}: {cost:?}: {run}"));
        }
        let images = run.json()["images"].as_array().cloned().unwrap_or_default();
        let is_good =
            |image: &serde_json::Value| image["source"].as_str().is_some_and(|name| name.ends_with("/good:1"));
        let arrives = images.iter().any(|image| is_good(image) && image["status"] == "copied");
        if cost != Cost::All && !arrives {
            wrong.push(format!("{shown} costs the good image: {run}"));
        }
        if run.stderr.contains('\u{9b}') || run.stdout.contains("root:") {
            wrong.push(format!("{shown} shows through: {run}"));
        }
        script.heal();
        let again = scene.cli.run("sync --update --json").await;
        if again.code != 0 {
            wrong.push(format!("{shown}: then: {again}"));
        }
        for (name, image) in [("good", &good), ("bad", &bad)] {
            scene.assert_mirrored(image, name, "1").await;
        }
        wrong
    });
    let wrong = tried.buffer_unordered(4).collect::<Vec<_>>().await.concat();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
