//! How a host is reached: clients, proxies, TLS, where a request may go, and why there is no answer.

pub(super) mod destination;
pub(super) mod failure;
pub(super) mod handshake;
pub(super) mod proxies;
pub(super) mod setup;
pub(super) mod shown;
pub(super) mod tls;
pub(super) mod unusable;
pub(super) mod way;
