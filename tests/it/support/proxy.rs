//! A forward proxy that resolves host names which nothing else does: `CONNECT`, and plain HTTP by absolute URLs.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// It stops when it is dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

#[derive(Clone)]
struct Rules {
    /// The value of `Proxy-Authorization`.
    login: String,
    hosts: BTreeMap<String, SocketAddr>,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// For this user only; `hosts` has the address of each `host:port`.
    pub(crate) async fn start(user: &str, password: &str, hosts: &[(&str, SocketAddr)]) -> Self {
        let login = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        let hosts = hosts.iter().map(|(host, address)| ((*host).to_owned(), *address)).collect();
        let seen = Arc::<Mutex<Vec<String>>>::default();
        let rules = Rules { login, hosts, seen: Arc::clone(&seen) };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let rules = rules.clone();
                // A client may disconnect at any time.
                tokio::spawn(async move { rules.serve(client).await.ok() });
            }
        });
        Self { address, seen, task }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL, with this before the host: `USER:PASSWORD@`, or nothing.
    pub(crate) fn url(&self, login: &str) -> String {
        format!("http://{login}{}", self.address)
    }

    /// Takes the list of requested destinations, in order.
    pub(crate) fn seen(&self) -> Vec<String> {
        std::mem::take(&mut *self.seen.lock().expect("no thread panics while it holds the lock"))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Rules {
    async fn serve(&self, mut client: TcpStream) -> std::io::Result<()> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") && head.len() < 1 << 16 {
            head.push(client.read_u8().await?);
        }
        let text = String::from_utf8_lossy(&head).into_owned();
        let mut words = text.split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let wanted = match target.strip_prefix("http://") {
            Some(rest) => rest.split('/').next().unwrap_or_default().to_owned(),
            None => target.to_owned(),
        };
        self.seen.lock().expect("no thread panics while it holds the lock").push(wanted.clone());
        if !text.contains(&format!("Basic {}\r\n", self.login)) {
            let refusal = "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"p\"\r\n\
                           Content-Length: 0\r\nConnection: close\r\n\r\n";
            return client.write_all(refusal.as_bytes()).await;
        }
        let Some(address) = self.hosts.get(&wanted) else {
            return client.write_all(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n").await;
        };
        let mut server = TcpStream::connect(address).await?;
        match method {
            "CONNECT" => client.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").await?,
            // Servers accept absolute URLs too, and this connection is for one host.
            _ => server.write_all(&head).await?,
        }
        copy_bidirectional(&mut client, &mut server).await.map(|_| ())
    }
}
