//! TLS client: trusted servers, and client certificates.
//!
//! A server is trusted if the machine trusts it, or by `ca:`, which also applies to the hosts that a registry
//! redirects to: they belong to the same organisation. A server certificate listed there is trusted for the names
//! in it, as in curl and OpenSSL, even if it is marked as an authority, as `openssl req -x509` does. `insecure:`
//! and a client certificate apply only to the registry's own host and port.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_platform_verifier::Verifier;

use crate::config::RegistrySettings;
use crate::error::Result;
use crate::oci::Registry;
use crate::registry::net::unusable::{at_key, unusable};

/// The TLS settings of a registry, with the contents of their files.
#[derive(Debug)]
pub(crate) struct Tls {
    registry: Registry,
    /// The certificates in `ca:`.
    authorities: Vec<CertificateDer<'static>>,
    identity: Option<Identity>,
    insecure: bool,
}

struct Identity {
    certificates: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    /// The path of the key file.
    path: String,
}

/// The peer of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// The registry's own host and port.
    Registry,
    /// A host that it redirects to: token services, blob storage.
    Other,
    /// No TLS.
    Plain,
}

/// The HTTP version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// HTTP/1.1: one connection per request in flight. For blobs HTTP/2's flow control costs more than its
    /// multiplexing gains.
    Http1,
    /// HTTP/2 if the server offers it, so that all short requests share one connection and its handshake.
    Offered,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// `Configuration` if one can't be read, or has the wrong content.
    pub(crate) fn read(registry: &Registry, settings: &RegistrySettings) -> Result<Self> {
        let authorities = settings.ca.as_deref().map(|path| certificates(registry, "ca", path)).transpose()?;
        let identity = settings.client.as_ref().map(|client| {
            let certificates = certificates(registry, "client_cert", &client.certificate)?;
            let pem = contents(registry, "client_key", &client.key)?;
            let path = client.key.display().to_string();
            let none = |_| at_key(registry, "client_key", &format!("{path}: contains no private key in PEM format"));
            let key = PrivateKeyDer::from_pem_slice(&pem).map_err(none)?;
            Ok(Identity { certificates, key, path })
        });
        Ok(Self {
            registry: registry.clone(),
            authorities: authorities.unwrap_or_default(),
            identity: identity.transpose()?,
            insecure: settings.insecure,
        })
    }

    /// The TLS configuration for `peer`.
    ///
    /// # Errors
    /// `Configuration` if key and certificate don't match, or the machine has no trusted authorities.
    pub(crate) fn config(&self, peer: Peer, protocol: Protocol) -> Result<ClientConfig> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let refused = |error: rustls::Error| unusable(&self.registry, error.to_string());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions().map_err(refused)?;
        let builder = match peer {
            Peer::Plain => builder.with_root_certificates(RootCertStore::empty()),
            Peer::Registry if self.insecure => {
                builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider)))
            }
            _ => builder.dangerous().with_custom_certificate_verifier(Arc::new(self.trust(&provider)?)),
        };
        let mut config = match &self.identity {
            Some(Identity { certificates, key, path }) if peer == Peer::Registry => {
                let config = builder.with_client_auth_cert(certificates.clone(), key.clone_key());
                config.map_err(|error| at_key(&self.registry, "client_key", &format!("{path}: {error}")))?
            }
            _ => builder.with_no_client_auth(),
        };
        config.alpn_protocols = match protocol {
            Protocol::Http1 => vec![b"http/1.1".to_vec()],
            Protocol::Offered => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        };
        Ok(config)
    }

    fn trust(&self, provider: &Arc<CryptoProvider>) -> Result<Trust> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(self.authorities.iter().cloned());
        if !roots.is_empty() {
            let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
            let authorities = verifier.map_err(|error| unusable(&self.registry, error.to_string()))?;
            return Ok(Trust::Named { authorities, certificates: self.authorities.clone() });
        }
        let machine = machine().map_err(|why| {
            let hint = "install the machine's certificates (ca-certificates), name them in SSL_CERT_FILE, or set ca:";
            unusable(&self.registry, why).with_hint(hint)
        })?;
        Ok(Trust::Machine(machine))
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identity")
    }
}

fn contents(registry: &Registry, key: &str, path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|e| at_key(registry, key, &format!("{}: can't be read: {e}", path.display())))
}

fn certificates(registry: &Registry, key: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let pem = contents(registry, key, path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let none = || at_key(registry, key, &format!("{}: contains no certificate in PEM format", path.display()));
    all.ok().filter(|certificates| !certificates.is_empty()).ok_or_else(none)
}

/// The authorities that the machine trusts. Reading them takes longer than a handshake, so this is done once, and
/// only if needed.
///
/// # Errors
/// Why they can't be read.
fn machine() -> std::result::Result<&'static Verifier, String> {
    static MACHINE: LazyLock<std::result::Result<Verifier, String>> =
        LazyLock::new(|| Verifier::new(Arc::new(aws_lc_rs::default_provider())).map_err(|error| error.to_string()));
    MACHINE.as_ref().map_err(Clone::clone)
}

/// The trusted servers.
#[derive(Debug)]
enum Trust {
    /// Servers that the machine trusts.
    Machine(&'static Verifier),
    /// Servers with a certificate from an authority in `ca:`, listed in `ca:`, or trusted by the machine.
    Named { authorities: Arc<WebPkiServerVerifier>, certificates: Vec<CertificateDer<'static>> },
}

impl Trust {
    /// The verifier for signatures, which don't depend on trust.
    fn signatures(&self) -> &dyn ServerCertVerifier {
        match self {
            Self::Machine(machine) => *machine,
            Self::Named { authorities, .. } => &**authorities,
        }
    }
}

impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let asked = |verifier: &dyn ServerCertVerifier| {
            verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
        };
        let (authorities, certificates) = match self {
            Self::Machine(machine) => return asked(*machine),
            Self::Named { authorities, certificates } => (authorities, certificates),
        };
        let refused = match asked(&**authorities) {
            Ok(verified) => return Ok(verified),
            Err(refused) => refused,
        };
        let lacks_authority =
            |error: &rustls::Error| matches!(error, rustls::Error::InvalidCertificate(error) if lacks_authority(error));
        // The validity period was checked before: only the issuer is in question.
        if lacks_authority(&refused) && certificates.iter().any(|named| named == end_entity) {
            verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
            return Ok(ServerCertVerified::assertion());
        }
        match machine().map(|machine| asked(machine)) {
            Ok(Ok(verified)) => Ok(verified),
            Ok(Err(error)) if !lacks_authority(&error) => Err(error),
            _ => Err(refused),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signatures().verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signatures().verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.signatures().supported_verify_schemes()
    }
}

/// It has no known issuer, or is an authority's own certificate. A bad signature is that of another authority of
/// the same name.
fn lacks_authority(error: &CertificateError) -> bool {
    match error {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => true,
        CertificateError::Other(other) => is_authoritys(other),
        _ => false,
    }
}

/// It is marked as an authority, which a server certificate shouldn't be. The verifier has no better error for
/// this.
pub(crate) fn is_authoritys(error: &rustls::OtherError) -> bool {
    format!("{error:?}").contains("CaUsedAsEndEntity")
}

/// `insecure: true`.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
