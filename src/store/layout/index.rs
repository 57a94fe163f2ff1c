//! index.json of a layout (image-spec `image-layout.md`): its manifests and their names.
//!
//! Pure. Content written by other tools is preserved: members and entries are kept as raw text and in order,
//! whether or not they are understood.

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::oci::{Descriptor, Digest, Manifest, Members, Referrer};

/// The annotation with the name of an entry.
const NAME: &str = "org.opencontainers.image.ref.name";
/// The annotation of an entry with neither name nor subject, known by digest alone. It is removed as soon as
/// another manifest points at it. Its value is the repository that the manifest belongs to.
const UNTAGGED: &str = "transship.untagged";

/// The list of manifests, and all other members of index.json.
#[derive(Debug, Clone)]
pub(super) struct Index {
    members: Vec<(String, Box<RawValue>)>,
    entries: Vec<Entry>,
}

/// One manifest of the layout.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    raw: Box<RawValue>,
    /// The parsed entry, if it could be parsed.
    says: Option<Says>,
}

/// A parsed entry.
#[derive(Debug, Clone)]
pub(super) struct Says {
    pub(super) descriptor: Descriptor,
    pub(super) name: Option<String>,
    /// The repository of a manifest that is known by digest alone.
    pub(super) untagged: Option<String>,
}

/// A manifest to add to index.json.
#[derive(Debug, Clone)]
pub(super) struct Change {
    descriptor: Descriptor,
    name: Option<String>,
    entry: Value,
    /// The manifests it points at, which no longer need entries.
    children: Vec<Digest>,
}

impl Change {
    /// `manifest` under `name`, or by digest alone in the repository `home`.
    pub(super) fn new(manifest: &Manifest, name: Option<String>, home: &str) -> Self {
        let mut entry = Referrer::entry(manifest);
        let mut annotations = Map::new();
        if let Some(name) = &name {
            annotations.insert(NAME.into(), name.as_str().into());
        } else if manifest.subject().is_none() {
            annotations.insert(UNTAGGED.into(), home.into());
        }
        // The manifest's own annotations are left out: a name among them would become the name of this entry.
        let Value::Object(members) = &mut entry else { unreachable!("a descriptor is an object") };
        members.remove("annotations");
        if manifest.subject().is_none() {
            members.remove("artifactType");
        }
        if !annotations.is_empty() {
            members.insert("annotations".into(), annotations.into());
        }
        let children = manifest.successors().iter().map(|edge| edge.descriptor().digest.clone()).collect();
        Self { descriptor: manifest.descriptor().clone(), name, entry, children }
    }
}

impl Index {
    /// The index of an empty layout.
    pub(super) const EMPTY: &'static str =
        "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.index.v1+json\",\"manifests\":[]}";

    /// Parses the text of the file.
    pub(super) fn read(text: &[u8]) -> Result<Self, serde_json::Error> {
        let Members(mut members) = serde_json::from_slice::<Members<String, Box<RawValue>>>(text)?;
        if members.iter().filter(|(key, _)| key == "manifests").count() > 1 {
            // Readers disagree on which of two members counts.
            return Err(serde::de::Error::custom("the member `manifests` is listed twice"));
        }
        if !members.iter().any(|(key, _)| key == "manifests") {
            members.push(("manifests".into(), RawValue::from_string("[]".into())?));
        }
        let listed = members.iter().find(|(key, _)| key == "manifests").map_or("[]", |(_, value)| value.get());
        let listed: Option<Vec<Box<RawValue>>> = serde_json::from_str(listed)?;
        let entries = listed.into_iter().flatten().map(|raw| Entry { says: Says::read(&raw), raw }).collect();
        Ok(Self { members, entries })
    }

    /// The text of the file, with one entry per line.
    pub(super) fn to_text(&self) -> String {
        let entries: Vec<&str> = self.entries.iter().map(|entry| entry.raw.get()).collect();
        let listed = if entries.is_empty() { "[]".to_owned() } else { format!("[\n{}\n]", entries.join(",\n")) };
        let members = self.members.iter().map(|(key, value)| {
            let value = if key == "manifests" { &listed } else { value.get() };
            format!("{}:{value}", Value::from(key.as_str()))
        });
        format!("{{{}}}", members.collect::<Vec<_>>().join(","))
    }

    /// The parsed entries, in order.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Says> {
        self.entries.iter().filter_map(|entry| entry.says.as_ref())
    }

    /// Applies `change`. Returns whether that changed anything.
    pub(super) fn apply(&mut self, change: &Change) -> Result<bool, serde_json::Error> {
        let before = self.entries.len();
        self.entries.retain(|entry| !entry.makes_way_for(change));
        let made_way = self.entries.len() < before;
        let Descriptor { digest, size, .. } = &change.descriptor;
        let is_same = |says: &Says| says.descriptor.digest == *digest && says.descriptor.size == *size;
        let is_listed = match &change.name {
            Some(name) => {
                let mut named = self.entries().filter(|says| says.name.as_ref() == Some(name)).peekable();
                named.peek().is_some() && named.all(is_same)
            }
            None => self.entries().any(is_same),
        };
        if is_listed {
            return Ok(made_way);
        }
        let raw = serde_json::value::to_raw_value(&change.entry)?;
        let entry = Entry { says: Says::read(&raw), raw };
        let has_name =
            |entry: &Entry| change.name.is_some() && entry.says.as_ref().is_some_and(|s| s.name == change.name);
        match self.entries.iter().position(has_name) {
            Some(at) => {
                self.entries.retain(|entry| !has_name(entry));
                self.entries.insert(at.min(self.entries.len()), entry);
            }
            None => self.entries.push(entry),
        }
        Ok(true)
    }
}

