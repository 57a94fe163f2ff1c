//! OCI image layouts in every place of a repository: `copy`, `target:`, `sync --target` and `sync --from`.

mod damage;
mod other_tools;

use crate::support::cli::Cli;
use crate::support::images::{self, image, multi_platform, tagged};
use crate::support::layout::{assert_valid, entries, file, inside, names};
use crate::support::registry::Registry;
use crate::support::scene::{Scene, statuses};

#[tokio::test]
async fn a_registry_a_layout_and_a_registry_hold_the_same_bytes() {
    let scene = Scene { target: Registry::lenient().await, ..Scene::new().await };
    let shapes = crate::support::shapes::every_shape();
    let mut list = String::new();
    for (tag, graph) in &shapes {
        graph.push(&scene.source.inside(&format!("app/{tag}")), "1").await;
        list.push_str(&format!("  - SRC/app/{tag}:1\n"));
    }
    scene.list(&list);
    let written = scene.cli.run("sync --target oci:out --json").await;
    assert_eq!(written.code, 0, "{written}");
    let out = scene.cli.path("out");
    assert_valid(&out);
    let expected: Vec<_> = shapes.iter().map(|(tag, _)| format!("{}/app/{tag}:1", scene.source.name())).collect();
    let mut found = names(&out);
    found.sort();
    let mut sorted = expected.clone();
    sorted.sort();
    assert_eq!(found, sorted, "each by its canonical source");
    let target = written.json()["images"][0]["target"].as_str().expect("a target").to_owned();
    assert_eq!(target, format!("oci:out:{}", expected[0]));
    assert_eq!(scene.target.script.lines(), Vec::<String>::new());
    for (tag, graph) in &shapes {
        graph.assert_in(&*inside(&out, &format!("{}/app/{tag}", scene.source.name())), "1").await;
    }

    let lock = scene.cli.read("mirror.lock");
    scene.clear();
    let read = scene.cli.run("sync --from oci:out --json").await;
    assert_eq!(read.code, 0, "{read}");
    assert_eq!(scene.source.script.lines(), Vec::<String>::new());
    assert_eq!(read.json()["registries"].as_array().map(Vec::len), Some(1), "a layout is asked nothing: {read}");
    assert_eq!(scene.cli.read("mirror.lock"), lock);
    for (tag, graph) in &shapes {
        scene.assert_mirrored(graph, &format!("app/{tag}"), "1").await;
    }
    for again in ["sync --target oci:./out/ --json", "sync --from oci:out --json"] {
        let again = scene.cli.run(again).await;
        assert!(statuses(&again).iter().all(|status| status == "up_to_date"), "{again}");
    }
}

#[tokio::test]
async fn a_layout_as_second_target_costs_no_further_read_of_the_source() {
    let scene = Scene::new().await;
    let [a, b] = ["a", "b"].map(|seed| image(seed).shared_layer("base", 300_000).layer(1000).build());
    a.push(&scene.source.inside("a"), "1").await;
    b.push(&scene.source.inside("b"), "1").await;
    scene.write("conf/mirror.yaml", "targets: [DST/m, oci:out]\nlayout: \"{name}\"\nimages: [SRC/a:1, SRC/b:1]\n");
    scene.clear();
    let run = scene.cli.run("sync -c conf/mirror.yaml --json").await;
    assert_eq!((run.code, statuses(&run)), (0, vec!["copied".to_owned(); 4]), "{run}");
    for blob in a.blobs().into_iter().chain(b.blobs()) {
        assert_eq!(scene.source.script.count("GET", &format!("/blobs/{}", blob.digest())), 1);
    }
    let out = scene.cli.path("conf/out");
    assert_valid(&out);
    for (name, graph) in [("a", &a), ("b", &b)] {
        graph.assert_in(&*inside(&out, &format!("{}/{name}", scene.source.name())), "1").await;
        graph.assert_in(&scene.target.inside(&format!("m/{name}")), "1").await;
    }
    // Content of another name exists already.
    let base = a.blobs[1].bytes.len() as u64;
    assert_eq!(base, 300_000);
    let c = image("c").shared_layer("base", 300_000).build();
    c.push(&scene.source.inside("c"), "1").await;
    scene.clear();
    let copy = scene.cli.run(&format!("copy {}/c:1 oci:conf/out --json", scene.source.name())).await;
    assert_eq!((copy.code, &copy.json()["images"][0]["bytes"]["present"]), (0, &300_000.into()), "{copy}");
    assert_eq!(scene.source.script.count("GET", &format!("/blobs/{}", c.blobs[1].digest())), 0);
}

