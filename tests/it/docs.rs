//! The pages of docs/: generated pages are up to date, each error kind and hint has its row, and links resolve.
//! `UPDATE_DOCS=1 cargo test --test it docs` writes the generated pages.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::CommandFactory as _;
use regex::Regex;
use serde_json::Value;
use transship::cli::Cli;
use transship::config::Config;

const GENERATED: &str = "<!-- Generated: `UPDATE_DOCS=1 cargo test --test it docs` writes it anew. -->";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Compares the page with `text`, or writes it.
fn assert_page(name: &str, text: &str) {
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(root().join(name), text).expect("the page can be written");
    }
    assert!(read(name) == text, "{name} isn't what it would be now: run `UPDATE_DOCS=1 cargo test --test it docs`");
}

/// Compares the generated part of the page `name`, between the two marks, with `text`, or writes it.
fn assert_part(name: &str, text: &str) {
    let page = read(name);
    let (before, rest) = page.split_once("<!-- begin -->\n").expect("a mark");
    let (_, after) = rest.split_once("<!-- end -->").expect("a mark");
    assert_page(name, &format!("{before}<!-- begin -->\n{text}<!-- end -->{after}"));
}

#[test]
fn the_page_of_commands_matches_the_help() {
    let mut page = format!(
        "# Commands\n\n{GENERATED}\n\nWhat `transship help VERB` prints, without the flags of every verb, which come first.\n\n"
    );
    let mut all = Cli::command().term_width(80);
    let _ = write!(page, "```text\n{}\n```\n", trimmed(&all.render_long_help().to_string()));
    for verb in Cli::command().get_subcommands() {
        let name = format!("transship {}", verb.get_name());
        let mut verb = verb.clone().bin_name(&name).term_width(80).disable_help_flag(true);
        let _ = write!(page, "\n## {name}\n\n```text\n{}\n```\n", trimmed(&verb.render_long_help().to_string()));
    }
    assert_page("docs/commands.md", &page);
}

fn trimmed(text: &str) -> String {
    text.trim_end().lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// The maps of mirror.yaml by path, each with its keys, their values and their meaning.
type Maps = Vec<(String, Vec<[String; 3]>)>;

#[test]
fn the_page_of_keys_matches_the_schema() {
    let schema: Value = serde_json::from_str(&Config::schema()).expect("JSON");
    let mut maps = Maps::new();
    collect(&schema, &schema, "", &mut maps);
    let mut page = format!(
        "# mirror.yaml, key by key\n\n{GENERATED}\n\nEvery key is checked before the first request; one that isn't listed here is \
         an error. Paths of files are relative to\nmirror.yaml. `transship init --full` prints an example with all of them, \
         `transship schema` the JSON schema for editors.\n\n"
    );
    for (place, keys) in maps {
        let title = if place.is_empty() { "The top of the file".to_owned() } else { format!("`{place}`") };
        let _ = write!(page, "## {title}\n\n| key | takes | meaning |\n|---|---|---|\n");
        for [key, takes, meaning] in keys {
            let _ = writeln!(page, "| `{key}` | {takes} | {meaning} |");
        }
        page.push('\n');
    }
    assert_page("docs/configuration.md", &format!("{}\n", page.trim_end()));
}

fn collect(root: &Value, map: &Value, place: &str, maps: &mut Maps) {
    let Some(properties) = map["properties"].as_object() else { return };
    let mut rows = Vec::new();
    let mut below = Vec::new();
    for (key, value) in properties {
        let meaning = value["description"].as_str().unwrap_or_default().replace('\n', " ").replace('|', "\\|");
        rows.push([key.clone(), takes(root, value).join(", "), meaning]);
        let dot = if place.is_empty() { "" } else { "." };
        for (suffix, inner) in inner(root, value) {
            below.push((format!("{place}{dot}{key}{suffix}"), inner));
        }
    }
    maps.push((place.to_owned(), rows));
    for (place, map) in below {
        // Secrets have the same form everywhere.
        let is_new = !maps.iter().any(|(known, _)| *known == place);
        if is_new && place.matches('.').count() < 6 {
            collect(root, map, &place, maps);
        }
    }
}

fn resolved<'a>(root: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str().and_then(|path| root.pointer(path.trim_start_matches('#'))) {
        Some(target) => target,
        None => value,
    }
}

fn alternatives<'a>(root: &'a Value, value: &'a Value) -> Vec<&'a Value> {
    let value = resolved(root, value);
    let lists = ["anyOf", "oneOf", "allOf"].into_iter().filter_map(|key| value[key].as_array());
    let listed: Vec<&Value> = lists.flatten().flat_map(|one| alternatives(root, one)).collect();
    if listed.is_empty() { vec![value] } else { listed }
}

/// The maps that `value` may be, or hold.
fn inner<'a>(root: &'a Value, value: &'a Value) -> Vec<(&'static str, &'a Value)> {
    let mut found = Vec::new();
    for one in alternatives(root, value) {
        if one["properties"].is_object() {
            found.push(("", one));
        }
        for (suffix, key) in [("[]", "items"), (".HOST", "additionalProperties")] {
            if one[key].is_object() {
                let maps = alternatives(root, &one[key]).into_iter().filter(|map| map["properties"].is_object());
                found.extend(maps.map(|map| (suffix, map)));
            }
        }
    }
    found
}

