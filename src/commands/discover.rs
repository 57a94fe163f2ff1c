//! `discover PATH…`: the image references in files, and which of them mirror.yaml lacks. Sends no request.

mod lacking;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::pins::Pins;
use super::session::read_config;
use super::{Unable, print_found};
use crate::cli::{self, Global};
use crate::config::{Config, Overrides};
use crate::lock::Lock;
use crate::report::Exit;
use crate::rewrite;
use crate::scan::{self, FieldPath, Found, STDIN, Scan};
use crate::terminal::escape;
use lacking::Lacking;

/// What can be read from mirror.yaml and its lock without a request or a secret.
pub(super) struct Known {
    pub(super) text: String,
    pub(super) config: Config,
    pub(super) lock: Lock,
}

pub(super) async fn run(global: &Global, arguments: &cli::Discover, stop: &CancellationToken) -> anyhow::Result<Exit> {
    let needs_config = arguments.write || arguments.check || global.config.is_some();
    let known = known(global, needs_config)?;
    if arguments.write && global.config() == Path::new("-") {
        return Err(Unable::error("--write can't add to a configuration from stdin", "name a file with --config FILE"));
    }
    let fields = fields(&arguments.fields)?;
    let scan = scan_paths(global, &working_folder()?, &arguments.paths, &fields);
    let Some(scan) = unless_stopped(scan, stop).await? else { return Ok(Exit::Interrupted) };
    let images = images(&scan, known.as_ref());
    warn_of_gaps(&scan);
    let mut exit = if scan.broken.is_empty() { Exit::Success } else { Exit::Failed };
    if let Some(known) = known.as_ref().filter(|_| arguments.write || arguments.check) {
        let lacking = Lacking::of(images.values().filter(|image| !image.mirrored), known);
        lacking.warn();
        if arguments.write {
            add(global.config(), known, &lacking)?;
        } else if !lacking.is_empty() && exit == Exit::Success {
            lacking.images().iter().for_each(|image| warn(&format!("{} lacks {image}", global.config().display())));
            exit = Exit::Difference;
        }
    }
    print_found(global, exit, || to_json(&images, &scan), || to_text(&images))
}

/// Reads mirror.yaml and its lock; they may be missing unless `is_needed`. Secrets aren't read.
pub(super) fn known(global: &Global, is_needed: bool) -> anyhow::Result<Option<Known>> {
    let path = global.config();
    if !is_needed && !path.exists() {
        return Ok(None);
    }
    let text = read_config(path)?;
    let overrides = Overrides { list_is_optional: true, asks_nobody: true, ..Overrides::default() };
    let config = Config::read_for(&text, path, &overrides, &|_| Some("unread".to_owned()))?;
    let has_lock = global.lock.is_some() || global.no_lock || path != Path::new("-");
    let lock = if has_lock { Pins::of(global)?.old } else { Lock::default() };
    Ok(Some(Known { text, config, lock }))
}

fn fields(texts: &[String]) -> anyhow::Result<Vec<FieldPath>> {
    let read = |text: &String| text.parse().map_err(|error: String| Unable::error(error, "--field a.b[].c"));
    texts.iter().map(read).collect()
}

/// The folder that paths are relative to.
pub(super) fn working_folder() -> anyhow::Result<PathBuf> {
    std::env::current_dir().context("can't find the working directory")
}

/// Runs `work`, which reads files, in a thread. `None` if the run is stopped first: a pipe may never end.
pub(super) async fn unless_stopped(
    scan: impl FnOnce() -> anyhow::Result<Scan> + Send + 'static,
    stop: &CancellationToken,
) -> anyhow::Result<Option<Scan>> {
    let scan = tokio::task::spawn_blocking(scan);
    match stop.run_until_cancelled(scan).await {
        Some(ended) => ended.context("can't read the files")?.map(Some),
        None => {
            warn("interrupted: nothing was written");
            Ok(None)
        }
    }
}

/// Reads the files at `paths`, relative to `folder`, except mirror.yaml and its lock.
pub(super) fn scan_paths(
    global: &Global,
    folder: &Path,
    paths: &[PathBuf],
    fields: &[FieldPath],
) -> impl FnOnce() -> anyhow::Result<Scan> + Send + 'static {
    let config = global.config().to_owned();
    let lock = global.lock.clone().unwrap_or_else(|| crate::lock::lock_path(&config));
    let (except, folder, paths, fields) = ([config, lock], folder.to_owned(), paths.to_vec(), fields.to_vec());
    move || {
        let is_stdin = |path: &&PathBuf| path.as_path() == Path::new(STDIN);
        if let Some(path) = paths.iter().filter(|path| !is_stdin(path)).find(|path| !folder.join(path).exists()) {
            return Err(Unable::error(
                format!("{} doesn't exist", path.display()),
                "name files or folders, or - for stdin",
            ));
        }
        let mut stdin = None;
        if paths.iter().any(|path| is_stdin(&path)) {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("can't read stdin")?;
            stdin = Some(text);
        }
        Ok(scan::scan(scan::Request { paths: &paths, stdin, except: &except, fields: &fields, folder: &folder }))
    }
}

