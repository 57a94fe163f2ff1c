//! Which images, and where they land.

use super::*;

#[test]
fn an_image_can_be_written_in_many_ways() {
    let text = images(&format!(
        "  - nginx\n  - ghcr.io/a/b:v1@{D}\n  - alpine@{D}\n  - image: alpine\n    tags: [1.10, 3.20, no, 007]\n    to: base/alpine\n    \
         overwrite: keep\n  - {{image: \"python@{D}\", as: 3.7-slim}}\n  - {{image: quay.io/c/c:v1, referrers: none}}\n  \
         - {{image: quay.io/c/d, select: {{semver: '>=1', latest: 2}}}}\ndefaults: {{overwrite: false, referrers: none}}\n"
    ));
    let config = read(&text).unwrap_or_else(|problems| panic!("{problems}"));
    let digest: Digest = D.parse().unwrap();
    let tag = |text: &str| -> (Tag, Option<Digest>) { (text.parse().unwrap(), None) };
    let wanted: Vec<&Wanted> = config.images.iter().map(|rule| &rule.wanted).collect();
    assert_eq!(*wanted[0], Wanted::Tags(vec![tag("latest")]));
    assert_eq!(*wanted[1], Wanted::Tags(vec![("v1".parse().unwrap(), Some(digest.clone()))]));
    assert_eq!(*wanted[2], Wanted::Digest(digest.clone(), None));
    assert_eq!(*wanted[3], Wanted::Tags(["1.10", "3.20", "no", "007"].map(tag).into()));
    assert_eq!(*wanted[4], Wanted::Digest(digest, Some("3.7-slim".parse().unwrap())));
    assert_eq!(*wanted[5], Wanted::Tags(vec![tag("v1")]));
    assert!(matches!(wanted[6], Wanted::Select(selection) if selection.spec().latest == Some(2)));
    assert_eq!(
        (config.images[0].handling.overwrite, config.images[3].handling.overwrite),
        (Overwrite::Refuse, Overwrite::Keep)
    );
    assert_eq!((config.images[3].line, config.images[3].path.to_string()), (6, "images[3]".into()));
    assert_eq!(config.images[3].destinations[0].to_string(), "h.example/m/base/alpine");
    assert_eq!(config.images[0].destinations[0].to_string(), "h.example/m/docker.io/library/nginx");
}

#[test]
fn layout_and_targets_determine_the_target_repository() {
    for (top, image, expected) in [
        ("target: docker.io/myorg", "ghcr.io/a/b:1", "docker.io/myorg/ghcr.io/a/b"),
        ("target: harbor/mirror/", "nginx", "harbor/mirror/docker.io/library/nginx"),
        ("target: h.example", "localhost:5000/a:1", "h.example/localhost-5000/a"),
        ("target: h.example", "'[::1]:5000/a:1'", "h.example/1-5000/a"),
        ("target: h.example\nlayout: x/{name}", "quay.io/a/b/c:1", "h.example/x/c"),
        ("targets: [h.example/a, g.example]", "quay.io/c:1", "h.example/a/quay.io/c g.example/quay.io/c"),
        // Relative to the file, with the name of the source, whatever the layout of registries.
        ("target: oci:out\nlayout: x/{name}", "nginx", "oci:conf/out:docker.io/library/nginx"),
        (
            "targets: [oci:/var/o, h.example]",
            "localhost:5000/a:1",
            "oci:/var/o:localhost:5000/a h.example/localhost-5000/a",
        ),
    ] {
        assert_eq!(destinations(&format!("{top}\nimages: [{image}]")).join(" "), expected);
    }
    // Both have the same digest, so they may share a reference.
    let same = images(&format!(
        "  - {{image: 'a/x:1@{D}', to: x}}\n  - {{image: 'b/x:1@{D}', to: x}}\n  - {{image: 'c/x@{D}', as: '1', to: x}}\n"
    ));
    assert_eq!(destinations(&same).len(), 3);
    // In a layout the same image under several names is harmless.
    let twice = "targets: [oci:o]\nimages: [a/x:1, {image: a/x, tags: ['1'], to: y}]";
    assert_eq!(destinations(twice), ["oci:conf/o:docker.io/a/x"; 2]);
    assert_eq!(problems(&twice.replace("oci:o", "oci:o, h").replace(", to: y", "")).len(), 1);
}

