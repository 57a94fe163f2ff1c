//! Credential files of docker and podman (`config.json`, `auth.json`), and the helpers that they name (`helper`).
//!
//! Implemented here because `docker_credential` supports neither keys with a path nor a time limit for helpers.

mod helper;

use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;
use serde_json::Value;

pub(crate) use self::helper::ask;
use crate::oci::Registry;
use crate::registry::auth::credentials::{Credential, Environment};

/// The user name that marks an identity token.
const TOKEN_USER: &str = "<token>";

/// Padding is optional: it is missing in hand-made files.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The relevant parts of one file. The entry of a host is parsed when that host is requested, so that an error in
/// one entry doesn't affect others.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct File {
    auths: Value,
    creds_store: Value,
    cred_helpers: Value,
}

#[derive(Default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("File")
    }
}

/// The files that may contain credentials, in order of priority.
pub(crate) fn paths(environment: &Environment) -> Vec<PathBuf> {
    let in_dir = |variable: &str, file: &str| Some(Path::new(&environment.get(variable)?).join(file));
    let docker = in_dir("DOCKER_CONFIG", "config.json");
    let home = if docker.is_some() { None } else { in_dir("HOME", ".docker/config.json") };
    let explicit = environment.get("REGISTRY_AUTH_FILE").map(PathBuf::from);
    [explicit, docker, in_dir("XDG_RUNTIME_DIR", "containers/auth.json"), home].into_iter().flatten().collect()
}

/// Reads the file at `path`; `None` if it doesn't exist.
///
/// # Errors
/// If it can't be read or parsed.
pub(crate) fn read(path: &Path) -> Result<Option<File>, String> {
    let failed = |why: String| format!("can't read the credentials file {}: {why}", path.display());
    match std::fs::read(path) {
        Ok(bytes) => {
            // Some editors begin a file with a byte order mark.
            let text = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&bytes).trim_ascii();
            let read = || serde_json::from_slice(text).map(Some).map_err(|e| failed(e.to_string()));
            if text.is_empty() { Ok(None) } else { read() }
        }
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(failed(e.to_string())),
    }
}

impl File {
    /// The helper for `registry`: its own, or otherwise the store for all.
    ///
    /// # Errors
    /// If the value isn't a name.
    pub(crate) fn helper(&self, registry: &Registry) -> Result<Option<&str>, String> {
        let helpers = self.cred_helpers.as_object().into_iter().flatten();
        let own = helpers.filter(|(key, _)| key_matches(key, registry.as_str())).map(|(_, helper)| helper).next();
        let helper = match own.unwrap_or(&self.creds_store) {
            Value::Null => return Ok(None),
            Value::String(helper) => helper.as_str(),
            other => return Err(format!("{} isn't the name of a credential helper", shape(other))),
        };
        // It becomes part of a program's name, and must not be a path.
        if helper.contains(['/', '\\', '\0']) {
            return Err(format!("`{}` isn't the name of a credential helper", helper.escape_debug()));
        }
        Ok(Some(helper).filter(|helper| !helper.is_empty()))
    }

    /// The entry of `auths` for `registry/path`: the longest key that is a prefix of it, by segments.
    ///
    /// # Errors
    /// If that entry can't be decoded.
    pub(crate) fn entry(&self, registry: &Registry, path: &str) -> Result<Option<Credential>, String> {
        let mut name = format!("{registry}/{path}");
        loop {
            for (key, entry) in self.auths.as_object().into_iter().flatten().filter(|(key, _)| key_matches(key, &name))
            {
                let credential = Entry::read(entry).and_then(|entry| entry.credential());
                if let Some(credential) = credential.map_err(|why| format!("auths entry `{key}`: {why}"))? {
                    return Ok(Some(credential));
                }
            }
            match name.rfind('/') {
                Some(end) => name.truncate(end),
                None => return Ok(None),
            }
        }
    }
}

