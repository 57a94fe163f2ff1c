//! transship
pub mod aws;
pub mod cli;
pub mod commands;
pub mod config;
pub mod error;
pub mod lock;
pub mod oci;
pub mod once;
pub mod plan;
pub mod progress;
pub mod provision;
pub mod registry;
pub mod report;
pub mod select;
pub mod serve;
pub mod store;
