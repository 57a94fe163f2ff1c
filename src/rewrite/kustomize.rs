//! Adapts kustomizations, so that they give the same result with images from the mirror.
//!
//! An entry of `images` applies to images whose name in a resource matches literally. If the resource is rewritten,
//! the entry's `name` has to change too. If only some of the resources that it applies to can be rewritten, none of
//! them is.

use std::collections::BTreeSet;

use super::{Draft, Edits};
use crate::scan::{Field, File, Form, KustomizeEntry, Resources, Slot, cut};

/// Makes the entries follow their resources; `true` if that changed anything.
pub(super) fn settle(files: &[File], resources: &Resources, draft: &mut Draft) -> bool {
    let mut changed = false;
    for (index, file) in files.iter().enumerate() {
        let Some(kustomization) = &file.kustomization else { continue };
        let mut names: Vec<BTreeSet<String>> = vec![BTreeSet::new(); kustomization.entries.len()];
        let mut takers: Vec<Vec<(usize, usize)>> = vec![Vec::new(); kustomization.entries.len()];
        let mut to_degrade = BTreeSet::new();
        for source in resources.reaching(files, index) {
            let way = draft.way(source.file, source.found);
            let written = &files[source.file].found[source.found].written;
            let (mut before, mut after) = (written.clone(), way.after.clone());
            for via in &source.via {
                for (number, entry) in files[*via].kustomization.iter().flat_map(|one| &one.entries).enumerate() {
                    before = entry.apply(&before);
                    after = draft.entry(*via, number, &files[*via]).apply(&after);
                }
            }
            for (number, entry) in kustomization.entries.iter().enumerate() {
                if entry.takes(&before) {
                    names[number].insert(after[..cut(&after).repository].to_owned());
                    takers[number].push((source.file, source.found));
                    // The digest of the image in the resource isn't that of the image after the entry.
                    if entry.new_name.is_some()
                        && !entry.gives_version()
                        && after.contains('@')
                        && !before.contains('@')
                    {
                        to_degrade.insert((source.file, source.found));
                    }
                }
                before = entry.apply(&before);
                after = renamed(draft.entry(index, number, file), names[number].first(), entry).apply(&after);
            }
        }
        for (_, takers) in names.iter().zip(&takers).filter(|(names, _)| names.len() > 1) {
            to_degrade.extend(takers.iter().copied());
        }
        for (source, found) in to_degrade {
            changed |= draft.degrade(source, found);
        }
        let names = names
            .iter()
            .zip(&kustomization.entries)
            .map(|(names, entry)| names.first().cloned().unwrap_or_else(|| entry.name.value.clone()));
        let names: Vec<String> = names.collect();
        if draft.names.get(&index) != Some(&names) {
            draft.names.insert(index, names);
            changed = true;
        }
    }
    changed
}

impl Draft {
    /// The new entry `number` of the kustomization `file`.
    fn entry(&self, index: usize, number: usize, file: &File) -> KustomizeEntry {
        let old = &file.kustomization.as_ref().expect("it is a kustomization").entries[number];
        let ways = file.found.iter().enumerate().filter(|(_, found)| found.form == Form::Kustomize(number));
        let new = ways.filter_map(|(found, _)| self.way(index, found).entry.clone()).next();
        let name = self.names.get(&index).and_then(|names| names.get(number));
        renamed(new.unwrap_or_else(|| old.clone()), name, old)
    }
}

/// `entry` with another `name`; its result keeps its name.
fn renamed(mut entry: KustomizeEntry, name: Option<&String>, old: &KustomizeEntry) -> KustomizeEntry {
    if let Some(name) = name.filter(|name| **name != old.name.value) {
        let kept = Field { slot: Slot::None, ..old.name.clone() };
        entry.new_name.get_or_insert(kept);
        entry.name.value.clone_from(name);
    }
    entry
}

/// The edits of `name`, and of a `newName` that has to be added.
pub(super) fn edit_entries(draft: &Draft, index: usize, file: &File, edits: &mut Edits) {
    for (number, old) in file.kustomization.iter().flat_map(|one| &one.entries).enumerate() {
        let new = draft.entry(index, number, file);
        if new.name.value != old.name.value
            && let Slot::Replace(range) = &old.name.slot
        {
            edits.insert((range.start, range.end), new.name.value.clone());
        }
        if let (None, Some(name)) = (&old.new_name, &new.new_name) {
            let (at, text) = added_line(&file.text, old, &format!("newName: {}", name.value));
            edits.insert((at, at), text);
        }
    }
}

/// Where to insert `line` in an entry, with its formatting.
fn added_line(text: &str, entry: &KustomizeEntry, line: &str) -> (usize, String) {
    if entry.is_flow {
        return (entry.end, format!(", {line}"));
    }
    let end = text[entry.end..].find('\n').map_or(text.len(), |at| entry.end + at);
    let is_crlf = text[..end].ends_with('\r');
    let line_start = text[..entry.start].rfind('\n').map_or(0, |at| at + 1);
    let indent: String = text[line_start..entry.start].chars().map(|c| if c == '\t' { c } else { ' ' }).collect();
    let line_break = if is_crlf { "\r\n" } else { "\n" };
    (end - usize::from(is_crlf), format!("{line_break}{indent}{line}"))
}
