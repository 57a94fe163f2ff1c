//! Where a request may go: the one check of token realms, redirects and upload locations.
//!
//! A registry chooses these URLs, and they receive credentials, an image's bytes, or a request from inside this
//! network. Two decisions are made here before anything is sent, by the URL that is actually used (`endpoint`
//! counts). A URL that means the registry itself is rewritten to the registry's known address: behind a TLS proxy,
//! registries return URLs with the wrong scheme, or without their port. And no request goes out in plain text
//! unless the registry is configured for it, nor to a link-local address, nor to this machine unless the registry
//! is on it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, ParseError, Url};

use crate::oci::Registry;

/// The location of a registry.
#[derive(Debug)]
pub(crate) struct Home {
    /// The prefix of the registry's URLs, which ends with a slash.
    pub(crate) base: Url,
    /// The URL of its name, which differs from `base` if there is an `endpoint`.
    name: Option<Url>,
}

impl Home {
    pub(crate) fn new(mut base: Url, registry: &Registry) -> Self {
        base.set_path(&format!("{}/", base.path().trim_end_matches('/')));
        let name = Url::parse(&format!("{}://{registry}/", base.scheme())).ok();
        Self { base, name }
    }

    /// The URL of `path`, which doesn't start with a slash, below the prefix.
    ///
    /// # Errors
    /// If it isn't a URL.
    pub(crate) fn below(&self, path: &str) -> Result<Url, ParseError> {
        self.base.join(path)
    }

    /// Whether `url` is the registry's own: the same scheme, host and port.
    pub(crate) fn is_own(&self, url: &Url) -> bool {
        is_same_origin(url, &self.base)
    }

    /// `url` from the registry, rewritten to its known address if it means the registry.
    pub(crate) fn settle(&self, url: Url) -> Url {
        let is_bare = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
        let is_settled = is_bare && self.is_own(&url);
        if self.is_meant(&url) && !is_settled { self.at_home(&url) } else { url }
    }

    /// Like [`Home::settle`], for a redirect of `from`. Another port of the same host may serve the storage, and
    /// the same URL with another scheme is a deliberate change of scheme.
    pub(crate) fn settle_redirect(&self, from: &Url, url: Url) -> Url {
        let is_api = url.path().starts_with("/v2/") || url.path().starts_with(&format!("{}/v2/", self.path()));
        if !self.is_meant(&url) || !(is_api || self.is_downgrade(&url)) {
            return url;
        }
        let home = self.at_home(&url);
        if home == *from { url } else { home }
    }

    /// The URL of a token realm. A separate service may share the registry's host, so only the scheme is corrected.
    pub(crate) fn settle_realm(&self, url: Url) -> Url {
        if self.is_downgrade(&url) { self.settle(url) } else { url }
    }

    fn path(&self) -> &str {
        self.base.path().trim_end_matches('/')
    }

    fn is_downgrade(&self, url: &Url) -> bool {
        self.base.scheme() == "https" && url.scheme() == "http"
    }

    /// Whether it is the host of the registry, with its port or none.
    fn is_meant(&self, url: &Url) -> bool {
        let is_web = matches!(url.scheme(), "http" | "https");
        let means = |own: &Url| host(own) == host(url) && (url.port().is_none() || url.port() == port(own));
        is_web && (means(&self.base) || self.name.as_ref().is_some_and(means))
    }

    fn at_home(&self, url: &Url) -> Url {
        let mut home = self.base.clone();
        home.set_path(url.path());
        home.set_query(url.query());
        home
    }

    /// Whether requests of the registry may go to `url`.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn check(&self, url: &Url) -> Result<(), &'static str> {
        if self.is_own(url) {
            return Ok(());
        }
        match (url.scheme(), self.base.scheme()) {
            ("https", _) | ("http", "http") => {}
            ("http", _) => return Err("isn't https, although the registry is"),
            _ => return Err("is neither http nor https"),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("contains credentials");
        }
        match reach(url) {
            Reach::Nowhere => Err("has no host"),
            Reach::LinkLocal => Err("is a link-local address, which may serve this machine's credentials"),
            Reach::Loopback if reach(&self.base) != Reach::Loopback => {
                Err("is on this machine, although the registry isn't")
            }
            Reach::Loopback | Reach::Wide => Ok(()),
        }
    }
}

