//! Support for the tests: images, registries in this process and beside it, and a runner for the command line.

#![allow(dead_code, reason = "what one subject doesn't use, another one will")]

pub(crate) mod certificates;
pub(crate) mod cli;
pub(crate) mod containerd;
pub(crate) mod cosign;
pub(crate) mod docker_registry;
#[cfg(unix)]
pub(crate) mod dockerd;
pub(crate) mod ecr;
pub(crate) mod emulator;
pub(crate) mod gate;
pub(crate) mod harbor;
pub(crate) mod http;
pub(crate) mod hub;
pub(crate) mod images;
pub(crate) mod jwt;
pub(crate) mod kubectl;
pub(crate) mod layout;
pub(crate) mod ministack;
pub(crate) mod moto;
pub(crate) mod nginx;
pub(crate) mod proxy;
pub(crate) mod recorded;
pub(crate) mod registry;
pub(crate) mod scene;
pub(crate) mod script;
pub(crate) mod services;
pub(crate) mod shapes;
pub(crate) mod stores;
#[cfg(unix)]
pub(crate) mod terminal;
pub(crate) mod tls;
pub(crate) mod tokens;
pub(crate) mod tools;
