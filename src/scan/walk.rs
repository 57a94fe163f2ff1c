//! Selects the files to read: those that are named, and in folders those of a known kind.
//!
//! .git, target, node_modules, vendor, files in .gitignore, and binary files are skipped. Links to folders aren't
//! followed; a link to a file is, unless that file is found anyway.

use std::collections::{BTreeMap, HashSet};
use std::path::{Component, Path, PathBuf};

use ignore::WalkBuilder;

use super::{Broken, FieldPath, File, helm, kustomize, read_file};

/// The name for stdin.
pub(crate) const STDIN: &str = "-";

/// The largest file that is read.
const MAX_BYTES: u64 = 16 << 20;

const SKIPPED: [&str; 4] = [".git", "target", "node_modules", "vendor"];

/// The result of a scan.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// The files with something of interest, sorted by name.
    pub files: Vec<File>,
    /// Those that couldn't be read.
    pub broken: Vec<Broken>,
}

/// What to read.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    /// Files, folders, and `-`.
    pub paths: &'a [PathBuf],
    /// The content of stdin, if `-` is among the paths.
    pub stdin: Option<String>,
    /// Files that are never read: mirror.yaml and its lock.
    pub except: &'a [PathBuf],
    /// Additional fields with references in YAML.
    pub fields: &'a [FieldPath],
    /// The working directory.
    pub folder: &'a Path,
}

/// A file that may be read, and whether the user named it.
struct Candidate {
    path: PathBuf,
    is_named: bool,
}

/// Reads the files of `request`.
pub(crate) fn scan(request: Request<'_>) -> Scan {
    let mut scan = Scan::default();
    let except: HashSet<PathBuf> = request.except.iter().filter_map(|path| path.canonicalize().ok()).collect();
    let candidates = candidates(&request, &except, &mut scan.broken);
    let (charts, others) = split_charts(candidates);
    let name = |path: &Path| relative(path, request.folder);
    if let Some(text) = request.stdin {
        let mut file = File::new(PathBuf::new(), STDIN.to_owned(), text, request.fields.to_vec());
        match read_file(&mut file, true) {
            Ok(_) => scan.files.push(file),
            Err(why) => scan.broken.push(Broken { name: file.name, why }),
        }
    }
    for (files, broken) in in_parallel(&charts, &|folder| helm::read_chart(folder, &name, request.fields)) {
        scan.files.extend(files);
        scan.broken.extend(broken);
    }
    for read in in_parallel(&others, &|candidate| read(candidate, &name, request.fields)) {
        match read {
            Ok(file) => scan.files.extend(file),
            Err(broken) => scan.broken.push(broken),
        }
    }
    scan.files.sort_by(|a, b| order(&a.name).cmp(&order(&b.name)));
    kustomize::complete(&mut scan.files);
    for file in &mut scan.files {
        file.found.sort_by_key(|found| (found.line, found.column));
        file.unresolved.sort_by_key(|one| one.line);
    }
    scan.broken.sort_by(|a, b| a.name.cmp(&b.name));
    scan
}

/// Sorts without regard to case first, as people list files.
fn order(name: &str) -> (String, &str) {
    (name.to_lowercase(), name)
}

fn candidates(request: &Request<'_>, except: &HashSet<PathBuf>, broken: &mut Vec<Broken>) -> Vec<Candidate> {
    let mut found: BTreeMap<PathBuf, Candidate> = BTreeMap::new();
    let mut add = |path: PathBuf, is_named: bool| {
        let Ok(real) = path.canonicalize() else { return };
        if except.contains(&real) {
            return;
        }
        let candidate = found.entry(real).or_insert_with(|| Candidate { path: path.clone(), is_named });
        candidate.is_named |= is_named;
    };
    let mut links = Vec::new();
    for path in request.paths.iter().filter(|path| *path != Path::new(STDIN)) {
        let path = request.folder.join(path);
        if !path.is_dir() {
            add(path, true);
            continue;
        }
        for entry in walk(&path) {
            match entry {
                Ok(entry) if entry.path_is_symlink() && entry.depth() > 0 => links.push(entry.into_path()),
                Ok(entry) if entry.file_type().is_some_and(|kind| kind.is_file()) => add(entry.into_path(), false),
                Ok(_) => {}
                Err(error) => broken.push(Broken { name: relative(&path, request.folder), why: error.to_string() }),
            }
        }
    }
    for link in links.into_iter().filter(|link| link.is_file()) {
        add(link, false);
    }
    found.into_values().collect()
}

fn walk(path: &Path) -> ignore::Walk {
    let mut builder = WalkBuilder::new(path);
    builder.hidden(false).ignore(false).git_global(false).require_git(false).follow_links(false);
    builder.filter_entry(|entry| {
        let is_folder = entry.file_type().is_some_and(|kind| kind.is_dir());
        !(is_folder && entry.depth() > 0 && SKIPPED.iter().any(|name| entry.file_name() == *name))
    });
    builder.build()
}

