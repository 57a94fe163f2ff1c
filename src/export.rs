//! What is mirrored where → the configuration of those who pull. Pure: no request, no I/O.
//!
//! Each kind is a file here and a row of [`KINDS`]. The text of a kind depends on the images, not on their order in the list,
//! and begins with a comment that says what it covers, what it can't do, and how it is installed. An image that a kind can't
//! express is a [`Refusal`] that names it: nothing is left out in silence.

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

pub use image::{Image, images};
pub use login::{Login, Logins};

use crate::oci::Registry;

/// All kinds, in the order in which they are listed.
pub const KINDS: &[Kind] = &[
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

/// What objects in a cluster are called, unless told otherwise.
const NAME: &str = "transship";

/// A kind of configuration.
#[derive(Debug)]
pub struct Kind {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What it writes, in a line.
    pub about: &'static str,
    /// The flags that it takes beside those of all kinds.
    pub flags: &'static [Flag],
    /// What it is made of.
    pub needs: Needs,
    write: fn(&Input<'_>) -> Result<Export, Refusal>,
}

/// What a kind is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// The images that are mirrored. No secret is read for it.
    Images,
    /// The credentials of registries.
    Logins,
}

/// A flag that only some kinds take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flag {
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

/// What the flags say.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// For a node of `MicroK8s`.
    pub microk8s: bool,
    /// For a node of RKE2.
    pub rke2: bool,
    /// The consumer's own file, not values of its chart.
    pub plain: bool,
    /// What the object is called.
    pub name: Option<String>,
    /// Where it is written to; empty = wherever it is applied.
    pub namespaces: Vec<String>,
    /// The service account whose pods use it.
    pub service_account: Option<String>,
}

/// What a kind is given.
#[derive(Debug)]
pub struct Input<'a> {
    /// What is mirrored at the target, sorted by source, each source once.
    pub images: &'a [Image<'a>],
    /// The registry of the target.
    pub target: Target<'a>,
    /// The credentials, for kinds that need them.
    pub logins: &'a Logins,
    /// What the flags say.
    pub options: &'a Options,
}

/// The registry of the target, as others talk to it.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// Its name.
    pub registry: &'a Registry,
    /// It speaks plain HTTP.
    pub plain_http: bool,
    /// Its certificate isn't to be verified.
    pub insecure: bool,
}

impl Target<'_> {
    /// Where it is, without a slash at the end.
    fn url(&self) -> String {
        let scheme = if self.plain_http { "http" } else { "https" };
        format!("{scheme}://{}", self.registry)
    }
}

/// What a kind has written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// The files; at least one.
    pub files: Vec<File>,
    /// What a comment would say, where the format has none.
    pub aside: Option<String>,
}

/// A file.
#[derive(Clone, PartialEq, Eq)]
pub struct File {
    /// Its path below the folder that it is written to, with `/` between its parts.
    pub name: String,
    /// The whole text.
    pub text: String,
    /// Whether it holds a secret.
    pub is_secret: bool,
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Export {
    /// One file whose format has comments.
    fn commented(name: &str, about: &str, text: &str) -> Self {
        let text = format!("{}{text}", text::comment(about));
        Self { files: vec![File { name: name.to_owned(), text, is_secret: false }], aside: None }
    }
}

/// Why a kind can't be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What is in the way, the image first.
    pub why: String,
    /// What to do.
    pub hint: String,
}

impl Refusal {
    fn new(why: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { why: why.into(), hint: hint.into() }
    }
}

impl Kind {
    /// The kind that is called this.
    pub fn named(name: &str) -> Option<&'static Self> {
        KINDS.iter().find(|kind| kind.name == name)
    }

    /// Writes it.
    ///
    /// # Errors
    /// If there is something that it can't express.
    pub fn write(&self, input: &Input<'_>) -> Result<Export, Refusal> {
        if self.needs == Needs::Images && input.images.is_empty() {
            let hint = "list images in mirror.yaml, mirror them with `transship sync`, then export";
            return Err(Refusal::new(format!("{}: nothing is mirrored at {}", self.name, input.target.registry), hint));
        }
        (self.write)(input)
    }
}

#[cfg(test)]
mod tests;
