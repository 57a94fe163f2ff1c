//! The images of each cache.

use std::collections::HashSet;

use crate::config::{Handling, ImageRule, TargetRoot};
use crate::desired::entries;
use crate::error::{Error, Kind, Stage};
use crate::lock::{self, Lock, LockedImage};
use crate::oci::{Descriptor, Reference, Tag};
use crate::plan::{Action, Planned, Transfer};
use crate::select::Only;

/// Each pair of image and cache. An image without a pin fails, because its digest is unknown.
pub(super) fn wanted(images: &[ImageRule], lock: &Lock, caches: &[TargetRoot], only: &Only) -> Vec<Planned> {
    let mut seen = HashSet::new();
    let mut wanted = Vec::new();
    for entry in entries(images, lock) {
        let handling = &entry.rule.handling;
        if entry.is_unknown && only.may_match(&entry.rule.repository) {
            let source = entry.rule.repository.to_string();
            wanted.extend(caches.iter().map(|cache| unpinned(&source, cache)));
        }
        for image in entry.images.iter().filter(|image| only.matches(&image.source)) {
            if !seen.insert(lock::name(&image.source, &handling.platforms)) {
                continue;
            }
            wanted.extend(caches.iter().map(|cache| match image.pin {
                Some(pin) => at(cache, &image.source, image.source.tag(), pin, handling),
                None => unpinned(&image.source.to_string(), cache),
            }));
        }
    }
    wanted
}

/// A pinned image at a cache, under its upstream name, whatever its name at the mirror.
fn at(cache: &TargetRoot, source: &Reference, tag: Option<&Tag>, pin: &LockedImage, handling: &Handling) -> Planned {
    let repository = match cache.repository(source.repository().path()) {
        Ok(repository) => repository,
        Err(error) => {
            let error = Error::new(Kind::Invalid, format!("find {source} below {cache}"), error.to_string());
            return failed(source.to_string(), cache, error);
        }
    };
    // A cache serves the index of the upstream, even if only some platforms are mirrored.
    let root = Descriptor { media_type: pin.media_type.clone(), digest: pin.digest.clone(), size: pin.size };
    let transfer = Transfer::new(source.clone(), root, repository, tag.cloned(), Action::UpToDate);
    Planned::Image(Transfer { handling: handling.clone(), ..transfer })
}

fn unpinned(source: &str, cache: &TargetRoot) -> Planned {
    let error = Error::new(Kind::NotFound, format!("warm {source}"), "the lock has no pin for it");
    failed(source.to_owned(), cache, error.with_hint("run `transship lock` to pin it"))
}

fn failed(source: String, cache: &TargetRoot, error: Error) -> Planned {
    Planned::Failed { source, target: cache.to_string(), error: error.at(Stage::Resolve) }
}
