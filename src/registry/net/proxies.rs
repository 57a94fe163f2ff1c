//! The proxy of a request, and the setting that names it.
//!
//! `proxy:` of a registry applies to all requests on its behalf. Otherwise the environment applies, by the URL that
//! is used, and never for this machine, which a proxy can't reach under this name.

use http::{HeaderValue, Uri};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use url::Url;

use crate::config::{RegistrySettings, Secret};
use crate::error::Result;
use crate::oci::Registry;
use crate::registry::auth::credentials::Environment;
use crate::registry::net::unusable::{at_key, unusable};

/// A proxy.
#[derive(Clone)]
pub(crate) struct Proxy {
    /// May contain a password.
    pub(crate) url: Url,
    /// The same for the client, with the password apart.
    intercept: Intercept,
    /// The variable or key of mirror.yaml that names it.
    pub(crate) named_by: String,
}

/// The proxies for one registry, and for the hosts that it redirects to.
#[derive(Debug)]
pub(crate) struct Proxies {
    set: Option<Proxy>,
    /// Whether the registry is on this machine, and uses `set` all the same.
    set_for_loopback: bool,
    http: Option<Result<Proxy>>,
    https: Option<Result<Proxy>>,
    /// Matches hosts that `NO_PROXY` doesn't exempt.
    not_exempt: Matcher,
}

impl Proxies {
    /// The proxies for `registry`, whose URL is `base`.
    ///
    /// # Errors
    /// `Configuration` if `proxy:` can't be read, or isn't a proxy URL.
    pub(crate) fn new(
        registry: &Registry,
        settings: &RegistrySettings,
        base: &Url,
        environment: &Environment,
    ) -> Result<Self> {
        let set = settings.proxy.as_ref().map(|secret| set(registry, secret, environment)).transpose()?;
        let first = |names: [&str; 4]| {
            let name = names.into_iter().find(|name| environment.get(name).is_some())?;
            Some(of_variable(registry, name, &environment.get(name)?))
        };
        let exempt = environment.get("NO_PROXY").or_else(|| environment.get("no_proxy")).unwrap_or_default();
        Ok(Self {
            set,
            set_for_loopback: is_loopback(base),
            http: first(["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"]),
            https: first(["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]),
            not_exempt: Matcher::builder().all("http://any").no(exempt).build(),
        })
    }

    /// The proxy on the way to `url`; `None` if there is none.
    ///
    /// # Errors
    /// `Configuration` if its URL is invalid.
    pub(crate) fn of(&self, url: &Url) -> Result<Option<&Proxy>> {
        if let Some(set) = &self.set {
            return Ok(Some(set).filter(|_| self.set_for_loopback || !is_loopback(url)));
        }
        let named = if url.scheme() == "https" { &self.https } else { &self.http };
        let goes_through = || url.as_str().parse().is_ok_and(|uri| self.not_exempt.intercept(&uri).is_some());
        match named {
            Some(proxy) if !is_loopback(url) && goes_through() => proxy.as_ref().map(Some).map_err(Clone::clone),
            _ => Ok(None),
        }
    }

    /// Whether one of them is spoken to over TLS.
    pub(crate) fn have_tls(&self) -> bool {
        let of_environment = [&self.http, &self.https].into_iter().flatten().flatten();
        self.set.iter().chain(of_environment).any(|proxy| proxy.url.scheme() == "https")
    }
}

impl Proxy {
    /// Whether a variable names it, so that another variable may override it.
    pub(crate) fn is_of_environment(&self) -> bool {
        !self.named_by.contains(' ')
    }

    /// Where to connect to.
    pub(crate) fn uri(&self) -> &Uri {
        self.intercept.uri()
    }

    /// The value of `Proxy-Authorization`.
    pub(crate) fn authorization(&self) -> Option<&HeaderValue> {
        self.intercept.basic_auth()
    }

    /// Its host and port.
    pub(crate) fn place(&self) -> String {
        crate::registry::net::shown::place(&self.url)
    }
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.place(), self.named_by)
    }
}

fn is_loopback(url: &Url) -> bool {
    url.host_str().is_some_and(|host| host.parse().is_ok_and(|host: Registry| host.is_loopback()))
}

fn set(registry: &Registry, secret: &Secret, environment: &Environment) -> Result<Proxy> {
    let text = environment.read(secret).map_err(|why| at_key(registry, "proxy", &why))?;
    // Neither the text nor the parser's message is shown: it may contain a password.
    let not_one = || at_key(registry, "proxy", "it isn't a URL such as http://USER:PASSWORD@HOST:PORT");
    proxy(&text, format!("proxy: of registries.{registry}")).ok_or_else(not_one)
}

/// Like curl: `HOST:PORT` is a URL of `http`.
fn of_variable(registry: &Registry, name: &str, text: &str) -> Result<Proxy> {
    let text = text.trim();
    let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let refused = || {
        let is_socks = whole.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("socks"));
        let why = if is_socks {
            "names a SOCKS proxy, but only HTTP proxies are supported"
        } else {
            "isn't the URL of a proxy"
        };
        let hint = format!("set {name} to http://[USER:PASSWORD@]HOST:PORT, or exempt {registry} from it by NO_PROXY");
        unusable(registry, format!("the environment variable {name} {why}")).with_hint(hint)
    };
    proxy(&whole, name.to_owned()).ok_or_else(refused)
}

