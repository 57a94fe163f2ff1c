//! How files are written.

use std::path::Path;

use super::*;

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
        ("target: x\n", "target: x\nimages:\n  - docker.io/library/a:1\n  - \"[::1]:5000/b:2\"\n"),
        ("target: x", "target: x\nimages:\n  - docker.io/library/a:1\n  - \"[::1]:5000/b:2\"\n"),
        (
            "images: # none yet\r\ntarget: x\r\n",
            "images: # none yet\r\n  - docker.io/library/a:1\r\n  - \"[::1]:5000/b:2\"\r\ntarget: x\r\n",
        ),
        ("{\"images\": [\"x:1\"]}\n", "{\"images\": [\"x:1\", \"docker.io/library/a:1\", \"[::1]:5000/b:2\"]}\n"),
    ] {
        assert_eq!(append(text, &images).as_deref(), Some(expected), "{text}");
        let read = scan::parse(expected).unwrap();
        assert!(read[0].get("images").unwrap().items().len() >= 2);
    }
    assert_eq!(append("images: x:1\n", &images), None);
}

#[test]
fn a_file_is_replaced_atomically() {
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
