use std::path::{Path, PathBuf};

use super::*;
use crate::desired::Place;
use crate::oci::{Digest, Reference};
use crate::scan;

/// The digest of `content`, short enough for a table.
fn digest(content: &str) -> String {
    Digest::of(content.as_bytes()).to_string()
}

/// What is mirrored to `h/m`: `source`, or `source as place` where it is called otherwise there. Its digest is that of the
/// source's text; a part of an image has that of `part`.
fn mirrored(lines: &[&str]) -> Vec<Mirrored> {
    let image = |line: &&str| {
        let (line, part) = line.strip_suffix(" in part").map_or((*line, false), |line| (line, true));
        let (source, place) = line.split_once(" as ").unwrap_or((line, ""));
        let source: Reference = source.parse().unwrap();
        let own = source.digest().cloned().unwrap_or(Digest::of(source.to_string().as_bytes()));
        let target_digest = if part { Digest::of(b"part") } else { own.clone() };
        let default = match source.tag() {
            Some(tag) => format!("h.example/m/{}:{tag}", source.repository()),
            None => format!("h.example/m/{}@{target_digest}", source.repository()),
        };
        let reference = if place.is_empty() { default } else { format!("h.example/m/{place}") };
        let second = reference.replacen("h.example/m", "g.example", 1).parse().unwrap();
        let places = vec![
            Place { target: 0, reference: reference.parse().unwrap(), kept_below: None },
            Place { target: 1, reference: second, kept_below: None },
        ];
        Mirrored { source, digest: own, target_digest, platforms: Vec::new(), places }
    };
    lines.iter().map(image).collect()
}

/// A folder with files, rewritten.
struct Tree {
    folder: tempfile::TempDir,
    mirrored: Vec<Mirrored>,
    pin: bool,
    number: usize,
}

impl Tree {
    fn new(lines: &[&str], pin: bool) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), mirrored: mirrored(lines), pin, number: 0 }
    }

    fn scan(&self) -> Scan {
        let (folder, paths) = (self.folder.path(), [PathBuf::from(".")]);
        scan::scan(scan::Request { paths: &paths, stdin: None, except: &[], fields: &[], folder })
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Rewrites all files, and says what it told.
    fn rewrite(&self) -> Vec<String> {
        let targets: Vec<TargetRoot> = ["h.example/m", "g.example"].map(|text| text.parse().unwrap()).into();
        let Self { mirrored, pin, number, .. } = self;
        let options = Options { mirrored, targets: &targets, number: *number, pin: *pin };
        let scan = self.scan();
        let rewritten = rewrite(&scan, options);
        for (file, new) in scan.files.iter().zip(&rewritten) {
            std::fs::write(&file.path, &new.text).unwrap();
        }
        let again = rewrite(&self.scan(), options);
        let changed: Vec<_> = self
            .scan()
            .files
            .iter()
            .zip(&again)
            .filter(|(old, new)| old.text != new.text)
            .map(|(old, new)| format!("{}\n{}", old.text, new.text))
            .collect();
        assert_eq!(changed, Vec::<String>::new(), "a second run changes nothing");
        rewritten.iter().flat_map(|new| &new.told).map(|told| format!("{}: {}", told.text, told.why)).collect()
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(name)).unwrap()
    }
}

/// `text` in the file `name`, rewritten, and what was told.
fn one(name: &str, text: &str, lines: &[&str], pin: bool) -> (String, String) {
    let tree = Tree::new(lines, pin);
    tree.write(name, text);
    let told = tree.rewrite().join("\n");
    (tree.read(name), told)
}

const NGINX: &str = "docker.io/library/nginx:1.27";

