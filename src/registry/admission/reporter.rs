//! Reports the hosts that the run waits for, under their familiar names.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use url::{Origin, Url};

use super::lock;
use crate::retry::{Waiting, Waits};

/// The names of the registries behind an address.
#[derive(Debug, Default)]
pub(super) struct Names(Mutex<HashMap<Origin, Vec<String>>>);

/// Where to report a wait for a host, and under which name.
#[derive(Debug)]
pub(super) struct Reporter {
    origin: Origin,
    host: String,
    names: Arc<Names>,
    waits: Arc<dyn Waits>,
    last: Mutex<Waiting>,
}

impl Names {
    pub(super) fn add(&self, url: &Url, name: &str) {
        let mut names = lock(&self.0);
        let names = names.entry(url.origin()).or_default();
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }

    fn of(&self, origin: &Origin) -> Option<String> {
        lock(&self.0).get(origin).map(|names| names.join(", "))
    }
}

impl Reporter {
    /// For the host of `url`, named `host` unless it has another name.
    pub(super) fn new(url: &Url, host: String, names: Arc<Names>, waits: Arc<dyn Waits>) -> Self {
        Self { origin: url.origin(), host, names, waits, last: Mutex::new(Waiting::Over) }
    }

    /// Reports a change. Called with the host's health locked, so that changes are reported in order.
    pub(super) fn report(&self, waiting: Waiting) {
        let mut last = lock(&self.last);
        if *last != waiting {
            let name = self.names.of(&self.origin).unwrap_or_else(|| self.host.clone());
            self.waits.changed(&name, waiting.clone());
            *last = waiting;
        }
    }
}