/// The outermost folders of charts, and the files that don't belong to one.
fn split_charts(candidates: Vec<Candidate>) -> (Vec<PathBuf>, Vec<Candidate>) {
    let is_chart = |path: &Path| path.file_name().is_some_and(|name| name == "Chart.yaml");
    let mut folders: Vec<PathBuf> = candidates
        .iter()
        .filter(|one| is_chart(&one.path))
        .filter_map(|one| Some(one.path.parent()?.to_owned()))
        .collect();
    folders.sort();
    let all = folders.clone();
    folders.retain(|folder| !all.iter().any(|outer| folder.starts_with(outer.join("charts"))));
    let others = candidates.into_iter().filter(|one| {
        !folders.iter().any(|folder| {
            let within = one.path.strip_prefix(folder).ok();
            let first = within.and_then(|path| path.components().next()).map(|part| part.as_os_str().to_owned());
            let whole = ["templates", "charts", "Chart.yaml", "Chart.lock", "values.yaml"];
            first.is_some_and(|first| whole.iter().any(|name| first == *name))
        })
    });
    let others = others.collect();
    (folders, others)
}

/// Reads one file. `None` if it has no known kind.
fn read(candidate: &Candidate, name: &dyn Fn(&Path) -> String, fields: &[FieldPath]) -> Result<Option<File>, Broken> {
    let Candidate { path, is_named } = candidate;
    let failed = |why: String| Broken { name: name(path), why };
    if !is_named && !may_be_of_a_kind(path) {
        return Ok(None);
    }
    let metadata = std::fs::metadata(path).map_err(|error| failed(format!("it can't be read: {error}")))?;
    if !metadata.is_file() && !is_named {
        return Ok(None);
    }
    if metadata.len() > MAX_BYTES {
        return Err(failed(format!("it is larger than {} MiB", MAX_BYTES >> 20)));
    }
    let bytes = std::fs::read(path).map_err(|error| failed(format!("it can't be read: {error}")))?;
    let text = match as_text(bytes) {
        Ok(text) => text,
        // The user named it, or wrote it for a program that reads it.
        Err(NoText { why, is_binary }) if *is_named || !is_binary && is_certain(path) => return Err(failed(why)),
        Err(_) => return Ok(None),
    };
    let mut file = File::new(path.clone(), name(path), text, fields.to_vec());
    match read_file(&mut file, *is_named) {
        Ok(read) => Ok(read.map(|()| file)),
        Err(why) => Err(failed(why)),
    }
}

fn may_be_of_a_kind(path: &Path) -> bool {
    let is_json = path.extension().is_some_and(|extension| extension == "json");
    is_json || is_certain(path)
}

/// Whether the name alone determines its kind.
fn is_certain(path: &Path) -> bool {
    super::KINDS.iter().any(|row| (row.by_path)(path))
}

/// Why bytes aren't a supported text.
struct NoText {
    why: String,
    /// Whether they seem to be binary.
    is_binary: bool,
}

/// The bytes as text, without NUL and in UTF-8.
fn as_text(bytes: Vec<u8>) -> Result<String, NoText> {
    let wide = [&[0xff, 0xfe][..], &[0xfe, 0xff]].iter().any(|mark| bytes.starts_with(mark));
    if wide {
        return Err(NoText { why: "it is written in UTF-16: save it as UTF-8".to_owned(), is_binary: false });
    }
    if bytes.contains(&0) {
        return Err(NoText { why: "it is binary".to_owned(), is_binary: true });
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count();
        NoText { why: format!("line {line} isn't UTF-8: save the file as UTF-8"), is_binary: false }
    })
}

/// Applies `work` to each of `items` on all processors; results are in order.
fn in_parallel<T: Sync, R: Send>(items: &[T], work: &(dyn Fn(&T) -> R + Sync)) -> Vec<R> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let share = items.len().div_ceil(threads).max(1);
    std::thread::scope(|scope| {
        let spawn = |part| scope.spawn(move || <[T]>::iter(part).map(work).collect::<Vec<R>>());
        let parts: Vec<_> = items.chunks(share).map(spawn).collect();
        parts.into_iter().flat_map(|part| part.join().expect("reading a file doesn't panic")).collect()
    })
}

/// `path` relative to `folder`, without file access, with `/` as separator.
fn relative(path: &Path, folder: &Path) -> String {
    let (path, folder) = (lexical(&folder.join(path)), lexical(folder));
    let common = path.iter().zip(&folder).take_while(|(a, b)| a == b).count();
    let up = std::iter::repeat_n("..".to_owned(), folder.len() - common);
    let parts: Vec<String> = up.chain(path[common..].iter().cloned()).collect();
    if parts.is_empty() { ".".to_owned() } else { parts.join("/") }
}

fn lexical(path: &Path) -> Vec<String> {
    path.components().fold(Vec::new(), |mut parts, part| {
        match part {
            Component::ParentDir => drop(parts.pop()),
            Component::Normal(name) => parts.push(name.to_string_lossy().into_owned()),
            _ => {}
        }
        parts
    })
}