/// The allowed values, in words.
fn takes(root: &Value, value: &Value) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut add = |word: String| {
        if !words.contains(&word) {
            words.push(word);
        }
    };
    for one in alternatives(root, value) {
        if let Some(values) = one["enum"].as_array() {
            values
                .iter()
                .filter(|value| !value.is_null())
                .for_each(|value| add(format!("`{}`", value.to_string().trim_matches('"'))));
            continue;
        }
        let types = match &one["type"] {
            Value::String(kind) => vec![kind.as_str()],
            Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        for kind in types {
            match kind {
                "null" => {}
                "boolean" => add("`true`, `false`".to_owned()),
                "integer" | "number" => add("a number".to_owned()),
                "array" => add("a list".to_owned()),
                "object" => add("a map".to_owned()),
                _ => add("a text".to_owned()),
            }
        }
    }
    words
}

/// The literal that begins at the quote in front of `text`, as the compiler reads it.
fn literal(text: &str) -> String {
    let mut value = String::new();
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '"' => break,
            '\\' => match rest.next() {
                Some('\n') => while rest.next_if(|c| c.is_whitespace()).is_some() {},
                Some(c) => value.push(c),
                None => break,
            },
            c => value.push(c),
        }
    }
    value
}

#[test]
fn each_kind_of_error_and_each_hint_has_its_row() {
    let error = read("src/error.rs");
    let (_, kinds) = error.split_once("pub enum Kind {\n").expect("the kinds");
    let (kinds, _) = kinds.split_once("\n}").expect("their end");
    let table = read("src/error/hints.rs");
    let mut hints: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let row = Regex::new(r#"\bof\(\s*Kind::(\w+),\s*""#).expect("a valid expression");
    for found in row.captures_iter(&table) {
        let (whole, kind) = (found.get(0).expect("all"), found.get(1).expect("a kind"));
        let of_kind = hints.entry(kind.as_str()).or_default();
        let hint = literal(&table[whole.end()..]);
        if !of_kind.contains(&hint) {
            of_kind.push(hint);
        }
    }
    assert!(hints.values().map(Vec::len).sum::<usize>() > 30, "{hints:?}");
    let (mut page, mut meaning) = (String::new(), String::new());
    let boundary = Regex::new("([a-z])([A-Z])").expect("a valid expression");
    for line in kinds.lines().map(str::trim) {
        if let Some(comment) = line.strip_prefix("///") {
            meaning = format!("{meaning}{comment}").trim().to_owned();
        } else if let Some(kind) = line.strip_suffix(',') {
            let snake = boundary.replace_all(kind, "${1}_$2").to_lowercase();
            let _ = write!(page, "### `{snake}`\n\n{}\n\n", std::mem::take(&mut meaning));
            for hint in hints.remove(kind).unwrap_or_default() {
                let _ = writeln!(page, "- hint: {hint}");
            }
            page = format!("{}\n\n", page.trim_end());
        }
    }
    assert!(hints.is_empty(), "hints of no kind: {hints:?}");
    assert_part("docs/troubleshooting.md", &page);
}

fn pages() -> Vec<PathBuf> {
    let mut pages = vec![root().join("README.md"), root().join("CONTRIBUTING.md"), root().join("SECURITY.md")];
    for folder in ["docs", "docs/registries"] {
        let entries = std::fs::read_dir(root().join(folder)).expect("a folder");
        let files = entries.map(|entry| entry.expect("an entry").path());
        pages.extend(files.filter(|path| path.extension().is_some_and(|end| end == "md")));
    }
    pages
}

#[test]
fn all_links_resolve() {
    let link = Regex::new(r"\]\(([^)#]*)(?:#[^)]*)?\)").expect("a valid expression");
    for page in pages() {
        let text = std::fs::read_to_string(&page).expect("a page");
        for found in link.captures_iter(&text) {
            let aim = &found[1];
            let is_here = aim.is_empty() || page.parent().expect("a folder").join(aim).exists();
            assert!(is_here || aim.starts_with("https://"), "{}: {aim}", page.display());
        }
    }
}

#[test]
fn every_page_can_be_found_from_the_readme() {
    let reachable: String = ["README.md", "docs/how-it-works.md"].map(read).concat();
    for page in pages().iter().filter(|page| page.starts_with(root().join("docs"))) {
        let name = page.file_name().expect("a name").to_string_lossy();
        assert!(reachable.contains(&format!("{name})")), "{name} is linked from nowhere");
    }
}

#[test]
fn the_readme_is_short_and_begins_with_how_to_install() {
    let readme = read("README.md");
    assert!(readme.lines().count() < 150);
    let first: Vec<&str> = readme.lines().take(25).collect();
    assert!(first.join("\n").contains("cargo install") && first.join("\n").contains("(docs/demo.svg)"), "{first:#?}");
}

#[test]
fn command_lines_in_the_pages_are_valid() {
    for page in pages() {
        let text = std::fs::read_to_string(&page).expect("a page");
        let is_generated = text.contains(GENERATED);
        for line in text.lines().filter(|line| line.starts_with("    transship ") && !is_generated) {
            for command in line.split("&&").flat_map(|part| part.split('|')).map(str::trim) {
                let command =
                    command.split(" #").next().unwrap_or_default().split(" > ").next().unwrap_or_default().trim();
                let has_placeholder = command.contains(['[', '…', '<']);
                if !command.starts_with("transship ") || has_placeholder {
                    continue;
                }
                let words = command.replace('\'', "");
                let read = Cli::read(words.split_whitespace());
                let is_kind = command.contains(" KIND") || command.contains(" VERB");
                assert!(is_kind || read.is_ok(), "{}: {command}: {}", page.display(), read.unwrap_err());
            }
        }
    }
}