#[test]
fn overrides_replace_the_targets_and_may_exclude_the_sources() {
    let text = "images: [nginx]\nregistries: {docker.io: {username: u, password: {env: UNSET}}}";
    let detour = |from: &[&str]| Overrides {
        target: Some("h.example/m".parse().unwrap()),
        from: from.iter().map(|dir| Registry::in_directory(Path::new(dir)).unwrap()).next(),
        ..Overrides::default()
    };
    let read = |detour: &Overrides| Config::read_for(text, Path::new("mirror.yaml"), detour, &env);
    let config = read(&detour(&["dir"])).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(config.images[0].destinations[0].to_string(), "h.example/m/docker.io/library/nginx");
    assert_eq!(read(&detour(&[])).unwrap_err().len(), 1, "the secret of a source in use has to be there");
    assert!(read(&Overrides { targets_only: true, ..detour(&[]) }).is_ok());
}

#[test]
fn wrong_targets_and_layouts_are_refused() {
    assert_problems(vec![
        ("images: [a]".into(), "1:1 targets: there is no target"),
        (with("targets: [a.example]"), "3:10 targets: `target` and `targets` are mutually exclusive"),
        ("target: https://h\nimages: [a]".into(), "1:9 target: `https://h` has a scheme"),
        (
            "target: oci:dir:a/b\nimages: [a]".into(),
            "1:9 target: `oci:dir:a/b` names an image in a layout: expected the whole layout, oci:DIR, with no : in DIR",
        ),
        (
            "target: 'oci:'\nimages: [a]".into(),
            "1:9 target: `oci:` isn't a layout: expected oci:DIR[:REFERENCE], with no : in DIR",
        ),
        ("targets: [h/a, h/a/]\nimages: [a]".into(), "1:16 targets[1]: `h/a` is a target already"),
        (
            with("layout: '{host}/{name}'"),
            "3:9 layout: `{host}/` isn't a placeholder: expected {registry}, {repository} or {name}",
        ),
    ]);
}

#[test]
fn wrong_images_are_refused() {
    assert_problems(vec![
        ("target: h/m\nimages: []".into(), "2:9 images: images: is missing or empty"),
        (
            images("  - nginx:a b"),
            "3:5 images[0]: `a b` isn't a tag: expected up to 128 letters, digits, _ . - and none of . - first",
        ),
        (
            images("  - nginx@sha256:abc"),
            "3:5 images[0]: `sha256:abc` isn't a digest: expected sha256:<64 hex digits> or sha512:<128 hex digits>",
        ),
        (
            images("  - image: a\n    tags: [x, -y]"),
            "4:15 images[0].tags[1]: `-y` isn't a tag: expected up to 128 letters, digits, _ . - and none of . - first",
        ),
        (images("  - image: a\n    tags: [x, x]"), "4:15 images[0].tags[1]: the tag `x` is listed twice"),
        (images("  - image: a\n    tags: []"), "4:11 images[0].tags: the list is empty"),
        (images("  - image: a"), "3:12 images[0].image: a tag, a digest, tags: or select: is missing"),
        (images("  - {image: a:1, tags: [x]}"), "3:5 images[0]: only one of tag, digest, tags: and select: is allowed"),
        (images("  - {tags: [x]}"), "3:5 images[0]: the key `image` is missing"),
        (images("  - {image: a:1, as: x}"), "3:22 images[0].as: as: is only for an image that is given by digest only"),
        (
            images("  - {image: a, select: {glob: [x, '[']}}"),
            "3:35 images[0].select.glob[1]: `[` isn't a glob: unclosed character class; missing ']'",
        ),
        (
            images("  - {image: a, select: {semver: one}}"),
            "3:33 images[0].select.semver: `one` isn't a version requirement: unexpected character 'o' while parsing major version number",
        ),
        (
            images("  - {image: a:1, to: X}"),
            "3:22 images[0].to: it can't be placed under h.example/m: `m/X` isn't a repository name: expected lower-case letters, digits and single . _ - between them, divided by /",
        ),
        (
            images("  - a:1\n  - b:1\n  - a:1"),
            "5:5 images[2]: h.example/m/docker.io/library/a:1 is also the target of images[0] in line 3",
        ),
        (
            images("  - a/x:1\n  - {image: b/x, tags: ['2', '1'], to: docker.io/a/x}"),
            "4:5 images[1]: h.example/m/docker.io/a/x:1 is also the target of images[0] in line 3",
        ),
        (images("  - h.example/m/a:1\nlayout: a"), "3:5 images[0]: h.example/m/a would be mirrored onto itself"),
        (
            images("  - {image: a, select: {latest: 1}}\n  - {image: a, select: {latest: 1}}"),
            "4:5 images[1]: the selection is the same as images[0] in line 3",
        ),
        (
            format!("target: {ECR}\nimages: [a]\nlayout: a"),
            "2:10 images[0]: ECR refuses the repository name `a`: it must have 2 to 256 characters",
        ),
    ]);
}
