//! Each room imports only from the rooms that the table in `src/lib.rs` names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::Regex;

mod circles;

/// Room → the rooms that it may use, top to bottom.
type Table = Vec<(String, Vec<String>)>;

/// Comments and literals.
static SKIPPED: LazyLock<Regex> = LazyLock::new(|| {
    pattern(concat!(
        r"(?s)",
        r"//[^\n]*",
        r#"|b?r"[^"]*""#,
        r##"|b?r#".*?"#"##,
        r#"|b?"(?:[^"\\]|\\.)*""#,
        r"|b?'(?:[^'\\]|\\(?:u\{[^}]*\}|.)[^']*)'",
        r"|/\*|\*/",
    ))
});
/// The start of a test module's body.
static TESTS: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"#\[cfg\(test\)\]\s*(?:pub(?:\([^)]*\))?\s+)?mod\s+\w+\s*\{"));
static FROM_ROOT: LazyLock<Regex> = LazyLock::new(|| pattern(r"\bcrate\s*::\s*"));

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a constant pattern")
}

#[test]
fn every_room_imports_only_rooms_that_the_table_allows() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let sources = sources(&src);
    let table = table(&sources[Path::new("lib.rs")]);
    assert_eq!(violations(&table, &sources), Vec::<String>::new());
}

#[test]
fn imports_that_bypass_the_table_are_found() {
    let lib = "//! | room | may use |\n//! |---|---|\n//! | `top` | everything below |\n//! | `mid` | low |\n//! | `low` | – |\n";
    let low = r##"
        // use crate::top;
        /* crate::mid /* crate::mid */ */
        const TEXT: &str = "crate::top"; const RAW: &str = r#"" crate::top"#; const QUOTE: char = '"';
        use crate::{mid::{self, top}, low as top};
        fn f<'a>() { crate :: top::g(); super::mid::h(); $crate::top!() }
        #[cfg(test)]
        mod tests { use crate::top; fn g() { let _ = "}"; } }
        use crate::low;
    "##;
    let sources = BTreeMap::from([
        ("lib.rs".into(), lib.to_owned()),
        ("top.rs".into(), "use crate::{mid, low}; use super::mid;".into()),
        ("mid/a/b.rs".into(), "use super::super::low; use super::super::super::top;".into()),
        ("low.rs".into(), low.to_owned()),
        ("low/tests.rs".into(), "use crate::top;".into()),
        ("new.rs".into(), "use crate::odd;".into()),
    ]);
    insta::assert_snapshot!(violations(&table(lib), &sources).join("\n"), @"
    low.rs: low may not use mid
    low.rs: low may not use top
    low.rs: low may not use mid
    low.rs: low may not use top
    mid/a/b.rs: mid may not use top
    new.rs: new has no row in the table of src/lib.rs
    new.rs: new may not use odd
    ");
}

/// Every file below `src`, by its path from there.
fn sources(src: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![src.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("a source file");
                found.insert(path.strip_prefix(src).expect("below src").to_owned(), text);
            }
        }
    }
    found
}

/// The rows ``//! | `room` | a, b |`` of `lib`.
fn table(lib: &str) -> Table {
    let row = pattern(r"(?m)^//! \| `(\w+)` \|(?:.*\|)? ([^|]*) \|$");
    let rows: Vec<(String, String)> =
        row.captures_iter(lib).map(|found| (found[1].to_owned(), found[2].to_owned())).collect();
    let below = |at: usize| rows[at + 1..].iter().map(|(room, _)| room.clone()).collect();
    let allowed = |(at, (room, text)): (usize, &(String, String))| match text.as_str() {
        "everything below" => (room.clone(), below(at)),
        "–" => (room.clone(), Vec::new()),
        text => (room.clone(), text.split(", ").map(|room| room.trim_matches('`').to_owned()).collect()),
    };
    rows.iter().enumerate().map(allowed).collect()
}

/// The imports in `sources` that `table` doesn't allow.
fn violations(table: &Table, sources: &BTreeMap<PathBuf, String>) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in sources {
        let room = path.iter().next().and_then(|first| Path::new(first).file_stem()).expect("a file has a name");
        let room = room.to_str().expect("ASCII");
        // The two roots hold no room: documentation, declarations and one call each. Tests may use what they like.
        let is_test = path.iter().skip(1).any(|part| Path::new(part).file_stem().is_some_and(|stem| stem == "tests"));
        if is_test || ["lib", "main"].contains(&room) {
            continue;
        }
        let row = table.iter().find(|(name, _)| name == room);
        if row.is_none() {
            found.push(format!("{}: {room} has no row in the table of src/lib.rs", path.display()));
        }
        let allowed = row.map(|(_, allowed)| allowed.as_slice()).unwrap_or_default();
        let rooms: Vec<&str> = table.iter().map(|(name, _)| name.as_str()).collect();
        for used in used(&code_of(text), path.iter().count(), &rooms) {
            if used != room && !allowed.contains(&used) {
                found.push(format!("{}: {room} may not use {used}", path.display()));
            }
        }
    }
    found
}

/// The rooms that `code` names, in a file `depth` segments below `src`: after `crate::`, or after the number of
/// `super::` that leads out of its own room.
fn used(code: &str, depth: usize, rooms: &[&str]) -> Vec<String> {
    let supers = r"\bsuper\s*::\s*".repeat(depth);
    let from_above = pattern(&supers);
    let ends = FROM_ROOT.find_iter(code).map(|found| (found.end(), false));
    let ends_above = from_above.find_iter(code).map(|found| (found.end(), true));
    let mut ends: Vec<(usize, bool)> = ends.chain(ends_above).collect();
    ends.sort_unstable();
    let names = ends.iter().flat_map(|(end, above)| {
        // Inside an inline module the same words may mean something within the room.
        first_names(&code[*end..]).into_iter().filter(move |name| !above || rooms.contains(&name.as_str()))
    });
    names.collect()
}

/// The first names of the paths that `code` begins with: one, or several in braces.
fn first_names(code: &str) -> Vec<String> {
    let name = |text: &str| text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    let Some(group) = code.strip_prefix('{') else { return vec![name(code)] };
    let mut depth = 0;
    let top_level: String = group
        .chars()
        .map_while(|c| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            (depth >= 0).then_some((c, depth))
        })
        .filter(|(_, depth)| *depth == 0)
        .map(|(c, _)| c)
        .collect();
    top_level.split(',').map(name).filter(|name: &String| !name.is_empty()).collect()
}

/// `text` without comments, the content of literals, and test modules.
fn code_of(text: &str) -> String {
    let mut code = String::new();
    let (mut end, mut comments) = (0, 0_u32);
    for found in SKIPPED.find_iter(text) {
        if comments == 0 {
            code.push_str(&text[end..found.start()]);
        }
        match found.as_str() {
            "/*" => comments += 1,
            "*/" => comments = comments.saturating_sub(1),
            _ => code.push(' '),
        }
        end = found.end();
    }
    code.push_str(&text[end..]);
    without_tests(&code)
}

/// `code`, which holds no literals, without the bodies of `#[cfg(test)] mod name { … }`.
fn without_tests(code: &str) -> String {
    let Some(found) = TESTS.find(code) else { return code.to_owned() };
    let mut depth = 1;
    let body = code[found.end()..].char_indices().find(|(_, c)| {
        depth += i32::from(*c == '{') - i32::from(*c == '}');
        depth == 0
    });
    let rest = body.map_or("", |(at, _)| &code[found.end() + at + 1..]);
    format!("{}{}", &code[..found.start()], without_tests(rest))
}
