//! `images`: the images to mirror, and their targets.

use std::collections::{BTreeSet, HashMap};

use super::findings::Findings;
use super::raw::{RawImage, RawImageMap};
use super::{Handling, ImageRule, Layout, TargetRoot, Wanted, handling};
use crate::oci::{Digest, Reference, ReferenceError, Registry, Repository, Service, Tag};
use crate::select::{Selection, Spec};
use crate::yaml::KeyPath;

/// The settings that determine target repositories and their permitted names.
pub(super) struct Places<'a> {
    pub(super) targets: &'a [TargetRoot],
    pub(super) layout: &'a Layout,
    /// Registries that are configured as Harbor.
    pub(super) harbors: BTreeSet<Registry>,
}

pub(super) fn rules(
    raw: &[RawImage],
    places: &Places<'_>,
    defaults: &Handling,
    findings: &mut Findings<'_>,
) -> Vec<ImageRule> {
    let list = KeyPath::default().key("images");
    let mut rules = Vec::new();
    for (index, raw) in raw.iter().enumerate() {
        let path = list.index(index);
        let rule = match raw {
            RawImage::Text(text) => text_rule(text, path, defaults, findings),
            RawImage::Map(map) => map_rule(map, path, defaults, findings),
        };
        if let Some(mut rule) = rule {
            rule.destinations = destinations(&rule, places, findings);
            rules.push(rule);
        }
    }
    refuse_collisions(&rules, findings);
    rules
}

fn text_rule(text: &str, path: KeyPath, defaults: &Handling, findings: &mut Findings<'_>) -> Option<ImageRule> {
    let reference = reference(text, &path, findings)?;
    let repository = reference.repository().clone();
    let line = findings.line(&path);
    Some(ImageRule {
        repository,
        wanted: by_reference(&reference),
        to: None,
        handling: defaults.clone(),
        destinations: vec![],
        line,
        path,
    })
}

fn map_rule(raw: &RawImageMap, path: KeyPath, defaults: &Handling, findings: &mut Findings<'_>) -> Option<ImageRule> {
    let handling = handling::merged(defaults, raw.into(), &path, findings);
    // Both are read even if one fails, so that all problems are reported together.
    let listed = raw.tags.as_deref().map(|texts| tags(texts, &path.key("tags"), findings));
    let selection = raw.select.as_ref().map(|spec| selection(spec, &path.key("select"), findings));
    let name = raw.name.as_deref().map(|text| findings.ok(&path.key("as"), text.parse::<Tag>()));

    let image_path = path.key("image");
    let Some(text) = raw.image.as_deref() else {
        findings.add(&path, "the key `image` is missing");
        return None;
    };
    let (repository, own) = match text.parse::<Repository>() {
        Ok(repository) => (repository, None),
        Err(ReferenceError::NotBare(_)) => {
            let reference = reference(text, &image_path, findings)?;
            (reference.repository().clone(), Some(by_reference(&reference)))
        }
        Err(error) => {
            findings.add(&image_path, error.to_string());
            return None;
        }
    };
    let mut wanted = match (own, listed, selection) {
        (Some(own), None, None) => own,
        (None, Some(tags), None) => Wanted::Tags(tags?),
        (None, None, Some(selection)) => Wanted::Select(selection?),
        (None, None, None) => {
            let hint = format!("write image: {text}:TAG, or add tags: or select:");
            findings.add_hint(&image_path, "a tag, a digest, tags: or select: is missing", hint);
            return None;
        }
        _ => {
            let hint = "keep one of: a tag or digest in image:, tags:, select:";
            findings.add_hint(&path, "only one of tag, digest, tags: and select: is allowed", hint);
            return None;
        }
    };
    match (&mut wanted, name) {
        (_, None) => {}
        (Wanted::Digest(_, tag), Some(name)) => *tag = Some(name?),
        (_, Some(_)) => findings.add_hint(
            &path.key("as"),
            "as: is only for an image that is given by digest only",
            "remove it: images keep their tag",
        ),
    }
    let line = findings.line(&path);
    Some(ImageRule { repository, wanted, to: raw.to.clone(), handling, destinations: vec![], line, path })
}

fn reference(text: &str, path: &KeyPath, findings: &mut Findings<'_>) -> Option<Reference> {
    if text.contains("://") {
        findings.add_hint(path, format!("`{text}` has a scheme"), "write [host/]repository[:tag][@digest]");
        return None;
    }
    findings.ok(path, text.parse())
}

fn by_reference(reference: &Reference) -> Wanted {
    match (reference.tag(), reference.digest()) {
        (None, Some(digest)) => Wanted::Digest(digest.clone(), None),
        (tag, digest) => Wanted::Tags(tag.iter().map(|tag| ((*tag).clone(), digest.cloned())).collect()),
    }
}