#[test]
fn a_text_becomes_the_reference_at_the_target() {
    let nginx = digest(NGINX);
    let other = digest("other");
    for (written, pin, expected, told) in [
        ("nginx:1.27", false, "h.example/m/docker.io/library/nginx:1.27".to_owned(), ""),
        ("nginx:1.27", true, format!("h.example/m/docker.io/library/nginx:1.27@{nginx}"), ""),
        ("docker.io/nginx:1.27", false, "h.example/m/docker.io/library/nginx:1.27".to_owned(), ""),
        ("index.docker.io/library/nginx:1.27", false, "h.example/m/docker.io/library/nginx:1.27".to_owned(), ""),
        // What is pinned stays pinned.
        (&format!("nginx:1.27@{nginx}"), false, format!("h.example/m/docker.io/library/nginx:1.27@{nginx}"), ""),
        (&format!("nginx@{nginx}"), false, format!("h.example/m/docker.io/library/nginx@{nginx}"), ""),
        (&format!("nginx:1.27@{other}"), true, format!("nginx:1.27@{other}"), "the lock pins it to another digest"),
        (&format!("nginx@{other}"), true, format!("nginx@{other}"), "the lock doesn't hold it"),
        ("nginx:1.28", true, "nginx:1.28".to_owned(), "the lock doesn't hold it"),
        ("redis", false, "h.example/m/docker.io/library/redis:latest".to_owned(), ""),
        ("quay.io/a/b:v1", true, format!("h.example/m/infra/b:v1@{}", digest("quay.io/a/b:v1")), ""),
        // A part of an image has another digest at the target.
        ("quay.io/p/p:1", true, format!("h.example/m/quay.io/p/p:1@{}", digest("part")), ""),
        (
            &format!("quay.io/p/p:1@{}", digest("quay.io/p/p:1")),
            false,
            format!("h.example/m/quay.io/p/p:1@{}", digest("part")),
            "",
        ),
        // By digest alone: with the tag that `as` names, and untagged.
        ("python:3.7", true, format!("h.example/m/docker.io/library/python:3.7@{other}"), ""),
        (&format!("python@{other}"), false, format!("h.example/m/docker.io/library/python@{other}"), ""),
        (&format!("u@{other}"), true, format!("h.example/m/docker.io/library/u@{other}"), ""),
        // What lies below the target gets the lock's digest.
        (
            "h.example/m/docker.io/library/nginx:1.27",
            true,
            format!("h.example/m/docker.io/library/nginx:1.27@{nginx}"),
            "",
        ),
        (
            &format!("h.example/m/docker.io/library/nginx:1.27@{other}"),
            true,
            format!("h.example/m/docker.io/library/nginx:1.27@{nginx}"),
            "",
        ),
        (
            &format!("h.example/m/docker.io/library/nginx:1.27@{other}"),
            false,
            format!("h.example/m/docker.io/library/nginx:1.27@{other}"),
            "",
        ),
        (
            "h.example/m/x:1",
            true,
            "h.example/m/x:1".to_owned(),
            "the lock holds nothing that this target has under that name",
        ),
        ("g.example/docker.io/library/nginx:1.27", false, "g.example/docker.io/library/nginx:1.27".to_owned(), ""),
    ] {
        let lines = [
            "nginx:1.27",
            "redis",
            "quay.io/a/b:v1 as infra/b:v1",
            "quay.io/p/p:1 in part",
            &format!("python@{other} as docker.io/library/python:3.7"),
            &format!("u@{other}"),
        ];
        let (text, said) = one("Dockerfile", &format!("FROM {written} AS x\n"), &lines, pin);
        assert_eq!(text, format!("FROM {expected} AS x\n"), "{written} {pin}");
        assert_eq!(said.is_empty(), told.is_empty(), "{written}: {said}");
        assert!(said.contains(told), "{written}: {said}");
    }
}

#[test]
fn formatting_stays() {
    let text = "\u{feff}# é\r\napiVersion: v1\r\nkind: Pod\r\nspec:\r\n\r\n  containers: # nginx:1.27\r\n  -   image:   'nginx:1.27'   # nginx:1.27\r\n  - {\"image\": \"nginx:1.27\" , b: 'é'}\r\n  - image: &a nginx:1.27\r\n  - image: *a\r\n  - image: >-\r\n      nginx:1.27\r\n";
    let (new, told) = one("pod.yaml", text, &["nginx:1.27"], false);
    let expected = text
        .replace("'nginx:1.27'", "'h.example/m/docker.io/library/nginx:1.27'")
        .replace("\"nginx:1.27\"", "\"h.example/m/docker.io/library/nginx:1.27\"")
        .replace("&a nginx:1.27", "&a h.example/m/docker.io/library/nginx:1.27")
        .replace("      nginx:1.27", "      h.example/m/docker.io/library/nginx:1.27");
    assert_eq!((new, told.as_str()), (expected, ""));
}

