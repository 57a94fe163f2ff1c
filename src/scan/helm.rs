//! Helm charts: the output of `helm template`, and its origin in the chart's values and templates.
//!
//! If a chart can't be rendered (helm isn't on `PATH`, a dependency is missing), its `values.yaml` and the
//! annotation `artifacthub.io/images` are read instead, and a note says so. By convention an empty tag means the
//! chart's `appVersion`.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::shapes::{self, Context};
use super::{Broken, FieldPath, File, Form, Found, Kind, Node, Piece, parse, text};

/// The annotation in which Artifact Hub looks for a chart's images.
const ANNOTATION: &str = "artifacthub.io/images";

/// `values.yaml`, `values-prod.yaml`, `prod.values.yaml`.
pub(super) fn is_values(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.strip_suffix(".yaml").or_else(|| name.strip_suffix(".yml")).unwrap_or_default();
    stem.starts_with("values") || stem.ends_with("values")
}

/// Reads a values file outside a chart; values of a chart in the same folder have its version.
pub(super) fn read_values(file: &mut File, documents: &[Node]) {
    let chart = file.path.parent().map(|folder| folder.join("Chart.yaml"));
    let app_version = chart.and_then(|path| app_version(&std::fs::read_to_string(path).ok()?));
    let context = Context { app_version: app_version.as_deref(), is_strict: false, skip: &[] };
    documents.iter().for_each(|document| shapes::walk(file, document, &context));
}

fn app_version(chart: &str) -> Option<String> {
    let documents = parse(chart).ok()?;
    documents.first()?.get("appVersion").and_then(Node::text).map(str::to_owned)
}

/// Reads the chart in `folder`; `name` returns the names of its files in reports.
pub(super) fn read_chart(
    folder: &Path,
    name: &dyn Fn(&Path) -> String,
    fields: &[FieldPath],
) -> (Vec<File>, Vec<Broken>) {
    let open = |path: &Path| {
        let text = std::fs::read_to_string(path).ok()?;
        let mut file = File::new(path.to_owned(), name(path), text, fields.to_vec());
        file.kind = Kind::Helm;
        Some(file)
    };
    let path = folder.join("Chart.yaml");
    let Some(mut chart) = open(&path) else {
        return (Vec::new(), vec![Broken { name: name(&path), why: "it can't be read".to_owned() }]);
    };
    let mut broken = Vec::new();
    let documents = match parse(&chart.text) {
        Ok(documents) => documents,
        Err(error) => {
            let why = format!("line {}, column {}: it isn't valid YAML: {}", error.line, error.column, error.why);
            return (vec![chart], vec![Broken { name: name(&path), why }]);
        }
    };
    let mut values = Vec::new();
    for mut file in values_of(folder).iter().filter_map(|path| open(path)) {
        match parse(&file.text) {
            Ok(documents) => {
                read_values(&mut file, &documents);
                shapes::named_fields(&mut file, &documents);
            }
            Err(error) => {
                let why = format!("line {}, column {}: it isn't valid YAML: {}", error.line, error.column, error.why);
                broken.push(Broken { name: file.name.clone(), why });
            }
        }
        values.push(file);
    }
    match render(folder) {
        Ok(rendered) => {
            let files = place(folder, &rendered, chart, values, &open);
            (files, broken)
        }
        Err(why) => {
            chart
                .notes
                .push(format!("the chart isn't rendered, its values.yaml and {ANNOTATION} are read instead: {why}"));
            if let Some(document) = documents.first() {
                annotation(&mut chart, document);
            }
            values.insert(0, chart);
            (values, broken)
        }
    }
}

/// The values of a chart and of its subcharts.
fn values_of(folder: &Path) -> Vec<PathBuf> {
    let mut all = vec![folder.join("values.yaml")];
    let inner = std::fs::read_dir(folder.join("charts")).into_iter().flatten().flatten();
    let mut inner: Vec<PathBuf> = inner.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    inner.sort();
    all.extend(inner.iter().flat_map(|folder| values_of(folder)));
    all
}

/// The chart rendered by helm with its own values.
fn render(folder: &Path) -> Result<String, String> {
    let mut command = Command::new("helm");
    command.args(["template", "transship"]).arg(folder).stdin(Stdio::null()).env("HELM_NO_PLUGINS", "1");
    match command.output() {
        Ok(output) if output.status.success() => {
            String::from_utf8(output.stdout).map_err(|_| "helm template printed invalid UTF-8".to_owned())
        }
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let first = said.lines().find(|line| line.contains("Error")).or(said.lines().next()).unwrap_or_default();
            Err(format!("helm template failed: {}", first.trim_start_matches("Error: ")))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err("helm isn't on PATH".to_owned()),
        Err(error) => Err(format!("helm can't be run: {error}")),
    }
}

