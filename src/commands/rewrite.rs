//! `rewrite PATH…`: makes image references in files point to the mirror. Sends no request.

use std::path::Path;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use similar::TextDiff;
use tokio_util::sync::CancellationToken;

use super::discover::{
    UnresolvedRow, known, pretty, scan_paths, unless_stopped, unresolved, warn, warn_of_gaps, working_folder,
};
use super::pins::Pins;
use super::{Unable, print_found};
use crate::cli::{self, Global};
use crate::config::Config;
use crate::desired::mirrored;
use crate::report::Exit;
use crate::rewrite::{self, Options, Rewritten};
use crate::scan::{File, STDIN, Scan};

pub(super) async fn run(global: &Global, arguments: &cli::Rewrite, stop: &CancellationToken) -> anyhow::Result<Exit> {
    run_in(&working_folder()?, global, arguments, stop).await
}

/// Rewrites files at paths relative to `folder`.
pub(super) async fn run_in(
    folder: &Path,
    global: &Global,
    arguments: &cli::Rewrite,
    stop: &CancellationToken,
) -> anyhow::Result<Exit> {
    if arguments.paths.iter().any(|path| path == Path::new(STDIN)) {
        return Err(Unable::error("stdin can't be rewritten", "name files or folders"));
    }
    // Read first: without a lock, no image is known to be mirrored.
    let known = known(global, true)?
        .ok_or_else(|| Unable::error("mirror.yaml doesn't exist", "write one with `transship init`"))?;
    let pins = Pins::of(global)?;
    let lock = pins.existing().map_err(|_| {
        let hint = "mirror the images with `transship sync`, then rewrite; leave out --no-lock";
        Unable::error("the lock doesn't exist, so no image is known to be mirrored", hint)
    })?;
    let number = target_number(arguments.target, &known.config)?;
    let mirrored = mirrored(&known.config.images, lock);
    let options = Options { mirrored: &mirrored, targets: &known.config.targets, number, pin: arguments.pin };
    let scan = scan_paths(global, folder, &arguments.paths, &[]);
    let Some(mut scan) = unless_stopped(scan, stop).await? else { return Ok(Exit::Interrupted) };
    let rewritten = rewrite::rewrite(&scan, options);
    let changed: Vec<(&File, &Rewritten)> =
        scan.files.iter().zip(&rewritten).filter(|(file, new)| file.text != new.text).collect();
    let mut failed = Vec::new();
    if arguments.write {
        for (file, new) in &changed {
            if let Err(why) = rewrite::replace(&file.path, &file.text, &new.text) {
                failed.push(crate::scan::Broken { name: file.name.clone(), why });
            }
        }
    }
    let is_changed = !changed.is_empty();
    for (file, new) in scan.files.iter().zip(&rewritten) {
        for told in &new.told {
            let left = if told.is_left { "left" } else { "note" };
            warn(&format!("{}:{}: {left} `{}`: {}", file.name, told.line, told.text, told.why));
        }
    }
    scan.broken.extend(failed);
    warn_of_gaps(&scan);
    let exit = match (scan.broken.is_empty(), arguments.check && is_changed) {
        (false, _) => Exit::Failed,
        (true, true) => Exit::Difference,
        (true, false) => Exit::Success,
    };
    let text = || changed.iter().map(|(file, new)| diff(file, new)).collect();
    print_found(global, exit, || to_json(&scan, &rewritten), text)
}

/// The index of the target to use, counted from 0.
pub(super) fn target_number(asked: Option<usize>, config: &Config) -> anyhow::Result<usize> {
    let number = asked.unwrap_or(1);
    let count = config.targets.len();
    let Some(target) = number.checked_sub(1).and_then(|index| config.targets.get(index)) else {
        let hint =
            format!("--target counts from 1; mirror.yaml has {count} target{}", if count == 1 { "" } else { "s" });
        return Err(Unable::error(format!("target {number} doesn't exist"), hint));
    };
    if !target.registry.is_host() {
        let hint = "choose a registry with --target N";
        return Err(Unable::error(
            format!("target {number}, {target}, is a directory: nothing can be pulled from it"),
            hint,
        ));
    }
    Ok(number - 1)
}

fn diff(file: &File, new: &Rewritten) -> String {
    let [old_name, new_name] = ["a/", "b/"].map(|side| quoted(format!("{side}{}", file.name)));
    TextDiff::from_lines(&file.text, &new.text).unified_diff().header(&old_name, &new_name).to_string()
}

/// A file name as patch and git parse it: quoted and escaped if it contains special characters.
fn quoted(name: String) -> String {
    if !name.contains(|c: char| c.is_control() || c == '"' || c == '\\') {
        return name;
    }
    let escaped = name.chars().map(|c| match c {
        '"' | '\\' => format!("\\{c}"),
        '\n' => "\\n".to_owned(),
        '\t' => "\\t".to_owned(),
        '\r' => "\\r".to_owned(),
        c if c.is_control() => {
            let mut bytes = [0; 4];
            c.encode_utf8(&mut bytes).bytes().map(|byte| format!("\\{byte:03o}")).collect()
        }
        c => c.to_string(),
    });
    format!("\"{}\"", escaped.collect::<String>())
}

/// The result of `rewrite`.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Rewritten")]
struct Document<'s> {
    files: Vec<FileRow<'s>>,
    left: Vec<LeftRow<'s>>,
    unresolved: Vec<UnresolvedRow<'s>>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "RewrittenFile")]
struct FileRow<'s> {
    file: &'s str,
    diff: String,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Left")]
struct LeftRow<'s> {
    text: &'s str,
    file: &'s str,
    line: usize,
    why: &'s str,
}

/// The JSON schema of the document.
pub(super) fn schema(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<Document<'_>>()
}

fn to_json(scan: &Scan, rewritten: &[Rewritten]) -> String {
    let both = || scan.files.iter().zip(rewritten);
    let files = both().filter(|(file, new)| file.text != new.text);
    let files = files.map(|(file, new)| FileRow { file: &file.name, diff: diff(file, new) }).collect();
    let left = both().flat_map(|(file, new)| {
        new.told.iter().map(|told| LeftRow { text: &told.text, file: &file.name, line: told.line, why: &told.why })
    });
    pretty(&Document { files, left: left.collect(), unresolved: unresolved(scan) })
}
