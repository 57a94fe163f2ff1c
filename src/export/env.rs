//! Variables for shells, Compose and Makefiles: `NGINX_IMAGE=…`.

use std::collections::BTreeMap;

use super::text::about;
use super::{Export, Image, Input, Kind, Needs, Refusal};

pub(super) const KIND: Kind =
    Kind {
        name: "env", about: "NGINX_IMAGE=… for shells, Compose and make", flags: &[], needs: Needs::Images, write
    };

#[expect(clippy::unnecessary_wraps, reason = "the shape of all kinds")]
fn write(input: &Input<'_>) -> Result<Export, Refusal> {
    let names = names(input.images);
    let pairs: BTreeMap<&String, &Image<'_>> = names.iter().zip(input.images).collect();
    let lines = pairs.into_iter().map(|(name, image)| format!("{name}={}\n", image.pinned()));
    let about = about(
        "env",
        &[
            "Covers: the images that mirror.lock pins, with the digests that the target serves.",
            "Limits: names can change when images are added: where several would have the same name, the tag is appended to each.",
            "Install: transship export env -o ., then `docker compose --env-file images.env up`, or `. ./images.env` in a shell",
        ],
    );
    Ok(Export::commented("images.env", &about, &lines.collect::<String>()))
}

/// The ways to name an image, from the shortest to one that only identical content can share: two sources may differ
/// only in characters that a variable can't contain.
const WAYS: [fn(&Image<'_>) -> String; 4] = [
    |image| variable(&[image.from().name(), "image"]),
    |image| variable(&[image.from().name(), "image", version(image)]),
    |image| variable(&[&image.from().to_string(), "image", version(image)]),
    |image| variable(&[&image.from().to_string(), "image", version(image), image.mirrored.target_digest.hex()]),
];

/// A name for each image. Images with the same name each take their next way.
fn names(images: &[Image<'_>]) -> Vec<String> {
    let mut ways = vec![0; images.len()];
    loop {
        let names: Vec<String> = images.iter().zip(&ways).map(|(image, way)| WAYS[*way](image)).collect();
        let mut bearers: BTreeMap<&str, usize> = BTreeMap::new();
        names.iter().for_each(|name| *bearers.entry(name).or_default() += 1);
        let is_stuck = |(name, way): (&String, &usize)| bearers[name.as_str()] == 1 || way + 1 == WAYS.len();
        if names.iter().zip(&ways).all(is_stuck) {
            return names;
        }
        let crowded = names.iter().zip(&mut ways).filter(|(name, _)| bearers[name.as_str()] > 1);
        crowded.for_each(|(_, way)| *way = (*way + 1).min(WAYS.len() - 1));
    }
}

/// The tag, or the digest if the list gives only that.
fn version<'a>(image: &Image<'a>) -> &'a str {
    let tag = image.source().tag().or(image.place.reference.tag());
    tag.map_or(image.mirrored.digest.hex(), crate::oci::Tag::as_str)
}

/// A name that is valid in every shell.
fn variable(parts: &[&str]) -> String {
    let text = parts.join("_").to_ascii_uppercase();
    let name: String = text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) { format!("_{name}") } else { name }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{LIST, text};

    #[test]
    fn snapshot() {
        insta::assert_snapshot!(text(super::KIND.name, LIST), @"
        == images.env
        # Written by `transship export env`. Run it again when mirror.yaml or mirror.lock changes.
        # Covers: the images that mirror.lock pins, with the digests that the target serves.
        # Limits: names can change when images are added: where several would have the same name, the tag is appended to each.
        # Install: transship export env -o ., then `docker compose --env-file images.env up`, or `. ./images.env` in a shell
        APP_IMAGE=h.example/m/localhost-5000/team/app:1@sha256:e76fc4a51ed7a3690c5df01e79ba9f9c235ade6bd0067419fd4356f0094b4196
        GRAFANA_IMAGE=h.example/m/docker.io/grafana/grafana:11.2.0@sha256:043ae716b9d14ea826ea67cc7c7a9964d64d1e031394b170c102de0d7bf3ba8b
        NGINX_IMAGE_1_27=h.example/m/docker.io/library/nginx:1.27@sha256:6965a10c15290ad0b29ca7fd1866de1850408b3cb15fb11a3bbbbc2fddb158bd
        NGINX_IMAGE_LATEST=h.example/m/docker.io/library/nginx:latest@sha256:86cee2c10898a48ff47a0626f8202a2408b5893aff5df58ae10d83166e6d7b0e
        PROMETHEUS_IMAGE=h.example/m/quay.io/prometheus/prometheus:v2.55.1@sha256:37a680133bd09342f934afb8dd2c7d9e1b624da5f35e3a38adb103e37c055ed1
        ");
    }
}