/// The type of a value, without the value: it may be a misplaced secret.
fn shape(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

impl Entry {
    fn read(value: &Value) -> Result<Self, String> {
        let fields = match value {
            Value::Null => return Ok(Self::default()),
            Value::Object(fields) => fields,
            other => return Err(format!("expected an object, found {}", shape(other))),
        };
        let text = |name: &str| match fields.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(other) => Err(format!("`{name}` isn't a text but {}", shape(other))),
        };
        let (auth, username, password) = (text("auth")?, text("username")?, text("password")?);
        Ok(Self { auth, username, password, identitytoken: text("identitytoken")? })
    }

    /// `None` for an empty entry, which `docker login` leaves if a helper is used.
    fn credential(&self) -> Result<Option<Credential>, String> {
        let filled = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        if let Some(token) = filled(&self.identitytoken) {
            return Ok(Some(Credential::IdentityToken(token)));
        }
        if let Some(auth) = filled(&self.auth) {
            let bytes = BASE64.decode(auth.trim()).map_err(|_| "`auth` isn't base64")?;
            let text = String::from_utf8(bytes).map_err(|_| "`auth` isn't text")?;
            let (username, password) = text.split_once(':').ok_or("`auth` isn't user:password")?;
            return Ok(Some(login(username.to_owned(), password.trim_end_matches('\0').to_owned())));
        }
        Ok(filled(&self.username).zip(filled(&self.password)).map(|(username, password)| login(username, password)))
    }
}

/// The credential for a user name and a password; a special user name marks a token.
pub(crate) fn login(username: String, password: String) -> Credential {
    match username.as_str() {
        TOKEN_USER => Credential::IdentityToken(password),
        _ => Credential::Password { username, password },
    }
}

