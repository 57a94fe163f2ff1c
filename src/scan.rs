//! Files of a repository → the image references in them, each with the bytes that it consists of.
//!
//! `walk` finds the files, the table of kinds (`KINDS`) determines by name or content how each is read, and each
//! kind has a file. The result is a [`Found`]: its meaning (a canonical reference), its position, and its form,
//! which `rewrite` edits. A reference that can't be determined becomes an [`Unresolved`], and is never dropped.
//!
//! YAML and JSON are read by the events of one parser (`yaml`), Dockerfiles by their documented syntax. Nothing is
//! edited here, and no request is sent. The only program that may run is helm, to render a chart.

mod compose;
mod devcontainer;
mod dockerfile;
mod github;
mod gitlab;
mod helm;
mod kubernetes;
mod kustomize;
mod list;
mod shapes;
mod text;
mod walk;
mod yaml;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::oci::Reference;
pub(crate) use kustomize::{Entry as KustomizeEntry, Kustomization, Resources};
pub(crate) use shapes::{Field, FieldPath, Fields, Slot};
pub(crate) use text::{Piece, cut};
pub(crate) use walk::{Request, STDIN, Scan, scan};
pub(crate) use yaml::{Node, Scalar, Style, Value, parse};

/// The kind of file that contains a reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// A Dockerfile or Containerfile.
    Dockerfile,
    /// A kustomization.
    Kustomize,
    /// A Helm chart, or values for one.
    Helm,
    /// A workflow or an action of GitHub, Gitea or Forgejo.
    Github,
    /// A pipeline of GitLab.
    Gitlab,
    /// A Compose file.
    Compose,
    /// A development container.
    Devcontainer,
    /// Manifests of Kubernetes.
    Kubernetes,
    /// Any other YAML.
    Yaml,
    /// A list of references.
    List,
}

impl Kind {
    /// The name in reports.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Dockerfile => "dockerfile",
            Self::Kustomize => "kustomize",
            Self::Helm => "helm",
            Self::Github => "github",
            Self::Gitlab => "gitlab",
            Self::Compose => "compose",
            Self::Devcontainer => "devcontainer",
            Self::Kubernetes => "kubernetes",
            Self::Yaml => "yaml",
            Self::List => "list",
        }
    }
}

/// How files of one kind are recognised and read.
struct Row {
    kind: Kind,
    /// Whether a file is of this kind by its path alone.
    by_path: fn(&Path) -> bool,
    /// Whether a YAML text is of this kind by its documents.
    by_content: fn(&[Node]) -> bool,
    read: Reader,
}

enum Reader {
    Text(fn(&mut File)),
    Yaml(fn(&mut File, &[Node])),
}

/// The kinds; the first match wins.
const KINDS: [Row; 9] = [
    Row {
        kind: Kind::Dockerfile,
        by_path: dockerfile::is_named,
        by_content: never,
        read: Reader::Text(dockerfile::read),
    },
    Row { kind: Kind::Kustomize, by_path: kustomize::is_named, by_content: never, read: Reader::Yaml(kustomize::read) },
    Row {
        kind: Kind::Devcontainer,
        by_path: devcontainer::is_named,
        by_content: never,
        read: Reader::Yaml(devcontainer::read),
    },
    Row {
        kind: Kind::Github,
        by_path: github::is_named,
        by_content: github::is_content,
        read: Reader::Yaml(github::read),
    },
    Row { kind: Kind::Gitlab, by_path: gitlab::is_named, by_content: never, read: Reader::Yaml(gitlab::read) },
    Row {
        kind: Kind::Compose,
        by_path: compose::is_named,
        by_content: compose::is_content,
        read: Reader::Yaml(compose::read),
    },
    Row { kind: Kind::Helm, by_path: helm::is_values, by_content: never, read: Reader::Yaml(helm::read_values) },
    Row {
        kind: Kind::Kubernetes,
        by_path: no_path,
        by_content: kubernetes::is_content,
        read: Reader::Yaml(kubernetes::read),
    },
    Row { kind: Kind::Yaml, by_path: is_yaml, by_content: never, read: Reader::Yaml(shapes::read_unknown) },
];