#[test]
fn an_address_in_brackets_is_quoted_where_yaml_wants_it() {
    let mut tree = Tree::new(&["nginx:1.27"], false);
    tree.mirrored[0].places[0].reference = "[::1]:5000/nginx:1.27".parse().unwrap();
    tree.write("pod.yaml", "apiVersion: v1\nkind: Pod\na: {image: nginx:1.27}\nb: {image: 'nginx:1.27'}\n");
    let options = Options { mirrored: &tree.mirrored, targets: &[], number: 0, pin: false };
    let new = rewrite(&tree.scan(), options);
    assert_eq!(
        new[0].text,
        "apiVersion: v1\nkind: Pod\na: {image: \"[::1]:5000/nginx:1.27\"}\nb: {image: '[::1]:5000/nginx:1.27'}\n"
    );
}

#[test]
fn variables_stay_in_charge() {
    let nginx = digest(NGINX);
    let m = "h.example/m/docker.io/library";
    for (written, pin, expected, told) in [
        ("nginx:${TAG:-1.27}", false, format!("{m}/nginx:${{TAG:-1.27}}"), ""),
        ("nginx:${TAG:-1.27}", true, format!("{m}/nginx:${{TAG:-1.27@{nginx}}}"), ""),
        ("${IMAGE:-nginx:1.27}", true, format!("${{IMAGE:-{m}/nginx:1.27@{nginx}}}"), ""),
        (
            "${REG:-docker.io}/library/nginx:1.27",
            false,
            "${REG:-h.example/m/docker.io}/library/nginx:1.27".to_owned(),
            "",
        ),
        (
            "${REG:-docker.io}/library/nginx:1.27",
            true,
            "${REG:-h.example/m/docker.io}/library/nginx:1.27".to_owned(),
            "with another value of REG the digest would be wrong",
        ),
        ("${REG:-}nginx:1.27", false, format!("${{REG:-{m}/}}nginx:1.27"), ""),
        (
            "${REG-docker.io/library}/nginx:${TAG-1.27}",
            true,
            format!("${{REG-{m}}}/nginx:${{TAG-1.27}}"),
            "the digest would be wrong",
        ),
        ("docker.io/library/${NAME:-nginx}:1.27", false, format!("{m}/${{NAME:-nginx}}:1.27"), ""),
        ("nginx:1.${MINOR:-27}", true, format!("{m}/nginx:1.${{MINOR:-27@{nginx}}}"), ""),
        (
            "nginx:${MAJOR:-1}.27",
            true,
            format!("{m}/nginx:${{MAJOR:-1}}.27"),
            "it isn't pinned: with another value of MAJOR",
        ),
        (
            "quay.io/a/${NAME:-b}:v1",
            false,
            "quay.io/a/${NAME:-b}:v1".to_owned(),
            "a variable is in the way of its new name",
        ),
        ("${A:-${B:-nginx}}:1.27", false, format!("${{A:-${{B:-{m}/nginx}}}}:1.27"), ""),
        ("redis${X:-}", false, format!("{m}/redis${{X:-:latest}}"), ""),
    ] {
        let lines = ["nginx:1.27", "quay.io/a/b:v1 as infra/c:v1", "redis"];
        let text = |image: &str| format!("services:\n  a:\n    image: \"{image}\"\n");
        let (new, said) = one("compose.yaml", &text(written), &lines, pin);
        assert_eq!(new, text(&expected), "{written} {pin}: {said}");
        assert_eq!(said.is_empty(), told.is_empty(), "{written}: {said}");
        assert!(said.contains(told), "{written}: {said}");
    }
}

