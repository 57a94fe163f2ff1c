mod files;
mod kustomize;

use std::path::PathBuf;

use super::*;
use crate::desired::Place;
use crate::oci::{Digest, Reference};
use crate::scan;

/// The digest of `content`, short enough for a table.
fn digest(content: &str) -> String {
    Digest::of(content.as_bytes()).to_string()
}

/// The images mirrored to `h/m`: `source`, or `source as place` if it has another name there. The digest is that of
/// the source's text; for a part of an image, that of `part`.
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

/// A folder of files to rewrite.
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

    /// Rewrites all files, and returns the notes.
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

/// `text` in the file `name` after rewriting, and the notes.
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
        (&format!("nginx@{other}"), true, format!("nginx@{other}"), "the lock doesn't have it"),
        ("nginx:1.28", true, "nginx:1.28".to_owned(), "the lock doesn't have it"),
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
        // By digest alone: with the tag from `as`, and untagged.
        ("python:3.7", true, format!("h.example/m/docker.io/library/python:3.7@{other}"), ""),
        (&format!("python@{other}"), false, format!("h.example/m/docker.io/library/python@{other}"), ""),
        (&format!("u@{other}"), true, format!("h.example/m/docker.io/library/u@{other}"), ""),
        // A reference below the target gets the lock's digest.
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
        ("h.example/m/x:1", true, "h.example/m/x:1".to_owned(), "the lock has no image with that name at this target"),
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
fn an_ipv6_address_is_quoted_where_yaml_requires_it() {
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
fn variables_are_kept() {
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
fn build_arguments_are_rewritten_where_they_are_defined() {
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
        // The mirror lacks one of them, so neither is rewritten.
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
        ("repository: nginx, tag: none", true, "repository: nginx, tag: none".to_owned(), "the lock doesn't have it"),
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
fn the_second_target_can_be_selected() {
    let mut tree = Tree::new(&["nginx:1.27"], false);
    tree.number = 1;
    tree.write("Dockerfile", "FROM nginx:1.27\nFROM h.example/m/docker.io/library/nginx:1.27\n");
    tree.rewrite();
    let expected = "FROM g.example/docker.io/library/nginx:1.27\nFROM h.example/m/docker.io/library/nginx:1.27\n";
    assert_eq!(tree.read("Dockerfile"), expected);
}
