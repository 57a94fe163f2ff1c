//! Files of a room may use each other in a circle, but only a small one: a larger one can only be understood as a
//! whole. A module's use of the files below it doesn't count: they are its parts, and may use its declarations.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::Regex;

/// The most files in one circle.
const LARGEST: usize = 3;

/// A `use` declaration: its visibility, and its tree.
static DECLARATION: LazyLock<Regex> = LazyLock::new(|| super::pattern(r"(pub\s*(?:\([^)]*\)\s*)?)?\buse\s+([^;]+);"));
static NAME: LazyLock<Regex> = LazyLock::new(|| super::pattern(r"\b[A-Za-z_]\w*"));
/// A path of several names.
static PATH: LazyLock<Regex> = LazyLock::new(|| super::pattern(r"\b[A-Za-z_]\w*(?:\s*::\s*[A-Za-z_]\w*)+"));

#[test]
fn no_circle_of_files_is_larger_than_three() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let circles = circles(&super::sources(&src));
    let large: Vec<_> = circles.iter().filter(|circle| circle.len() > LARGEST).collect();
    assert!(large.is_empty(), "files that all use each other: {large:#?}");
}

#[test]
fn a_circle_is_found() {
    let files = [
        ("lib.rs", "mod a; mod b;"),
        // A re-export isn't a use, but a path through it is a use of the file with the item.
        ("a.rs", "mod x; mod y; mod z; pub(crate) use x::{X, other}; use crate::b::B; pub(crate) const HERE: u8 = 1;"),
        (
            "a/x.rs",
            "use super::y::Y; use super::HERE; pub(crate) struct X; #[cfg(test)] mod tests { use super::super::z; }",
        ),
        ("a/y.rs", "use crate::a; fn y() { a::z::z(); } // super::x"),
        ("a/z.rs", "fn z(x: &super::X) { \"super::y\" }"),
        ("b.rs", "mod part; mod other; use part::Part; pub(crate) struct B;"),
        ("b/part.rs", "use super::B as Whole; pub(crate) struct Part;"),
        ("b/other.rs", "pub(crate) use super::part::{self, Part}; const BOTH: &str = part::BOTH;"),
        ("b/part/inner.rs", "use crate::b::{part::deep, other::{Part as P}};"),
        ("b/part/deep.rs", "use super::inner;"),
    ];
    let files = files.map(|(path, text)| (path.into(), text.to_owned())).into();
    let expected = [&["a/x.rs", "a/y.rs", "a/z.rs"][..], &["b/part/deep.rs", "b/part/inner.rs"][..]];
    assert_eq!(circles(&files), expected.map(|circle| circle.iter().map(PathBuf::from).collect::<Vec<_>>()));
}

/// A module's path from the root of the crate.
type Module = Vec<String>;

/// A file with the first segments of its paths, and the paths.
struct File {
    path: PathBuf,
    /// Its `use` declarations, by the name that each gives.
    bindings: BTreeMap<String, Vec<String>>,
    /// The paths that it uses.
    used: Vec<Vec<String>>,
}

/// The sets of two or more files of one room in which each uses each, directly or through others of the set.
fn circles(sources: &BTreeMap<PathBuf, String>) -> Vec<Vec<PathBuf>> {
    let files: BTreeMap<Module, File> =
        sources.iter().map(|(path, text)| (module(path), File::read(path, &super::code_of(text)))).collect();
    let edges: BTreeMap<&Module, BTreeSet<Module>> =
        files.iter().map(|(module, file)| (module, neighbours(&files, module, file))).collect();
    let reached: BTreeMap<&Module, BTreeSet<&Module>> =
        edges.keys().map(|module| (*module, reach(&edges, module))).collect();
    let mut found = BTreeSet::new();
    for (module, others) in &reached {
        let circle: Vec<_> = others.iter().filter(|other| reached[**other].contains(module)).collect();
        if circle.len() > 1 {
            found.insert(circle.iter().map(|module| files[**module].path.clone()).collect::<Vec<_>>());
        }
    }
    found.into_iter().collect()
}

