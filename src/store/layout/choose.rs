//! Interprets a name that a user typed for an image in a layout, or its absence.

use super::contents::Contents;
use super::index::Says;
use crate::error::{Error, Kind, Result};
use crate::oci::{Descriptor, Reference, Registry, Repository};

/// Finds `wanted`, by its exact name or by the reference that it abbreviates; without `wanted`, the only image.
pub(super) fn choose(contents: &Contents, wanted: Option<&str>) -> Result<(Reference, Descriptor)> {
    let layout = &contents.registry;
    let index = contents.index()?;
    let entries: Vec<&Says> = index.entries().collect();
    let called = |name: &str| {
        let listed = entries.iter().copied().filter(|says| says.name.as_deref() == Some(name));
        one(listed, &format!("find {name} in {layout}"))
    };
    let attempted = || format!("find {} in {layout}", wanted.unwrap_or("the image"));
    let Some(text) = wanted else {
        let mut images = Vec::new();
        for says in &entries {
            if !is_about_another(says) && contents.subject(says)?.is_none() {
                images.push(*says);
            }
        }
        let mut others = images.iter().filter(|says| says.descriptor.digest != images[0].descriptor.digest);
        return match (images.first(), others.next()) {
            (Some(only), None) => Ok(named(layout, only)),
            (None, _) => Err(Error::new(Kind::NotFound, attempted(), "it has no image")),
            (Some(_), Some(_)) => {
                let error = Error::new(Kind::NotFound, attempted(), "it has more than one");
                Err(error.with_hint(format!("choose one, such as {layout}:NAME:TAG; {}", list(&images))))
            }
        };
    };
    let canonical = text.parse::<Reference>().ok().map(|reference| reference.to_string());
    for name in canonical.iter().map(String::as_str).chain([text]).rev() {
        if let Some(found) = called(name)? {
            return Ok(named(layout, found));
        }
    }
    if let Ok((repository, tag, Some(digest))) = Repository::called(layout, text)
        && let Some(manifest) = contents.manifest(&digest)?
    {
        let reference = Reference::of(repository, tag, Some(digest));
        return Ok((reference.expect("it has a digest"), manifest.descriptor().clone()));
    }
    let error = Error::new(Kind::NotFound, attempted(), "no image in the layout has that name");
    Err(error.with_hint(list(&entries)))
}

/// Whether its tag is that of a signature or a similar referrer, or of a list of those.
fn is_about_another(says: &Says) -> bool {
    let tag = says.name.as_deref().and_then(|name| name.rsplit(':').next()).unwrap_or_default();
    tag.starts_with("sha256-") || tag.starts_with("sha512-")
}

fn named(layout: &Registry, says: &Says) -> (Reference, Descriptor) {
    let digest = says.descriptor.digest.clone();
    let called = says.name.as_deref().and_then(|name| Repository::called(layout, name).ok());
    let reference = called.and_then(|(repository, tag, _)| Reference::of(repository, tag, None));
    let home = || Repository::new(layout.clone(), says.untagged.as_deref().unwrap_or_default()).ok();
    let bare = || Repository::new(layout.clone(), "").expect("no name is a name in a layout");
    let reference = reference.unwrap_or_else(|| Reference::digested(home().unwrap_or_else(bare), digest));
    (reference, says.descriptor.clone())
}

fn list(entries: &[&Says]) -> String {
    const SHOWN: usize = 20;
    let name = |says: &&Says| says.name.clone().unwrap_or_else(|| format!("@{}", says.descriptor.digest));
    let names: Vec<String> = entries.iter().take(SHOWN).map(name).collect();
    let more = if entries.len() > SHOWN { format!(" and {} more", entries.len() - SHOWN) } else { String::new() };
    if names.is_empty() { "it is empty".to_owned() } else { format!("it has {}{more}", names.join(", ")) }
}

/// The only image among `listed`, even if it is listed several times. If a layout has a list of platforms under one
/// name, it doesn't say which one is meant.
pub(super) fn one<'a>(mut listed: impl Iterator<Item = &'a Says>, attempted: &str) -> Result<Option<&'a Says>> {
    let Some(first) = listed.next() else { return Ok(None) };
    if listed.any(|other| other.descriptor.digest != first.descriptor.digest) {
        let why = "index.json has several images with that name";
        return Err(Error::new(Kind::Invalid, attempted, why).with_hint("select one by its digest, @sha256:…"));
    }
    Ok(Some(first))
}
