//! The way to a host: its URL, its proxy, and its settings. Error messages include it if there is no answer.

use std::path::Path;

use url::Url;

use crate::config::RegistrySettings;
use crate::oci::Registry;
use crate::registry::action::Action;
use crate::registry::net::destination::is_same_origin;
use crate::registry::net::proxies::Proxy;
use crate::registry::net::shown;
use crate::registry::request::Request;

/// The way to one URL on behalf of a registry.
#[derive(Debug)]
pub(crate) struct Way<'a> {
    pub(crate) registry: &'a Registry,
    pub(crate) settings: &'a RegistrySettings,
    /// The prefix of the registry's URLs.
    pub(crate) base: &'a Url,
    pub(crate) url: &'a Url,
    pub(crate) proxy: Option<&'a Proxy>,
}

impl<'a> Way<'a> {
    /// Whether it is the registry's own host and port.
    pub(crate) fn is_own(&self) -> bool {
        is_same_origin(self.url, self.base)
    }

    pub(crate) fn registry(&self) -> &Registry {
        self.registry
    }

    /// The key of its settings in mirror.yaml.
    pub(crate) fn key(&self) -> String {
        format!("registries.{}", self.registry)
    }

    pub(crate) fn has_identity(&self) -> bool {
        self.settings.client.is_some() && self.is_own()
    }

    pub(crate) fn ca(&self) -> Option<&'a Path> {
        self.settings.ca.as_deref()
    }

    /// The description of the way in messages besides the registry's name; `None` if the name is enough.
    pub(crate) fn description(&self) -> Option<String> {
        let (place, named) = (shown::place(self.url), self.registry.as_str());
        match self.proxy {
            Some(proxy) => Some(format!("{place}, through the proxy {} ({})", proxy.place(), proxy.named_by)),
            None if self.is_own()
                && (place == named || place == format!("{named}:443") || place == format!("{named}:80")) =>
            {
                None
            }
            None => Some(place),
        }
    }

    /// The hint for a missing answer.
    pub(crate) fn silence_hint(&self, request: &Request) -> Option<String> {
        let place = shown::place(self.url);
        Some(match self.proxy {
            Some(proxy) if proxy.is_of_environment() => {
                format!(
                    "check {}, and that this proxy allows connections to {place}; or exempt the host from it by \
                     NO_PROXY",
                    proxy.named_by
                )
            }
            Some(proxy) => format!("check {}, and that this proxy allows connections to {place}", proxy.named_by),
            None if !self.is_own() => {
                format!("allow connections from here to {place}: {} {}", self.registry, self.purpose(request))
            }
            None if self.settings.endpoint.is_some() => {
                format!(
                    "check endpoint: of {}: it must be a registry's address that is reachable from this machine",
                    self.key()
                )
            }
            None => self
                .description()
                .map(|place| format!("allow connections from here to {place}; check that the registry is running"))?,
        })
    }

    fn purpose(&self, request: &Request) -> &'static str {
        match request.action {
            action if action.is_for_token() => "has its tokens issued there",
            Action::PullBlob | Action::FindBlob => "keeps its blobs there",
            Action::PushBlob | Action::PushChunk => "has its uploads sent there",
            _ => "sends this request there",
        }
    }

    /// The hint if TLS meets a plain HTTP server.
    pub(crate) fn plain_hint(&self) -> String {
        match self.proxy {
            Some(proxy) if proxy.url.scheme() == "https" => {
                format!("if the proxy speaks plain HTTP, write http:// in {};", proxy.named_by)
                    + " if the registry does, set plain_http: true for it"
            }
            _ if !self.is_own() => format!("{} names it as https://: its owner has to correct that", self.registry),
            _ if self.settings.endpoint.is_some() => format!("write http:// in endpoint: of {}", self.key()),
            _ => format!("set plain_http: true in {}, if it speaks plain HTTP there", self.key()),
        }
    }

    /// The hint if plain HTTP meets a TLS server.
    pub(crate) fn tls_hint(&self) -> String {
        match self.settings.endpoint {
            _ if !self.is_own() => format!("{} names it as http://: its owner has to correct that", self.registry),
            Some(_) => format!("write https:// in endpoint: of {}", self.key()),
            None => format!("set plain_http: false in {}: it speaks TLS there", self.key()),
        }
    }

    /// How to trust the server's certificate.
    pub(crate) fn ca_hint(&self) -> String {
        let key = self.key();
        let exception = match self.settings.insecure && !self.is_own() {
            true => format!(" (insecure: holds for {} alone)", self.registry),
            false => String::new(),
        };
        match self.ca() {
            Some(path) => format!(
                "put the certificate of the authority that signed it, or the server's own, into {}{exception}",
                path.display()
            ),
            None => format!(
                "set ca: of {key} to a PEM file with the certificate of the authority that signed it, or with the \
                 server's own{exception}"
            ),
        }
    }
}