#[tokio::test]
async fn an_image_without_a_tag_is_reachable_by_digest() {
    let scene = Scene::new().await;
    let list = multi_platform("list", &["linux/amd64", "linux/arm64"]);
    list.push(&scene.source.inside("app"), "1").await;
    scene.list(&format!("  - SRC/app@{}\n", list.digest()));
    let run = scene.cli.run("sync --target oci:out --json").await;
    assert_eq!(run.code, 0, "{run}");
    let out = scene.cli.path("out");
    let found = assert_valid(&out);
    assert_eq!(found.len(), list.digests().len());
    assert_eq!((entries(&out).len(), names(&out)), (1, vec!["-".to_owned()]), "children have no separate entries");
    let target = format!("oci:out:{}/app@{}", scene.source.name(), list.digest());
    assert_eq!(run.json()["images"][0]["target"], target);
    scene.clear();
    let back = scene.cli.run("sync --from oci:out --locked --json").await;
    assert_eq!((back.code, scene.source.script.lines().len()), (0, 0), "{back}");
    let copy = scene.cli.run(&format!("copy {target} {}/other:x", scene.target.name())).await;
    assert_eq!(copy.code, 0, "{copy}");
    list.assert_in(&scene.target.inside("other"), "x").await;
}

#[tokio::test]
async fn every_image_is_read_from_the_layout_and_missing_ones_fail() {
    let scene = Scene::new().await;
    let (one, _) = (scene.publish("app", "1").await, scene.publish("app", "2").await);
    scene.list("  - SRC/app:1\n");
    assert_eq!(scene.cli.run("sync --target oci:out").await.code, 0);
    let lock = scene.cli.read("mirror.lock");
    scene.list("  - SRC/app:1\n  - SRC/app:2\n  - {image: SRC/app, select: {semver: '*'}, to: picked}\n");
    scene.clear();
    let run = scene.cli.run("sync --from oci:out --json").await;
    assert_eq!((run.code, statuses(&run)), (1, ["copied", "failed", "copied"].map(str::to_owned).to_vec()), "{run}");
    assert_eq!(scene.source.script.lines(), Vec::<String>::new());
    let error = &run.json()["images"][1]["error"];
    let message = format!("resolve 2 in oci:out:{}/app: the manifest doesn't exist", scene.source.name());
    assert_eq!((error["side"].as_str(), error["message"].as_str()), (Some("source"), Some(message.as_str())));
    assert_eq!(scene.cli.read("mirror.lock"), lock, "the layout differs from the source");
    scene.assert_mirrored(&one, "app", "1").await;
    scene.assert_mirrored(&one, "picked", "1").await;

    for (line, says) in [
        ("sync --from oci:nowhere --locked", "exit 2"),
        ("sync --from nowhere", "isn't a layout"),
        ("sync --from oci:out:1.27", "isn't a layout"),
        ("sync --target oci:out:1.27", "names an image in a layout: expected the whole layout"),
    ] {
        let run = scene.cli.run(line).await;
        assert!(run.code == 2 && run.to_string().contains(says), "{line}: {run}");
    }
    // Also if the targets have all of it already.
    scene.list("  - SRC/app:1\n");
    let run = scene.cli.run("sync --from oci:nowhere").await;
    assert!(run.code == 2 && run.stdout.is_empty() && run.stderr.contains("nowhere"), "{run}");
}

