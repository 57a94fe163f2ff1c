//! Text for a terminal: escaping, measuring and fitting.
//!
//! Nothing here writes. Callers add colours after fitting, because escape sequences have no width.

pub(crate) mod canvas;
pub(crate) mod colour;
pub(crate) mod frame;
mod name;

use std::borrow::Cow;

use bytesize::ByteSize;
use unicode_width::UnicodeWidthChar as _;

pub(crate) use name::shorten;

/// The narrowest supported width: a narrower terminal wraps lines itself.
pub(crate) const NARROWEST: usize = 20;

/// The width of the terminal on standard output; `None` if it isn't a terminal.
pub(crate) fn columns_of_stdout() -> Option<usize> {
    columns_of(&console::Term::stdout())
}

/// The width of the terminal on standard error; `None` if it isn't a terminal.
pub(crate) fn columns_of_stderr() -> Option<usize> {
    columns_of(&console::Term::stderr())
}

/// Rows and columns of the terminal on standard error.
pub(crate) fn size_of_stderr() -> Option<(usize, usize)> {
    let terminal = console::Term::stderr();
    let (rows, columns) = terminal.size_checked().filter(|_| terminal.is_term())?;
    (rows > 0 && columns > 0).then_some((usize::from(rows), usize::from(columns)))
}

fn columns_of(terminal: &console::Term) -> Option<usize> {
    let (_rows, columns) = terminal.size_checked().filter(|_| terminal.is_term())?;
    // A terminal that doesn't know its width reports 0.
    (columns > 0).then(|| usize::from(columns).max(NARROWEST))
}

/// `text`, with characters escaped that could move the cursor, reverse the line or start a new one. Names and messages
/// come from registries.
pub(crate) fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let escaped = text.chars().map(|c| if is_unsafe(c) { c.escape_default().to_string() } else { c.to_string() });
    Cow::Owned(escaped.collect())
}

/// Control characters, line and paragraph separators, and bidirectional marks.
fn is_unsafe(c: char) -> bool {
    let is_mark = matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || is_mark || matches!(c, '\u{2028}' | '\u{2029}')
}

/// A number of bytes as text: `1.2 GB`.
pub(crate) fn size(bytes: u64) -> String {
    ByteSize::b(bytes).display().si().to_string()
}

/// The width of `text` in columns.
pub(crate) fn width(text: &str) -> usize {
    text.chars().map(columns).sum()
}

fn columns(c: char) -> usize {
    c.width().unwrap_or(0)
}

/// `text`, padded to `columns`: formatting counts characters, some of which take two columns.
pub(crate) fn padded(text: &str, columns: usize) -> String {
    format!("{text}{}", " ".repeat(columns.saturating_sub(width(text))))
}

/// `text` in lines of at most `width` columns, broken at spaces if possible, otherwise after a slash. All lines but the
/// first start with `indent`.
pub(crate) fn wrap(text: &str, width: usize, indent: &str) -> Vec<String> {
    if self::width(text) <= width {
        return vec![text.to_owned()];
    }
    // The rest of a line must have room for text.
    let indent = if self::width(indent) + NARROWEST / 2 > width { "" } else { indent };
    let margin = text.len() - text.trim_start_matches(' ').len();
    let (mut lines, mut line) = (Vec::new(), text[..margin].to_owned());
    let mut is_begun = false;
    for mut word in text[margin..].split(' ') {
        let room = width.saturating_sub(self::width(&line) + usize::from(is_begun));
        if self::width(word) <= room {
            line.push_str(if is_begun { " " } else { "" });
            line.push_str(word);
            is_begun = true;
            continue;
        }
        if is_begun {
            lines.push(std::mem::replace(&mut line, indent.to_owned()));
        }
        loop {
            let room = width.saturating_sub(self::width(&line));
            if self::width(word) <= room {
                break;
            }
            let (piece, rest) = word.split_at(end_of_piece(word, room));
            lines.push(std::mem::replace(&mut line, indent.to_owned()) + piece);
            word = rest;
        }
        line.push_str(word);
        is_begun = true;
    }
    lines.push(line);
    lines.iter_mut().for_each(|line| line.truncate(line.trim_end().len()));
    lines
}

/// Where to break `word` so that the first part has at most `columns` columns: after a slash, or else after another
/// separator in the second half of that part.
fn end_of_piece(word: &str, columns: usize) -> usize {
    let most = head(word, columns).len();
    let after = |marks: &[char]| word[..most].rfind(marks).map(|mark| mark + 1).filter(|end| end * 2 > most);
    after(&['/']).or_else(|| after(&['-', '_', '.', ':', '@', ','])).unwrap_or(most)
}

/// The start of `text` that fits into `columns` columns; at least one character.
fn head(text: &str, columns: usize) -> &str {
    let mut taken = 0;
    let end = text.char_indices().find(|(at, c)| {
        taken += self::columns(*c);
        taken > columns && *at > 0
    });
    end.map_or(text, |(at, _)| &text[..at])
}

/// `text`, truncated with an ellipsis to `width` columns.
pub(crate) fn truncate(text: &str, width: usize) -> Cow<'_, str> {
    if self::width(text) <= width {
        return Cow::Borrowed(text);
    }
    let kept = if width > 1 { head(text, width - 1) } else { "" };
    Cow::Owned(if width == 0 { String::new() } else { format!("{kept}…") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_text_cant_move_the_cursor() {
        assert_eq!(escape("a\u{1b}[2J\r\n\u{202e}é→"), "a\\u{1b}[2J\\r\\n\\u{202e}é→");
        assert!(matches!(escape("plain → text"), Cow::Borrowed(_)));
    }

    #[test]
    fn lines_wrap_at_spaces_and_inside_words_only_if_necessary() {
        assert_eq!(wrap("short", 20, "  "), ["short"]);
        assert_eq!(wrap("  one two three four five six", 20, "    "), ["  one two three four", "    five six"]);
        assert_eq!(
            wrap("see https://example.com/a/very/long/address now", 20, "  "),
            ["see", "  https://example.", "  com/a/very/long/", "  address now"]
        );
        assert_eq!(wrap("mirror/ghcr.io/team/service-2", 24, ""), ["mirror/ghcr.io/team/", "service-2"]);
        assert_eq!(wrap("a-repository-with-a-name", 20, ""), ["a-repository-with-a-", "name"]);
        for width in 1..60 {
            let lines = wrap("  failed: ghcr.io/some/where:1.2.3 界界界界界界 can't be read", width, "      ");
            assert!(lines.iter().all(|line| self::width(line) <= width.max(4)), "{width} {lines:?}");
        }
    }

    #[test]
    fn wide_characters_count_twice() {
        assert_eq!(width("界é"), 3);
        assert_eq!(truncate("界界界", 5), "界界…");
    }
}
