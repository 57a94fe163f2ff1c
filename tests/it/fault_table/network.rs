//! The network of a host of the table: connections can be broken during an exchange, and the host can be closed for a
//! while without losing its port.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use axum::Router;
use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// How long a host is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closed {
    No,
    Until(Instant),
    /// Until it is opened.
    ForGood,
}

/// The network of a host. A clone is another handle to it.
#[derive(Debug, Clone)]
pub(super) struct Network {
    closed: watch::Sender<Closed>,
    /// Cancelled when all connections break.
    lines: Arc<Mutex<CancellationToken>>,
}

impl Network {
    pub(super) fn new() -> Self {
        Self { closed: watch::Sender::new(Closed::No), lines: Arc::default() }
    }

    /// Breaks all connections, and refuses new ones for `how_long`.
    pub(super) fn close(&self, how_long: Closed) {
        self.closed.send_replace(how_long);
        let broken = std::mem::take(&mut *self.lines.lock().expect("nothing panics while it holds the lines"));
        broken.cancel();
    }

    pub(super) fn open(&self) {
        self.closed.send_replace(Closed::No);
    }

    fn line(&self) -> Cord {
        Cord(self.lines.lock().expect("nothing panics while it holds the lines").child_token())
    }

    /// Serves `router` on a free port of 127.0.0.1 until the task is aborted.
    pub(super) fn serve(&self, router: Router) -> (SocketAddr, tokio::task::JoinHandle<()>) {
        let listener = bound(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).listen(1024).expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let door = Door { listener, address, network: self.clone() };
        let service = router.into_make_service_with_connect_info::<Cord>();
        let task = tokio::spawn(async {
            // It continues after a failed accept.
            let _ = axum::serve(door, service).await;
        });
        (address, task)
    }
}

/// A socket that shares its port with another socket of this host. A socket that is bound but doesn't listen refuses
/// connections and keeps the port.
fn bound(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("an option of all systems");
    socket.set_reuseport(true).expect("an option of Unix");
    socket.bind(address).expect("a free port, or one of ours");
    socket
}

/// The listener of the host.
struct Door {
    listener: TcpListener,
    address: SocketAddr,
    network: Network,
}

impl Door {
    /// Refuses connections until the host is open again.
    async fn stay_closed(&mut self) {
        let silent = bound(self.address);
        let mut closed = self.network.closed.subscribe();
        // The former listener is dropped here, which resets the connections in its queue.
        let placeholder = bound(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).listen(1).expect("a free port");
        drop(std::mem::replace(&mut self.listener, placeholder));
        loop {
            let now = *closed.borrow_and_update();
            match now {
                Closed::No => break,
                Closed::Until(end) if end <= Instant::now() => break self.network.open(),
                Closed::Until(end) => tokio::select! {
                    () = tokio::time::sleep_until(end) => {}
                    _ = closed.changed() => {}
                },
                // The network outlives its listener.
                Closed::ForGood => drop(closed.changed().await),
            }
        }
        self.listener = silent.listen(1024).expect("its own port");
    }
}

impl Listener for Door {
    type Io = Line;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Line, SocketAddr) {
        let mut closed = self.network.closed.subscribe();
        loop {
            if *closed.borrow_and_update() != Closed::No {
                self.stay_closed().await;
                continue;
            }
            tokio::select! {
                _ = closed.changed() => {}
                accepted = self.listener.accept() => {
                    if let Ok((stream, peer)) = accepted {
                        let cord = self.network.line();
                        let cut = Box::pin(cord.0.clone().cancelled_owned());
                        return (Line { stream, cord, cut }, peer);
                    }
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

/// Breaks a connection. The handler of a request gets it from the extensions.
#[derive(Debug, Clone)]
pub(super) struct Cord(CancellationToken);

impl Cord {
    /// Breaks the connection, and never returns.
    pub(super) async fn cut<T>(self) -> T {
        self.0.cancel();
        std::future::pending().await
    }
}

impl Connected<IncomingStream<'_, Door>> for Cord {
    fn connect_info(stream: IncomingStream<'_, Door>) -> Self {
        stream.io().cord.clone()
    }
}

/// One connection.
struct Line {
    stream: TcpStream,
    cord: Cord,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Line {
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.cut.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::ConnectionReset.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Line {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Line {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