#[tokio::test]
async fn a_filtered_image_is_found_by_its_target_digest() {
    let scene = Scene::new().await;
    let list = multi_platform("list", &["linux/amd64", "linux/arm64"]);
    list.push(&scene.source.inside("app"), "1").await;
    scene.list("  - {image: SRC/app:1, platforms: [linux/arm64]}\n");
    let written = scene.cli.run("sync --target oci:out --json").await;
    let mirrored = written.json()["images"][0]["mirrored"].as_str().expect("another digest").to_owned();
    assert_eq!(written.code, 0, "{written}");
    let out = scene.cli.path("out");
    assert!(assert_valid(&out).contains(&mirrored));
    let lock = scene.cli.read("mirror.lock").expect("a lock");
    assert!(lock.contains(&mirrored) && lock.contains(list.digest().as_str()), "{lock}");
    scene.clear();
    // Without a lock the digest comes from the layout, and filtering it again changes nothing.
    for line in ["sync --from oci:out --locked --json", "sync --from oci:out --no-lock --json"] {
        let run = scene.cli.run(line).await;
        assert_eq!(run.code, 0, "{line}: {run}");
        let found =
            transship::store::Source::resolve(&scene.target.inside("mirror/app"), &tagged("1")).await.expect("it");
        assert_eq!(found.digest.as_str(), mirrored, "{line}");
    }
    assert_eq!((scene.cli.read("mirror.lock"), scene.source.script.lines().len()), (Some(lock), 0));
    assert!(!file(&out, list.children[0].digest()).exists());
}

#[tokio::test]
async fn a_whole_image_in_a_layout_is_filtered() {
    let scene = Scene::new().await;
    let list = multi_platform("list", &["linux/amd64", "linux/arm64"]);
    list.push(&scene.source.inside("app"), "1").await;
    scene.list("  - {image: SRC/app:1, platforms: [linux/arm64], referrers: none}\n");
    assert_eq!(scene.cli.run("lock").await.code, 0);
    assert_eq!(scene.cli.run(&format!("copy {}/app:1 oci:out", scene.source.name())).await.code, 0);
    scene.clear();
    for line in ["--no-lock --target DST/bare", "--locked", "--locked --target oci:part"] {
        let line = line.replace("DST", scene.target.name().as_str());
        let run = scene.cli.run(&format!("sync --from oci:out {line} --json")).await;
        assert_eq!((run.code, statuses(&run)), (0, vec!["copied".to_owned()]), "{line}: {run}");
    }
    assert_eq!(scene.source.script.lines(), Vec::<String>::new());
    let run = scene.cli.run("verify --deep --json").await;
    assert_eq!(run.code, 0, "it is what the lock has: {run}");
}

#[tokio::test]
async fn a_layout_is_verified_like_any_target() {
    let scene = Scene::new().await;
    let app = scene.publish("app", "1").await;
    scene.write("mirror.yaml", "target: oci:out\nimages: [SRC/app:1]\n");
    assert_eq!(scene.cli.run("sync").await.code, 0);
    for depth in ["", " --deep", " --content", " --extra"] {
        let run = scene.cli.run(&format!("verify{depth}")).await;
        assert_eq!(run.code, 0, "{depth}: {run}");
    }
    let layer = file(&scene.cli.path("out"), app.blobs[1].digest());
    let mut bytes = std::fs::read(&layer).expect("a file");
    bytes[7] ^= 1;
    std::fs::write(&layer, bytes).expect("a file");
    assert_eq!(scene.cli.run("verify --deep").await.code, 0);
    let run = scene.cli.run("verify --content --json").await;
    assert_eq!(run.code, 3, "{run}");
    std::fs::remove_file(&layer).expect("it existed");
    assert_eq!(scene.cli.run("verify --deep").await.code, 3);
}

