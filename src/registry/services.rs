//! What is peculiar to a service: `quirks` contains the data; behaviour is in one file per service.

pub(super) mod harbor;
pub(super) mod quirks;