fn tags(texts: &[String], path: &KeyPath, findings: &mut Findings<'_>) -> Option<Vec<(Tag, Option<Digest>)>> {
    if texts.is_empty() {
        findings.add_hint(path, "the list is empty", "name at least one tag");
        return None;
    }
    let mut tags: Vec<(Tag, Option<Digest>)> = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let path = path.index(index);
        let Some(tag) = findings.ok(&path, text.parse::<Tag>()) else { continue };
        if tags.iter().any(|(other, _)| *other == tag) {
            findings.add_hint(&path, format!("the tag `{tag}` is listed twice"), "remove one of them");
        } else {
            tags.push((tag, None));
        }
    }
    (tags.len() == texts.len()).then_some(tags)
}

fn selection(spec: &Spec, path: &KeyPath, findings: &mut Findings<'_>) -> Option<Selection> {
    let faults = match Selection::new(spec.clone()) {
        Ok(selection) => return Some(selection),
        Err(faults) => faults,
    };
    for fault in faults {
        let path = if fault.key.is_empty() { path.clone() } else { path.key(fault.key) };
        let path = fault.index.map_or(path.clone(), |index| path.index(index));
        match fault.hint {
            Some(hint) => findings.add_hint(&path, fault.message, hint),
            None => findings.add(&path, fault.message),
        }
    }
    None
}

/// The target repositories of `rule`, one for each target; fewer only after a problem.
fn destinations(rule: &ImageRule, places: &Places<'_>, findings: &mut Findings<'_>) -> Vec<Repository> {
    let (path, under) = match &rule.to {
        Some(to) => (rule.path.key("to"), to.clone()),
        None => (rule.path.clone(), places.layout.path(&rule.repository)),
    };
    let mut destinations = Vec::new();
    for target in places.targets {
        let destination = match target.place(&rule.repository, &under) {
            Ok(destination) => destination,
            Err(error) => {
                let hint = match &rule.to {
                    Some(_) => "to: is the path of a repository under the target, without a tag",
                    None => "change layout:, or give this image another path with to:",
                };
                findings.add_hint(&path, format!("it can't be placed under {target}: {error}"), hint);
                // The path is invalid under every target.
                break;
            }
        };
        let service = match places.harbors.contains(destination.registry()) {
            true => Service::Harbor,
            false => Service::of(destination.registry()),
        };
        if let Err(why) = service.check_name(&destination) {
            findings.add_hint(&path, why, "choose another name with to: or layout:");
        } else if destination == rule.repository {
            let message = format!("{destination} would be mirrored onto itself");
            findings.add_hint(&path, message, "choose another target, or another path with to:");
        }
        destinations.push(destination);
    }
    destinations
}

/// Two entries may have the same target reference only if the list pins both to the same digest and they have the
/// same platforms. The tags of selections aren't known yet; they are checked when they are resolved.
fn refuse_collisions(rules: &[ImageRule], findings: &mut Findings<'_>) {
    let mut landed: HashMap<(&Repository, &Tag), (&ImageRule, Option<&Digest>)> = HashMap::new();
    let mut selected: HashMap<&Repository, Vec<&ImageRule>> = HashMap::new();
    for rule in rules {
        for destination in &rule.destinations {
            // The same image under several names in a layout is harmless.
            let shares = destination.registry().shares_content();
            if let (Wanted::Select(_), false) = (&rule.wanted, shares) {
                let others = selected.entry(destination).or_default();
                if let Some(other) = others.iter().find(|o| o.repository == rule.repository && o.wanted == rule.wanted)
                {
                    let message = format!("the selection is the same as {} in line {}", other.path, other.line);
                    findings.add_hint(&rule.path, message, "remove one of them");
                    break;
                }
                others.push(rule);
            }
            let collision = rule.wanted.named().into_iter().find_map(|(tag, digest)| {
                let (other, theirs) = *landed.entry((destination, tag)).or_insert((rule, digest));
                let alike = digest == theirs && rule.handling.platforms == other.handling.platforms;
                let again = shares && rule.repository == other.repository;
                let same = std::ptr::eq(other, rule) || (alike && (digest.is_some() || again));
                (!same)
                    .then(|| format!("{destination}:{tag} is also the target of {} in line {}", other.path, other.line))
            });
            if let Some(message) = collision {
                let hint = match destination.registry().keeps_source_names() {
                    true => "remove one of them, or mirror one of them to another layout",
                    false => {
                        "remove one of them, give one another path with to:, or pin both to one digest and the same platforms"
                    }
                };
                findings.add_hint(&rule.path, message, hint);
                break;
            }
        }
    }
}

impl Wanted {
    /// The tags that are known without a request, with the digest if the list pins it.
    fn named(&self) -> Vec<(&Tag, Option<&Digest>)> {
        match self {
            Self::Tags(tags) => tags.iter().map(|(tag, digest)| (tag, digest.as_ref())).collect(),
            Self::Digest(digest, Some(tag)) => vec![(tag, Some(digest))],
            Self::Digest(_, None) | Self::Select(_) => Vec::new(),
        }
    }
}