#[tokio::test]
async fn a_damaged_file_shared_by_several_images_is_one_difference() {
    let scene = Scene::new().await;
    let [a, b] = ["a", "b"].map(|seed| image(seed).shared_layer("base", 3000).build());
    a.push(&scene.source.inside("a"), "1").await;
    b.push(&scene.source.inside("b"), "1").await;
    scene.write("mirror.yaml", "target: oci:out\nimages: [SRC/a:1, SRC/b:1]\n");
    assert_eq!(scene.cli.run("sync").await.code, 0);
    let whole = scene.cli.run("verify --content --json").await;
    let present = whole.json()["totals"]["bytes"]["present"].as_u64();
    let files: u64 = assert_valid(&scene.cli.path("out"))
        .iter()
        .map(|digest| std::fs::metadata(file(&scene.cli.path("out"), &digest.parse().unwrap())).unwrap().len())
        .sum();
    assert_eq!((whole.code, present), (0, Some(files)), "each file is read once: {whole}");
    std::fs::remove_file(file(&scene.cli.path("out"), a.blobs[1].digest())).expect("it existed");
    let run = scene.cli.run("verify --deep --json").await;
    assert_eq!((run.code, run.json()["differences"].as_array().map(Vec::len)), (3, Some(1)), "{run}");
    let reasons = [0, 1].map(|at| run.json()["images"][at]["reason"].as_str().map(str::to_owned));
    assert_eq!(reasons, [Some("differs".to_owned()), Some("differs".to_owned())], "but both images lack it: {run}");
    let shown = scene.cli.run("verify --deep").await.stdout;
    assert!(shown.contains("sync --repair"), "{shown}");
    // The command in the hint helps.
    assert_eq!(scene.cli.run("sync --repair").await.code, 0);
    assert_eq!(scene.cli.run("verify --content").await.code, 0);
}

#[tokio::test]
async fn copy_accepts_a_layout_as_source_and_as_target() {
    let scene = Scene::new().await;
    let (app, host) = (scene.publish("app", "1").await, scene.source.name());
    let ok = async |line: &str| {
        let run = scene.cli.run(line).await;
        assert_eq!(run.code, 0, "{line}: {run}");
    };
    ok(&format!("copy {host}/app:1 oci:a")).await;
    ok("copy oci:a oci:b").await;
    ok("copy oci:a oci:c:1.27").await;
    ok("copy oci:c oci:c:nginx:1").await;
    ok("copy oci:c oci:c:x/y").await;
    let canonical = format!("{host}/app:1");
    assert_eq!(
        (names(&scene.cli.path("a")), names(&scene.cli.path("b"))),
        (vec![canonical.clone()], vec![canonical.clone()])
    );
    assert_eq!(
        names(&scene.cli.path("c")),
        ["1.27", "nginx:1", "x/y:1.27"],
        "one image under three names is one image"
    );
    ok(&format!("copy oci:c:nginx:1 {0}/n && true", scene.target.name()).replace(" && true", "")).await;
    app.assert_in(&scene.target.inside("n"), "1").await;
    ok(&format!("copy oci:a:{canonical} {}/m", scene.target.name())).await;
    app.assert_in(&scene.target.inside("m"), "1").await;

    let other = image("other").build();
    other.push(&*inside(&scene.cli.path("a"), "docker.io/library/nginx"), "2").await;
    ok(&format!("copy oci:a:nginx:2 {}/short", scene.target.name())).await;
    other.assert_in(&scene.target.inside("short"), "2").await;
    let untagged = scene.cli.run(&format!("copy oci:a:@{} {}/digest", other.digest(), scene.target.name())).await;
    let warning = "is mirrored without a tag, so the registry may delete it; hint: give DST a tag";
    assert!(untagged.code == 0 && untagged.stderr.contains(warning), "{untagged}");
    ok(&format!("copy oci:a:@{} {}/digest:x", other.digest(), scene.target.name())).await;
    other.assert_in(&scene.target.inside("digest"), "x").await;
    for (line, why, hint) in [
        ("copy oci:a oci:d", "find the image in oci:a: it has more than one", "docker.io/library/nginx:2"),
        (
            "copy oci:a:absent oci:d",
            "find absent in oci:a: no image in the layout has that name",
            "docker.io/library/nginx:2",
        ),
        ("copy oci:gone oci:d", "gone", "check the spelling"),
    ] {
        let run = scene.cli.run(line).await;
        assert!(run.code == 1 && run.stdout.contains(why) && run.stdout.contains(hint), "{line}: {run}");
    }
    for (line, why) in [
        (format!("copy oci:a:x:1 oci:d:@{}", other.digest()), "is a digest, not a tag"),
        ("copy oci:: oci:d".to_owned(), "isn't a layout"),
        ("copy nginx:1 oci:d:a b".replace(" b", "é:1"), "isn't a name in a layout"),
    ] {
        let run = scene.cli.run(&line).await;
        assert!(run.code == 2 && run.stderr.contains(why), "{line}: {run}");
    }
    assert!(!scene.cli.path("d").exists());
}

