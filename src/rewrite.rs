//! References in files + mirrored images with their places → the same files, with the mirror's references.
//!
//! Each reference can be written in several ways, from the best to leaving it unchanged (`choose`). References that
//! share bytes, such as the default of an `ARG` or an anchor, have to agree on them, and a kustomization has to
//! change its resources as before: a reference that can't have its best way takes the next, until all agree. The
//! edits are byte ranges, so that everything else in a file stays unchanged.

mod append;
mod book;
mod choose;
mod file;
mod kustomize;

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use crate::config::TargetRoot;
use crate::desired::Mirrored;
use crate::scan::{File, Form, Resources, Scan, Slot};
pub(crate) use append::append;
use book::Book;
use choose::Way;
pub(crate) use file::replace;

/// How to rewrite.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options<'a> {
    /// The mirrored images.
    pub mirrored: &'a [Mirrored],
    /// The configured targets.
    pub targets: &'a [TargetRoot],
    /// The index of the target to write, counted from 0.
    pub number: usize,
    /// Whether to add the digest at the target.
    pub pin: bool,
}

/// The result for a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rewritten {
    /// Its new text.
    pub text: String,
    /// Notes for the user.
    pub told: Vec<Note>,
}

/// A reference that isn't written as requested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Note {
    /// The text in the file.
    pub text: String,
    /// The line.
    pub line: usize,
    /// The reason.
    pub why: String,
    /// Whether it isn't changed at all.
    pub is_left: bool,
}

/// Byte ranges, and their new text.
type Edits = BTreeMap<(usize, usize), String>;

/// The text that a reference wants for some bytes; `None` = unchanged.
type Wish<'a> = (usize, Option<&'a String>);

/// The ways of each reference of each file, and the selected one.
struct Draft {
    ways: Vec<Vec<Vec<Way>>>,
    taken: Vec<Vec<usize>>,
    /// The names of kustomize entries, by file.
    names: HashMap<usize, Vec<String>>,
}

/// The results for the files of `scan`, in order.
pub(crate) fn rewrite(scan: &Scan, options: Options<'_>) -> Vec<Rewritten> {
    let book = Book::new(options);
    let files = &scan.files;
    let ways: Vec<Vec<Vec<Way>>> =
        files.iter().map(|file| file.found.iter().map(|found| choose::ways(&book, file, found)).collect()).collect();
    let taken = ways.iter().map(|ways| vec![0; ways.len()]).collect();
    let mut draft = Draft { ways, taken, names: HashMap::new() };
    let resources = Resources::of(files);
    // Each round removes at least one way.
    while draft.settle_shared(files) || kustomize::settle(files, &resources, &mut draft) {}
    files.iter().enumerate().map(|(index, file)| draft.finish(index, file)).collect()
}

impl Draft {
    fn way(&self, file: usize, found: usize) -> &Way {
        &self.ways[file][found][self.taken[file][found]]
    }

    /// Selects the next way of a reference; `false` if there is none.
    fn degrade(&mut self, file: usize, found: usize) -> bool {
        let has_next = self.taken[file][found] + 1 < self.ways[file][found].len();
        self.taken[file][found] += usize::from(has_next);
        has_next
    }

    /// Makes references that share bytes agree on them.
    fn settle_shared(&mut self, files: &[File]) -> bool {
        let mut disagree = Vec::new();
        for (index, file) in files.iter().enumerate() {
            let mut wishes: HashMap<(usize, usize), Vec<Wish<'_>>> = HashMap::new();
            for (number, found) in file.found.iter().enumerate() {
                let way = self.way(index, number);
                for span in spans(&found.form, file) {
                    let key = (span.start, span.end);
                    wishes.entry(key).or_default().push((number, way.edits.get(&key)));
                }
            }
            for wishes in wishes.values() {
                if wishes.iter().any(|(_, wish)| *wish != wishes[0].1) {
                    disagree
                        .extend(wishes.iter().filter(|(_, wish)| wish.is_some()).map(|(number, _)| (index, *number)));
                }
            }
        }
        disagree.sort_unstable();
        disagree.dedup();
        disagree.into_iter().fold(false, |any, (file, found)| self.degrade(file, found) | any)
    }

    fn finish(&self, index: usize, file: &File) -> Rewritten {
        let mut edits = Edits::new();
        let mut told = Vec::new();
        for (number, found) in file.found.iter().enumerate() {
            let way = self.way(index, number);
            edits.extend(way.edits.clone());
            told.extend(way.why.as_ref().map(|why| Note {
                text: found.written.clone(),
                line: found.line,
                why: why.clone(),
                is_left: way.after == found.written,
            }));
        }
        kustomize::edit_entries(self, index, file, &mut edits);
        Rewritten { text: apply(&file.text, &edits), told }
    }
}

/// The bytes of a reference.
fn spans(form: &Form, file: &File) -> Vec<Range<usize>> {
    let of_slot = |slot: &Slot| match slot {
        Slot::Replace(range) => Some(range.clone()),
        Slot::Insert(at) => Some(*at..*at),
        Slot::None => None,
    };
    match form {
        Form::Text { pieces, .. } => pieces.iter().map(|piece| piece.span.clone()).collect(),
        Form::Fields(fields) => {
            let optional = [&fields.registry, &fields.tag, &fields.digest].into_iter().flatten();
            optional.chain([&fields.repository]).filter_map(|field| of_slot(&field.slot)).collect()
        }
        Form::Kustomize(number) => {
            let entry = file.kustomization.iter().flat_map(|one| one.entries.get(*number));
            let fields = entry.flat_map(|entry| [&entry.new_name, &entry.new_tag, &entry.digest]).flatten();
            fields.filter_map(|field| of_slot(&field.slot)).collect()
        }
        Form::Computed(_) => Vec::new(),
    }
}

fn apply(text: &str, edits: &Edits) -> String {
    let mut edited = String::with_capacity(text.len());
    let mut at = 0;
    for (&(start, end), new) in edits {
        if start < at {
            continue;
        }
        edited.push_str(&text[at..start]);
        edited.push_str(new);
        at = end;
    }
    edited.push_str(&text[at..]);
    edited
}

#[cfg(test)]
mod tests;
