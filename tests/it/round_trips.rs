//! Round trips: the text of every parsed value parses to the same value.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use transship::config::{Layout, TargetRoot};
use transship::oci::{Digest, Location, MediaType, Platform, Reference, Registry, Repository, Tag};

/// Parses `text` if it is valid; the displayed value then parses to the same text.
fn settled<T>(text: &str) -> Result<(), TestCaseError>
where
    T: FromStr<Err: Debug> + Display + Debug + PartialEq,
{
    let Ok(value) = text.parse::<T>() else { return Ok(()) };
    let shown = value.to_string();
    let again = shown.parse::<T>();
    let again = again.map_err(|error| TestCaseError::fail(format!("{text:?} → {shown:?}: {error:?}")))?;
    prop_assert_eq!(&again, &value, "{} → {}", text, shown);
    prop_assert_eq!(again.to_string(), shown);
    Ok(())
}

/// Texts like these: each with a character or two changed, and others of the same letters.
fn around(seeds: &'static [&'static str]) -> impl Strategy<Value = String> {
    let edit = (prop::sample::select(seeds), any::<prop::sample::Index>(), "[ -~é\u{feff}]{0,2}", 0_usize..3);
    let edited = edit.prop_map(|(seed, at, put, take)| {
        let mut letters: Vec<char> = seed.chars().collect();
        let at = at.index(letters.len() + 1);
        letters.splice(at..(at + take).min(letters.len()), put.chars());
        letters.into_iter().collect()
    });
    prop_oneof![edited, "[a-zA-Z0-9._:/@()+\\[\\]-]{0,60}", "\\PC{0,30}"]
}

const SHA256: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn digests(text in around(&[SHA256, "sha512:", "md5:00"])) {
        settled::<Digest>(&text)?;
    }

    #[test]
    fn registries(text in around(&["docker.io", "INDEX.docker.io", "h.io:5000", "[::1]:5000", "127.0.0.1:80", "oci:dir"])) {
        settled::<Registry>(&text)?;
    }

    #[test]
    fn repositories(text in around(&["nginx", "library/nginx", "h.io:5000/a/b-c__d", "docker.io/a", "localhost/a"])) {
        settled::<Repository>(&text)?;
    }

    #[test]
    fn tags(text in around(&["latest", "1.27-alpine", "_x", "v1_2.3"])) {
        settled::<Tag>(&text)?;
    }

    #[test]
    fn references(text in around(&["nginx", "nginx:1.27", "h.io/a:1@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"])) {
        settled::<Reference>(&text)?;
    }

    #[test]
    fn target_roots(text in around(&["h.io/m", "h.io:5000", "oci:dir", "oci:./a/../b", "h.io/m/"])) {
        settled::<TargetRoot>(&text)?;
    }

    #[test]
    fn media_types(text in around(&["application/vnd.oci.image.index.v1+json", "Text/Plain; charset=utf-8"])) {
        settled::<MediaType>(&text)?;
    }

    #[test]
    fn platforms(text in around(&["linux/amd64", "linux/arm/v7", "windows(10.0.17763)/amd64", "linux/x86_64"])) {
        settled::<Platform>(&text)?;
    }

    /// These have no display form; any text is accepted or refused without a panic.
    #[test]
    fn arbitrary_text_never_panics(text in around(&["oci:dir:name:1", "{registry}/{repository}", "h.io/a"])) {
        let _ = (text.parse::<Location>(), text.parse::<Layout>());
    }

    #[test]
    fn references_within_the_grammar_are_kept_unchanged(
        tag in "[A-Za-z0-9_][A-Za-z0-9._-]{0,127}",
        digest in "sha256:[a-f0-9]{64}",
        path in "[a-z0-9]{1,8}([._-][a-z0-9]{1,8}){0,2}/[a-z0-9]{1,8}(__[a-z0-9]{1,8}){0,2}",
        host in "[a-z0-9]{1,10}\\.(io|example)(:[1-9][0-9]{0,3})?",
        platform in "[a-z]{1,8}(\\([0-9]{1,3}\\.[0-9]{1,3}\\))?/(amd64|riscv64|s390x)(/v[1-9])?",
    ) {
        prop_assert_eq!(tag.parse::<Tag>().unwrap().to_string(), tag.as_str());
        prop_assert_eq!(digest.parse::<Digest>().unwrap().to_string(), digest.as_str());
        let reference = format!("{host}/{path}:{tag}@{digest}");
        prop_assert_eq!(reference.parse::<Reference>().unwrap().to_string(), reference.as_str());
        prop_assert_eq!(platform.parse::<Platform>().unwrap().to_string(), platform.as_str());
        let root = format!("{host}/{path}");
        prop_assert_eq!(root.parse::<TargetRoot>().unwrap().to_string(), root.as_str());
    }
}
