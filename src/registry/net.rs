//! How a host is reached: clients, proxies, TLS, permitted destinations, and the reasons for a missing answer.

pub(super) mod connect;
pub(super) mod destination;
pub(super) mod failure;
pub(super) mod handshake;
pub(super) mod http;
pub(super) mod proxies;
pub(super) mod setup;
pub(super) mod shown;
pub(super) mod tls;
pub(super) mod unusable;
pub(super) mod way;
