//! Kustomizations: the entries of `images`, and the references in its resources that each changes.
//!
//! Kustomize compares an entry's `name` with the text in a resource literally, not by meaning (`nginx` isn't
//! `docker.io/library/nginx`). So the result of an entry depends on the files that the kustomization names.

use std::collections::{HashMap, HashSet};
use std::path::{Component, Path, PathBuf};

use super::shapes::Field;
use super::text::{self, cut};
use super::{File, Form, Node, Value};

/// A kustomization.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kustomization {
    /// The entries of `images`.
    pub entries: Vec<Entry>,
    /// Its sources: paths of files and folders, relative to its own.
    pub sources: Vec<String>,
}

/// An entry of `images`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    /// The name of the images that it changes.
    pub name: Field,
    /// Their new name.
    pub new_name: Option<Field>,
    /// Their new tag.
    pub new_tag: Option<Field>,
    /// Their digest.
    pub digest: Option<Field>,
    /// The offset after the value of `name`, where a key can be added.
    pub end: usize,
    /// The offset of the key `name`.
    pub start: usize,
    /// Whether it is in flow style.
    pub is_flow: bool,
}

/// A reference that a kustomization receives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    /// The index of the file.
    pub file: usize,
    /// The index of the reference in the file.
    pub found: usize,
    /// The kustomizations that change it earlier, the innermost first.
    pub via: Vec<usize>,
}

pub(super) fn is_named(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| name == "kustomization.yaml" || name == "kustomization.yml" || name == "Kustomization")
}

pub(super) fn read(file: &mut File, documents: &[Node]) {
    let Some(document) = documents.first() else { return };
    let mut kustomization = Kustomization { entries: Vec::new(), sources: sources(document) };
    for item in document.get("images").map(Node::items).unwrap_or_default() {
        kustomization.entries.extend(entry(file, item));
    }
    for (number, entry) in kustomization.entries.iter().enumerate() {
        if entry.gives_version() {
            let written = entry.apply(&entry.name.value);
            add(file, number, entry, &written);
        }
    }
    for chart in document.get("helmCharts").map(Node::items).unwrap_or_default() {
        if let Some(scalar) = chart.get("name").and_then(Node::scalar) {
            file.add_unresolved(scalar.start, scalar.value.clone(), "kustomize renders this chart when it builds");
        }
    }
    let patches = document.get("patches").map(Node::items).unwrap_or_default();
    for scalar in patches.iter().filter_map(|patch| patch.get("patch")).filter_map(Node::scalar) {
        super::shapes::nested(file, scalar);
    }
    for scalar in
        document.get("patchesStrategicMerge").map(Node::items).unwrap_or_default().iter().filter_map(Node::scalar)
    {
        super::shapes::nested(file, scalar);
    }
    file.kustomization = Some(kustomization);
}

fn sources(document: &Node) -> Vec<String> {
    let lists = ["resources", "bases", "components", "patchesStrategicMerge"];
    let plain = lists.iter().filter_map(|key| document.get(key)).flat_map(Node::items).filter_map(Node::text);
    let patches = ["patches", "patchesJson6902"].into_iter().filter_map(|key| document.get(key)).flat_map(Node::items);
    let paths = patches.filter_map(|patch| patch.get("path").and_then(Node::text));
    plain.chain(paths).filter(|text| !text.contains('\n')).map(str::to_owned).collect()
}

fn entry(file: &File, item: &Node) -> Option<Entry> {
    let (key, node) = item.entry("name")?;
    let name = Field::of(item, "name").filter(|field| !field.is_empty())?;
    let scalar = node.scalar()?;
    let end = match scalar.style {
        super::Style::Quoted => scalar.inner.as_ref()?.end + 1,
        _ => scalar.inner.as_ref()?.end,
    };
    let Value::Map(_) = item.value() else { return None };
    let is_flow = file.text[..key.start].trim_end_matches([' ', '\t', '\n', '\r']).ends_with(['{', ',']);
    Some(Entry {
        name,
        new_name: Field::of(item, "newName").filter(|field| !field.is_empty()),
        new_tag: Field::of(item, "newTag"),
        digest: Field::of(item, "digest"),
        end,
        start: key.start,
        is_flow,
    })
}

impl Entry {
    /// Whether it sets the version of the image.
    pub(crate) fn gives_version(&self) -> bool {
        [&self.new_tag, &self.digest].into_iter().flatten().any(|field| !field.is_empty())
    }

    /// Whether it changes the image `written`.
    pub(crate) fn takes(&self, written: &str) -> bool {
        written[..cut(written).repository] == self.name.value
    }

    /// The image `written` after this entry, if the entry applies.
    pub(crate) fn apply(&self, written: &str) -> String {
        if !self.takes(written) {
            return written.to_owned();
        }
        let said =
            |field: &Option<Field>| field.as_ref().filter(|field| !field.is_empty()).map(|field| field.value.clone());
        let name = said(&self.new_name).unwrap_or_else(|| self.name.value.clone());
        let old = &written[cut(written).repository..];
        match (said(&self.new_tag), said(&self.digest)) {
            (Some(tag), Some(digest)) => format!("{name}:{tag}@{digest}"),
            (Some(tag), None) => format!("{name}:{tag}"),
            (None, Some(digest)) => format!("{name}@{digest}"),
            (None, None) => format!("{name}{old}"),
        }
    }
}

