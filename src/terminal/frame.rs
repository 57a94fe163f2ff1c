//! Lines at the bottom of a terminal that are drawn over and over, while others scroll by above.
//!
//! Between two drawings the cursor rests at the beginning of the frame's first line. So whatever became of the lines below
//! (a terminal that was made narrower may have broken each into two) is cleared without being counted, and what the terminal
//! itself echoes there, such as `^C`, is overwritten by the next drawing. No line is as wide as the terminal.

use std::fmt::Write as _;

/// From the cursor to the end of the screen.
const CLEAR_BELOW: &str = "\u{1b}[J";
/// From the cursor to the end of the line.
const CLEAR_LINE: &str = "\u{1b}[K";
/// Lines that are too wide are cut, and not continued in the next row: a window may get narrower while they are drawn.
const CUT: &str = "\u{1b}[?7l";
const CONTINUE: &str = "\u{1b}[?7h";

/// What is drawn.
#[derive(Debug, Default)]
pub(crate) struct Frame {
    lines: Vec<String>,
}

impl Frame {
    /// What to write so that `lines` are shown; nothing if they are.
    pub(crate) fn draw(&mut self, lines: Vec<String>) -> String {
        if lines == self.lines { String::new() } else { self.redraw(lines) }
    }

    /// [`Frame::draw`], whatever has become of what is shown.
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

    /// What to write so that `above`, whole lines, scrolls by, and the frame is shown below.
    pub(crate) fn above(&mut self, above: &str) -> String {
        let lines = std::mem::take(&mut self.lines);
        let clear = if lines.is_empty() { "" } else { "\r\u{1b}[J" };
        format!("{clear}{above}{}", self.redraw(lines))
    }
}

/// From the end of the last of so many lines to the beginning of the first.
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
    fn the_cursor_rests_at_the_top_and_nothing_is_left() {
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
