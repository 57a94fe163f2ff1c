//! Platforms: `os[(version)]/architecture[/variant]` (image-spec `image-index.md`, property `platform`), and when a
//! listed platform matches a wanted one.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

/// `os/architecture[/variant]`, as on a command line and in an index; an `os.version` follows the system, as
/// containerd writes it: `windows(10.0.17763)/amd64`.
///
/// `FromStr` is for user input, and strict: a spelling that no index has (`x86_64`, `Linux`) is refused with the
/// correct one. [`Platform::listed`] is for indexes and configurations, and accepts any value.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Platform {
    /// `linux`, `windows` …, as `GOOS` names it.
    pub os: String,
    /// `amd64`, `arm64` …, as `GOARCH` names it.
    pub architecture: String,
    /// `v7`, `v8` …
    pub variant: Option<String>,
    /// The version of the operating system, which Windows images have: `10.0.17763.1234`.
    pub os_version: Option<String>,
}

/// Names with a different spelling in indexes.
const ALIASES: [(&str, &str); 10] = [
    ("x86_64", "amd64"),
    ("x86-64", "amd64"),
    ("x64", "amd64"),
    ("aarch64", "arm64"),
    ("armv8", "arm64"),
    ("armhf", "arm/v7"),
    ("armv7l", "arm/v7"),
    ("armv6l", "arm/v6"),
    ("i386", "386"),
    ("i686", "386"),
];

impl Platform {
    /// The `platform` of an index's entry, or of an image's configuration. `None` without a system or an
    /// architecture.
    pub fn listed(platform: &Value) -> Option<Self> {
        let word = |key: &str| platform[key].as_str().filter(|text| !text.is_empty()).map(ToOwned::to_owned);
        let (os, architecture) = (word("os")?, word("architecture")?);
        Some(Self { os, architecture, variant: word("variant"), os_version: word("os.version") })
    }

    /// Whether it is the placeholder platform of an attestation.
    pub fn is_unknown(&self) -> bool {
        self.os == "unknown" && self.architecture == "unknown"
    }

    /// Whether `listed` matches this wanted platform. Without a variant any will match, but `arm64` means
    /// `arm64/v8`, both wanted and listed. The OS version is compared only if one is wanted: the listed version has
    /// to be equal, or to begin with it and a dot, so that `10.0.17763` matches any build of it.
    pub fn matches(&self, listed: &Self) -> bool {
        let variant = self.full_variant().is_none_or(|wanted| listed.full_variant() == Some(wanted));
        let version = self.os_version.as_deref().is_none_or(|wanted| {
            let rest = listed.os_version.as_deref().and_then(|version| version.strip_prefix(wanted));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        });
        self.os == listed.os && self.architecture == listed.architecture && variant && version
    }

    fn full_variant(&self) -> Option<&str> {
        self.variant.as_deref().or_else(|| (self.architecture == "arm64").then_some("v8"))
    }
}