#[tokio::test]
async fn a_signature_is_copied_with_its_image_without_a_name() {
    let scene = Scene::new().await;
    let app = scene.publish("app", "1").await;
    let signature = image("signature").artifact("application/vnd.example.signature").subject(app.descriptor()).build();
    let dir = scene.cli.path("out");
    let target = inside(&dir, "r/app");
    app.push(&*target, "1").await;
    signature.try_push(&*target, None).await.expect("a push");
    let found = target.referrers(app.digest()).await.expect("an answer").list();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].artifact_type.as_deref(), Some("application/vnd.example.signature"));
    assert_eq!(names(&dir), ["r/app:1", "-"]);
    assert_valid(&dir);
    // As tools write it that copy by tag: only under the fallback tag.
    let other = image("other signature").artifact("a/other").subject(app.descriptor()).build();
    other.try_push(&*inside(&dir, "elsewhere"), None).await.expect("a push");
    let fallback = images::index().nested(other.clone()).build();
    fallback.push(&*target, app.digest().referrers_tag().as_str()).await;
    let text = scene.cli.read("out/index.json").expect("index.json");
    let lines: Vec<&str> = text.lines().filter(|line| !line.contains(other.digest().as_str())).collect();
    scene.cli.write("out/index.json", lines.join("\n"));
    let found = inside(&dir, "r/app").referrers(app.digest()).await.expect("an answer").list();
    assert_eq!(found.iter().map(|one| &one.digest).collect::<Vec<_>>(), [signature.digest(), other.digest()]);
    assert_valid(&dir);
    // None of these is an image with that name.
    let copy = scene.cli.run(&format!("copy oci:out {}/app", scene.target.name())).await;
    assert_eq!(copy.code, 0, "{copy}");
    app.assert_in(&scene.target.inside("app"), "1").await;
}

#[tokio::test]
async fn plan_and_check_support_layouts() {
    let source = Registry::start().await;
    image("app").build().push(&source.inside("app"), "1").await;
    let cli = Cli::new().file("mirror.yaml", format!("target: oci:out\nimages: [\"{}/app:1\"]\n", source.name()));
    let plan = cli.run("plan --bytes --json").await;
    assert_eq!((plan.code, &plan.json()["images"][0]["action"]), (0, &"copy".into()), "{plan}");
    let check = cli.run("check --json").await;
    assert_eq!(check.code, 0, "{check}");
    assert!(!cli.path("out").exists(), "no directory is created early");
    assert_eq!(cli.run("sync").await.code, 0);
    let check = cli.run("check").await;
    assert!(check.code == 0 && check.stdout.contains("oci:out"), "{check}");
    cli.write("file", "");
    let copy = cli.run(&format!("copy {}/app:1 oci:file", source.name())).await;
    assert!(
        copy.stdout.contains(&format!("failed      {}/app:1\n", source.name())),
        "it is told as it was named: {copy}"
    );
    for (target, why) in [("oci:file", "file"), ("oci:home/..", "oci-layout")] {
        let check = cli.run(&format!("sync --target {target}")).await;
        assert!(check.code != 0 && check.stdout.contains(why), "{check}");
    }
    assert!(!cli.path(".transship").exists(), "a folder that isn't a layout is unchanged");
    // A new disk isn't quite empty.
    std::fs::create_dir_all(cli.path("disk/lost+found")).expect("a folder");
    let sync = cli.run("sync --target oci:disk").await;
    assert_eq!(sync.code, 0, "{sync}");
    assert_valid(&cli.path("disk"));
}