#[test]
fn arguments_are_shared() {
    let (nginx, m) = (digest(NGINX), "h.example/m/docker.io/library");
    let lines = ["nginx:1.27", "redis:1.27"];
    for (text, expected, told) in [
        ("ARG TAG=1.27\nFROM nginx:$TAG\n", format!("ARG TAG=1.27@{nginx}\nFROM {m}/nginx:$TAG\n"), ""),
        ("ARG TAG='1.27'\nFROM nginx:${TAG}\n", format!("ARG TAG='1.27@{nginx}'\nFROM {m}/nginx:${{TAG}}\n"), ""),
        ("ARG I=nginx:1.27\nFROM $I\nFROM $I\n", format!("ARG I={m}/nginx:1.27@{nginx}\nFROM $I\nFROM $I\n"), ""),
        // Used twice: the digest of one isn't that of the other.
        (
            "ARG TAG=1.27\nFROM nginx:$TAG\nFROM redis:$TAG\n",
            format!("ARG TAG=1.27\nFROM {m}/nginx:$TAG\nFROM {m}/redis:$TAG\n"),
            "it isn't pinned",
        ),
        (
            "ARG TAG=1.27\nFROM nginx:$TAG\nARG TAG\nRUN echo $TAG\n",
            format!("ARG TAG=1.27\nFROM {m}/nginx:$TAG\nARG TAG\nRUN echo $TAG\n"),
            "it isn't pinned",
        ),
        (
            "ARG R=docker.io\nFROM $R/library/nginx:1.27\nFROM $R/library/redis:1.27\n",
            "ARG R=h.example/m/docker.io\nFROM $R/library/nginx:1.27\nFROM $R/library/redis:1.27\n".to_owned(),
            "it isn't pinned",
        ),
        // One of them can't be had from the mirror: neither is.
        (
            "ARG R=docker.io\nFROM $R/library/nginx:1.27\nFROM $R/library/none:1\n",
            "ARG R=docker.io\nFROM $R/library/nginx:1.27\nFROM $R/library/none:1\n".to_owned(),
            "something that stays uses its text",
        ),
        (
            "ARG I=nginx\nFROM $I:1.27\nFROM redis:1.27\n",
            format!("ARG I={m}/nginx\nFROM $I:1.27\nFROM {m}/redis:1.27@{}\n", digest("docker.io/library/redis:1.27")),
            "it isn't pinned",
        ),
        ("FROM \\\n  ngi\\\nnx:1.27\n", format!("FROM \\\n  {m}/ngi\\\nnx:1.27@{nginx}\n"), ""),
    ] {
        let (new, said) = one("Dockerfile", text, &lines, true);
        assert_eq!(new, expected, "{text}: {said}");
        assert_eq!(said.is_empty(), told.is_empty(), "{text}: {said}");
        assert!(said.contains(told), "{text}: {said}");
    }
}

#[test]
fn split_fields_are_edited_as_such() {
    let (nginx, h) = (digest(NGINX), "h.example/m/docker.io/library/nginx");
    for (written, pin, expected, told) in [
        ("repository: nginx, tag: 1.27", false, format!("repository: {h}, tag: 1.27"), ""),
        ("repository: nginx, tag: 1.27", true, format!("repository: {h}, tag: 1.27@{nginx}"), ""),
        (
            "registry: docker.io, repository: nginx, tag: '1.27'",
            false,
            "registry: h.example, repository: m/docker.io/library/nginx, tag: '1.27'".to_owned(),
            "",
        ),
        (
            "registry: '', repository: nginx, tag: '1.27'",
            false,
            format!("registry: '', repository: {h}, tag: '1.27'"),
            "",
        ),
        (
            "repository: nginx, tag: '1.27', digest: ''",
            true,
            format!("repository: {h}, tag: '1.27', digest: '{nginx}'"),
            "",
        ),
        (
            "repository: nginx, tag: '1.27', digest: null",
            true,
            format!("repository: {h}, tag: '1.27', digest: {nginx}"),
            "",
        ),
        (
            "repository: nginx, tag: '1.27', digest: ",
            true,
            format!("repository: {h}, tag: '1.27', digest: {nginx} "),
            "",
        ),
        (
            &format!("repository: nginx, tag: '1.27', digest: {nginx}"),
            false,
            format!("repository: {h}, tag: '1.27', digest: {nginx}"),
            "",
        ),
        (&format!("repository: nginx, digest: {nginx}"), false, format!("repository: {h}, digest: {nginx}"), ""),
        (&format!("repository: nginx, tag: 1.27@{nginx}"), false, format!("repository: {h}, tag: 1.27@{nginx}"), ""),
        ("repository: nginx, tag: none", true, "repository: nginx, tag: none".to_owned(), "the lock doesn't hold it"),
        (
            "registry: docker.io, repository: nginx, tag: &t '1.27', x: *t",
            true,
            "registry: h.example, repository: m/docker.io/library/nginx, tag: &t '1.27', x: *t".to_owned(),
            "it isn't pinned: an anchor is used for more than this",
        ),
    ] {
        let text = |fields: &str| format!("image: {{{fields}}}\n");
        let (new, said) = one("values.yaml", &text(written), &["nginx:1.27"], pin);
        assert_eq!(new, text(&expected), "{written} {pin}: {said}");
        assert_eq!(said.is_empty(), told.is_empty(), "{written}: {said}");
        assert!(said.contains(told), "{written}: {said}");
    }
    let (block, _) =
        one("values.yaml", "image:\n  repository: nginx\n  tag: 1.27\n  digest: # none\nx: y\n", &["nginx:1.27"], true);
    assert_eq!(block, format!("image:\n  repository: {h}\n  tag: 1.27\n  digest: {nginx} # none\nx: y\n"));
}

