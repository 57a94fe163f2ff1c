//! Plain lists: references separated by white space, and comments from a `#` to the end of the line.

use super::{File, Kind, Node, Piece};

pub(super) fn read(file: &mut File) {
    file.kind = Kind::List;
    let text = file.text.clone();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        // A single dash is a bullet.
        for (at, word) in words(line).filter(|(_, word)| *word != "-") {
            let at = start + at;
            let piece = Piece { value: word.to_owned(), span: at..at + word.len(), variable: None, is_own: true };
            file.add_pieces(at, vec![piece], false);
        }
        start += line.len();
    }
}

/// A YAML list.
pub(super) fn read_items(file: &mut File, documents: &[Node]) {
    let items = documents.iter().flat_map(Node::items);
    items.filter_map(Node::scalar).for_each(|scalar| file.add_scalar(scalar));
}

/// The words of a line, up to the start of a comment.
fn words(line: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_gap = |c: char| c.is_whitespace() || c == '\u{feff}';
    let mut at = 0;
    let words = std::iter::from_fn(move || {
        let begin = at + line[at..].find(|c| !is_gap(c))?;
        let len = line[begin..].find(is_gap).unwrap_or(line.len() - begin);
        at = begin + len;
        Some((begin, &line[begin..at]))
    });
    words.take_while(|(_, word)| !word.starts_with('#'))
}
