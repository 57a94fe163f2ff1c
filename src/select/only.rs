//! `--only IMAGE…`: the images that a run is limited to, by a name as in mirror.yaml or the lock, or by a glob.

use globset::{Glob, GlobBuilder, GlobMatcher};

use crate::oci::{Reference, Repository};

/// Names of images, `nginx` or `nginx:1.27`, and globs for canonical sources, `docker.io/library/nginx:1.27`, in
/// which `*` also matches `/`. An empty list matches everything.
#[derive(Debug, Clone, Default)]
pub struct Only(Vec<Pattern>);

#[derive(Debug, Clone)]
enum Pattern {
    /// All of a repository.
    Repository(Repository),
    /// One image of it.
    Image(Reference),
    Glob {
        whole: GlobMatcher,
        /// Every prefix of the glob that is a valid glob itself.
        beginnings: Vec<GlobMatcher>,
    },
}

/// Characters that make a text a glob. No name contains them.
const SPECIAL: [char; 4] = ['*', '?', '[', '{'];

impl Pattern {
    fn read(text: &str) -> Result<Self, String> {
        if !text.contains(SPECIAL) {
            if let Ok(repository) = text.parse() {
                return Ok(Self::Repository(repository));
            }
            if let Ok(image) = text.parse() {
                return Ok(Self::Image(image));
            }
        }
        let whole = compile(text).map_err(|error| format!("--only {text}: {}", error.kind()))?;
        let ends = text.char_indices().map(|(at, c)| at + c.len_utf8());
        let beginnings = ends.filter_map(|end| compile(&text[..end]).ok()).map(|glob| glob.compile_matcher()).collect();
        Ok(Self::Glob { whole: whole.compile_matcher(), beginnings })
    }

    /// `names` are the names of `source` that a glob may match.
    fn matches(&self, source: &Reference, names: &[String]) -> bool {
        match self {
            Self::Repository(repository) => repository == source.repository(),
            Self::Image(image) => {
                let has = |wanted: bool, same: bool| !wanted || same;
                image.repository() == source.repository()
                    && has(image.tag().is_some(), image.tag() == source.tag())
                    && has(image.digest().is_some(), image.digest() == source.digest())
            }
            Self::Glob { whole, .. } => names.iter().any(|name| whole.is_match(name)),
        }
    }
}

impl Only {
    /// Any of `globs` may match.
    ///
    /// # Errors
    /// If a glob is invalid.
    pub fn new(globs: &[String]) -> Result<Self, String> {
        globs.iter().map(|text| Pattern::read(text)).collect::<Result<_, _>>().map(Self)
    }

    /// Whether everything matches.
    pub fn is_everything(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `source` matches, with its digest or, if it also has a tag, without.
    pub fn matches(&self, source: &Reference) -> bool {
        if self.is_everything() {
            return true;
        }
        let by_tag = source.tag().map(|tag| Reference::tagged(source.repository().clone(), tag.clone()).to_string());
        let names: Vec<String> = by_tag.into_iter().chain([source.to_string()]).collect();
        self.0.iter().any(|pattern| pattern.matches(source, &names))
    }

    /// Whether some tag of `repository` could match.
    pub fn may_match(&self, repository: &Repository) -> bool {
        let start = format!("{repository}:");
        let begins = |pattern: &Pattern| match pattern {
            Pattern::Repository(named) => named == repository,
            Pattern::Image(image) => image.repository() == repository,
            Pattern::Glob { beginnings, .. } => beginnings.iter().any(|beginning| beginning.is_match(&start)),
        };
        self.is_everything() || self.0.iter().any(begins)
    }
}

fn compile(text: &str) -> Result<Glob, globset::Error> {
    GlobBuilder::new(text).literal_separator(false).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_canonical_sources_across_slashes() {
        let digest = crate::oci::Digest::of(b"");
        for (glob, source, matches, may_match) in [
            ("*", "nginx:1.27", true, true),
            ("docker.io/library/nginx:1.27", "nginx:1.27", true, true),
            ("docker.io/*", "nginx:1.27", true, true),
            ("*/nginx:*", "nginx:1.27", true, true),
            ("*:1.27", "nginx:1.27", true, true),
            ("nginx:1.27", "nginx:1.27", true, true),
            ("nginx", "nginx:1.27", true, true),
            ("nginx:1.26", "nginx:1.27", false, true),
            ("library/nginx", "nginx:1.27", true, true),
            ("ngin", "nginx:1.27", false, false),
            ("nginx", "quay.io/a/nginx:1.27", false, false),
            ("docker.io/library/nginx:1.26", "nginx:1.27", false, true),
            ("docker.io/library/nginx", "nginx:1.27", true, true),
            ("quay.io/*", "nginx:1.27", false, false),
            ("{quay.io,docker.io}/*", "nginx:1.27", true, true),
        ] {
            let only = Only::new(&[glob.to_owned()]).unwrap();
            let source: Reference = source.parse().unwrap();
            assert_eq!(only.matches(&source), matches, "{glob} {source}");
            assert_eq!(only.matches(&source.pinned(digest.clone())), matches, "{glob} {source}@…");
            assert_eq!(only.may_match(source.repository()), may_match, "{glob} {source}");
        }
        assert!(Only::new(&["[".to_owned()]).is_err());
        assert!(Only::default().is_everything());
    }
}