impl FromStr for Platform {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_word = |part: &str| {
            !part.is_empty()
                && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
        };
        let malformed =
            || format!("`{text}` isn't a platform: expected os/architecture[/variant], such as linux/arm64/v8");
        let (system, rest) = text.split_once('/').ok_or_else(malformed)?;
        let (os, os_version) = match system.strip_suffix(')').and_then(|system| system.split_once('(')) {
            Some((os, version)) => (os, Some(version)),
            None => (system, None),
        };
        let (architecture, variant) = rest.split_once('/').map_or((rest, None), |(one, other)| (one, Some(other)));
        let lower = text.to_ascii_lowercase();
        if lower != text && lower.parse::<Self>().is_ok() {
            return Err(format!("`{text}` isn't a platform: write {lower}"));
        }
        if ![Some(os), Some(architecture), os_version, variant].into_iter().flatten().all(is_word) {
            return Err(malformed());
        }
        if let Some((_, name)) = ALIASES.iter().find(|(alias, _)| *alias == architecture) {
            return Err(format!("`{text}` isn't a platform of images: write {name} for {architecture}"));
        }
        let own = |part: &str| part.to_owned();
        let (variant, os_version) = (variant.map(own), os_version.map(own));
        let platform = Self { os: own(os), architecture: own(architecture), variant, os_version };
        if platform.is_unknown() {
            return Err(format!("`{text}` isn't a platform: attestations are mirrored with their image"));
        }
        Ok(platform)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.os)?;
        self.os_version.as_ref().map_or(Ok(()), |version| write!(f, "({version})"))?;
        write!(f, "/{}", self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Platform;

    #[test]
    fn platforms_survive_a_round_trip_through_text() {
        for text in
            ["linux/amd64", "linux/arm/v7", "windows(10.0.17763)/amd64", "windows(10.0)/arm64/v8", "wasip1/wasm"]
        {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn invalid_platforms_are_refused_with_a_suggestion() {
        for (bad, why) in [
            ("linux", "expected os/architecture[/variant]"),
            ("linux/", "expected os/architecture[/variant]"),
            ("/amd64", "expected os/architecture[/variant]"),
            ("linux/arm/v7/x", "expected os/architecture[/variant]"),
            ("linux/arm/", "expected os/architecture[/variant]"),
            ("linux/a b", "expected os/architecture[/variant]"),
            ("linux/amd64,linux/arm64", "expected os/architecture[/variant]"),
            ("windows()/amd64", "expected os/architecture[/variant]"),
            ("windows(10.0/amd64", "expected os/architecture[/variant]"),
            ("windows/amd64(10.0)", "expected os/architecture[/variant]"),
            ("Linux/AMD64", "write linux/amd64"),
            ("linux/x86_64", "write amd64 for x86_64"),
            ("linux/aarch64", "write arm64 for aarch64"),
            ("linux/armhf", "write arm/v7 for armhf"),
            ("unknown/unknown", "attestations are mirrored with their image"),
        ] {
            let error = bad.parse::<Platform>().unwrap_err();
            assert!(error.starts_with(&format!("`{bad}` is")) && error.contains(why), "{error}");
        }
    }

    #[test]
    fn listed_platforms_match_by_os_architecture_and_variant() {
        for (wanted, listed, expected) in [
            ("linux/amd64", "linux/amd64", true),
            ("linux/amd64", "linux/amd64/v3", true),
            ("linux/amd64/v3", "linux/amd64", false),
            ("linux/amd64", "windows/amd64", false),
            ("linux/arm", "linux/arm/v6", true),
            ("linux/arm/v7", "linux/arm/v6", false),
            ("linux/arm/v7", "linux/arm", false),
            ("linux/arm", "linux/arm64", false),
            ("linux/arm64", "linux/arm64/v8", true),
            ("linux/arm64/v8", "linux/arm64", true),
            ("linux/arm64", "linux/arm64/v9", false),
            ("windows/amd64", "windows(10.0.17763.1)/amd64", true),
            ("windows(10.0.17763)/amd64", "windows(10.0.17763.1)/amd64", true),
            ("windows(10.0.17763.1)/amd64", "windows(10.0.17763.1)/amd64", true),
            ("windows(10.0.1776)/amd64", "windows(10.0.17763.1)/amd64", false),
            ("windows(10.0.17763)/amd64", "windows/amd64", false),
        ] {
            let parse = |text: &str| text.parse::<Platform>().unwrap();
            assert_eq!(parse(wanted).matches(&parse(listed)), expected, "{wanted} and {listed}");
        }
    }

    #[test]
    fn a_listed_platform_is_kept_as_written() {
        let listed = |value| Platform::listed(&value).map(|platform| platform.to_string());
        let windows = json!({"os": "windows", "architecture": "amd64", "os.version": "10.0.1", "variant": "", "x": 1});
        assert_eq!(listed(windows).as_deref(), Some("windows(10.0.1)/amd64"));
        assert_eq!(listed(json!({"os": "Odd", "architecture": "x86_64"})).as_deref(), Some("Odd/x86_64"));
        for none in [json!(null), json!({"os": "linux"}), json!({"os": "", "architecture": "amd64"}), json!(["os"])] {
            assert_eq!(listed(none), None);
        }
    }
}
