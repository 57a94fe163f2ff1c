//! How images are mirrored: the keys that entries and `defaults` share.

use super::*;
use crate::config::MissingAttestations;

fn handlings(text: &str) -> Vec<Handling> {
    let config = read(text).unwrap_or_else(|problems| panic!("{problems}"));
    config.images.into_iter().map(|rule| rule.handling).collect()
}

fn platforms(handling: &Handling) -> String {
    handling.platforms.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

#[test]
fn unset_keys_have_built_in_defaults() {
    let built_in = Handling {
        overwrite: Overwrite::Replace,
        platforms: Vec::new(),
        referrers: ReferrerRule { policy: ReferrerPolicy::All, artifact_types: Vec::new() },
        foreign: Foreign::Fetch,
        missing_attestations: MissingAttestations::Fail,
    };
    assert_eq!(handlings(&images("  - a:1\n  - {image: b, tags: ['1']}\n")), [built_in.clone(), built_in]);
}

#[test]
fn an_entry_overrides_the_defaults_key_by_key() {
    let handlings = handlings(&images(
        "  - a:1\n  - {image: b:1, platforms: [linux/s390x], foreign: fetch}\n  - {image: c:1, platforms: [all], overwrite: keep}\n  \
         - {image: d:1, referrers: none}\n  - {image: e:1, artifact_types: [a/b]}\n\
         defaults:\n  platforms: [windows(10.0.17763)/amd64, linux/arm64, linux/amd64]\n  referrers: require\n  \
         artifact_types: [application/spdx+json]\n  foreign: fail\n  overwrite: false\n",
    ));
    let all: Vec<_> = handlings
        .iter()
        .map(|h| (platforms(h), h.foreign, h.overwrite, h.referrers.policy, h.referrers.artifact_types.join(" ")))
        .collect();
    let three = || "linux/amd64 linux/arm64 windows(10.0.17763)/amd64".to_owned();
    let spdx = || "application/spdx+json".to_owned();
    let (fail, refuse, require) = (Foreign::Fail, Overwrite::Refuse, ReferrerPolicy::Require);
    assert_eq!(all[0], (three(), fail, refuse, require, spdx()), "sorted: their order doesn't make another image");
    assert_eq!(all[1], ("linux/s390x".into(), Foreign::Fetch, refuse, require, spdx()));
    assert_eq!(all[2], (String::new(), fail, Overwrite::Keep, require, spdx()));
    assert_eq!(all[3], (three(), fail, refuse, ReferrerPolicy::None, spdx()), "the entry overrules its own default");
    assert_eq!(all[4], (three(), fail, refuse, require, "a/b".into()));
}

#[test]
fn missing_attestations_are_dropped_only_if_set() {
    let handlings = handlings(&images(
        "  - a:1\n  - {image: b:1, missing_attestations: fail}\ndefaults: {missing_attestations: drop}\n",
    ));
    let all: Vec<_> = handlings.iter().map(|handling| handling.missing_attestations).collect();
    assert_eq!(all, [MissingAttestations::Drop, MissingAttestations::Fail]);
}

#[test]
fn wrong_handling_is_refused() {
    let image = |keys: &str| images(&format!("  - {{image: a:1, {keys}}}"));
    let default = |keys: &str| with(&format!("defaults: {{{keys}}}"));
    assert_problems(vec![
        (image("overwrite: maybe"), "3:29 images[0].overwrite: `maybe` isn't supported: expected true, false or keep"),
        (image("referrers: some"), "3:29 images[0].referrers: `some` isn't supported: expected all, none or require"),
        (
            image("missing_attestations: ignore"),
            "3:40 images[0].missing_attestations: `ignore` isn't supported: expected fail or drop",
        ),
        (default("foreign: skip"), "3:21 defaults.foreign: `skip` isn't supported: expected fetch or fail"),
        (image("platforms: {a: b}"), "3:29 images[0].platforms: expected a list, found a map"),
        (image("platforms: []"), "3:29 images[0].platforms: the list is empty"),
        (
            image("platforms: [amd64]"),
            "3:30 images[0].platforms[0]: `amd64` isn't a platform: expected os/architecture[/variant], such as linux/arm64/v8",
        ),
        (
            default("platforms: [linux/amd64, linux/x86_64]"),
            "3:37 defaults.platforms[1]: `linux/x86_64` isn't a platform of images: write amd64 for x86_64",
        ),
        (
            image("platforms: [linux/amd64, linux/amd64]"),
            "3:43 images[0].platforms[1]: the platform `linux/amd64` is listed twice",
        ),
        (image("platforms: [linux/amd64, all]"), "3:43 images[0].platforms[1]: `all` is listed with other platforms"),
        (image("artifact_types: []"), "3:34 images[0].artifact_types: the list is empty"),
        (image("artifact_types: ['']"), "3:35 images[0].artifact_types[0]: `` isn't an artifact type"),
        (image("artifact_types: [a/b, sbom]"), "3:40 images[0].artifact_types[1]: `sbom` isn't an artifact type"),
        (
            image("artifact_types: [a/b, a/b]"),
            "3:40 images[0].artifact_types[1]: the artifact type `a/b` is listed twice",
        ),
        (
            image("artifact_types: [a/b], referrers: none"),
            "3:34 images[0].artifact_types: it selects referrers, but referrers: none mirrors none",
        ),
        (
            images("  - {image: a:1, artifact_types: [a/b]}\ndefaults: {referrers: none}"),
            "3:34 images[0].artifact_types: it selects referrers, but referrers: none mirrors none",
        ),
        (
            default("artifact_types: [a/b], referrers: none"),
            "3:28 defaults.artifact_types: it selects referrers, but referrers: none mirrors none",
        ),
    ]);
}

#[test]
fn one_image_may_be_mirrored_for_several_platforms_but_not_under_one_tag() {
    let entry = |path: &str, image: &str, platform: &str| {
        format!("  - {{image: '{image}', platforms: [{platform}], to: {path}}}\n")
    };
    let apart = images(&(entry("amd", "a:1", "linux/amd64") + &entry("arm", "a:1", "linux/arm64")));
    assert_eq!(destinations(&apart), ["h.example/m/amd", "h.example/m/arm"]);
    let pinned = format!("a:1@{D}");
    let same =
        images(&(entry("x", &pinned, "linux/arm64, linux/amd64") + &entry("x", &pinned, "linux/amd64, linux/arm64")));
    assert_eq!(destinations(&same).len(), 2, "both give the same digest");
    assert_problems(vec![
        (
            images(&(entry("x", "a:1", "linux/amd64") + &entry("x", "a:1", "linux/arm64"))),
            "4:5 images[1]: h.example/m/x:1 is also the target of images[0] in line 3",
        ),
        (
            images(&(entry("x", &pinned, "linux/amd64") + &entry("x", &pinned, "linux/arm64"))),
            "4:5 images[1]: h.example/m/x:1 is also the target of images[0] in line 3",
        ),
    ]);
}
