//! Writes an export to stdout, or to files, each of which is replaced atomically.

use std::fs::{self, Permissions};
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Serialize;

use super::super::Unable;
use super::super::discover::{pretty, warn};
use super::{Export, Kind, say};
use crate::cli::{self, Global};
use crate::export::File;
use crate::report::Exit;

#[derive(Serialize)]
struct Document<'e> {
    kind: &'e str,
    files: Vec<FileRow<'e>>,
    about: Option<&'e str>,
}

/// With the text, unless it is in a file.
#[derive(Serialize)]
struct FileRow<'e> {
    name: &'e str,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'e str>,
}

/// Writes `export` as the arguments say, and warns about content that its format can't express.
pub(super) fn write(global: &Global, arguments: &cli::Export, kind: &Kind, export: &Export) -> anyhow::Result<Exit> {
    let folder = arguments.output.as_deref();
    let has_secret = export.files.iter().any(|file| file.is_secret);
    if has_secret && folder.is_none() && !arguments.yes && io::stdout().is_terminal() {
        let hint = "write it to files with -o DIR, pipe it on, or show it with --yes";
        return Err(Unable::error(format!("{} contains passwords, and stdout is a terminal", kind.name), hint));
    }
    if let Some(folder) = folder {
        for file in &export.files {
            put(folder, file)?;
        }
    }
    if let Some(aside) = export.aside.as_ref().filter(|_| !global.json) {
        aside.lines().for_each(warn);
    }
    let path = |file: &File| folder.map(|folder| folder.join(&file.name));
    let text = if global.json {
        let row = |file: &File| path(file);
        let files = export.files.iter().map(|file| FileRow {
            name: &file.name,
            path: row(file),
            text: folder.is_none().then_some(file.text.as_str()),
        });
        pretty(&Document { kind: kind.name, files: files.collect(), about: export.aside.as_deref() })
    } else if folder.is_some() {
        export.files.iter().filter_map(path).map(|path| format!("{}\n", path.display())).collect()
    } else {
        joined(&export.files)
    };
    say(Exit::Success, |stdout| stdout.write_all(text.as_bytes()))
}

/// Several files in sequence, each below a line with its name; YAML remains a stream of documents.
fn joined(files: &[File]) -> String {
    if let [file] = files {
        return file.text.clone();
    }
    let is_yaml = |file: &File| Path::new(&file.name).extension().is_some_and(|extension| extension == "yaml");
    let mark = |file: &File| if is_yaml(file) { "--- #" } else { "# ----" };
    files.iter().map(|file| format!("{} {}\n{}", mark(file), file.name, file.text)).collect::<Vec<_>>().join("\n")
}

/// Writes `file` below `folder`. Files with secrets are readable by their owner only; for others the umask applies.
fn put(folder: &Path, file: &File) -> anyhow::Result<()> {
    let path = folder.join(&file.name);
    let failed = || format!("can't write {}", path.display());
    let parent = path.parent().unwrap_or(folder);
    fs::create_dir_all(parent).with_context(failed)?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(".transship.");
    let mode = mode(if file.is_secret { 0o600 } else { 0o666 });
    if let Some(mode) = mode {
        builder.permissions(mode);
    }
    let mut new = builder.tempfile_in(parent).with_context(failed)?;
    new.write_all(file.text.as_bytes()).with_context(failed)?;
    new.as_file().sync_all().with_context(failed)?;
    new.persist(&path).map_err(|error| error.error).with_context(failed)?;
    Ok(())
}

#[cfg(unix)]
#[expect(clippy::unnecessary_wraps, reason = "elsewhere there are no such bits")]
fn mode(bits: u32) -> Option<Permissions> {
    use std::os::unix::fs::PermissionsExt as _;
    Some(Permissions::from_mode(bits))
}

#[cfg(not(unix))]
fn mode(_: u32) -> Option<Permissions> {
    None
}
