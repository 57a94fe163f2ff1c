//! A plain list for scripts: the place of each image.

use std::collections::BTreeSet;

use super::text::about;
use super::{Export, Input, Kind, Needs, Refusal};

pub(super) const KIND: Kind =
    Kind { name: "list", about: "one target reference per line", flags: &[], needs: Needs::Images, write };

#[expect(clippy::unnecessary_wraps, reason = "the shape of all kinds")]
fn write(input: &Input<'_>) -> Result<Export, Refusal> {
    let references: BTreeSet<String> = input.images.iter().map(|image| image.place.reference.to_string()).collect();
    let lines = references.into_iter().fold(String::new(), |text, line| text + &line + "\n");
    let about = about(
        "list",
        &[
            "Covers: the images that mirror.lock pins, by their names at the target.",
            "Limits: tags can move; `transship export json` and `transship export env` have digests.",
            "Install: transship export list | grep -v '^#' | xargs -n 1 podman pull",
        ],
    );
    Ok(Export::commented("images.txt", &about, &lines))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{LIST, text};

    #[test]
    fn snapshot() {
        insta::assert_snapshot!(text(super::KIND.name, LIST), @"
        == images.txt
        # Written by `transship export list`. Run it again when mirror.yaml or mirror.lock changes.
        # Covers: the images that mirror.lock pins, by their names at the target.
        # Limits: tags can move; `transship export json` and `transship export env` have digests.
        # Install: transship export list | grep -v '^#' | xargs -n 1 podman pull
        h.example/m/docker.io/grafana/grafana:11.2.0
        h.example/m/docker.io/library/nginx:1.27
        h.example/m/docker.io/library/nginx:latest
        h.example/m/localhost-5000/team/app:1
        h.example/m/quay.io/prometheus/prometheus:v2.55.1
        ");
    }
}