/// Finds the origin of each rendered reference: in the values, literally in a template, or unknown.
fn place(
    folder: &Path,
    rendered: &str,
    chart: File,
    values: Vec<File>,
    open: &dyn Fn(&Path) -> Option<File>,
) -> Vec<File> {
    let candidates: Vec<(usize, Found)> = values
        .iter()
        .enumerate()
        .flat_map(|(index, file)| file.found.iter().map(move |found| (index, found.clone())))
        .collect();
    let blank = |file: File| File { found: Vec::new(), unresolved: Vec::new(), seen: HashSet::new(), ..file };
    let mut files: Vec<File> = std::iter::once(chart).chain(values).map(blank).collect();
    for (source, manifest) in manifests(rendered) {
        let mut scratch = File::new(PathBuf::new(), String::new(), manifest.to_owned(), files[0].fields.clone());
        scratch.kind = Kind::Helm;
        let Ok(documents) = parse(manifest) else { continue };
        super::kubernetes::read(&mut scratch, &documents);
        shapes::named_fields(&mut scratch, &documents);
        if scratch.found.is_empty() && scratch.unresolved.is_empty() {
            continue;
        }
        let template = source.split_once('/').map(|(_, rest)| folder.join(rest));
        let at = template_file(template.as_deref(), &mut files, open);
        files[at].unresolved.extend(scratch.unresolved.into_iter().map(|one| super::Unresolved { line: 1, ..one }));
        for found in scratch.found {
            settle(&mut files, at, &candidates, &found);
        }
    }
    files
}

/// The manifests that helm has rendered, each with the name of its template.
fn manifests(rendered: &str) -> Vec<(&str, &str)> {
    const SOURCE: &str = "# Source: ";
    let mut all = Vec::new();
    let mut rest = rendered;
    while let Some(at) = rest.find(SOURCE) {
        let after = &rest[at + SOURCE.len()..];
        let (source, body) = after.split_once('\n').unwrap_or((after, ""));
        let end = body.find("\n---\n# Source: ").map_or(body.len(), |end| end + 1);
        all.push((source.trim(), &body[..end]));
        rest = &body[end..];
    }
    all
}

/// The index of the template in `files`; that of the chart if there is no such file, as in a packed dependency.
fn template_file(path: Option<&Path>, files: &mut Vec<File>, open: &dyn Fn(&Path) -> Option<File>) -> usize {
    let Some(path) = path else { return 0 };
    if let Some(at) = files.iter().position(|file| file.path == path) {
        return at;
    }
    match open(path) {
        Some(file) => {
            files.push(file);
            files.len() - 1
        }
        None => 0,
    }
}

fn settle(files: &mut [File], template: usize, candidates: &[(usize, Found)], found: &Found) {
    let same = candidates.iter().find(|(_, one)| one.reference == found.reference);
    // A chart may add the tag itself if none is given: the repository is in the values all the same.
    let tagless = |one: &Found| match &one.form {
        Form::Fields(fields) => fields.tag.as_ref().is_none_or(shapes::Field::is_empty),
        _ => false,
    };
    let alike = || {
        candidates.iter().find(|(_, one)| one.reference.repository() == found.reference.repository() && tagless(one))
    };
    if let Some((index, one)) = same.or_else(alike) {
        // After the chart itself.
        let file = &mut files[index + 1];
        let placed = Found { reference: found.reference.clone(), written: found.written.clone(), ..one.clone() };
        if !file.found.contains(&placed) {
            file.found.push(placed);
        }
        return;
    }
    let places = literal_places(&files[template].text, &found.written);
    let file = &mut files[template];
    for at in &places {
        let span = *at..*at + found.written.len();
        let piece = Piece { value: found.written.clone(), span, variable: None, is_own: true };
        file.add_pieces(*at, vec![piece], false);
    }
    if places.is_empty() {
        file.add(0, found.reference.clone(), found.written.clone(), Form::Computed("the chart computes it"));
    }
}

/// Where a template has `image: WRITTEN` literally.
fn literal_places(template: &str, written: &str) -> Vec<usize> {
    let mut places = Vec::new();
    let mut start = 0;
    for line in template.split_inclusive('\n') {
        if shapes::image_of_line(line) == Some(written) {
            places.extend(line.find(written).map(|at| start + at));
        }
        start += line.len();
    }
    places
}

/// `annotations: artifacthub.io/images: |` is a YAML list inside a text.
fn annotation(chart: &mut File, document: &Node) {
    let node = document.get("annotations").and_then(|annotations| annotations.get(ANNOTATION));
    let Some(scalar) = node.and_then(Node::scalar) else { return };
    let documents = parse(&scalar.value).unwrap_or_default();
    let images = documents.iter().flat_map(Node::items).filter_map(|item| item.get("image").and_then(Node::text));
    for written in images {
        let places = literal_places(&chart.text[scalar.start..], written);
        match places.first() {
            Some(at) => {
                let at = scalar.start + at;
                let span = at..at + written.len();
                let piece = Piece { value: written.to_owned(), span, variable: None, is_own: true };
                chart.add_pieces(at, vec![piece], false);
            }
            None => match text::read(written) {
                Ok(reference) => {
                    chart.add(scalar.start, reference, written.to_owned(), Form::Computed("it is in an annotation"));
                }
                Err(why) => chart.add_unresolved(scalar.start, written, why),
            },
        }
    }
}
