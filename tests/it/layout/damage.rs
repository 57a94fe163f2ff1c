//! Damaged, half-written and malicious layouts.

use std::path::Path;

use transship::error::Kind;
use transship::oci::{Digest, MediaType};

use crate::support::cli::Cli;
use crate::support::gate::Gate;
use crate::support::images::{Blob, Image, image, multi_platform, read, tagged};
use crate::support::layout::{assert_valid, file, inside, names};
use crate::support::scene::Scene;
use crate::support::script::Fault;

/// Damages a file.
type Edit = fn(&Path);

/// A layout with one image, called `app:1`.
async fn written(dir: &Path) -> Image {
    let app = image("app").layer(600_000).build();
    app.push(&*inside(dir, "app"), "1").await;
    app
}

#[tokio::test]
async fn an_invalid_layout_is_reported_with_the_file() {
    for (name, text, why) in [
        ("oci-layout", None, "oci-layout: it doesn't exist, so this isn't an OCI image layout"),
        ("oci-layout", Some(""), "oci-layout: it doesn't contain the version of the layout"),
        ("oci-layout", Some("{}"), "oci-layout: it doesn't contain the version of the layout"),
        ("oci-layout", Some(r#"{"imageLayoutVersion":"2.0.0"}"#), "imageLayoutVersion is `2.0.0`"),
        ("index.json", None, "index.json: it doesn't exist"),
        ("index.json", Some(r#"{"manifests":["#), "index.json: it isn't the index of a layout"),
        ("index.json", Some("<html>"), "index.json: it isn't the index of a layout"),
        ("index.json", Some(r#"{"manifests":{}}"#), "index.json: it isn't the index of a layout"),
        ("index.json", Some(r#"{"manifests":[]}"#), "it has no image"),
    ] {
        let cli = Cli::new();
        written(&cli.path("in")).await;
        match text {
            Some(text) => cli.write(&format!("in/{name}"), text),
            None => std::fs::remove_file(cli.path(&format!("in/{name}"))).expect("it existed"),
        }
        for line in ["copy oci:in oci:out", "copy oci:in:app:1 oci:out"] {
            let run = cli.run(line).await;
            let told = run.stdout.contains(why)
                || (line.contains("app") && run.stdout.contains("no image in the layout has that name"));
            assert!(run.code == 1 && told && run.stdout.contains("hint: "), "{name} {text:?}: {run}");
        }
    }
}

#[tokio::test]
async fn damaged_content_is_reported_with_file_and_digest() {
    let cli = Cli::new();
    let edits: [(&str, Edit); 3] = [
        ("truncated", |path| std::fs::write(path, &std::fs::read(path).unwrap()[1..]).unwrap()),
        ("edited", |path| {
            let mut bytes = std::fs::read(path).unwrap();
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            std::fs::write(path, bytes).unwrap();
        }),
        ("longer", |path| std::fs::write(path, [std::fs::read(path).unwrap(), vec![0; 5]].concat()).unwrap()),
    ];
    for (index, (what, edit)) in edits.into_iter().enumerate() {
        for part in ["manifest", "config", "layer"] {
            let name = format!("in{index}{part}");
            let app = written(&cli.path(&name)).await;
            let digest = match part {
                "manifest" => app.digest(),
                "config" => app.blobs[0].digest(),
                _ => app.blobs[1].digest(),
            };
            edit(&file(&cli.path(&name), digest));
            let run = cli.run(&format!("copy oci:{name}:app:1 oci:out{name} --json")).await;
            let error = &run.json()["images"][0]["error"];
            assert_eq!(
                (run.code, error["kind"].as_str(), error["side"].as_str()),
                (1, Some("mismatch"), Some("source"))
            );
            let message = error["message"].as_str().expect("a message");
            let path = format!("{name}/blobs/sha256/{}", digest.hex());
            assert!(message.contains(&path), "{what} {part}: {message}");
            assert_eq!(names_or_none(&cli.path(&format!("out{name}"))), Vec::<String>::new());
        }
    }
    // A missing file is reported too.
    let app = written(&cli.path("less")).await;
    std::fs::remove_file(file(&cli.path("less"), app.blobs[1].digest())).expect("it existed");
    let run = cli.run("copy oci:less:app:1 oci:out").await;
    assert!(run.code == 1 && run.stdout.contains(app.blobs[1].digest().as_str()), "{run}");
}

fn names_or_none(dir: &Path) -> Vec<String> {
    if dir.join("index.json").exists() { names(dir) } else { Vec::new() }
}

#[tokio::test]
async fn an_unreadable_signature_doesnt_count_as_absent() {
    let folder = tempfile::tempdir().expect("a folder");
    let app = written(folder.path()).await;
    let signature = image("signature").artifact("a/signature").subject(app.descriptor()).build();
    signature.try_push(&*inside(folder.path(), "app"), None).await.expect("a push");
    std::fs::remove_file(file(folder.path(), signature.digest())).expect("it existed");
    let error = inside(folder.path(), "app").referrers(app.digest()).await.expect_err("it is listed");
    assert_eq!(error.kind(), Kind::Mismatch);
    assert!(error.to_string().contains(signature.digest().as_str()), "{error}");
}

#[cfg(unix)]
#[tokio::test]
async fn nothing_outside_of_the_directory_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let (dir, secret) = (folder.path().join("layout"), folder.path().join("secret"));
    let app = written(&dir).await;
    let layer = app.blobs[1].digest();
    std::fs::write(&secret, "mine").expect("a file");
    std::fs::remove_file(file(&dir, layer)).expect("it existed");
    std::os::unix::fs::symlink(&secret, file(&dir, layer)).expect("a link");
    let error = read(inside(&dir, "app").blob(app.blobs[1].descriptor(), 0).await).await.expect_err("it leads out");
    assert_eq!(error.kind(), Kind::Denied, "{error}");
    // A path isn't a digest.
    let text = std::fs::read_to_string(dir.join("index.json")).expect("index.json");
    std::fs::write(dir.join("index.json"), text.replace(app.digest().hex(), "../../../secret")).expect("a file");
    let error = inside(&dir, "app").resolve(&tagged("1")).await.expect_err("nothing of that name is understood");
    assert_eq!(error.kind(), Kind::NotFound, "{error}");
}

#[tokio::test]
async fn content_written_by_other_tools_is_kept() {
    let cli = Cli::new();
    let dir = cli.path("out");
    let theirs = written(&dir).await;
    let entry = format!(
        r#"{{ "digest": "{}", "size": {}, "mediaType": "{}", "x": [1.50, null] }}"#,
        theirs.digest(),
        theirs.manifest.bytes().len(),
        MediaType::OCI_MANIFEST
    );
    let text =
        format!(r#"{{"annotations":{{"b":"1","a":"2"}},"manifests":[{entry},{{"odd":true}}],"schemaVersion":2}}"#);
    cli.write("out/index.json", &text);
    let plain = cli.run("copy oci:out oci:out:new:1").await;
    assert_eq!(plain.code, 0, "an image without any name is the only one: {plain}");
    let written = cli.read("out/index.json").expect("index.json");
    assert!(written.starts_with(r#"{"annotations":{"b":"1","a":"2"},"manifests":["#), "{written}");
    assert!(written.contains(&entry) && written.contains(r#"{"odd":true}"#), "{written}");
    assert!(written.contains("new:1"));
}

#[tokio::test]
async fn an_ambiguous_name_is_refused() {
    let cli = Cli::new();
    let dir = cli.path("in");
    let [one, two] = ["one", "two"].map(|seed| image(seed).build());
    one.push(&*inside(&dir, "app"), "1").await;
    two.push(&*inside(&dir, "app"), "2").await;
    cli.write("in/index.json", cli.read("in/index.json").expect("index.json").replace("app:2", "app:1"));
    let error = inside(&dir, "app").resolve(&tagged("1")).await.expect_err("which?");
    assert_eq!(error.kind(), Kind::Invalid);
    let run = cli.run("copy oci:in:app:1 oci:out").await;
    assert!(run.code == 1 && run.stdout.contains("several images with that name"), "{run}");
    let run = cli.run(&format!("copy oci:in:app@{} oci:out:app:2", two.digest())).await;
    assert_eq!(run.code, 0, "{run}");
    two.assert_in(&*inside(&cli.path("out"), "app"), "2").await;
}

#[tokio::test]
async fn sha512_blobs_have_a_separate_folder() {
    use sha2::Digest as _;
    let folder = tempfile::tempdir().expect("a folder");
    let mut layer = Blob::seeded(MediaType::OCI_LAYER, "long", 1000);
    let hex: String = sha2::Sha512::digest(&layer.bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    layer.descriptor.digest = format!("sha512:{hex}").parse().expect("a digest");
    let app = image("long").blob(layer.clone()).build();
    app.push(&*inside(folder.path(), "app"), "1").await;
    app.assert_in(&*inside(folder.path(), "app"), "1").await;
    assert!(folder.path().join("blobs/sha512").join(hex).exists());
    assert_valid(folder.path());
}

/// Kills the run after this many blobs were read from the source, or at its manifests.
#[tokio::test]
async fn a_run_killed_at_any_moment_leaves_a_valid_layout() {
    let scene = Scene::new().await;
    let mut list = String::new();
    for n in 0..8 {
        let graph = multi_platform(&format!("app{n}"), &["linux/amd64", "linux/arm64"]);
        graph.push(&scene.source.inside(&format!("app{n}")), "1").await;
        list.push_str(&format!("  - SRC/app{n}:1\n"));
    }
    scene.list(&list);
    let mut expected: Vec<_> = (0..8).map(|n| format!("{}/app{n}:1", scene.source.name())).collect();
    expected.sort();
    // Each time into a new directory: how much a killed run has copied isn't known.
    for (skip, path) in [(0, "/blobs/"), (3, "/blobs/"), (20, "/blobs/"), (5, "/manifests/"), (14, "/manifests/")] {
        let name = format!("out-{}-{skip}", path.trim_matches('/'));
        let dir = scene.cli.path(&name);
        let gate = Gate::closed();
        scene.source.script.after(skip, "GET", path, Fault::Wait(gate.clone()));
        scene.cli.killed(&format!("sync --target oci:{name} -j 1 --no-cache"), gate.reached(1)).await;
        scene.source.script.heal();
        if dir.join("oci-layout").exists() {
            assert_valid(&dir);
        }
        let whole = scene.cli.run(&format!("sync --target oci:{name}")).await;
        assert_eq!(whole.code, 0, "{whole}");
        assert_valid(&dir);
        let mut found = names(&dir);
        found.sort();
        assert_eq!(found, expected, "{name}");
    }
}

#[tokio::test]
async fn two_processes_write_one_layout_without_losing_an_entry() {
    let scene = Scene::new().await;
    let mut lists = [String::new(), String::new()];
    for n in 0..40 {
        scene.publish(&format!("app{n}"), "1").await;
        lists[n % 2].push_str(&format!("  - SRC/app{n}:1\n"));
    }
    for (name, entries) in ["one", "two"].into_iter().zip(&lists) {
        scene.write(&format!("{name}.yaml"), &format!("target: oci:out\nimages:\n{entries}"));
    }
    let (one, two) = tokio::join!(scene.cli.run("sync -c one.yaml"), scene.cli.run("sync -c two.yaml"));
    assert_eq!((one.code, two.code), (0, 0), "{one}{two}");
    let dir = scene.cli.path("out");
    assert_valid(&dir);
    let mut found = names(&dir);
    found.sort();
    let mut expected: Vec<_> = (0..40).map(|n| format!("{}/app{n}:1", scene.source.name())).collect();
    expected.sort();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn old_files_of_killed_runs_are_deleted() {
    let folder = tempfile::tempdir().expect("a folder");
    written(folder.path()).await;
    let [old, new] = ["ingest-old", "ingest-new"].map(|name| folder.path().join(".transship").join(name));
    for path in [&old, &new] {
        std::fs::write(path, "half a blob").expect("a file");
    }
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(2 * 24 * 60 * 60);
    std::fs::File::options().write(true).open(&old).and_then(|file| file.set_modified(long_ago)).expect("a time");
    written(folder.path()).await;
    assert!(!old.exists() && new.exists());
    let nothing = Digest::of(b"half a blob");
    assert_eq!(inside(folder.path(), "app").blob_size(&nothing).await.expect("an answer"), None);
}