fn never(_: &[Node]) -> bool {
    false
}

fn no_path(_: &Path) -> bool {
    false
}

fn is_yaml(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
}

/// A file that was read, and its contents.
#[derive(Debug)]
pub(crate) struct File {
    /// The path; empty for stdin.
    pub path: PathBuf,
    /// The name in reports: its path relative to the working directory.
    pub name: String,
    /// Its text.
    pub text: String,
    /// The references, in the order of the text.
    pub found: Vec<Found>,
    /// Possible references that can't be determined.
    pub unresolved: Vec<Unresolved>,
    /// Notes for the user about how it was read.
    pub notes: Vec<String>,
    /// What a kustomization does to the images of its resources.
    pub kustomization: Option<Kustomization>,
    kind: Kind,
    /// Additional fields with references in YAML, named by the user.
    fields: Vec<FieldPath>,
    /// The start of each line.
    lines: Vec<usize>,
    /// References found so far: an aliased text counts once, however often it is used.
    seen: HashSet<(usize, String)>,
}

/// A reference in a file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Found {
    /// The canonical reference.
    pub reference: Reference,
    /// The text in the file, with defaults in place of variables.
    pub written: String,
    /// The line, counted from 1.
    pub line: usize,
    /// The column, counted from 1, in characters.
    pub column: usize,
    /// The kind of file.
    pub kind: Kind,
    /// Its form.
    pub form: Form,
    /// Whether it is never pulled because each kustomization with this file replaces the image.
    pub is_replaced: bool,
}

/// The form of a reference.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Form {
    /// One text.
    Text {
        /// Its pieces: several if it contains variables, or spans lines.
        pieces: Vec<Piece>,
        /// Whether it is an unquoted YAML scalar, which can't begin with every character.
        plain: bool,
    },
    /// Keys of a map: `registry`, `repository`, `tag`, `digest`.
    Fields(Fields),
    /// The entry of a kustomization's `images`, by index.
    Kustomize(usize),
    /// It can't be edited, for this reason.
    Computed(&'static str),
}

/// A possible reference that can't be determined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unresolved {
    /// The text in the file.
    pub text: String,
    /// The line, counted from 1.
    pub line: usize,
    /// Why it can't be determined.
    pub why: String,
}

/// A file that couldn't be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Broken {
    /// The name in reports.
    pub name: String,
    /// The reason.
    pub why: String,
}

impl File {
    fn new(path: PathBuf, name: String, text: String, fields: Vec<FieldPath>) -> Self {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self {
            path,
            name,
            text,
            found: Vec::new(),
            unresolved: Vec::new(),
            notes: Vec::new(),
            kustomization: None,
            kind: Kind::List,
            fields,
            lines,
            seen: HashSet::new(),
        }
    }

    /// Line and column of the byte `at`, both counted from 1.
    fn position(&self, at: usize) -> (usize, usize) {
        let line = self.lines.partition_point(|start| *start <= at);
        let before = self.text[self.lines[line - 1]..at].trim_start_matches('\u{feff}');
        (line, before.chars().count() + 1)
    }

    /// Adds the reference that `pieces` form.
    fn add_pieces(&mut self, at: usize, pieces: Vec<Piece>, plain: bool) {
        let written = text::joined(&pieces);
        match text::read(&written) {
            Ok(reference) => self.add(at, reference, written, Form::Text { pieces, plain }),
            Err(why) => self.add_unresolved(at, written, why),
        }
    }

    fn add(&mut self, at: usize, reference: Reference, written: String, form: Form) {
        if self.seen.insert((at, written.clone())) {
            let (line, column) = self.position(at);
            self.found.push(Found { reference, written, line, column, kind: self.kind, form, is_replaced: false });
        }
    }

