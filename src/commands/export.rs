//! `export KIND`: the configuration of those who pull from the mirror. Sends no request.

mod write;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;

use super::Unable;
use super::discover::{known, pretty, warn};
use super::output::say;
use super::pins::Pins;
use super::rewrite::target_number;
use crate::cli::{self, Global};
use crate::config::{Config, RegistrySettings};
use crate::desired::{entries, mirrored};
use crate::export::{Export, Flag, Input, KINDS, Kind, Options, Refusal, Target, images};
use crate::lock::Lock;
use crate::report::Exit;

pub(super) fn run(global: &Global, arguments: &cli::Export) -> anyhow::Result<Exit> {
    if arguments.list {
        return super::printed(&list(global.json));
    }
    let kind = kind(arguments)?;
    let export = of_images(global, arguments, kind)?;
    write::write(global, arguments, kind, &export)
}

/// The kind that was asked for, with flags that it takes.
fn kind(arguments: &cli::Export) -> anyhow::Result<&'static Kind> {
    let name = arguments.kind.as_deref().unwrap_or_default();
    let kind = Kind::named(name).ok_or_else(|| {
        let names: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
        Unable::error(format!("there is no kind `{name}`"), format!("one of: {}", names.join(", ")))
    })?;
    let flags = [(Flag::Microk8s, arguments.microk8s), (Flag::Rke2, arguments.rke2)];
    let foreign = flags.into_iter().find(|(flag, is_given)| *is_given && !kind.flags.contains(flag));
    match foreign {
        Some((flag, _)) => {
            Err(Unable::error(format!("{name} takes no {flag}"), "leave it out; see transship help export"))
        }
        None => Ok(kind),
    }
}

/// A kind that is made of the images that are mirrored.
fn of_images(global: &Global, arguments: &cli::Export, kind: &Kind) -> anyhow::Result<Export> {
    let known = known(global, true)?
        .ok_or_else(|| Unable::error("there is no mirror.yaml", "write one with `transship init`"))?;
    let pins = Pins::of(global)?;
    let lock = pins.existing().map_err(|_| {
        let hint = "mirror the images with `transship sync`, then export; leave out --no-lock";
        Unable::error("there is no lock, which says what is mirrored", hint)
    })?;
    let config = &known.config;
    let number = target_number(arguments.target, config)?;
    let mirrored = mirrored(&config.images, lock);
    let options = Options { microk8s: arguments.microk8s, rke2: arguments.rke2 };
    let registry = &config.targets[number].registry;
    let settings = config.registries.get(registry).cloned().unwrap_or_default();
    let RegistrySettings { insecure, .. } = settings;
    let target = Target { registry, plain_http: settings.speaks_plain_http(registry), insecure };
    let images = images(&mirrored, number);
    let export = kind.write(&Input { images: &images, target, options: &options }).map_err(refused)?;
    tell_lacking(config, lock);
    Ok(export)
}

fn refused(Refusal { why, hint }: Refusal) -> anyhow::Error {
    Unable::error(why, hint)
}

/// Says on stderr what the list asks for and isn't exported, as it isn't known to be mirrored.
fn tell_lacking(config: &Config, lock: &Lock) {
    for entry in entries(&config.images, lock) {
        if entry.is_unknown {
            warn(&format!("left {}: the lock doesn't hold its selection", entry.rule.repository));
        }
        for image in entry.images.iter().filter(|image| image.pin.is_none()) {
            warn(&format!("left {}: the lock doesn't hold it", image.source));
        }
    }
}

/// What `export --list` tells.
#[derive(Serialize, JsonSchema)]
struct Kinds {
    kinds: Vec<KindRow>,
}

#[derive(Serialize, JsonSchema)]
struct KindRow {
    name: &'static str,
    about: &'static str,
}

/// The JSON schema of the document.
pub(super) fn schema(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<Kinds>()
}

fn list(as_json: bool) -> String {
    if as_json {
        let row = |kind: &Kind| KindRow { name: kind.name, about: kind.about };
        return pretty(&Kinds { kinds: KINDS.iter().map(row).collect() });
    }
    let width = KINDS.iter().map(|kind| kind.name.len()).max().unwrap_or_default();
    KINDS.iter().map(|kind| format!("{:width$}  {}\n", kind.name, kind.about)).collect()
}
