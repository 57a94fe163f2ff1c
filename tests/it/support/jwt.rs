//! Tokens that distribution accepts: JWTs signed with RS256, with the signer's certificate in the `x5c` header.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256, SigningKey as _};
use serde_json::{Value, json};

/// The audience and the issuer of the tokens.
pub(crate) const SERVICE: &str = "tests";
pub(crate) const ISSUER: &str = "issuer of the tests";

#[derive(Debug)]
pub(crate) struct Signer {
    key: KeyPair,
    certificate: rcgen::Certificate,
}

impl Signer {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate_for(&PKCS_RSA_SHA256).expect("an RSA key");
        let params = CertificateParams::new(vec!["signer.test".to_owned()]).expect("a name");
        let certificate = params.self_signed(&key).expect("a certificate");
        Self { key, certificate }
    }

    /// The certificate to trust.
    pub(crate) fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// A token, the `number`th, that grants `rights`, `repository:NAME:ACTION` each, for an hour.
    pub(crate) fn sign(&self, rights: &BTreeSet<String>, number: usize) -> String {
        let mut access: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for right in rights {
            let (resource, action) = right.rsplit_once(':').expect("an action");
            access.entry(resource.trim_start_matches("repository:")).or_default().push(action);
        }
        let of = |(name, actions): (&str, Vec<&str>)| json!({ "type": "repository", "name": name, "actions": actions });
        let access: Vec<Value> = access.into_iter().map(of).collect();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is after 1970").as_secs();
        let header = json!({ "typ": "JWT", "alg": "RS256", "x5c": [STANDARD.encode(self.certificate.der())] });
        let claims = json!({
            "iss": ISSUER, "sub": "tests", "aud": SERVICE, "exp": now + 3600, "nbf": now - 60, "iat": now - 60,
            "jti": number.to_string(), "access": access,
        });
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let signature = self.key.sign(signed.as_bytes()).expect("a signature");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}
