//! `transship` mirrors container images into a private registry: pinned, byte for byte, and sparing pull quotas.
//!
//! # The flow
//!
//! ```text
//! mirror.yaml ──config──▶ Config ──resolve──▶ Lock (mirror.lock) ──plan──▶ Plan ──provision──▶ Ready (repositories exist)
//!                                                                           │
//!                                                                           └──copy──▶ Outcomes ──report──▶ text · JSON
//! Lock + what the targets hold ──verify──▶ Outcomes and differences ──report──▶ text · JSON
//! Lock + pull-through caches ──warm──▶ Outcomes (they keep what was asked for) ──report──▶ text · JSON
//! Config + Lock ──desired──▶ what should be where, and what is mirrored where (no request)
//! Config + Lock ──desired──▶ what is mirrored where ──export──▶ configuration of those who pull
//! files ──scan──▶ image references ──discover──▶ mirror.yaml;  + what is mirrored where ──rewrite──▶ edits of the files
//! ```
//!
//! Each arrow is one module; each noun between two arrows is one type.
//!
//! # The rooms
//!
//! Top to bottom; a room imports only from rooms below it, and only from those named (`tests/it/layers.rs` sees to it).
//!
//! | room | may use |
//! |---|---|
//! | `commands` | everything below |
//! | `fuzzing` | config, lock, oci, registry, store |
//! | `cli` | terminal |
//! | `copy` | plan, report, progress, provision, referrers, store, once, retry, error, oci |
//! | `verify` | plan, report, progress, referrers, desired, lock, config, select, store, once, retry, error, oci |
//! | `warm` | plan, report, progress, desired, lock, config, select, store, once, error, oci |
//! | `rewrite` | scan, desired, config, lock, oci |
//! | `scan` | oci |
//! | `export` | desired, oci |
//! | `report` | plan, error, terminal, oci |
//! | `plan` | progress, referrers, desired, lock, config, select, provision, store, once, error, oci |
//! | `resolve` | progress, desired, lock, config, select, referrers, store, error, oci |
//! | `desired` | lock, config, select, error, oci |
//! | `referrers` | store, once, error, oci |
//! | `serve` | store, error, oci |
//! | `provision` | config, registry, aws, once, error, oci |
//! | `store` | registry, retry, error, oci |
//! | `registry` | config, aws, once, retry, error, terminal, oci |
//! | `aws` | config, error, oci |
//! | `lock` | yaml, select, oci |
//! | `config` | yaml, select, oci |
//! | `yaml` | terminal |
//! | `select` | oci |
//! | `once` | – |
//! | `progress` | retry, terminal, error |
//! | `retry` | error |
//! | `error` | oci |
//! | `terminal` | – |
//! | `oci` | – |

pub mod aws;
pub mod cli;
mod commands;
pub mod config;
pub mod copy;
mod desired;
pub mod error;
mod export;
#[doc(hidden)]
pub mod fuzzing;
pub mod lock;
pub mod oci;
mod once;
pub mod plan;
pub mod progress;
pub mod provision;
pub mod referrers;
pub mod registry;
pub mod report;
pub mod resolve;
mod retry;
mod rewrite;
mod scan;
pub mod select;
pub mod serve;
pub mod store;
mod terminal;
pub mod verify;
mod warm;
mod yaml;

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the command line `arguments`, of which the first is the program's name.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    match cli::Cli::read(&arguments) {
        Ok(cli) => commands::run(cli),
        Err(error) => commands::answer(&error, &arguments),
    }
}

/// Lets the tests' support code, which names the library by its crate name, be used in unit tests, too.
#[cfg(test)]
extern crate self as transship;

#[cfg(test)]
#[path = "../tests/it/support/gate.rs"]
#[allow(dead_code, reason = "shared with the tests in tests/it")]
pub(crate) mod gate;

#[cfg(test)]
#[path = "../tests/it/support/images.rs"]
#[allow(dead_code, reason = "shared with the tests in tests/it")]
pub(crate) mod images;

#[cfg(test)]
#[path = "../tests/it/support/recorded.rs"]
#[allow(dead_code, reason = "shared with the tests in tests/it")]
pub(crate) mod recorded;