impl Entry {
    /// Whether `change` replaces this entry: it covers it as a child, or by its digest alone.
    fn makes_way_for(&self, change: &Change) -> bool {
        let Some(Says { descriptor, untagged: Some(_), .. }) = &self.says else { return false };
        change.children.contains(&descriptor.digest)
            || (change.name.is_some() && descriptor.digest == change.descriptor.digest)
    }
}

impl Says {
    fn read(raw: &RawValue) -> Option<Self> {
        #[derive(serde::Deserialize)]
        struct Shape {
            #[serde(flatten)]
            descriptor: Descriptor,
            annotations: Option<Map<String, Value>>,
        }
        let Shape { descriptor, annotations } = serde_json::from_str(raw.get()).ok()?;
        let text = |key| Some(annotations.as_ref()?.get(key)?.as_str()?.to_owned());
        Some(Self { descriptor, name: text(NAME), untagged: text(UNTAGGED) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::{image, multi_platform};

    fn names(index: &Index) -> Vec<(Option<&str>, &Digest)> {
        index.entries().map(|says| (says.name.as_deref(), &says.descriptor.digest)).collect()
    }

    fn named(manifest: &Manifest, name: &str) -> Change {
        Change::new(manifest, Some(name.to_owned()), "")
    }

    #[test]
    fn unknown_members_written_by_others_are_kept() {
        let [old, new] = ["old", "new"].map(|seed| image(seed).build().manifest);
        let odd = format!(
            r#"{{"size": {}, "digest":"{}","mediaType":"a/b","x":[1, 2.50],"annotations":{{"{NAME}":"keep"}}}}"#,
            old.bytes().len(),
            old.digest()
        );
        let text = format!(
            r#"{{"z":{{"b":1,  "a":1e2}},"manifests":[ {odd}, "no entry", {{"digest":"md5:0"}} ],"schemaVersion":2,"a":null}}"#
        );
        let mut index = Index::read(text.as_bytes()).unwrap();
        assert!(index.apply(&named(&new, "n:1")).unwrap());
        let written = index.to_text();
        let entry = index.entries[3].raw.get();
        let expected = format!(
            "{{\"z\":{{\"b\":1,  \"a\":1e2}},\"manifests\":[\n{odd},\n\"no entry\",\n{{\"digest\":\"md5:0\"}},\n{entry}\n],\"schemaVersion\":2,\"a\":null}}"
        );
        assert_eq!(written, expected);
        assert_eq!(
            names(&Index::read(written.as_bytes()).unwrap()),
            [(Some("keep"), old.digest()), (Some("n:1"), new.digest())]
        );
        assert!(!index.apply(&named(&new, "n:1")).unwrap(), "the same again changes nothing");
    }

    #[test]
    fn a_name_is_moved_and_stays_unique() {
        let [a, b, c] = ["a", "b", "c"].map(|seed| image(seed).build().manifest);
        let mut index = Index::read(Index::EMPTY.as_bytes()).unwrap();
        for change in [named(&a, "x:1"), named(&b, "y:1"), named(&c, "x:1")] {
            assert!(index.apply(&change).unwrap());
        }
        assert_eq!(names(&index), [(Some("x:1"), c.digest()), (Some("y:1"), b.digest())]);
    }

    #[test]
    fn an_unnamed_entry_is_removed_once_a_name_or_an_index_refers_to_it() {
        let list = multi_platform("list", &["linux/amd64", "linux/arm64"]);
        let [first, second] = [0, 1].map(|at| list.children[at].manifest.clone());
        let signature = image("signature").artifact("a/signature").subject(first.descriptor()).build().manifest;
        let mut index = Index::read(Index::EMPTY.as_bytes()).unwrap();
        for manifest in [&first, &second, &signature] {
            assert!(index.apply(&Change::new(manifest, None, "h/a")).unwrap());
            assert!(!index.apply(&Change::new(manifest, None, "h/a")).unwrap());
        }
        assert_eq!(names(&index), [(None, first.digest()), (None, second.digest()), (None, signature.digest())]);
        assert!(index.to_text().contains(r#""artifactType":"a/signature""#), "{}", index.to_text());
        assert!(index.apply(&named(&second, "h/a:arm")).unwrap());
        assert!(index.apply(&named(&list.manifest, "h/a:1")).unwrap());
        let expected = [(None, signature.digest()), (Some("h/a:arm"), second.digest()), (Some("h/a:1"), list.digest())];
        assert_eq!(names(&index), expected);
    }

    #[test]
    fn a_file_that_isnt_an_index_is_refused() {
        for bad in
            ["", "[]", "<html>", r#"{"manifests":{}}"#, r#"{"manifests":[}"#, r#"{"manifests":[],"manifests":[]}"#]
        {
            assert!(Index::read(bad.as_bytes()).is_err(), "{bad}");
        }
        assert_eq!(names(&Index::read(br#"{"manifests":null}"#).unwrap()), []);
        assert_eq!(Index::read(b"{}").unwrap().to_text(), r#"{"manifests":[]}"#);
    }
}
