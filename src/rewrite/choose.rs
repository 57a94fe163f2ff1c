//! The ways to write a reference, from the best to leaving it unchanged.

use super::Edits;
use super::book::{Advice, Book, Entry};
use crate::oci::Digest;
use crate::scan::{Field, Fields, File, Form, Found, KustomizeEntry, Piece, Slot, cut};

/// One way to write a reference.
#[derive(Debug, Clone, Default)]
pub(super) struct Way {
    /// The edits.
    pub(super) edits: Edits,
    /// The new text, with defaults in place of variables.
    pub(super) after: String,
    /// A note for the user.
    pub(super) why: Option<String>,
    /// The new entry of a kustomization.
    pub(super) entry: Option<KustomizeEntry>,
}

const NOT_PINNED: &str = "it isn't pinned";

/// The ways to write `found`; the last one leaves it unchanged.
pub(super) fn ways(book: &Book<'_>, file: &File, found: &Found) -> Vec<Way> {
    let leave = |why: Option<String>| Way { after: found.written.clone(), why, ..Way::default() };
    if found.is_replaced {
        return vec![leave(None)];
    }
    let entry = match book.advice(&found.reference) {
        Advice::Keep => return vec![leave(None)],
        Advice::Leave(why) => return vec![leave(Some(why))],
        Advice::Write(entry) => entry,
    };
    let written = |digest: Option<&Digest>| match &found.form {
        Form::Text { pieces, plain } => in_text(&entry, found, pieces, *plain, digest),
        Form::Fields(fields) => in_fields(&entry, found, fields, digest),
        Form::Kustomize(number) => {
            let old = file.kustomization.as_ref().and_then(|one| one.entries.get(*number));
            old.map_or(Err("its entry is unknown".to_owned()), |old| in_entry(&entry, found, old, digest))
        }
        Form::Computed(why) => Err((*why).to_owned()),
    };
    let keeps_digest = found.reference.digest().is_some();
    let best = written(Some(entry.digest).filter(|_| book.pin || keeps_digest));
    let mut ways = Vec::new();
    let mut why = "something that stays uses its text, or changes it".to_owned();
    match best {
        Ok(way) => {
            ways.push(way);
            if book.pin && !keeps_digest {
                let told = format!("{NOT_PINNED}: something else uses its text, or changes it");
                ways.extend(written(None).ok().map(|way| Way { why: Some(told), ..way }));
            }
        }
        Err(no_pin) if book.pin && !keeps_digest => match written(None) {
            Ok(way) => ways.push(Way { why: Some(format!("{NOT_PINNED}: {no_pin}")), ..way }),
            Err(no_way) => why = no_way,
        },
        Err(no_way) => why = no_way,
    }
    ways.push(leave(Some(why)));
    ways
}

/// The whole new reference.
fn target_text(entry: &Entry<'_>, found: &Found, digest: Option<&Digest>) -> String {
    let tag = found.reference.tag().map(|tag| format!(":{tag}")).unwrap_or_default();
    let digest = digest.map(|digest| format!("@{digest}")).unwrap_or_default();
    format!("{}{tag}{digest}", entry.repository)
}

/// Keeps variables: only the repository and defaults change.
fn in_text(
    entry: &Entry<'_>,
    found: &Found,
    pieces: &[Piece],
    plain: bool,
    digest: Option<&Digest>,
) -> Result<Way, String> {
    let whole = target_text(entry, found, digest);
    let new = match pieces {
        [_] => vec![whole.clone()],
        _ => values(entry, found, pieces, digest)?,
    };
    let mut edits = Edits::new();
    for (piece, new) in pieces.iter().zip(new) {
        if new != piece.value {
            edits.insert((piece.span.start, piece.span.end), new);
        }
    }
    // Unquoted, an address in brackets would be a list.
    if let ([piece], true, true) = (pieces, plain, whole.starts_with('[')) {
        edits.insert((piece.span.start, piece.span.end), format!("\"{whole}\""));
    }
    Ok(Way { edits, after: whole, ..Way::default() })
}

/// The new values of `pieces`, some of which are defaults of variables.
fn values(entry: &Entry<'_>, found: &Found, pieces: &[Piece], digest: Option<&Digest>) -> Result<Vec<String>, String> {
    let parts = cut(&found.written);
    let mut start = 0;
    // Each piece, split where the repository ends.
    let mut halves: Vec<(String, String)> = Vec::new();
    for piece in pieces {
        let at = parts.repository.saturating_sub(start).min(piece.value.len());
        halves.push((piece.value[..at].to_owned(), piece.value[at..].to_owned()));
        start += piece.value.len();
    }
    repository(&entry.repository.to_string(), pieces, &mut halves)?;
    let last = pieces.len() - 1;
    if parts.tag.is_none() && parts.digest.is_none() {
        let tag = found.reference.tag().map(|tag| format!(":{tag}")).unwrap_or_default();
        halves[last].1.push_str(&tag);
    }
    match (digest, parts.digest) {
        (Some(digest), Some(old)) => {
            let old = &found.written[old];
            let holder = halves.iter_mut().find(|(_, suffix)| suffix.contains(old));
            let (_, suffix) = holder.ok_or("its digest is a variable in part")?;
            *suffix = suffix.replace(old, digest.as_str());
        }
        (Some(digest), None) => {
            may_hold_digest(pieces)?;
            halves[last].1.push_str(&format!("@{digest}"));
        }
        (None, _) => {}
    }
    Ok(halves.into_iter().map(|(name, suffix)| name + &suffix).collect())
}

