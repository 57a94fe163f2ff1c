//! What is peculiar to a service: its data in `quirks`, its behaviour in a file of its own.

pub(super) mod harbor;
pub(super) mod quirks;
