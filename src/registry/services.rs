//! Peculiarities of services: `quirks` contains data; behaviour is in one file per service.

pub(super) mod harbor;
pub(super) mod quirks;
