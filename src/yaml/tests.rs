use std::time::Instant;

use serde::Deserialize;

use super::*;

#[derive(Debug, Deserialize, PartialEq, Default)]
#[serde(default)]
struct Shape {
    words: Vec<String>,
    count: Option<u64>,
    flag: Option<bool>,
    inner: Option<Box<Self>>,
}

fn read(text: &str) -> Result<(Shape, Vec<String>), String> {
    let show = |p: Problem| format!("{}:{}: {}: {}", p.line, p.column, p.path, p.message);
    let document = Document::parse(text, 4 << 20).map_err(show)?;
    let mut notes: Vec<String> = document.duplicates.iter().cloned().map(show).collect();
    let shape = document
        .read(|path| {
            let at = document.key_position(&path);
            notes.push(format!("{}:{}: {path} unknown", at.line, at.column));
        })
        .map_err(show)?;
    Ok((shape, notes))
}

#[test]
fn scalars_keep_their_text() {
    let (shape, notes) =
        read("words: [1.10, no, 007, 0x1F, 2024-01-01, \"~\", '', !!str 5]\ncount: 5\nflag: true").unwrap();
    assert_eq!(shape.words, ["1.10", "no", "007", "0x1F", "2024-01-01", "~", "", "5"]);
    assert_eq!((shape.count, shape.flag), (Some(5), Some(true)));
    assert_eq!(notes, [""; 0]);
}

#[test]
fn unknown_and_duplicate_keys_are_reported_together_and_the_first_value_counts() {
    let (shape, notes) = read("count: 1\ninner:\n  flag: true\n  wrods: []\n  flag: false\ncount: 2\n").unwrap();
    assert_eq!(shape.count, Some(1));
    assert_eq!(
        notes,
        [
            "5:3: inner.flag: duplicate key, first at line 3",
            "6:1: count: duplicate key, first at line 1",
            "4:3: inner.wrods unknown",
        ]
    );
}

#[test]
fn fatal_problems_have_a_position() {
    let deep = format!("count: {}1{}", "[".repeat(100), "]".repeat(100));
    for (text, expected) in [
        ("words: {a: b}", "1:8: words: expected a list, found a map"),
        ("inner:\n  words:\n    - a\n    - [b]", "4:7: inner.words[1]: expected a single value, found a list"),
        ("words: [~]", "1:9: words[0]: expected a single value, found nothing"),
        ("count: +1", "1:8: count: expected a whole number, 0 or more"),
        ("flag: yes", "1:7: flag: expected true or false"),
        ("- a", "1:1: : expected a map, found a list"),
        ("", "1:1: : expected a map, found nothing"),
        ("count: 1\n---\ncount: 2", "2:1: : the file contains more than one document"),
        ("words: !env HOME", "1:8: words: the YAML tag `!env` isn't supported"),
        ("? [a]\n: b", "1:3: : a list or map can't be a key"),
        ("inner: &a {words: [], inner: *a}", "1:30: inner.inner: an alias refers to a value that contains it"),
        (&deep, "1:39: count[0][0]"),
    ] {
        let message = read(text).unwrap_err();
        assert!(message.starts_with(expected), "{}: {message}", &text[..text.len().min(40)]);
    }
    for text in ["words: [a\ncount: 1", &"[".repeat(1 << 20), &"- ".repeat(1 << 20), &"{a: ".repeat(1 << 20)] {
        let message = read(text).unwrap_err();
        assert!(message.contains("it isn't valid YAML") || message.contains("nested deeper"), "{message}");
    }
}

#[test]
fn an_alias_is_accepted_and_a_bomb_is_refused_at_once() {
    let (shape, _) = read("words: &w [a, b]\ninner:\n  words: *w").unwrap();
    assert_eq!(shape.inner.unwrap().words, ["a", "b"]);

    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..30 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
    }
    let begin = Instant::now();
    let message = read(&bomb).unwrap_err();
    assert!(message.starts_with("4:") && message.contains("aliases expand to more than"), "{message}");
    assert!(begin.elapsed().as_secs() < 1);
    assert!(read(&"#".repeat(5 << 20)).unwrap_err().contains("larger than 4 MiB"));
}

#[test]
fn text_from_a_file_is_escaped_for_the_terminal() {
    let problem = Problem::new(Position::START, KeyPath::default().key("a\u{1b}[2J"), "b\nc").with_hint("d\u{7}");
    let shown = Problems::new("mirror.yaml".as_ref(), "", vec![problem]).to_string();
    assert_eq!(shown, "mirror.yaml:1:1: a\\u{1b}[2J: b\\nc\nhint: d\\u{7}");
}
