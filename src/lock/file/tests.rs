use std::sync::Barrier;

use super::*;
use crate::lock::LockedImage;
use crate::oci::{Descriptor, Digest, MediaType};

/// Each of these images, pinned to the digest of the text next to it.
fn lock(images: &[(&str, &str)]) -> Lock {
    let mut lock = Lock::default();
    for (source, content) in images {
        let media_type = MediaType::OCI_INDEX.parse().unwrap();
        let root = Descriptor { media_type, digest: Digest::of(content.as_bytes()), size: 5 };
        let since = Some("2026-09-01T12:00:00Z".parse().unwrap());
        lock.pin(LockedImage { since, ..LockedImage::new(source.parse().unwrap(), &root) });
    }
    lock
}

fn names(lock: &Lock) -> Vec<String> {
    lock.images().map(|image| image.source.to_string()).collect()
}

fn on_disk(path: &Path) -> Lock {
    Lock::read(&fs::read_to_string(path).unwrap(), path).unwrap()
}

#[test]
fn a_lock_is_written_whole_and_only_if_it_changes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mirror.lock");
    let (none, one) = (Lock::default(), lock(&[("a:1", "x")]));
    assert_eq!(one.write(&path, &none).unwrap(), one);
    assert_eq!(fs::read_to_string(&path).unwrap(), one.to_text());
    let written = fs::metadata(&path).unwrap().modified().unwrap();
    assert_eq!(one.write(&path, &one).unwrap(), one);
    assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), written);
    // A manual edit is overwritten.
    fs::write(&path, format!("# mine\n{}", one.to_text())).unwrap();
    assert_eq!(one.write(&path, &one).unwrap(), one);
    assert_eq!(fs::read_to_string(&path).unwrap(), one.to_text());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left behind");
    assert!(one.write(&folder.path().join("missing/mirror.lock"), &none).is_err());
    fs::write(&path, "version: 9\n").unwrap();
    let refused = one.write(&path, &none).unwrap_err().to_string();
    assert!(refused.contains("the lock has version 9"), "{refused}");
}

#[test]
fn line_endings_and_the_byte_order_mark_are_kept() {
    let (old, new) = (lock(&[("a:1", "x")]), lock(&[("a:1", "y"), ("b:1", "x")]));
    let written = |text: String| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mirror.lock");
        fs::write(&path, text).unwrap();
        assert_eq!(on_disk(&path), old, "it means the same");
        let before = fs::read_to_string(&path).unwrap();
        assert_eq!(old.write(&path, &old).unwrap(), old);
        assert_eq!(fs::read_to_string(&path).unwrap(), before, "it is left alone");
        new.write(&path, &old).unwrap();
        fs::read_to_string(&path).unwrap()
    };
    let crlf = |lock: &Lock| lock.to_text().replace('\n', "\r\n");
    assert_eq!(written(old.to_text()), new.to_text());
    assert_eq!(written(crlf(&old)), crlf(&new));
    assert_eq!(written(format!("\u{feff}{}", old.to_text())), format!("\u{feff}{}", new.to_text()));
    assert_eq!(written(format!("\u{feff}{}", crlf(&old))), format!("\u{feff}{}", crlf(&new)));
    assert_eq!(written(old.to_text().trim_end().to_owned()), new.to_text());
    let mixed = crlf(&old).replacen("images:\r\n", "images:\n", 1);
    assert_eq!(written(mixed), crlf(&new));
}

#[test]
fn concurrent_changes_by_others_are_kept() {
    let (a, b, c) = (("a:1", "x"), ("b:1", "x"), ("c:1", "x"));
    let moved = ("a:1", "y");
    for (base, found, new, expected) in [
        (vec![], vec![a], vec![b], vec![a, b]),
        // The first run has pinned it.
        (vec![], vec![a], vec![moved, b], vec![a, b]),
        (vec![a], vec![a, c], vec![a, b], vec![a, b, c]),
        (vec![a], vec![moved], vec![a, b], vec![moved, b]),
        (vec![a], vec![a, b], vec![moved], vec![moved, b]),
        (vec![a], vec![moved], vec![("a:1", "z")], vec![("a:1", "z")]),
        // Dropped here, and untouched or moved there.
        (vec![a, b], vec![a, b, c], vec![b], vec![b, c]),
        (vec![a, b], vec![moved, b], vec![b], vec![moved, b]),
        // Dropped there, and still wanted here.
        (vec![a, b], vec![b], vec![a, b], vec![a, b]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mirror.lock");
        fs::write(&path, lock(&found).to_text()).unwrap();
        let merged = lock(&new).write(&path, &lock(&base)).unwrap();
        assert_eq!(merged, lock(&expected), "{base:?} {found:?} {new:?}");
        assert_eq!(on_disk(&path), merged);
    }
}

#[test]
fn concurrent_writers_lose_no_pin() {
    const WRITERS: usize = 16;
    for exists in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mirror.lock");
        let base = if exists { lock(&[("first:1", "x")]) } else { Lock::default() };
        if exists {
            fs::write(&path, base.to_text()).unwrap();
        }
        let barrier = Barrier::new(WRITERS);
        std::thread::scope(|scope| {
            for writer in 0..WRITERS {
                let (base, path, barrier) = (&base, &path, &barrier);
                scope.spawn(move || {
                    let mut new = base.clone();
                    let own = lock(&[(&format!("w{writer}:1"), "x")]);
                    new.pin(own.images().next().unwrap().clone());
                    barrier.wait();
                    new.write(path, base).unwrap();
                });
            }
        });
        assert_eq!(names(&on_disk(&path)).len(), WRITERS + usize::from(exists));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left behind");
    }
}

#[test]
fn a_writer_waits_for_the_holder_of_the_lock() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mirror.lock");
    let old = lock(&[("a:1", "x")]);
    fs::write(&path, old.to_text()).unwrap();
    let other = File::open(&path).unwrap();
    other.lock().unwrap();
    let writer = std::thread::spawn({
        let (path, old) = (path.clone(), old.clone());
        move || lock(&[("a:1", "x"), ("b:1", "x")]).write(&path, &old).unwrap()
    });
    // The process that holds the file replaces it: the writer must not write to the old file.
    draft(&path, &lock(&[("a:1", "x"), ("c:1", "x")]).to_text(), None).unwrap().persist(&path).unwrap();
    drop(other);
    assert_eq!(names(&writer.join().unwrap()).len(), 3);
    let held = File::open(&path).unwrap();
    held.lock().unwrap();
    let late = hold(&File::open(&path).unwrap(), Instant::now()).unwrap_err();
    assert_eq!(late.to_string(), "another process has locked the file");
}

#[cfg(unix)]
#[test]
fn permissions_and_symbolic_links_are_kept() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let folder = tempfile::tempdir().unwrap();
    let (path, link) = (folder.path().join("real.lock"), folder.path().join("mirror.lock"));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let (none, one, two) = (Lock::default(), lock(&[("a:1", "x")]), lock(&[("a:1", "y")]));
    // A link that points at nothing yet.
    symlink("real.lock", &link).unwrap();
    one.write(&link, &none).unwrap();
    fs::write(folder.path().join("plain"), "").unwrap();
    assert_eq!(mode(&path), mode(&folder.path().join("plain")));
    for permissions in [0o640, 0o440] {
        fs::set_permissions(&path, fs::Permissions::from_mode(permissions)).unwrap();
        let (from, to) = if permissions == 0o640 { (&one, &two) } else { (&two, &one) };
        to.write(&link, from).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!((mode(&path), on_disk(&path)), (permissions, to.clone()));
    }
}