/// Writes `target` to the first halves. Going back from the end, pieces that match the end of `target` are kept. The
/// first piece that doesn't match gets the rest of `target`.
fn repository(target: &str, pieces: &[Piece], halves: &mut [(String, String)]) -> Result<(), String> {
    let mut rest = target;
    for index in (0..halves.len()).rev() {
        // A variable with an empty default still determines the text before it.
        let is_first = pieces[..index].iter().all(|piece| piece.variable.is_none() && piece.value.is_empty());
        match rest.strip_suffix(halves[index].0.as_str()) {
            Some(before) if !is_first => rest = before,
            _ => {
                let before = &pieces[..index];
                let is_variable = |piece: &Piece| piece.variable.is_some();
                if before.iter().any(is_variable) || is_variable(&pieces[index]) && !is_first {
                    return Err("a variable is in the way of its new name".to_owned());
                }
                rest.clone_into(&mut halves[index].0);
                halves[..index].iter_mut().for_each(|(name, _)| name.clear());
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Whether a digest may be added to the default of the only variable, at the end: with another value of the
/// variable nothing is pinned.
fn may_hold_digest(pieces: &[Piece]) -> Result<(), String> {
    let mut variables = pieces.iter().filter(|piece| piece.variable.is_some());
    let (first, more) = (variables.next(), variables.next());
    let is_last = pieces.last().is_some_and(|piece| piece.variable.is_some());
    match first {
        None => Ok(()),
        Some(piece) if more.is_none() && is_last && piece.is_own => Ok(()),
        Some(piece) => {
            let name = piece.variable.as_deref().unwrap_or_default();
            Err(format!("with another value of {name} the digest would be wrong"))
        }
    }
}

/// Writes the parts of the reference to their keys.
fn in_fields(entry: &Entry<'_>, found: &Found, fields: &Fields, digest: Option<&Digest>) -> Result<Way, String> {
    let mut edits = Edits::new();
    let repository = match &fields.registry {
        Some(registry) => {
            set(&mut edits, registry, entry.repository.registry().as_str())?;
            entry.repository.path().to_owned()
        }
        None => entry.repository.to_string(),
    };
    let own = cut(&fields.repository.value);
    let suffix = &fields.repository.value[own.repository..];
    if own.tag.is_some() || own.digest.is_some() {
        let suffix = suffix.split('@').next().unwrap_or_default();
        let digest = digest.map(|digest| format!("@{digest}")).unwrap_or_default();
        set(&mut edits, &fields.repository, &format!("{repository}{suffix}{digest}"))?;
    } else {
        set(&mut edits, &fields.repository, &repository)?;
        if let Some(digest) = digest {
            pin_fields(&mut edits, fields.tag.as_ref(), fields.digest.as_ref(), digest)?;
        }
    }
    Ok(Way { edits, after: target_text(entry, found, digest), ..Way::default() })
}

/// Writes the digest to `digest` if that key exists, otherwise after the tag.
fn pin_fields(edits: &mut Edits, tag: Option<&Field>, key: Option<&Field>, digest: &Digest) -> Result<(), String> {
    match (key, tag.filter(|tag| !tag.value.is_empty())) {
        (_, Some(tag)) if tag.value.contains('@') => {
            let name = tag.value.split('@').next().unwrap_or_default();
            set(edits, tag, &format!("{name}@{digest}"))
        }
        (Some(key), _) => set(edits, key, digest.as_str()),
        (None, Some(tag)) => set(edits, tag, &format!("{}@{digest}", tag.value)),
        (None, None) => Err("there is neither a digest nor a tag to hold it".to_owned()),
    }
}

fn set(edits: &mut Edits, field: &Field, value: &str) -> Result<(), String> {
    if field.value == value {
        return Ok(());
    }
    if field.is_shared {
        return Err("an anchor is used for more than this".to_owned());
    }
    match &field.slot {
        Slot::Replace(range) => edits.insert((range.start, range.end), value.to_owned()),
        Slot::Insert(at) => edits.insert((*at, *at), format!(" {value}")),
        Slot::None => return Err("it is written with escapes or over several lines".to_owned()),
    };
    Ok(())
}

/// Sets `newName`. Its `name`, and a missing `newName`, are written once all references are settled.
fn in_entry(entry: &Entry<'_>, found: &Found, old: &KustomizeEntry, digest: Option<&Digest>) -> Result<Way, String> {
    let mut edits = Edits::new();
    let name = entry.repository.to_string();
    let mut new = old.clone();
    if let Some(field) = &old.new_name {
        set(&mut edits, field, &name)?;
    }
    let blank = Field { value: String::new(), slot: Slot::None, is_shared: false };
    new.new_name = Some(Field { value: name, ..old.new_name.clone().unwrap_or(blank) });
    if let Some(digest) = digest.filter(|_| old.gives_version()) {
        pin_fields(&mut edits, old.new_tag.as_ref(), old.digest.as_ref(), digest)?;
        let text = |field: &Field| match &field.slot {
            Slot::Replace(range) => edits.get(&(range.start, range.end)).cloned(),
            Slot::Insert(at) => edits.get(&(*at, *at)).map(|text| text.trim_start().to_owned()),
            Slot::None => None,
        };
        for field in [&mut new.new_tag, &mut new.digest].into_iter().flatten() {
            if let Some(value) = text(field) {
                field.value = value;
            }
        }
    }
    let digest = digest.filter(|_| old.gives_version());
    Ok(Way { edits, after: target_text(entry, found, digest), entry: Some(new), ..Way::default() })
}
