//! TLS in front of a registry of this process, with client certificates if set.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, copy_bidirectional, sink};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use super::certificates::{Authority, Pair};

/// Where it listens; it stops when this is dropped.
#[derive(Debug)]
pub(crate) struct TlsFront {
    pub(crate) address: SocketAddr,
    task: JoinHandle<()>,
}

impl TlsFront {
    /// In front of the server at `behind`. With `mutual`, only for clients with a certificate of the same authority.
    pub(crate) async fn start(behind: SocketAddr, authority: &Authority, mutual: bool) -> Self {
        Self::with(behind, &authority.server(), Some(authority).filter(|_| mutual)).await
    }

    /// In front of the server at `behind`, with this certificate; with `clients`, only for clients that it verifies.
    pub(crate) async fn with(behind: SocketAddr, own: &Pair, clients: Option<&Authority>) -> Self {
        Self::serve(behind, config(own, clients)).await
    }

    /// In front of an HTTP/1.1 server at `behind`, although HTTP/2 is offered and preferred.
    pub(crate) async fn pretending_http2(behind: SocketAddr, own: &Pair) -> Self {
        let mut config = config(own, None);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Self::serve(behind, config).await
    }

    async fn serve(behind: SocketAddr, config: ServerConfig) -> Self {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(acceptor.clone(), client, behind));
            }
        });
        Self { address, task }
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(acceptor: TlsAcceptor, client: TcpStream, behind: SocketAddr) {
    match acceptor.accept(client).into_fallible().await {
        Ok(mut client) => {
            if let Ok(mut server) = TcpStream::connect(behind).await {
                // Either side may end it in any way.
                let _ = copy_bidirectional(&mut client, &mut server).await;
            }
        }
        // If closed with unread bytes, the connection would be reset, and the alert with the reason lost.
        Err((_, mut client)) => {
            let _ = tokio::io::copy(&mut (&mut client).take(1 << 20), &mut sink()).await;
        }
    }
}

fn config(own: &Pair, clients: Option<&Authority>) -> ServerConfig {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let certificate = CertificateDer::from_pem_slice(own.certificate.as_bytes()).expect("PEM");
    let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).expect("PEM");
    let config = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let config = config.expect("versions");
    let config = match clients {
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            let root = CertificateDer::from_pem_slice(authority.pem().as_bytes()).expect("PEM");
            roots.add(root).expect("an authority");
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            config.with_client_cert_verifier(verifier.expect("a verifier"))
        }
        None => config.with_no_client_auth(),
    };
    config.with_single_cert(vec![certificate], key).expect("a pair")
}
