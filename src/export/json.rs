//! A map for programs: source → pinned reference at the target.

use std::collections::BTreeMap;

use super::text::{about, count};
use super::{Export, File, Input, Kind, Needs, Refusal};

pub(super) const KIND: Kind = Kind {
    name: "json",
    about: "a map for programs: source to target@digest",
    flags: &[],
    needs: Needs::Images,
    write,
};

#[expect(clippy::unnecessary_wraps, reason = "the shape of all kinds")]
fn write(input: &Input<'_>) -> Result<Export, Refusal> {
    let pinned = |image: &super::Image<'_>| (image.source().to_string(), image.pinned().to_string());
    let map: BTreeMap<String, String> = input.images.iter().map(pinned).collect();
    let text = serde_json::to_string_pretty(&map).unwrap_or_default() + "\n";
    let covers = format!("Covers: {}, under the sources that mirror.lock has.", count(map.len(), "image"));
    let about = about(
        "json",
        &[
            &covers,
            "Limits: it is data for your own programs; no tool reads it directly.",
            "Install: transship export json -o .",
        ],
    );
    Ok(Export { files: vec![File { name: "images.json".to_owned(), text, is_secret: false }], aside: Some(about) })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{LIST, text};

    #[test]
    fn snapshot() {
        insta::assert_snapshot!(text(super::KIND.name, LIST), @r#"
        == aside
        Written by `transship export json`. Run it again when mirror.yaml or mirror.lock changes.
        Covers: 5 images, under the sources that mirror.lock has.
        Limits: it is data for your own programs; no tool reads it directly.
        Install: transship export json -o .
        == images.json
        {
          "docker.io/grafana/grafana:11.2.0": "h.example/m/docker.io/grafana/grafana:11.2.0@sha256:043ae716b9d14ea826ea67cc7c7a9964d64d1e031394b170c102de0d7bf3ba8b",
          "docker.io/library/nginx:1.27": "h.example/m/docker.io/library/nginx:1.27@sha256:6965a10c15290ad0b29ca7fd1866de1850408b3cb15fb11a3bbbbc2fddb158bd",
          "docker.io/library/nginx:latest": "h.example/m/docker.io/library/nginx:latest@sha256:86cee2c10898a48ff47a0626f8202a2408b5893aff5df58ae10d83166e6d7b0e",
          "localhost:5000/team/app:1": "h.example/m/localhost-5000/team/app:1@sha256:e76fc4a51ed7a3690c5df01e79ba9f9c235ade6bd0067419fd4356f0094b4196",
          "quay.io/prometheus/prometheus:v2.55.1": "h.example/m/quay.io/prometheus/prometheus:v2.55.1@sha256:37a680133bd09342f934afb8dd2c7d9e1b624da5f35e3a38adb103e37c055ed1"
        }
        "#);
    }
}
