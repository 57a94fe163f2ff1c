//! Connections: over TCP, through a proxy, with TLS.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use rustls::ClientConfig;
use tower_service::Service;
use url::Url;

use crate::registry::net::proxies::{Proxies, Proxy};

/// The time between two probes of a silent connection.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// How long sent bytes may stay unacknowledged.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Connects to the host of a URL.
#[derive(Debug, Clone)]
pub(crate) struct Connector {
    tcp: HttpConnector,
    tls: Arc<ClientConfig>,
    /// TLS to a proxy, which is neither shown a client certificate nor exempt from checks.
    proxy_tls: Arc<ClientConfig>,
    proxies: Arc<Proxies>,
    within: Duration,
}

impl Connector {
    /// `within` limits the time for a connection, handshakes included.
    pub(crate) fn new(tls: ClientConfig, proxy_tls: ClientConfig, proxies: Arc<Proxies>, within: Duration) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(KEEPALIVE));
        tcp.set_keepalive_interval(Some(KEEPALIVE));
        tcp.set_keepalive_retries(Some(3));
        #[cfg(target_os = "linux")]
        tcp.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
        Self { tcp, tls: Arc::new(tls), proxy_tls: Arc::new(proxy_tls), proxies, within }
    }

    async fn connect(self, to: Uri) -> Result<Wire, BoxError> {
        // The pool names hosts by scheme and authority: neither has a path.
        let url: Url = to.to_string().parse()?;
        let within = self.within;
        let connecting = async {
            match self.proxies.of(&url).ok().flatten() {
                None => dial(self.direct(), to).await,
                Some(proxy) if to.scheme_str() == Some("https") => dial(self.tunnel(proxy), to).await,
                Some(proxy) => {
                    let wire = dial(self.to_proxy(), proxy.uri().clone()).await?;
                    Ok(Wire { is_proxied: true, ..wire })
                }
            }
        };
        match tokio::time::timeout(within, connecting).await {
            Ok(connected) => connected,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "operation timed out").into()),
        }
    }

    fn direct(&self) -> HttpsConnector<HttpConnector> {
        (self.tcp.clone(), Arc::clone(&self.tls)).into()
    }

    fn to_proxy(&self) -> HttpsConnector<HttpConnector> {
        (self.tcp.clone(), Arc::clone(&self.proxy_tls)).into()
    }

    fn tunnel(&self, proxy: &Proxy) -> HttpsConnector<Tunnel<HttpsConnector<HttpConnector>>> {
        let mut tunnel = Tunnel::new(proxy.uri().clone(), self.to_proxy());
        if let Some(authorization) = proxy.authorization() {
            tunnel = tunnel.with_auth(authorization.clone());
        }
        (tunnel, Arc::clone(&self.tls)).into()
    }
}

async fn dial<C>(mut connector: C, to: Uri) -> Result<Wire, BoxError>
where
    C: Service<Uri, Error = BoxError>,
    C::Response: Stream + 'static,
{
    let stream = connector.call(to).await?;
    Ok(Wire { stream: Box::new(stream), is_proxied: false })
}

impl Service<Uri> for Connector {
    type Response = Wire;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Wire, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        Box::pin(self.clone().connect(to))
    }
}

/// The result of every way of connecting.
trait Stream: Read + Write + Connection + Unpin + Send {}

impl<T: Read + Write + Connection + Unpin + Send> Stream for T {}

/// An open connection.
pub(crate) struct Wire {
    stream: Box<dyn Stream>,
    /// It leads to a proxy, so each request has to name its host.
    is_proxied: bool,
}

impl Connection for Wire {
    fn connected(&self) -> Connected {
        self.stream.connected().proxy(self.is_proxied)
    }
}

impl Read for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl Write for Wire {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }
}
