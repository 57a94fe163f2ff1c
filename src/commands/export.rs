//! `export KIND`: configuration for clients of the mirror. Sends no request.

mod logins;
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
use crate::export::{Export, Flag, Input, KINDS, Kind, Logins, Needs, Options, Refusal, Target, images};
use crate::lock::Lock;
use crate::report::Exit;

pub(super) async fn run(global: &Global, arguments: &cli::Export) -> anyhow::Result<Exit> {
    if arguments.list {
        return super::printed(&list(global.json));
    }
    let kind = kind(arguments)?;
    let export = match kind.needs {
        Needs::Images => of_images(global, arguments, kind)?,
        Needs::Logins => of_logins(global, arguments, kind).await?,
    };
    write::write(global, arguments, kind, &export)
}

/// The kind, after checking that it accepts all given flags.
fn kind(arguments: &cli::Export) -> anyhow::Result<&'static Kind> {
    let name = arguments.kind.as_deref().unwrap_or_default();
    let kind = Kind::named(name).ok_or_else(|| {
        let names: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
        Unable::error(format!("`{name}` isn't a kind of export"), format!("one of: {}", names.join(", ")))
    })?;
    let flags = [
        (Flag::Microk8s, arguments.microk8s),
        (Flag::Rke2, arguments.rke2),
        (Flag::Plain, arguments.plain),
        (Flag::Name, arguments.name.is_some()),
        (Flag::Namespace, !arguments.namespaces.is_empty()),
        (Flag::ServiceAccount, arguments.service_account.is_some()),
        (Flag::Upstream, arguments.upstream),
        (Flag::Yes, arguments.yes),
    ];
    let foreign = flags.into_iter().find(|(flag, is_given)| *is_given && !kind.flags.contains(flag));
    match foreign {
        Some((flag, _)) => {
            Err(Unable::error(format!("{name} takes no {flag}"), "leave it out; see transship help export"))
        }
        None => Ok(kind),
    }
}

/// Exports a kind that is based on the mirrored images.
fn of_images(global: &Global, arguments: &cli::Export, kind: &Kind) -> anyhow::Result<Export> {
    let known = known(global, true)?
        .ok_or_else(|| Unable::error("mirror.yaml doesn't exist", "write one with `transship init`"))?;
    let pins = Pins::of(global)?;
    let lock = pins.existing().map_err(|_| {
        let hint = "mirror the images with `transship sync`, then export; leave out --no-lock";
        Unable::error("the lock doesn't exist, so no image is known to be mirrored", hint)
    })?;
    let config = &known.config;
    let number = target_number(arguments.target, config)?;
    let mirrored = mirrored(&config.images, lock);
    let registry = &config.targets[number].registry;
    let settings = config.registries.get(registry).cloned().unwrap_or_default();
    let RegistrySettings { insecure, .. } = settings;
    let target = Target { registry, plain_http: settings.speaks_plain_http(registry), insecure };
    let images = images(&mirrored, number);
    let input = Input { images: &images, target, logins: &Logins::default(), options: &options(arguments)? };
    let export = kind.write(&input).map_err(refused)?;
    warn_lacking(config, lock);
    Ok(export)
}

/// Exports a kind that is based on credentials. It needs no lock: only the registries count.
async fn of_logins(global: &Global, arguments: &cli::Export, kind: &Kind) -> anyhow::Result<Export> {
    let options = options(arguments)?;
    let known = known(global, true)?
        .ok_or_else(|| Unable::error("mirror.yaml doesn't exist", "write one with `transship init`"))?;
    let chosen = arguments.target.map(|number| target_number(Some(number), &known.config)).transpose()?;
    let logins = logins::of(global, &known, chosen, arguments.upstream).await?;
    let registry = &known.config.targets[chosen.unwrap_or_default()].registry;
    let target = Target { registry, plain_http: false, insecure: false };
    kind.write(&Input { images: &[], target, logins: &logins, options: &options }).map_err(refused)
}

/// The flags, as options of the exporters.
fn options(arguments: &cli::Export) -> anyhow::Result<Options> {
    let cli::Export { microk8s, rke2, plain, name, namespaces, service_account, .. } = arguments.clone();
    let names = name.iter().map(|name| ("--name", name, 253, true));
    let accounts = service_account.iter().map(|name| ("--service-account", name, 253, true));
    let spaces = namespaces.iter().map(|name| ("--namespace", name, 63, false));
    for (flag, name, most, may_have_dots) in names.chain(accounts).chain(spaces) {
        let is_sign = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let is_label = |label: &str| {
            let all = label.bytes().all(|b| is_sign(b) || b == b'-');
            all && label.bytes().next().is_some_and(is_sign) && label.bytes().last().is_some_and(is_sign)
        };
        let is_name = if may_have_dots { name.split('.').all(is_label) } else { is_label(name) };
        if !is_name || name.len() > most {
            let hint = format!("lower-case letters, digits and - between them, at most {most}");
            return Err(Unable::error(format!("{flag}: `{name}` isn't a valid name in Kubernetes"), hint));
        }
    }
    Ok(Options { microk8s, rke2, plain, name, namespaces, service_account })
}

fn refused(Refusal { why, hint }: Refusal) -> anyhow::Error {
    Unable::error(why, hint)
}

/// Prints to stderr which listed images aren't exported, because the lock doesn't have them.
fn warn_lacking(config: &Config, lock: &Lock) {
    for entry in entries(&config.images, lock) {
        if entry.is_unknown {
            warn(&format!("left {}: the lock doesn't have its selection", entry.rule.repository));
        }
        for image in entry.images.iter().filter(|image| image.pin.is_none()) {
            warn(&format!("left {}: the lock doesn't have it", image.source));
        }
    }
}

/// The result of `export --list`.
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