/// Whether a key means `name` (`host` or `host/path`): keys may have a scheme and `/v1/` or `/v2/`, and Docker Hub
/// has several names.
fn key_matches(key: &str, name: &str) -> bool {
    let bare = key.trim().trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    let bare = bare.strip_suffix("/v1").or(bare.strip_suffix("/v2")).unwrap_or(bare);
    let (host, path) = bare.split_once('/').map_or((bare, None), |(host, path)| (host, Some(path)));
    let (name_host, name_path) = name.split_once('/').map_or((name, None), |(host, path)| (host, Some(path)));
    path == name_path && host.parse::<Registry>().is_ok_and(|host| host.as_str() == name_host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(json: &str, registry: &str, path: &str) -> Option<String> {
        let file: File = serde_json::from_str(json).unwrap();
        match file.entry(&registry.parse().unwrap(), path).unwrap()? {
            Credential::Password { username, password } => Some(format!("{username}:{password}")),
            Credential::IdentityToken(token) => Some(format!("token {token}")),
            other => panic!("{other:?}"),
        }
    }

    fn plain(key: &str) -> String {
        format!(r#"{{"auths":{{"{key}":{{"username":"u","password":"p"}}}}}}"#)
    }

    #[test]
    fn the_longest_path_wins() {
        let json = r#"{"auths":{
            "h.example.com":{"username":"host","password":"p"},
            "h.example.com/a":{"username":"space","password":"p"},
            "h.example.com/a/b":{"username":"repository","password":"p"}}}"#;
        for (path, user) in [("a/b", "repository"), ("a/bc", "space"), ("a/b/c", "repository"), ("x", "host")] {
            assert_eq!(found(json, "h.example.com", path).unwrap(), format!("{user}:p"), "{path}");
        }
        assert_eq!(found(json, "other.example.com", "a/b"), None);
        assert_eq!(found(json, "h.example.com:5000", "a/b"), None);
    }

    #[test]
    fn every_spelling_of_a_registry_key_matches() {
        for (key, registry) in [
            ("https://index.docker.io/v1/", "docker.io"),
            ("index.docker.io", "docker.io"),
            ("docker.io", "docker.io"),
            ("registry-1.docker.io", "docker.io"),
            ("https://h.example.com/v2/", "h.example.com"),
            ("http://h.example.com:5000", "h.example.com:5000"),
            ("H.example.com/", "h.example.com"),
        ] {
            assert_eq!(found(&plain(key), registry, "library/nginx").as_deref(), Some("u:p"), "{key}");
        }
    }

    #[test]
    fn every_form_of_an_entry_is_read() {
        for (entry, expected) in [
            (r#"{"auth":"dTpwOnE="}"#, Some("u:p:q")),
            (r#"{"auth":"dTpwOnE"}"#, Some("u:p:q")),
            (r#"{"auth":"PHRva2VuPjp4"}"#, Some("token x")),
            (r#"{"auth":"dTpw","identitytoken":"t"}"#, Some("token t")),
            (r#"{}"#, None),
            (r#"{"auth":"","email":"a@b"}"#, None),
        ] {
            assert_eq!(
                found(&format!(r#"{{"auths":{{"h.io":{entry}}}}}"#), "h.io", "a").as_deref(),
                expected,
                "{entry}"
            );
        }
        let broken: File = serde_json::from_str(r#"{"auths":{"h.io":{"auth":"*"}}}"#).unwrap();
        assert!(broken.entry(&"h.io".parse().unwrap(), "a").unwrap_err().contains("h.io"));
    }

    #[test]
    fn a_helper_for_the_host_takes_precedence_over_the_store() {
        let file: File =
            serde_json::from_str(r#"{"credsStore":"all","credHelpers":{"https://index.docker.io/v1/":"hub"}}"#)
                .unwrap();
        assert_eq!(file.helper(&"docker.io".parse().unwrap()), Ok(Some("hub")));
        assert_eq!(file.helper(&"ghcr.io".parse().unwrap()), Ok(Some("all")));
    }

    #[test]
    fn an_invalid_entry_affects_only_its_own_registry() {
        let (good, bad) = ("good.io".parse().unwrap(), "bad.io".parse().unwrap());
        for (entry, expected) in [
            (r#""dTpw""#, Err("auths entry `bad.io`: expected an object, found a text")),
            ("5", Err("auths entry `bad.io`: expected an object, found a number")),
            ("[]", Err("auths entry `bad.io`: expected an object, found a list")),
            ("true", Err("auths entry `bad.io`: expected an object, found a boolean")),
            (r#"{"auth":5}"#, Err("auths entry `bad.io`: `auth` isn't a text but a number")),
            (r#"{"username":"u","password":{}}"#, Err("auths entry `bad.io`: `password` isn't a text but an object")),
            (r#"{"auth":"*"}"#, Err("auths entry `bad.io`: `auth` isn't base64")),
            ("null", Ok(None)),
            (r#"{"auth":null,"email":5}"#, Ok(None)),
        ] {
            let json = format!(r#"{{"auths":{{"bad.io":{entry},"good.io":{{"username":"u","password":"p"}}}}}}"#);
            let file: File = serde_json::from_str(&json).unwrap();
            assert_eq!(file.entry(&bad, "a"), expected.map_err(str::to_owned), "{entry}");
            assert_eq!(file.entry(&good, "a"), Ok(Some(login("u".into(), "p".into()))), "{entry}");
        }
        for rest in [
            r#""auths":[],"credHelpers":{"good.io":"x"}"#,
            r#""auths":null,"credHelpers":{"bad.io":5,"good.io":"x"}"#,
            r#""HttpHeaders":5,"credHelpers":{"good.io":"x"}"#,
            r#""credsStore":5,"credHelpers":{"good.io":"x"}"#,
            r#""credsStore":"x","credHelpers":"all""#,
            r#""credsStore":"x","credHelpers":{"bad.io":"../x"}"#,
        ] {
            let file: File = serde_json::from_str(&format!("{{{rest}}}")).unwrap();
            assert_eq!((file.entry(&bad, "a"), file.helper(&good)), (Ok(None), Ok(Some("x"))), "{rest}");
        }
        for helper in ["5", "[]", r#""../x""#] {
            let file: File = serde_json::from_str(&format!(r#"{{"credHelpers":{{"bad.io":{helper}}}}}"#)).unwrap();
            assert!(file.helper(&bad).unwrap_err().contains("isn't the name of a credential helper"), "{helper}");
        }
        assert_eq!(format!("{:?}", serde_json::from_str::<File>(&plain("good.io")).unwrap()), "File");
    }

    #[test]
    fn files_are_searched_in_order_and_may_be_missing() {
        let environment = |pairs: &'static [(&str, &str)]| {
            Environment::new(move |name| {
                pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
            })
        };
        let shown = |pairs| paths(&environment(pairs)).iter().map(|p| p.display().to_string()).collect::<Vec<_>>();
        assert_eq!(
            shown(&[("HOME", "/h"), ("XDG_RUNTIME_DIR", "/run"), ("REGISTRY_AUTH_FILE", "/f")]),
            ["/f", "/run/containers/auth.json", "/h/.docker/config.json"]
        );
        assert_eq!(shown(&[("HOME", "/h"), ("DOCKER_CONFIG", "/d")]), ["/d/config.json"]);
        assert!(read(Path::new("/nonexistent/config.json")).unwrap().is_none());
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, format!("\u{feff}{}\r\n", plain("h.io"))).unwrap();
        assert!(read(&path).unwrap().unwrap().entry(&"h.io".parse().unwrap(), "a").unwrap().is_some());
        std::fs::write(&path, "\u{feff}\r\n").unwrap();
        assert!(read(&path).unwrap().is_none());
        std::fs::write(&path, "{").unwrap();
        assert!(read(&path).unwrap_err().contains("config.json"));
    }
}