/// All that can be reached from `from`; itself only if a circle leads back to it.
fn reach<'a>(edges: &'a BTreeMap<&Module, BTreeSet<Module>>, from: &'a Module) -> BTreeSet<&'a Module> {
    let (mut found, mut open) = (BTreeSet::new(), vec![from]);
    while let Some(module) = open.pop() {
        open.extend(edges[module].iter().filter(|next| found.insert(*next)));
    }
    found
}

/// The other files of its room that `file` uses, without its own parts.
fn neighbours(files: &BTreeMap<Module, File>, module: &Module, file: &File) -> BTreeSet<Module> {
    let used = file.used.iter().filter_map(|path| definer(files, module, path, 0));
    used.filter(|other| !other.starts_with(module) && other.first() == module.first()).collect()
}

/// The module that holds what `path` names in `module`: re-exports are followed.
fn definer(files: &BTreeMap<Module, File>, module: &Module, path: &[String], depth: usize) -> Option<Module> {
    let mut at = module.clone();
    for (number, name) in path.iter().enumerate() {
        let mut child = at.clone();
        child.push(name.clone());
        match name.as_str() {
            "crate" => at.clear(),
            "self" => {}
            "super" => drop(at.pop()?),
            _ if files.contains_key(&child) => at = child,
            // The first segment of a path may also be another crate.
            _ => match files[&at].bindings.get(name).filter(|_| depth < 8) {
                Some(binding) => {
                    let whole: Vec<String> = binding.iter().chain(&path[number + 1..]).cloned().collect();
                    return definer(files, &at, &whole, depth + 1);
                }
                None => return (number > 0).then_some(at),
            },
        }
    }
    Some(at)
}

impl File {
    fn read(path: &Path, code: &str) -> Self {
        let body = DECLARATION.replace_all(code, " ");
        let words: BTreeSet<&str> = NAME.find_iter(&body).map(|word| word.as_str()).collect();
        let mut bindings = BTreeMap::new();
        let mut used: Vec<Vec<String>> = PATH.find_iter(&body).map(|path| segments(path.as_str())).collect();
        for found in DECLARATION.captures_iter(code) {
            for (binding, path) in leaves(&found[2], &[]) {
                if found.get(1).is_none() || words.contains(binding.as_str()) {
                    used.push(path.clone());
                }
                bindings.insert(binding, path);
            }
        }
        Self { path: path.to_owned(), bindings, used }
    }
}

/// The paths that the `use` tree `tree` below `before` declares, by the names that they give.
fn leaves(tree: &str, before: &[String]) -> Vec<(String, Vec<String>)> {
    let tree = tree.trim();
    if let Some((start, group)) = tree.split_once('{') {
        let before = [before, &segments(start)].concat();
        let group = group.trim_end().trim_end_matches('}');
        // The last brace belongs to an inner group.
        let group =
            format!("{group}{}", "}".repeat(group.matches('{').count().saturating_sub(group.matches('}').count())));
        return branches(&group).into_iter().flat_map(|branch| leaves(branch, &before)).collect();
    }
    let (path, alias) = tree.split_once(" as ").map_or((tree, None), |(path, alias)| (path, Some(alias.trim())));
    let mut path = [before, &segments(path)].concat();
    if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
        path.pop();
    }
    let Some(last) = path.last().cloned() else { return Vec::new() };
    vec![(alias.map_or(last, str::to_owned), path)]
}

/// The parts of `group` between the commas that aren't within braces.
fn branches(group: &str) -> Vec<&str> {
    let mut depth = 0;
    let outer = |c: char| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    };
    group.split(outer).filter(|branch| !branch.trim().is_empty()).collect()
}

fn segments(path: &str) -> Vec<String> {
    path.split("::").map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
}

fn module(path: &Path) -> Module {
    let whole = path.with_extension("");
    if whole == Path::new("lib") {
        Vec::new()
    } else {
        whole.iter().map(|part| part.to_string_lossy().into_owned()).collect()
    }
}