/// Prints to stderr what couldn't be resolved or read.
pub(super) fn warn_of_gaps(scan: &Scan) {
    for file in &scan.files {
        for note in &file.notes {
            warn(&format!("{}: {note}", file.name));
        }
        for unresolved in &file.unresolved {
            warn(&format!("{}:{}: unresolved `{}`: {}", file.name, unresolved.line, unresolved.text, unresolved.why));
        }
    }
    for broken in &scan.broken {
        warn(&format!("error: {}: {}", broken.name, broken.why));
    }
}

/// Prints a line to stderr. Text from files is escaped for the terminal.
pub(super) fn warn(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{}", escape(line));
}

/// An image that files refer to.
struct Image<'s> {
    found: &'s Found,
    mirrored: bool,
    places: Vec<(&'s str, &'s Found)>,
}

/// The images by canonical source, each with its places in the order of the files.
fn images<'s>(scan: &'s Scan, known: Option<&Known>) -> BTreeMap<String, Image<'s>> {
    let mut images = BTreeMap::new();
    let all = scan.files.iter().flat_map(|file| file.found.iter().map(move |found| (file, found)));
    for (file, found) in all.filter(|(_, found)| !found.is_replaced) {
        let mirrored = known
            .is_some_and(|known| known.config.targets.iter().any(|target| target.holds(found.reference.repository())));
        let image = images.entry(found.reference.to_string());
        let image = image.or_insert_with(|| Image { found, mirrored, places: Vec::new() });
        image.places.push((&file.name, found));
    }
    images
}

fn to_text(images: &BTreeMap<String, Image<'_>>) -> String {
    let mut text = String::new();
    for (source, image) in images {
        let mut places: Vec<String> =
            image.places.iter().map(|(file, found)| format!("{file}:{}", found.line)).collect();
        places.dedup();
        let mirrored = if image.mirrored { "  (mirrored already)" } else { "" };
        let line = format!("{source}  {}{mirrored}", places.join("  "));
        text.push_str(&escape(&line));
        text.push('\n');
    }
    text
}

/// The result of `discover`.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Discovered")]
struct Document<'s> {
    images: Vec<ImageRow<'s>>,
    unresolved: Vec<UnresolvedRow<'s>>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "DiscoveredImage")]
struct ImageRow<'s> {
    source: &'s str,
    written: &'s str,
    mirrored: bool,
    places: Vec<PlaceRow<'s>>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "DiscoveredPlace")]
struct PlaceRow<'s> {
    file: &'s str,
    line: usize,
    column: usize,
    kind: &'static str,
}

/// An unresolved reference, in JSON.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Unresolved")]
pub(super) struct UnresolvedRow<'s> {
    text: &'s str,
    file: &'s str,
    line: usize,
    why: &'s str,
}

/// The unresolved references of all files.
pub(super) fn unresolved(scan: &Scan) -> Vec<UnresolvedRow<'_>> {
    let rows = scan.files.iter().flat_map(|file| {
        file.unresolved.iter().map(|one| UnresolvedRow {
            text: &one.text,
            file: &file.name,
            line: one.line,
            why: &one.why,
        })
    });
    rows.collect()
}

/// The JSON schema of the document.
pub(super) fn schema(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<Document<'_>>()
}

fn to_json(images: &BTreeMap<String, Image<'_>>, scan: &Scan) -> String {
    let rows = images.iter().map(|(source, image)| ImageRow {
        source,
        written: &image.found.written,
        mirrored: image.mirrored,
        places: image
            .places
            .iter()
            .map(|(file, found)| PlaceRow { file, line: found.line, column: found.column, kind: found.kind.as_str() })
            .collect(),
    });
    pretty(&Document { images: rows.collect(), unresolved: unresolved(scan) })
}

/// Formats a JSON document as the reports are formatted.
pub(super) fn pretty(document: &impl Serialize) -> String {
    let mut text = serde_json::to_string_pretty(document).unwrap_or_default();
    text.push('\n');
    text
}

/// Adds the missing images to mirror.yaml, as long as the file stays valid.
fn add(path: &Path, known: &Known, lacking: &Lacking) -> anyhow::Result<()> {
    let is_valid = |text: &str| Config::read(text, path, &|_| Some("unread".to_owned())).is_ok();
    let with = |images: &[String]| rewrite::append(&known.text, images).filter(|text| is_valid(text));
    let mut images = lacking.images().to_vec();
    if images.is_empty() {
        return Ok(());
    }
    let new = with(&images).or_else(|| {
        // Some of them may conflict with the list; the others are added.
        let mut fitting: Vec<String> = Vec::new();
        for image in &images {
            fitting.push(image.clone());
            if with(&fitting).is_none() {
                fitting.pop();
                warn(&format!("{image} isn't added: {} wouldn't be valid with it", path.display()));
            }
        }
        images = fitting;
        with(&images).filter(|_| !images.is_empty())
    });
    let Some(new) = new else {
        let hint = "write images: as a list with one entry per line, and run it again";
        return Err(Unable::error(format!("can't add to {}", path.display()), hint));
    };
    rewrite::replace(path, &known.text, &new).map_err(|why| {
        Unable::error(format!("can't add to {}: {why}", path.display()), "nothing was written: run it again")
    })?;
    let count = images.len();
    warn(&format!("added {count} image{} to {}", if count == 1 { "" } else { "s" }, path.display()));
    Ok(())
}
