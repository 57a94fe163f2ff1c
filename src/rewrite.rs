//! References in files + what is mirrored where → the same files, with the mirror's references.
//!
//! For each reference there are several ways to write it, from the best to leaving it (`choose`). Where two references share
//! bytes, as the default of an `ARG` or an anchor, they have to agree on them, and what a kustomization does to its
//! resources has to stay what it was: whoever can't have the best takes the next, until all agree. The edits are spans of
//! bytes, so that everything else in a file stays as it is.

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
pub use append::append;
use book::Book;
use choose::Way;
pub use file::replace;

/// How to rewrite.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// What is mirrored.
    pub mirrored: &'a [Mirrored],
    /// The configured targets.
    pub targets: &'a [TargetRoot],
    /// Which of them is written, counted from 0.
    pub number: usize,
    /// Whether to write the digest that the target serves.
    pub pin: bool,
}

/// What becomes of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewritten {
    /// Its text then.
    pub text: String,
    /// What the user should know.
    pub told: Vec<Told>,
}

/// A reference that isn't written as was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// What the file says.
    pub text: String,
    /// The line.
    pub line: usize,
    /// Why.
    pub why: String,
    /// It isn't changed at all.
    pub is_left: bool,
}

/// Bytes, and what they become.
type Edits = BTreeMap<(usize, usize), String>;

/// What a reference wants some bytes to become; `None` = to stay.
type Wish<'a> = (usize, Option<&'a String>);

/// The ways of each reference of each file, and which is taken.
struct Draft {
    ways: Vec<Vec<Vec<Way>>>,
    taken: Vec<Vec<usize>>,
    /// The names of kustomize entries, by file.
    names: HashMap<usize, Vec<String>>,
}

/// What becomes of each file of `scan`, in their order.
pub fn rewrite(scan: &Scan, options: Options<'_>) -> Vec<Rewritten> {
    let book = Book::new(options);
    let files = &scan.files;
    let ways: Vec<Vec<Vec<Way>>> =
        files.iter().map(|file| file.found.iter().map(|found| choose::ways(&book, file, found)).collect()).collect();
    let taken = ways.iter().map(|ways| vec![0; ways.len()]).collect();
    let mut draft = Draft { ways, taken, names: HashMap::new() };
    let resources = Resources::of(files);
    // Each round takes at least one way less.
    while draft.settle_shared(files) || kustomize::settle(files, &resources, &mut draft) {}
    files.iter().enumerate().map(|(index, file)| draft.finish(index, file)).collect()
}

impl Draft {
    fn way(&self, file: usize, found: usize) -> &Way {
        &self.ways[file][found][self.taken[file][found]]
    }

    /// Takes the next way of a reference. `false` if there is none.
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
            told.extend(way.why.as_ref().map(|why| Told {
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

/// The bytes that a reference is made of.
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