/// Whether two web addresses have the same scheme, host and port (RFC 6454).
pub(crate) fn is_same_origin(one: &Url, other: &Url) -> bool {
    one.scheme() == other.scheme() && one.host_str() == other.host_str() && port(one) == port(other)
}

/// In lower case, as in any `url`; without a trailing dot.
fn host(url: &Url) -> Option<&str> {
    url.host_str().map(|host| host.trim_end_matches('.'))
}

fn port(url: &Url) -> Option<u16> {
    url.port_or_known_default()
}

#[derive(Debug, PartialEq, Eq)]
enum Reach {
    Nowhere,
    LinkLocal,
    Loopback,
    Wide,
}

/// The usual names of this machine in `/etc/hosts`.
const LOOPBACK_NAMES: &[&str] =
    &["localhost", "localhost.localdomain", "localhost4", "localhost6", "ip6-localhost", "ip6-loopback"];

/// Names and addresses of cloud metadata services besides the link-local one.
const METADATA_NAMES: &[&str] = &["metadata.google.internal", "metadata"];
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// Handles every spelling of a host: `url` has already converted decimal, octal and hexadecimal addresses.
fn reach(url: &Url) -> Reach {
    let address = match url.host() {
        Some(Host::Ipv4(address)) => IpAddr::V4(address),
        Some(Host::Ipv6(address)) => embedded(address).map_or(IpAddr::V6(address), IpAddr::V4),
        Some(Host::Domain(name)) => return reach_of_name(name.trim_end_matches('.')),
        None => return Reach::Nowhere,
    };
    let is_link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local() || address == METADATA_V6,
    };
    // An unspecified address leads to this machine as well.
    let is_here = match address {
        IpAddr::V4(address) => address.is_loopback() || address.octets()[0] == 0,
        IpAddr::V6(address) => address.is_loopback() || address.is_unspecified(),
    };
    match (is_link_local, is_here) {
        (true, _) => Reach::LinkLocal,
        (_, true) => Reach::Loopback,
        _ => Reach::Wide,
    }
}

fn reach_of_name(name: &str) -> Reach {
    match name {
        "" => Reach::Nowhere,
        _ if METADATA_NAMES.contains(&name) => Reach::LinkLocal,
        _ if LOOPBACK_NAMES.contains(&name) || name.ends_with(".localhost") => Reach::Loopback,
        _ => Reach::Wide,
    }
}

