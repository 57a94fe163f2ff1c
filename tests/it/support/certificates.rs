//! An untrusted certificate authority, and the certificates it issues.

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};

/// A host that only a proxy of the tests can resolve.
pub(crate) const FAR_HOST: &str = "registry.test";

#[derive(Debug)]
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// PEM texts.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// The certificate to trust.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// For a server on this machine, also as [`FAR_HOST`]: rustls takes no authority for a server.
    pub(crate) fn server(&self) -> Pair {
        self.server_for(&["localhost", FAR_HOST, "127.0.0.1"])
    }

    /// For a server with these names and addresses.
    pub(crate) fn server_for(&self, names: &[&str]) -> Pair {
        self.issue(&params(names, ExtendedKeyUsagePurpose::ServerAuth))
    }

    /// For a server on this machine, valid from the start of one year to the start of another.
    pub(crate) fn server_between(&self, (from, to): (i32, i32)) -> Pair {
        let mut params = params(&["localhost", "127.0.0.1"], ExtendedKeyUsagePurpose::ServerAuth);
        (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
        self.issue(&params)
    }

    /// For a client.
    pub(crate) fn client(&self) -> Pair {
        self.issue(&params(&["localhost", "127.0.0.1"], ExtendedKeyUsagePurpose::ClientAuth))
    }

    fn issue(&self, params: &CertificateParams) -> Pair {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Pair { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

/// A self-signed certificate for one server, optionally marked as an authority's.
pub(crate) fn self_signed(names: &[&str], is_authority: bool) -> Pair {
    let mut params = params(names, ExtendedKeyUsagePurpose::ServerAuth);
    if is_authority {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.extended_key_usages.clear();
    }
    let key = KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("a certificate");
    Pair { certificate: certificate.pem(), key: key.serialize_pem() }
}

fn params(names: &[&str], purpose: ExtendedKeyUsagePurpose) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    // Addresses and names have different types.
    let mut params = CertificateParams::new(names).expect("names");
    params.is_ca = IsCa::ExplicitNoCa;
    params.extended_key_usages = vec![purpose];
    params
}