fn proxy(text: &str, named_by: String) -> Option<Proxy> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())?;
    // A proxy that a client can't connect to is invalid, too.
    let intercept = Matcher::builder().all(url.as_str()).build().intercept(&Uri::from_static("http://any"))?;
    (url.port_or_known_default() != Some(0)).then_some(Proxy { url, intercept, named_by })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(registry: &str, base: &str, set: Option<&str>, variables: &[(&str, &str)]) -> Proxies {
        let variables: Vec<(String, String)> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let environment =
            Environment::new(move |name| variables.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone()));
        let proxy = set.map(|text| Secret::Plain(text.to_owned()));
        let settings = RegistrySettings { proxy, ..Default::default() };
        Proxies::new(&registry.parse().unwrap(), &settings, &base.parse().unwrap(), &environment).unwrap()
    }

    fn through(proxies: &Proxies, url: &str) -> String {
        match proxies.of(&url.parse().unwrap()) {
            Ok(Some(proxy)) => format!("{proxy:?}"),
            Ok(None) => "direct".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_environment_selects_the_proxy_by_url() {
        let far =
            |variables: &[(&str, &str)], url: &str| through(&proxies("h.io", "https://h.io", None, variables), url);
        for (variables, url, expected) in [
            (&[("HTTPS_PROXY", "http://p:3128")][..], "https://h.io/", "p:3128 (HTTPS_PROXY)"),
            (&[("HTTPS_PROXY", "http://p:3128")], "http://h.io/", "direct"),
            (&[("https_proxy", "p:3128")], "https://h.io/", "p:3128 (https_proxy)"),
            (&[("HTTP_PROXY", "http://u:w@p")], "http://h.io/", "p:80 (HTTP_PROXY)"),
            (&[("http_proxy", "https://p")], "http://h.io/", "p:443 (http_proxy)"),
            (&[("ALL_PROXY", "http://p:1")], "http://h.io/", "p:1 (ALL_PROXY)"),
            (&[("all_proxy", "http://p:1")], "https://h.io/", "p:1 (all_proxy)"),
            (&[("HTTPS_PROXY", "http://p:1"), ("https_proxy", "%")], "https://h.io/", "p:1 (HTTPS_PROXY)"),
            (&[("HTTPS_PROXY", "http://p:1"), ("ALL_PROXY", "%")], "https://h.io/", "p:1 (HTTPS_PROXY)"),
            (&[("HTTPS_PROXY", ""), ("ALL_PROXY", "http://p:1")], "https://h.io/", "p:1 (ALL_PROXY)"),
            (&[("ALL_PROXY", "http://p:1"), ("NO_PROXY", "h.io")], "https://h.io/", "direct"),
            (&[("ALL_PROXY", "http://p:1"), ("no_proxy", ".io, x")], "https://h.io/", "direct"),
            (&[("ALL_PROXY", "http://p:1"), ("NO_PROXY", "*")], "https://h.io/", "direct"),
            (&[("ALL_PROXY", "http://p:1"), ("NO_PROXY", "10.0.0.0/8")], "https://10.1.2.3/", "direct"),
            (&[("ALL_PROXY", "http://p:1"), ("NO_PROXY", "i.io")], "https://h.io/", "p:1 (ALL_PROXY)"),
            (&[("ALL_PROXY", "http://p:1")], "https://localhost:5000/", "direct"),
            (&[("ALL_PROXY", "http://p:1")], "http://127.0.0.2/", "direct"),
            (&[("ALL_PROXY", "http://p:1")], "http://[::1]:5000/", "direct"),
            (&[("ALL_PROXY", "%"), ("NO_PROXY", "h.io")], "https://h.io/", "direct"),
            (&[("ALL_PROXY", "%")], "https://127.0.0.1/", "direct"),
        ] {
            assert_eq!(far(variables, url), expected, "{variables:?} {url}");
        }
        for wrong in [
            "%",
            "http://",
            "://p",
            "http://u:hunter2@",
            "http://hunter2:p:x",
            "socks5://hunter2@p",
            "ftp://p",
            "p:99999",
            "http://a b",
        ] {
            for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
                let told = far(&[(name, wrong)], "https://h.io/");
                assert!(told.starts_with(&format!("set up h.io: the environment variable {name} ")), "{wrong}: {told}");
                assert!(!told.contains("hunter2"), "{told}");
            }
        }
    }

    #[test]
    fn the_proxy_setting_takes_precedence_over_the_environment_and_applies_to_loopback() {
        let environment = [("ALL_PROXY", "%"), ("NO_PROXY", "*")];
        let far = proxies("h.io", "https://h.io", Some("http://p:1"), &environment);
        let set = "p:1 (proxy: of registries.h.io)";
        for (url, expected) in [
            ("https://h.io/", set),
            ("http://h.io/", set),
            ("https://cdn.io/", set),
            // A remote registry that redirects here means itself, and that is refused elsewhere.
            ("http://127.0.0.1:1/", "direct"),
        ] {
            assert_eq!(through(&far, url), expected, "{url}");
        }
        let near = proxies("h.io", "http://127.0.0.1:5000", Some("http://p:1"), &environment);
        assert_eq!(through(&near, "http://127.0.0.1:5000/"), set);
        assert_eq!(through(&near, "http://localhost:5001/token"), set);
    }
}
