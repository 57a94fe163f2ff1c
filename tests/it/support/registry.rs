//! A registry in this process: strict, with scripted faults and access to its memory.

use std::sync::Arc;

use transship::oci::{Registry as Name, Repository};
use transship::serve::{self, Options, Server};
use transship::store::memory::{Memory, MemoryRepository};

use super::script::Script;
use super::services::Service;
use super::tokens::Tokens;

/// The settings of the registry.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    pub(crate) options: Options,
    /// Repositories must be created before they are written to.
    pub(crate) strict: bool,
    /// It accepts uploads like this service.
    pub(crate) service: Option<Service>,
    /// It requires bearer tokens of this service.
    pub(crate) tokens: Option<Tokens>,
}

/// A running registry; it stops when it is dropped.
#[derive(Debug)]
pub(crate) struct Registry {
    pub(crate) script: Script,
    pub(crate) memory: Memory,
    server: Server,
    /// The host name of its repositories in `memory`.
    inside: Name,
}

impl Registry {
    /// Repositories are created by the first push, and no credentials are required.
    pub(crate) async fn start() -> Self {
        Self::with(Settings::default()).await
    }

    /// One that accepts any JSON object as a manifest, as some registries do.
    pub(crate) async fn lenient() -> Self {
        Self::with(Settings { options: Options { lenient: true, ..Options::default() }, ..Settings::default() }).await
    }

    pub(crate) async fn with(settings: Settings) -> Self {
        let memory = if settings.strict { Memory::strict() } else { Memory::new() };
        let script = Script::default();
        let inside = settings.options.registry.clone();
        let mut router = serve::router(Arc::new(memory.clone()), settings.options);
        if let Some(service) = settings.service {
            router = service.around(router);
        }
        if let Some(tokens) = &settings.tokens {
            router = tokens.around(router);
        }
        let server = Server::start_router(script.around(router), 0).await.expect("a free port on 127.0.0.1");
        Self { script, memory, server, inside }
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn name(&self) -> Name {
        self.server.registry()
    }

    /// The name of a repository for clients.
    pub(crate) fn repository(&self, path: &str) -> Repository {
        Repository::new(self.name(), path).expect("a repository path")
    }

    /// A repository, accessed directly: to fill and read it without a request.
    pub(crate) fn inside(&self, path: &str) -> MemoryRepository {
        let name = Repository::new(self.inside.clone(), path).expect("a repository path");
        self.memory.repository(&name)
    }

    /// Creates a repository, as a strict registry requires.
    pub(crate) fn create(&self, path: &str) {
        self.memory.create(&Repository::new(self.inside.clone(), path).expect("a repository path"));
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> std::net::SocketAddr {
        self.server.address()
    }

    /// `http://127.0.0.1:PORT` and `path`.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.server.address())
    }
}
