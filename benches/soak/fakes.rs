//! The registries of the soak test, in a separate process, and their faults.

use std::io;
use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures::stream;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use transship::oci::{Registry, Repository};
use transship::serve::{self, Options};
use transship::store::memory::Memory;

use crate::images::{Image, image};

/// The first argument that makes this program serve the registries.
pub(crate) const ROLE: &str = "registries";

/// One request in so many fails.
const ONE_IN: u64 = 20;
const REPOSITORIES: usize = 100;
const BASES: usize = 10;

/// Path, tag and image number `n` of the batch.
pub(crate) fn one(n: usize) -> (String, String, Image) {
    let base = format!("base {}", n % BASES);
    let image = image(&format!("app {n}")).shared_layer(&base, 64 << 10).layer(16 << 10).build();
    (format!("apps/{}", n % REPOSITORIES), format!("v{n}"), image)
}

/// A handle to the process of the registries.
pub(crate) struct Fakes {
    pub(crate) source: Registry,
    pub(crate) target: Registry,
    // Killed when this is dropped.
    _process: Child,
    questions: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Fakes {
    /// Starts them with so many images at the source.
    pub(crate) async fn start(images: usize) -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args([ROLE, &images.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn()?;
        let questions = process.stdin.take().expect("it is piped");
        let mut answers = BufReader::new(process.stdout.take().expect("it is piped")).lines();
        let mut address = async || {
            let line = answers.next_line().await?.unwrap_or_default();
            line.parse().map_err(io::Error::other)
        };
        let (source, target) = (address().await?, address().await?);
        Ok(Self { source, target, _process: process, questions, answers })
    }

    /// Uploads that are open at the target, and requests that have failed so far.
    pub(crate) async fn counts(&mut self) -> io::Result<(u64, u64)> {
        self.questions.write_all(b"?\n").await?;
        let line = self.answers.next_line().await?.unwrap_or_default();
        let (uploads, faults) = line.split_once(' ').ok_or_else(|| io::Error::other(line.clone()))?;
        let number = |text: &str| text.parse().map_err(io::Error::other);
        Ok((number(uploads)?, number(faults)?))
    }
}

/// Serves the registries until stdin is closed.
pub(crate) async fn serve(images: usize) -> io::Result<ExitCode> {
    let (source, target, faults) = (Memory::new(), Memory::new(), Faults::default());
    for n in 0..images {
        let (path, tag, image) = one(n);
        let inside = Repository::new(Options::default().registry, &path).expect("a repository path");
        image.push(&source.repository(&inside), &tag).await;
    }
    for memory in [&source, &target] {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        let router = faults.around(serve::router(Arc::new(memory.clone()), Options::default()));
        tokio::spawn(async { axum::serve(listener, router).await });
    }
    let answering = tokio::task::spawn_blocking(move || {
        for _question in io::stdin().lines().map_while(Result::ok) {
            let repositories = target.repositories().into_iter();
            let open: usize = repositories.map(|name| target.repository(&name).open_uploads()).sum();
            println!("{open} {}", faults.met.load(Ordering::Relaxed));
        }
    });
    answering.await.map_err(io::Error::other)?;
    Ok(ExitCode::SUCCESS)
}

/// Fails requests in one of six ways in turn; the number of a request decides whether it fails.
#[derive(Debug, Clone, Default)]
struct Faults {
    requests: Arc<AtomicU64>,
    met: Arc<AtomicU64>,
}

impl Faults {
    fn around(&self, router: Router) -> Router {
        router.layer(middleware::from_fn_with_state(self.clone(), pass))
    }
}

async fn pass(State(faults): State<Faults>, request: Request, next: Next) -> Response {
    let number = faults.requests.fetch_add(1, Ordering::Relaxed);
    // The finalizer of SplitMix64 gives adjacent numbers different results.
    let mixed = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let chance = mixed ^ (mixed >> 31);
    // A DELETE is sent only once, and a client that got no answer to its POST can't send one. Both would leave uploads
    // open at the end, so these requests get other faults or none.
    let (is_end, is_begin) = (request.method() == Method::DELETE, request.method() == Method::POST);
    if !chance.is_multiple_of(ONE_IN) || is_end {
        return next.run(request).await;
    }
    match faults.met.fetch_add(1, Ordering::Relaxed) % 6 {
        0 => instead(StatusCode::SERVICE_UNAVAILABLE, request).await,
        1 => instead(StatusCode::TOO_MANY_REQUESTS, request).await,
        2 => instead(StatusCode::INTERNAL_SERVER_ERROR, request).await,
        3 => instead(StatusCode::GATEWAY_TIMEOUT, request).await,
        4 => broken(next.run(request).await).await,
        _ if is_begin => instead(StatusCode::BAD_GATEWAY, request).await,
        // The work is done, but the answer is lost.
        _ => {
            next.run(request).await;
            StatusCode::BAD_GATEWAY.into_response()
        }
    }
}

/// Reads the request to its end, so that the client isn't cut off while it sends.
async fn instead(status: StatusCode, request: Request) -> Response {
    let _ = to_bytes(request.into_body(), usize::MAX).await;
    status.into_response()
}

/// The first half of the answer's body; without one, nothing is broken.
async fn broken(response: Response) -> Response {
    let (head, body) = response.into_parts();
    let bytes = to_bytes(body, usize::MAX).await.unwrap_or_default();
    if bytes.is_empty() {
        return Response::from_parts(head, Body::empty());
    }
    let half: Result<Bytes, io::Error> = Ok(bytes.slice(..bytes.len() / 2));
    let chunks = stream::iter([half, Err(io::Error::other("as the soak has it"))]);
    Response::from_parts(head, Body::from_stream(chunks))
}