/// The IPv4 address inside an IPv6 one: mapped or compatible (RFC 4291 §2.5.5), translated (RFC 6052 §2.1), 6to4
/// (RFC 3056).
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let segments = address.segments();
    let of = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match segments {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            Some(of(high, low))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home(base: &str) -> Home {
        named(base, "registry.example.com:5000")
    }

    fn named(base: &str, name: &str) -> Home {
        Home::new(base.parse().unwrap(), &name.parse().unwrap())
    }

    #[test]
    fn urls_that_mean_the_registry_use_its_known_address() {
        let tls = "https://registry.example.com:5000/";
        for (base, given, settled) in [
            // A proxy has lost the scheme, the port, or both.
            (tls, "http://registry.example.com:5000/v2/a?b=c", Some("https://registry.example.com:5000/v2/a?b=c")),
            (tls, "http://registry.example.com/v2/a", Some("https://registry.example.com:5000/v2/a")),
            (tls, "https://registry.example.com/v2/a", Some("https://registry.example.com:5000/v2/a")),
            (tls, "http://registry.example.com:80/v2/a", Some("https://registry.example.com:5000/v2/a")),
            (tls, "http://REGISTRY.example.com./v2/a#x", Some("https://registry.example.com:5000/v2/a")),
            (tls, "http://u:p@registry.example.com/v2/a", Some("https://registry.example.com:5000/v2/a")),
            ("https://h.io/", "http://h.io/v2/a", Some("https://h.io/v2/a")),
            ("https://h.io/", "https://u:p@h.io/v2/a#x", Some("https://h.io/v2/a")),
            ("http://h.io:5000/", "https://h.io/v2/a", Some("http://h.io:5000/v2/a")),
            ("http://h.io:5000/", "https://h.io:5000/v2/a", Some("http://h.io:5000/v2/a")),
            ("http://127.0.0.1:5000/", "http://127.0.0.1/v2/a", Some("http://127.0.0.1:5000/v2/a")),
            ("https://[2001:db8::1]:5000/", "http://[2001:db8::1]/v2/a", Some("https://[2001:db8::1]:5000/v2/a")),
            // The name of the registry, if an endpoint is used.
            ("http://127.0.0.1:1/", "https://registry.example.com:5000/v2/a", Some("http://127.0.0.1:1/v2/a")),
            ("http://127.0.0.1:1/", "https://registry.example.com/v2/a", Some("http://127.0.0.1:1/v2/a")),
            // Something else: another port, another host, no web URL.
            (tls, "https://registry.example.com:9000/v2/a", None),
            (tls, "http://registry.example.com:9000/v2/a", None),
            (tls, "https://cdn.registry.example.com/v2/a", None),
            (tls, "https://registry.example.com.evil.com/v2/a", None),
            (tls, "https://registry.example.com@evil.com/v2/a", None),
            ("http://127.0.0.1:5000/", "http://127.0.0.1:5001/v2/a", None),
            (tls, "ftp://registry.example.com/v2/a", None),
        ] {
            let given: Url = given.parse().unwrap();
            let expected = settled.map_or_else(|| given.to_string(), ToOwned::to_owned);
            assert_eq!(home(base).settle(given.clone()).as_str(), expected, "{base} {given}");
        }
    }

    #[test]
    fn paths_are_below_the_prefix_of_the_registry() {
        for (base, url) in [
            ("https://h.io", "https://h.io/v2/a/tags/list?n=1"),
            ("https://h.io/", "https://h.io/v2/a/tags/list?n=1"),
            ("https://h.io/mirror", "https://h.io/mirror/v2/a/tags/list?n=1"),
            ("https://h.io/mirror//", "https://h.io/mirror/v2/a/tags/list?n=1"),
        ] {
            assert_eq!(home(base).below("v2/a/tags/list?n=1").unwrap().as_str(), url, "{base}");
        }
    }

    #[test]
    fn a_redirect_may_mean_another_service_of_the_host() {
        let from = "https://h.io:5000/v2/a";
        for (base, from, given, settled) in [
            ("https://h.io:5000/", from, "http://h.io/v2/b", "https://h.io:5000/v2/b"),
            ("https://h.io:5000/", from, "https://h.io/v2/b", "https://h.io:5000/v2/b"),
            ("https://h.io:5000/", from, "https://h.io/storage", "https://h.io/storage"),
            ("https://h.io:5000/", from, "http://h.io/storage", "https://h.io:5000/storage"),
            ("https://h.io:5000/", from, "http://h.io:9000/storage", "http://h.io:9000/storage"),
            ("https://h.io:5000/x/", from, "http://h.io/x/v2/b", "https://h.io:5000/x/v2/b"),
            // A registry that is moving to TLS: rewriting the URL would make a redirect loop.
            ("http://h.io/", "http://h.io/v2/a", "https://h.io/v2/a", "https://h.io/v2/a"),
        ] {
            let settled_to = named(base, "h.io").settle_redirect(&from.parse().unwrap(), given.parse().unwrap());
            assert_eq!(settled_to.as_str(), settled, "{base} {given}");
        }
    }

    #[test]
    fn a_realm_on_the_registrys_host_uses_the_registrys_connection_settings() {
        for (base, given, settled) in [
            ("https://h.io/", "http://h.io/token", "https://h.io/token"),
            ("https://h.io:8443/", "http://h.io:8443/token", "https://h.io:8443/token"),
            // GitLab's registry has a separate port, its token service doesn't.
            ("https://h.io:5050/", "https://h.io/jwt/auth", "https://h.io/jwt/auth"),
            ("http://h.io:5000/", "http://h.io/token", "http://h.io/token"),
            ("https://h.io/", "http://auth.h.io/token", "http://auth.h.io/token"),
        ] {
            assert_eq!(named(base, "h.io").settle_realm(given.parse().unwrap()).as_str(), settled, "{base} {given}");
        }
    }

    #[test]
    fn link_local_addresses_and_clear_text_to_loopback_are_refused() {
        let (wide, plain, here) =
            ("https://registry.example.com/", "http://registry.example.com/", "http://127.0.0.1:5000/");
        for (url, from_wide, from_plain, from_here) in [
            ("https://auth.example.com/token", true, true, true),
            ("https://10.0.0.1/token", true, true, true),
            ("https://[2001:db8::1]/t", true, true, true),
            ("https://[fc00::1]/t", true, true, true),
            ("http://auth.example.com/token", false, true, true),
            ("http://10.0.0.1/token", false, true, true),
            // This machine, in every spelling.
            ("https://127.0.0.1/t", false, false, true),
            ("https://127.8.8.8/t", false, false, true),
            ("https://127.0.0.1./t", false, false, true),
            ("https://127.1/t", false, false, true),
            ("https://2130706433/t", false, false, true),
            ("https://0x7f000001/t", false, false, true),
            ("https://0x7f.1/t", false, false, true),
            ("https://0177.0.0.1/t", false, false, true),
            ("https://017700000001/t", false, false, true),
            ("https://127.0.0.1:8443/t", false, false, true),
            ("https://%31%32%37.0.0.1/t", false, false, true),
            ("https://１２７.0.0.1/t", false, false, true),
            ("https://0.0.0.0/t", false, false, true),
            ("https://0/t", false, false, true),
            ("https://[::1]/t", false, false, true),
            ("https://[::]/t", false, false, true),
            ("https://[0:0:0:0:0:0:0:1]/t", false, false, true),
            ("https://[::ffff:127.0.0.1]/t", false, false, true),
            ("https://[::ffff:7f00:1]/t", false, false, true),
            ("https://[::127.0.0.1]/t", false, false, true),
            ("https://[64:ff9b::127.0.0.1]/t", false, false, true),
            ("https://[2002:7f00:1::]/t", false, false, true),
            ("https://localhost/t", false, false, true),
            ("https://LOCALHOST/t", false, false, true),
            ("https://localhost./t", false, false, true),
            ("https://a.localhost./t", false, false, true),
            ("https://localhost.localdomain/t", false, false, true),
            ("https://ip6-localhost/t", false, false, true),
            ("http://localhost:5001/t", false, false, true),
            // Link-local, in every spelling: never.
            ("http://169.254.169.254/latest", false, false, false),
            ("https://169.254.0.1/t", false, false, false),
            ("https://169.254.169.254./t", false, false, false),
            ("https://2852039166/t", false, false, false),
            ("https://0xa9fea9fe/t", false, false, false),
            ("https://0xa9.0xfe.0xa9.0xfe/t", false, false, false),
            ("https://0251.0376.0251.0376/t", false, false, false),
            ("https://169.254.43518/t", false, false, false),
            ("https://[fe80::1]/t", false, false, false),
            ("https://[febf::1]/t", false, false, false),
            ("https://[::ffff:169.254.169.254]/t", false, false, false),
            ("https://[::ffff:a9fe:a9fe]/t", false, false, false),
            ("https://[::169.254.169.254]/t", false, false, false),
            ("https://[64:ff9b::a9fe:a9fe]/t", false, false, false),
            ("https://[2002:a9fe:a9fe::]/t", false, false, false),
            ("https://[fd00:ec2::254]/t", false, false, false),
            ("https://metadata.google.internal/t", false, false, false),
            ("https://metadata.google.internal./t", false, false, false),
            // Forms that no registry's URL has.
            ("https://user:pass@auth.example.com/t", false, false, false),
            ("https://user@auth.example.com/t", false, false, false),
            ("https://:pass@auth.example.com/t", false, false, false),
            ("ftp://auth.example.com/t", false, false, false),
            ("file:///etc/passwd", false, false, false),
            ("data:text/plain,x", false, false, false),
        ] {
            let parsed: Url = url.parse().unwrap();
            for (base, expected) in [(wide, from_wide), (plain, from_plain), (here, from_here)] {
                assert_eq!(home(base).check(&parsed).is_ok(), expected, "{url} from {base}: {parsed}");
            }
        }
        // TLS to a registry on this machine doesn't justify plain text; a registry at a link-local address may use
        // its own.
        assert!(home("https://localhost:5000/").check(&"http://127.0.0.1/t".parse().unwrap()).is_err());
        assert!(home("https://[::1]:5000/").check(&"https://127.0.0.1/t".parse().unwrap()).is_ok());
        assert!(home("http://169.254.1.1:5000/").check(&"http://169.254.1.1:5000/v2/".parse().unwrap()).is_ok());
        assert!(home("http://169.254.1.1:5000/").check(&"http://169.254.1.1:80/v2/".parse().unwrap()).is_err());
    }
}
