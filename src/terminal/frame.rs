//! Lines at the bottom of a terminal that are redrawn while others scroll by above.
//!
//! Between two drawings the cursor is at the start of the frame's first line. So everything below is cleared without
//! counting lines, even if a narrower window has wrapped them, and the next drawing overwrites what the terminal echoes
//! there, such as `^C`. No line is as wide as the terminal.

use std::fmt::Write as _;

/// Clears from the cursor to the end of the screen.
const CLEAR_BELOW: &str = "\u{1b}[J";
/// Clears from the cursor to the end of the line.
const CLEAR_LINE: &str = "\u{1b}[K";
/// Turns wrapping off: lines that are too wide are cut, because a window may get narrower while they are drawn.
const CUT: &str = "\u{1b}[?7l";
const CONTINUE: &str = "\u{1b}[?7h";

/// The lines on the screen.
#[derive(Debug, Default)]
pub(crate) struct Frame {
    lines: Vec<String>,
}

impl Frame {
    /// The text that shows `lines`; empty if they are shown already.
    pub(crate) fn draw(&mut self, lines: Vec<String>) -> String {
        if lines == self.lines { String::new() } else { self.redraw(lines) }
    }

    /// [`Frame::draw`], regardless of what is on the screen.
    pub(crate) fn redraw(&mut self, lines: Vec<String>) -> String {
        let mut text = String::new();
        if !lines.is_empty() || !self.lines.is_empty() {
            text.push('\r');
        }
        if !lines.is_empty() {
            text.push_str(CUT);
        }
        for (number, line) in lines.iter().enumerate() {
            let end = if number == 0 { "" } else { "\n" };
            let _ = write!(text, "{end}{CLEAR_LINE}{line}");
        }
        if !text.is_empty() {
            text.push_str(CLEAR_BELOW);
            text.push_str(&back(lines.len()));
        }
        if !lines.is_empty() {
            text.push_str(CONTINUE);
        }
        self.lines = lines;
        text
    }

    /// The text that prints `above`, whole lines, above the frame.
    pub(crate) fn above(&mut self, above: &str) -> String {
        let lines = std::mem::take(&mut self.lines);
        let clear = if lines.is_empty() { "" } else { "\r\u{1b}[J" };
        format!("{clear}{above}{}", self.redraw(lines))
    }
}

/// Moves from the end of the last line to the start of the first.
fn back(lines: usize) -> String {
    match lines {
        0 => String::new(),
        1 => "\r".to_owned(),
        more => format!("\r\u{1b}[{}A", more - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cursor_stays_at_the_top_of_the_frame_and_old_lines_are_erased() {
        let mut frame = Frame::default();
        let lines = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(
            frame.draw(lines("a b c")),
            "\r\u{1b}[?7l\u{1b}[Ka\n\u{1b}[Kb\n\u{1b}[Kc\u{1b}[J\r\u{1b}[2A\u{1b}[?7h"
        );
        assert_eq!(frame.draw(lines("a b c")), "");
        assert_eq!(
            frame.above("said\n"),
            "\r\u{1b}[Jsaid\n\r\u{1b}[?7l\u{1b}[Ka\n\u{1b}[Kb\n\u{1b}[Kc\u{1b}[J\r\u{1b}[2A\u{1b}[?7h"
        );
        assert_eq!(frame.draw(lines("a")), "\r\u{1b}[?7l\u{1b}[Ka\u{1b}[J\r\u{1b}[?7h");
        assert_eq!(frame.draw(Vec::new()), "\r\u{1b}[J");
        assert_eq!(frame.draw(Vec::new()) + &frame.above("said\n"), "said\n");
    }
}