fn add(file: &mut File, number: usize, entry: &Entry, written: &str) {
    match text::read(written) {
        Ok(reference) => file.add(entry.start, reference, written.to_owned(), Form::Kustomize(number)),
        Err(why) => file.add_unresolved(entry.start, written, why),
    }
}

/// Adds the references of entries that take the version from their resources: known once all files are read.
pub(super) fn complete(files: &mut [File]) {
    let resources = Resources::of(files);
    mark_replaced(files, &resources);
    for index in 0..files.len() {
        let Some(Kustomization { entries, .. }) = files[index].kustomization.clone() else { continue };
        let mut met = vec![false; entries.len()];
        for source in resources.reaching(files, index) {
            let mut written = before(files, &source);
            for (number, entry) in entries.iter().enumerate() {
                let is_taken = entry.takes(&written);
                met[number] |= is_taken;
                written = entry.apply(&written);
                if is_taken && !entry.gives_version() && entry.new_name.is_some() {
                    add(&mut files[index], number, entry, &written);
                }
            }
        }
        for (entry, met) in entries.iter().zip(met) {
            if let Some(name) = entry.new_name.as_ref().filter(|_| !met && !entry.gives_version()) {
                files[index].add_unresolved(
                    entry.start,
                    name.value.clone(),
                    "its tag comes from resources that weren't found",
                );
            }
        }
    }
}

/// Marks the references that each kustomization with their file replaces: often they are mere names that can't be
/// pulled.
fn mark_replaced(files: &mut [File], resources: &Resources) {
    let kustomizations: Vec<usize> = (0..files.len()).filter(|index| files[*index].kustomization.is_some()).collect();
    let reaching: Vec<Vec<Source>> = kustomizations.iter().map(|index| resources.reaching(files, *index)).collect();
    let inner: HashSet<usize> = reaching.iter().flatten().flat_map(|source| source.via.clone()).collect();
    // Whether each outermost kustomization replaces it.
    let mut replaced: HashMap<(usize, usize), bool> = HashMap::new();
    for (index, sources) in kustomizations.iter().zip(&reaching).filter(|(index, _)| !inner.contains(index)) {
        for source in sources {
            let entries = files[*index].kustomization.iter().flat_map(|one| &one.entries);
            let after = entries.fold(before(files, source), |written, entry| entry.apply(&written));
            let is_other = text::read(&after)
                .is_ok_and(|after| after.repository() != files[source.file].found[source.found].reference.repository());
            *replaced.entry((source.file, source.found)).or_insert(true) &= is_other;
        }
    }
    for ((file, found), _) in replaced.into_iter().filter(|(_, replaced)| *replaced) {
        let found = &mut files[file].found[found];
        found.is_replaced = true;
        let (text, line) = (found.written.clone(), found.line);
        let why = "kustomize replaces it with another image".to_owned();
        files[file].unresolved.push(super::Unresolved { text, line, why });
    }
}

/// A reference as a kustomization receives it.
fn before(files: &[File], source: &Source) -> String {
    let written = files[source.file].found[source.found].written.clone();
    let passed = source.via.iter().filter_map(|via| files[*via].kustomization.as_ref());
    passed.flat_map(|one| &one.entries).fold(written, |written, entry| entry.apply(&written))
}

/// The sources of kustomizations: files by their paths, and kustomizations by their folders.
#[derive(Debug)]
pub(crate) struct Resources(HashMap<PathBuf, usize>);

impl Resources {
    /// The resources among `files`.
    pub(crate) fn of(files: &[File]) -> Self {
        let mut paths = HashMap::new();
        for (index, file) in files.iter().enumerate() {
            let path = normal(&file.path);
            if let (Some(_), Some(folder)) = (&file.kustomization, path.parent()) {
                paths.insert(folder.to_owned(), index);
            }
            paths.insert(path, index);
        }
        Self(paths)
    }

    /// The references that the kustomization in the file `index` receives, in the order of its resources.
    pub(crate) fn reaching(&self, files: &[File], index: usize) -> Vec<Source> {
        let mut all = Vec::new();
        self.collect(files, index, &mut vec![index], &mut all);
        all
    }

    fn collect(&self, files: &[File], index: usize, open: &mut Vec<usize>, all: &mut Vec<Source>) {
        let folder = files[index].path.parent().unwrap_or(Path::new(""));
        for source in files[index].kustomization.iter().flat_map(|one| &one.sources) {
            let Some(&at) = self.0.get(&normal(&folder.join(source))) else { continue };
            if open.contains(&at) {
                continue;
            }
            if files[at].kustomization.is_some() {
                open.push(at);
                let from = all.len();
                self.collect(files, at, open, all);
                all[from..].iter_mut().for_each(|source| source.via.push(at));
                open.pop();
            } else {
                let is_text = |found: &super::Found| matches!(found.form, Form::Text { .. });
                let texts = files[at].found.iter().enumerate().filter(|(_, found)| is_text(found));
                all.extend(texts.map(|(found, _)| Source { file: at, found, via: Vec::new() }));
            }
        }
    }
}

/// `a/./b/../c` → `a/c`, without file access.
fn normal(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut path, part| {
        match part {
            Component::CurDir => {}
            Component::ParentDir if path.file_name().is_some() => drop(path.pop()),
            part => path.push(part),
        }
        path
    })
}
