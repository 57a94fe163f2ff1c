//! A terminal for indicatif that shows nothing.
//!
//! indicatif redraws by moving up over the lines of its last drawing, counted at the width that they had then. After a
//! window gets narrower, that leaves old lines behind. So its moves are ignored here. Its lines are collected and
//! written by [`Frame`](super::frame::Frame), which doesn't need to count.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use console::measure_text_width;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, TermLike};

/// Bars, one below the other, and their rendered lines.
#[derive(Debug)]
pub(crate) struct Canvas {
    multi: MultiProgress,
    bars: Vec<ProgressBar>,
    paper: Paper,
}

impl Default for Canvas {
    fn default() -> Self {
        let paper = Paper::default();
        let target = ProgressDrawTarget::term_like(Box::new(paper.clone()));
        Self { multi: MultiProgress::with_draw_target(target), bars: Vec::new(), paper }
    }
}

impl Canvas {
    /// The lines of `bars`, at most as many as there are rows, none wider than `columns`.
    pub(crate) fn draw(&mut self, bars: Vec<ProgressBar>, rows: usize, columns: usize) -> Vec<String> {
        let most = |count: usize| u16::try_from(count.max(1)).unwrap_or(u16::MAX);
        *self.paper.lock() = Drawing { rows: most(rows), columns: most(columns), ..Drawing::default() };
        // A bar that is dropped while it is still a member leaves its last line behind.
        self.bars.drain(..).for_each(|bar| self.multi.remove(&bar));
        self.bars = bars.into_iter().map(|bar| self.multi.add(bar)).collect();
        // Each tick redraws the bars above; the last one draws all of them.
        self.bars.iter().for_each(ProgressBar::tick);
        std::mem::take(&mut self.paper.lock().done)
    }
}

#[derive(Debug, Clone, Default)]
struct Paper(Arc<Mutex<Drawing>>);

#[derive(Debug, Default)]
struct Drawing {
    rows: u16,
    columns: u16,
    /// The drawing so far: whole lines, and an unfinished one.
    lines: Vec<String>,
    line: String,
    /// The last complete drawing.
    done: Vec<String>,
}

impl Paper {
    fn lock(&self) -> MutexGuard<'_, Drawing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TermLike for Paper {
    fn width(&self) -> u16 {
        self.lock().columns
    }

    fn height(&self) -> u16 {
        self.lock().rows
    }

    /// indicatif doesn't end lines: it pads each with blanks, and relies on the terminal to wrap.
    fn write_str(&self, text: &str) -> io::Result<()> {
        let mut drawing = self.lock();
        drawing.line.push_str(text);
        if measure_text_width(&drawing.line) >= usize::from(drawing.columns) {
            let line = std::mem::take(&mut drawing.line);
            drawing.lines.push(line.trim_end().to_owned());
        }
        Ok(())
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        let mut drawing = self.lock();
        let line = std::mem::take(&mut drawing.line) + text;
        drawing.lines.push(line);
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        let mut drawing = self.lock();
        drawing.done = std::mem::take(&mut drawing.lines);
        Ok(())
    }

    fn move_cursor_up(&self, _rows: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_down(&self, _rows: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_right(&self, _columns: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_left(&self, _columns: usize) -> io::Result<()> {
        Ok(())
    }

    fn clear_line(&self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use indicatif::ProgressStyle;

    use super::*;

    #[test]
    fn the_screen_shows_only_the_last_drawing() {
        let mut canvas = Canvas::default();
        let bar = |text: &'static str| {
            let style = ProgressStyle::with_template("{msg}").expect("a template");
            ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()).with_style(style).with_message(text)
        };
        let full = "\u{1b}[33m界 as wide as it\u{1b}[0m";
        assert_eq!(canvas.draw(vec![bar("one"), bar(full), bar("four")], 9, 16), ["one", full, "four"]);
        assert_eq!(canvas.draw(vec![bar("one"), bar("two"), bar("three")], 2, 40), ["one", "two"]);
        assert_eq!(canvas.draw(Vec::new(), 9, 80), [""; 0]);
        assert_eq!(canvas.draw(vec![bar("again")], 0, 7), ["again"]);
    }
}