#[test]
fn the_second_target_may_be_chosen() {
    let mut tree = Tree::new(&["nginx:1.27"], false);
    tree.number = 1;
    tree.write("Dockerfile", "FROM nginx:1.27\nFROM h.example/m/docker.io/library/nginx:1.27\n");
    tree.rewrite();
    let expected = "FROM g.example/docker.io/library/nginx:1.27\nFROM h.example/m/docker.io/library/nginx:1.27\n";
    assert_eq!(tree.read("Dockerfile"), expected);
}

const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec:\n  containers:\n  - {name: a, image: IMAGE}\n";

#[test]
fn kustomize_entries_follow_their_resources() {
    let m = "h.example/m/docker.io/library";
    for (image, entry, lines, expected_image, expected_entry) in [
        // The resource is rewritten, and the entry's name with it.
        (
            "nginx:1.26",
            "- name: nginx\n  newTag: '1.27'",
            &["nginx:1.26", "nginx:1.27"][..],
            format!("{m}/nginx:1.26"),
            format!("- name: {m}/nginx\n  newName: {m}/nginx\n  newTag: '1.27'"),
        ),
        // It isn't: the name stays.
        (
            "nginx:1.26",
            "- name: nginx # x\n  newTag: '1.27'",
            &["nginx:1.27"],
            "nginx:1.26".into(),
            format!("- name: nginx # x\n  newName: {m}/nginx\n  newTag: '1.27'"),
        ),
        (
            "nginx",
            "- {name: nginx, newTag: '1.27'}",
            &["nginx:1.27"],
            "nginx".into(),
            format!("- {{name: nginx, newName: {m}/nginx, newTag: '1.27'}}"),
        ),
        // What the entry gives isn't mirrored: it gives the same as before.
        (
            "nginx:1.26",
            "- name: nginx\n  newTag: '1.28'",
            &["nginx:1.26"],
            format!("{m}/nginx:1.26"),
            format!("- name: {m}/nginx\n  newName: nginx\n  newTag: '1.28'"),
        ),
        // Nobody pulls what the resource says.
        (
            "nginx:1",
            "- name: nginx\n  newName: quay.io/a/b",
            &["nginx:1", "quay.io/a/b:1"],
            "nginx:1".into(),
            "- name: nginx\n  newName: h.example/m/quay.io/a/b".into(),
        ),
        // An entry for something else.
        (
            "nginx:1.27",
            "- name: docker.io/library/nginx\n  newTag: '1.27'",
            &["nginx:1.27"],
            format!("{m}/nginx:1.27"),
            format!("- name: docker.io/library/nginx\n  newName: {m}/nginx\n  newTag: '1.27'"),
        ),
    ] {
        let tree = Tree::new(lines, false);
        let list = |entry: &str| format!("resources: [pod.yaml]\nimages:\n{entry}\n");
        tree.write("pod.yaml", &POD.replace("IMAGE", image));
        tree.write("kustomization.yaml", &list(entry));
        let told = tree.rewrite();
        assert_eq!(tree.read("pod.yaml"), POD.replace("IMAGE", &expected_image), "{image} {entry} {told:?}");
        assert_eq!(tree.read("kustomization.yaml"), list(&expected_entry), "{image} {entry} {told:?}");
    }
}

#[test]
fn an_overlay_follows_its_base() {
    let tree = Tree::new(&["quay.io/a/b:1", "quay.io/a/b:2"], true);
    tree.write("base/pod.yaml", &POD.replace("IMAGE", "my-app"));
    tree.write(
        "base/kustomization.yaml",
        "resources: [pod.yaml]\nimages:\n- {name: my-app, newName: quay.io/a/b, newTag: '1'}\n",
    );
    tree.write("over/kustomization.yaml", "resources: [../base]\nimages:\n- newTag: '2'\n  name: quay.io/a/b\n");
    assert_eq!(tree.rewrite(), Vec::<String>::new());
    let (one, two) = (digest("quay.io/a/b:1"), digest("quay.io/a/b:2"));
    assert_eq!(tree.read("base/pod.yaml"), POD.replace("IMAGE", "my-app"));
    let m = "h.example/m/quay.io/a/b";
    let base = format!("resources: [pod.yaml]\nimages:\n- {{name: my-app, newName: {m}, newTag: '1@{one}'}}\n");
    assert_eq!(tree.read("base/kustomization.yaml"), base);
    let over = format!("resources: [../base]\nimages:\n- newTag: '2@{two}'\n  name: {m}\n  newName: {m}\n");
    assert_eq!(tree.read("over/kustomization.yaml"), over);
}

