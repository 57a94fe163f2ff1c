//! podman, CRI-O, buildah, skopeo: a drop-in for `registries.conf` (containers-registries.conf(5)).
//!
//! The longest prefix wins, and it may be a repository, so names can differ. A prefix with a tag is accepted, but never
//! matched: podman, buildah and skopeo look up only the repository.

use super::image::{self, Image, Moved, moved};
use super::text::about;
use super::{Export, Input, Kind, Needs, Refusal};
use crate::oci::Repository;

pub(super) const KIND: Kind = Kind {
    name: "registries-conf",
    about: "a drop-in of registries.conf: podman, CRI-O, buildah, skopeo",
    flags: &[],
    needs: Needs::Images,
    write,
};

fn write(input: &Input<'_>) -> Result<Export, Refusal> {
    let mut entries = String::new();
    for moved in moved(input.images) {
        if moved.is_shared {
            return Err(moved.refusal("registries.conf"));
        }
        entries.push_str(&entry(input, &moved));
    }
    input.images.iter().try_for_each(Image::check_pull_by_own_name)?;
    let target = input.target.registry;
    let about = about(
        "registries-conf",
        &[
            &format!(
                "Covers: the repositories below, by tag and by digest. What {target} lacks still comes from upstream."
            ),
            &format!(
                "Limits: it contains no credentials. If {target} requires some, log in with podman or skopeo, or write an auth.json."
            ),
            &image::parts(input.images),
            "Install: transship export registries-conf -o /etc/containers/registries.conf.d",
            "For CRI-O, run: systemctl reload crio",
        ],
    );
    Ok(Export::commented("transship.conf", &about, &entries))
}

/// If the images of a repository are in several target repositories, these are tried in order.
fn entry(input: &Input<'_>, moved: &Moved<'_>) -> String {
    let from = moved.from;
    let insecure = if input.target.plain_http || input.target.insecure { "insecure = true\n" } else { "" };
    let mirror = |to: &&Repository| format!("\n[[registry.mirror]]\nlocation = \"{to}\"\n{insecure}");
    let mirrors: String = moved.to.iter().map(mirror).collect();
    format!("\n[[registry]]\nprefix = \"{from}\"\nlocation = \"{from}\"\n{mirrors}")
}

#[cfg(test)]
mod tests {
    use super::super::tests::{LIST, text};

    #[test]
    fn snapshot() {
        insta::assert_snapshot!(text(super::KIND.name, LIST), @r#"
        == transship.conf
        # Written by `transship export registries-conf`. Run it again when mirror.yaml or mirror.lock changes.
        # Covers: the repositories below, by tag and by digest. What h.example lacks still comes from upstream.
        # Limits: it contains no credentials. If h.example requires some, log in with podman or skopeo, or write an auth.json.
        # Only some platforms are mirrored of 1 image, under another digest: a pull by the source's digest goes upstream.
        # Install: transship export registries-conf -o /etc/containers/registries.conf.d
        # For CRI-O, run: systemctl reload crio

        [[registry]]
        prefix = "docker.io/grafana/grafana"
        location = "docker.io/grafana/grafana"

        [[registry.mirror]]
        location = "h.example/m/docker.io/grafana/grafana"

        [[registry]]
        prefix = "docker.io/library/nginx"
        location = "docker.io/library/nginx"

        [[registry.mirror]]
        location = "h.example/m/docker.io/library/nginx"

        [[registry]]
        prefix = "localhost:5000/team/app"
        location = "localhost:5000/team/app"

        [[registry.mirror]]
        location = "h.example/m/localhost-5000/team/app"

        [[registry]]
        prefix = "quay.io/prometheus/prometheus"
        location = "quay.io/prometheus/prometheus"

        [[registry.mirror]]
        location = "h.example/m/quay.io/prometheus/prometheus"
        "#);
    }
}