    fn add_unresolved(&mut self, at: usize, text: impl Into<String>, why: impl Into<String>) {
        let text = text.into();
        if self.seen.insert((at, text.clone())) {
            self.unresolved.push(Unresolved { text, line: self.position(at).0, why: why.into() });
        }
    }

    /// Adds the reference in a YAML scalar, including variables.
    fn add_scalar(&mut self, scalar: &Scalar) {
        self.add_from(scalar, 0);
    }

    /// [`File::add_scalar`] without the first `skip` bytes of its text.
    fn add_from(&mut self, scalar: &Scalar, skip: usize) {
        let value = scalar.value.trim_end();
        let Some(value) = value.get(skip..).filter(|value| !value.is_empty()) else { return };
        let is_whole = skip == 0 && !value.contains('$');
        let inner = match &scalar.inner {
            Some(inner) if scalar.is_literal => inner.clone(),
            // As a whole, it can still be read and replaced.
            Some(inner) if is_whole => {
                let piece = Piece { value: value.to_owned(), span: inner.clone(), variable: None, is_own: true };
                return self.add_pieces(inner.start, vec![piece], false);
            }
            _ => return self.add_unresolved(scalar.start, value, "it is written with escapes or over several lines"),
        };
        let at = inner.start + skip;
        let characters: Vec<(usize, char)> = value.char_indices().map(|(index, c)| (at + index, c)).collect();
        match text::expand(&characters, &text::Syntax::BRACES, &|_| None) {
            Ok(pieces) => self.add_pieces(at, pieces, scalar.style == Style::Plain && skip == 0),
            Err(why) => self.add_unresolved(at, value, why),
        }
    }
}

/// Reads `file` according to its kind; `None` if it has no known kind and isn't read as a list.
fn read_file(file: &mut File, is_named: bool) -> Result<Option<()>, String> {
    let path = file.path.clone();
    let by_path = KINDS.iter().find(|row| (row.by_path)(&path));
    if let Some(Row { kind, read: Reader::Text(read), .. }) = by_path {
        file.kind = *kind;
        read(file);
        return Ok(Some(()));
    }
    let may_be_yaml = by_path.is_some() || is_named || looks_like_json(file);
    let parsed = if may_be_yaml { parse(&yaml_text(file, by_path)) } else { Ok(Vec::new()) };
    let documents = match (parsed, by_path) {
        (Ok(documents), _) => documents,
        (Err(error), Some(row)) => return shapes::broken(file, row.kind, &error).map(Some),
        (Err(error), None) if !is_named => return shapes::broken(file, Kind::Kubernetes, &error).map(Some),
        (Err(_), None) => Vec::new(),
    };
    let certain = by_path.filter(|row| row.kind != Kind::Yaml);
    let row = certain.or_else(|| KINDS.iter().find(|row| (row.by_content)(&documents))).or(by_path);
    match row {
        Some(Row { kind, read: Reader::Yaml(read), .. }) => {
            file.kind = *kind;
            read(file, &documents);
            if is_named && *kind == Kind::Yaml {
                list::read_items(file, &documents);
            }
            shapes::named_fields(file, &documents);
        }
        _ if is_named => list::read(file),
        _ => return Ok(None),
    }
    Ok(Some(()))
}

fn looks_like_json(file: &File) -> bool {
    file.path.extension().is_some_and(|extension| extension == "json") && file.text.contains("\"apiVersion\"")
}

/// The text in a form that a YAML parser accepts; every byte keeps its position.
fn yaml_text<'f>(file: &'f File, row: Option<&Row>) -> std::borrow::Cow<'f, str> {
    match row.map(|row| row.kind) {
        Some(Kind::Devcontainer) => devcontainer::without_comments(&file.text).into(),
        _ if file.path.extension().is_some_and(|extension| extension == "json") => {
            devcontainer::without_comments(&file.text).into()
        }
        _ => file.text.as_str().into(),
    }
}

#[cfg(test)]
mod tests;
