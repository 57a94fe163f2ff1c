//! The usual start of a command-line test: two registries in this process, and a folder with a mirror.yaml.

use super::cli::{Cli, Run};
use super::images::{Image, image};
use super::registry::Registry;

/// Two registries and a folder to run in.
pub(crate) struct Scene {
    pub(crate) source: Registry,
    pub(crate) target: Registry,
    pub(crate) cli: Cli,
}

impl Scene {
    pub(crate) async fn new() -> Self {
        Self { source: Registry::start().await, target: Registry::start().await, cli: Cli::new() }
    }

    /// mirror.yaml with these entries; `SRC` and `DST` are the registries.
    pub(crate) fn list(&self, entries: &str) {
        let text = format!("target: DST/mirror\nlayout: \"{{repository}}\"\nimages:\n{entries}");
        self.write("mirror.yaml", &text);
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let text = text.replace("SRC", self.source.name().as_str()).replace("DST", self.target.name().as_str());
        self.cli.write(name, text);
    }

    /// Pushes an image with this name and tag to the source.
    pub(crate) async fn publish(&self, name: &str, tag: &str) -> Image {
        let image = image(&format!("{name}:{tag}")).build();
        image.push(&self.source.inside(name), tag).await;
        image
    }

    /// Clears the recorded requests.
    pub(crate) fn clear(&self) {
        self.source.script.clear();
        self.target.script.clear();
    }

    pub(crate) async fn assert_mirrored(&self, image: &Image, name: &str, tag: &str) {
        image.assert_in(&self.target.inside(&format!("mirror/{name}")), tag).await;
    }
}

/// The status of each image, in order.
pub(crate) fn statuses(run: &Run) -> Vec<String> {
    let report = run.json();
    let images = report["images"].as_array().expect("images");
    images.iter().map(|image| image["status"].as_str().expect("a status").to_owned()).collect()
}
