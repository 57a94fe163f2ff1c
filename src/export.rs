//! Mirrored images and their places → configuration for clients of the mirror. Pure: no requests and no I/O.
//!
//! Each kind is a file here and a row of [`KINDS`]. The text of a kind depends on the images, not on their order in the
//! list. It begins with a comment that says what it covers, what it can't do, and how to install it. An image that a
//! kind can't express causes a [`Refusal`] that names it; no image is silently omitted.

mod containerd;
mod docker;
mod env;
mod image;
mod json;
mod k3s;
mod kubelet_config;
mod kustomize;
mod kyverno;
mod list;
mod login;
mod openshift;
mod pull_secret;
mod registries_conf;
mod text;
mod webhook;

use std::fmt;

pub(crate) use image::{Image, images};
pub(crate) use login::{Login, Logins};

use crate::oci::Registry;

/// All kinds, in the order in which they are listed.
pub(crate) const KINDS: &[Kind] = &[
    containerd::KIND,
    registries_conf::KIND,
    k3s::KIND,
    docker::KIND,
    webhook::KIND,
    openshift::KIND,
    kyverno::KIND,
    kustomize::KIND,
    pull_secret::KIND,
    kubelet_config::KIND,
    env::KIND,
    json::KIND,
    list::KIND,
];

/// The default name of objects in a cluster.
const NAME: &str = "transship";

/// A kind of configuration.
#[derive(Debug)]
pub(crate) struct Kind {
    /// The name on the command line.
    pub name: &'static str,
    /// One line about what it writes.
    pub about: &'static str,
    /// The flags that it accepts in addition to the common ones.
    pub flags: &'static [Flag],
    /// The input that it needs.
    pub needs: Needs,
    write: fn(&Input<'_>) -> Result<Export, Refusal>,
}

/// The input of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// The mirrored images. No secret is read.
    Images,
    /// The credentials of registries.
    Logins,
}

/// A flag that only some kinds accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flag {
    /// `--microk8s`
    Microk8s,
    /// `--rke2`
    Rke2,
    /// `--plain`
    Plain,
    /// `--name`
    Name,
    /// `--namespace`
    Namespace,
    /// `--service-account`
    ServiceAccount,
    /// `--upstream`
    Upstream,
    /// `--yes`
    Yes,
}

impl fmt::Display for Flag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Microk8s => "--microk8s",
            Self::Rke2 => "--rke2",
            Self::Plain => "--plain",
            Self::Name => "--name",
            Self::Namespace => "--namespace",
            Self::ServiceAccount => "--service-account",
            Self::Upstream => "--upstream",
            Self::Yes => "--yes",
        })
    }
}

/// The options given by flags.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    /// For a `MicroK8s` node.
    pub microk8s: bool,
    /// For an RKE2 node.
    pub rke2: bool,
    /// Write the client's own file instead of values for its chart.
    pub plain: bool,
    /// The name of the object.
    pub name: Option<String>,
    /// The namespaces to write it for; empty = the namespace in which it is applied.
    pub namespaces: Vec<String>,
    /// The service account whose pods use it.
    pub service_account: Option<String>,
}

/// The input of an export.
#[derive(Debug)]
pub(crate) struct Input<'a> {
    /// The images at the target, sorted by source, without duplicates.
    pub images: &'a [Image<'a>],
    /// The registry of the target.
    pub target: Target<'a>,
    /// The credentials, for kinds that need them.
    pub logins: &'a Logins,
    /// The options.
    pub options: &'a Options,
}

/// The registry of the target, and how to connect to it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target<'a> {
    /// The registry.
    pub registry: &'a Registry,
    /// Whether it uses plain HTTP.
    pub plain_http: bool,
    /// Whether to skip the verification of its certificate.
    pub insecure: bool,
}

impl Target<'_> {
    /// Its URL, without a trailing slash.
    fn url(&self) -> String {
        let scheme = if self.plain_http { "http" } else { "https" };
        format!("{scheme}://{}", self.registry)
    }
}

/// The output of a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Export {
    /// The files; at least one.
    pub files: Vec<File>,
    /// Notes for formats without comments.
    pub aside: Option<String>,
}

/// One file of an export.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct File {
    /// Its path below the output folder, with `/` as separator.
    pub name: String,
    /// Its text.
    pub text: String,
    /// Whether it contains a secret.
    pub is_secret: bool,
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Export {
    /// One file in a format with comments.
    fn commented(name: &str, about: &str, text: &str) -> Self {
        let text = format!("{}{text}", text::comment(about));
        Self { files: vec![File { name: name.to_owned(), text, is_secret: false }], aside: None }
    }
}

/// Why a kind can't express the mirror.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The obstacle; the message begins with the image.
    pub why: String,
    /// What the user can do.
    pub hint: String,
}

impl Refusal {
    fn new(why: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { why: why.into(), hint: hint.into() }
    }
}

impl Kind {
    /// The kind with this name.
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        KINDS.iter().find(|kind| kind.name == name)
    }

    /// Writes the export.
    ///
    /// # Errors
    /// If the format can't express something.
    pub(crate) fn write(&self, input: &Input<'_>) -> Result<Export, Refusal> {
        if self.needs == Needs::Images && input.images.is_empty() {
            let hint = "list images in mirror.yaml, mirror them with `transship sync`, then export";
            return Err(Refusal::new(
                format!("{}: no image is mirrored to {}", self.name, input.target.registry),
                hint,
            ));
        }
        (self.write)(input)
    }
}

#[cfg(test)]
mod tests;