#[test]
fn resources_that_an_entry_takes_are_rewritten_all_or_none() {
    let tree = Tree::new(&["nginx:1", "nginx:9"], false);
    tree.write("base/a.yaml", &POD.replace("IMAGE", "nginx:1"));
    tree.write("base/b.yaml", &POD.replace("IMAGE", "nginx:2"));
    tree.write("base/kustomization.yaml", "resources: [a.yaml, ./b.yaml]\n");
    tree.write("over/kustomization.yaml", "resources: [../base]\r\nimages:\r\n- name: nginx\r\n  newTag: '9'\r\n");
    let told = tree.rewrite();
    assert_eq!(tree.read("base/a.yaml"), POD.replace("IMAGE", "nginx:1"));
    assert!(told.iter().any(|told| told.contains("something that stays")), "{told:?}");
    let expected = "resources: [../base]\r\nimages:\r\n- name: nginx\r\n  newName: h.example/m/docker.io/library/nginx\r\n  newTag: '9'\r\n";
    assert_eq!(tree.read("over/kustomization.yaml"), expected);
}

#[test]
fn entries_are_added_and_nothing_else_changes() {
    let images = ["docker.io/library/a:1".to_owned(), "[::1]:5000/b:2".to_owned()];
    for (text, expected) in [
        (
            "images:\n  - x:1 # x\n# end\n",
            "images:\n  - x:1 # x\n  - docker.io/library/a:1\n  - \"[::1]:5000/b:2\"\n# end\n",
        ),
        (
            "images:\r\n- x:1\r\n\r\ndefaults: {}\r\n",
            "images:\r\n- x:1\r\n- docker.io/library/a:1\r\n- \"[::1]:5000/b:2\"\r\n\r\ndefaults: {}\r\n",
        ),
        ("images:\n- x:1", "images:\n- x:1\n- docker.io/library/a:1\n- \"[::1]:5000/b:2\""),
        ("images: [x:1, ]\n", "images: [x:1, docker.io/library/a:1, \"[::1]:5000/b:2\", ]\n"),
        ("images: []\n", "images: [docker.io/library/a:1, \"[::1]:5000/b:2\"]\n"),
        ("images: [\n  'x:1' # ]\n  ]\n", "images: [\n  'x:1', docker.io/library/a:1, \"[::1]:5000/b:2\" # ]\n  ]\n"),
        (
            "images: [{image: x, tags: ['1']}]\n",
            "images: [{image: x, tags: ['1']}, docker.io/library/a:1, \"[::1]:5000/b:2\"]\n",
        ),
        (
            "images:\n  - image: x\n    tags:\n    - '1'\n    # 2\n\nz: 1\n",
            "images:\n  - image: x\n    tags:\n    - '1'\n  - docker.io/library/a:1\n  - \"[::1]:5000/b:2\"\n    # 2\n\nz: 1\n",
        ),
    ] {
        assert_eq!(append(text, &images).as_deref(), Some(expected), "{text}");
        let read = scan::parse(expected).unwrap();
        assert!(read[0].get("images").unwrap().items().len() >= 2);
    }
    assert_eq!(append("target: x\n", &images), None);
    assert_eq!(append("images:\n", &images), None);
}

#[test]
fn a_file_is_replaced_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let text = |path: &Path| std::fs::read_to_string(path).unwrap();
    std::fs::write(&path, "old").unwrap();
    assert_eq!(replace(&path, "older", "new").unwrap_err(), "it has changed since it was read");
    assert_eq!(text(&path), "old");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        mode(0o444);
        assert_eq!(replace(&path, "old", "new").unwrap_err(), "it is write-protected");
        mode(0o751);
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("a", &link).unwrap();
        replace(&link, "old", "new").unwrap();
        assert!(link.is_symlink());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o751);
    }
    #[cfg(not(unix))]
    replace(&path, "old", "new").unwrap();
    assert_eq!(text(&path), "new");
    assert_eq!(
        std::fs::read_dir(folder.path())
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with('.'))
            .count(),
        0
    );
    assert!(replace(&folder.path().join("none"), "", "").is_err());
}
