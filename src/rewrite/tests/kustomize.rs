//! Kustomizations keep their results.

use super::*;

const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec:\n  containers:\n  - {name: a, image: IMAGE}\n";

#[test]
fn kustomize_entries_are_rewritten_with_their_resources() {
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
        // The entry's result isn't mirrored, so it stays unchanged.
        (
            "nginx:1.26",
            "- name: nginx\n  newTag: '1.28'",
            &["nginx:1.26"],
            format!("{m}/nginx:1.26"),
            format!("- name: {m}/nginx\n  newName: nginx\n  newTag: '1.28'"),
        ),
        // The image in the resource is never pulled.
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
fn an_overlay_is_rewritten_with_its_base() {
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
fn the_resources_of_an_entry_are_rewritten_all_or_none() {
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
