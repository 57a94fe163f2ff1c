//! Errors: kind, side, attempted action, and reason.
//!
//! The kind alone decides whether to retry. One table (`hints`) gives the hint for a failure. The error of an image is
//! part of the report and is shared by all tasks that waited for the same work, so errors are cheap to clone.

mod hints;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// The result of everything that can fail at a registry.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kind of a failure, in `snake_case` in the JSON report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The tag, manifest, blob or repository doesn't exist.
    NotFound,
    /// The registry doesn't accept the credentials, or requires some.
    Unauthorized,
    /// The credentials are accepted, but a permission is missing.
    Denied,
    /// Different content exists already and must not be replaced.
    Conflict,
    /// The registry asks to slow down.
    RateLimited,
    /// A pull or storage quota is used up.
    QuotaExceeded,
    /// The target lacks a blob or manifest that the pushed manifest refers to.
    MissingContent,
    /// Bytes that don't match their digest or size.
    Mismatch,
    /// The registry doesn't support the request or the content.
    Unsupported,
    /// An invalid answer or manifest.
    Invalid,
    /// No answer, a broken connection, or a failure of the server. It may be transient.
    Unavailable,
    /// This program was asked to stop.
    Interrupted,
    /// Settings that can't be used: a missing secret, an unreadable certificate.
    Configuration,
}

impl Kind {
    /// Whether the same request may succeed later.
    pub const fn retry(self) -> bool {
        matches!(self, Self::RateLimited | Self::Unavailable)
    }
}

/// The end of a copy that an error belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The registry or layout that images are read from.
    Source,
    /// The registry or layout that they are written to.
    Target,
}

/// The step of the flow that an error belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Resolving a tag at the source.
    Resolve,
    /// Checking the target's content.
    Plan,
    /// Creating the target repository.
    Provision,
    /// Copying content.
    Copy,
    /// Comparing the target with the lock.
    Verify,
}

/// The purpose of a request to a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Task {
    /// To resolve a tag or a digest.
    Resolve,
    ReadManifest,
    /// To read a blob, or to check whether it exists.
    ReadBlob,
    ListTags,
    ListReferrers,
    PushManifest,
    /// To push a blob, by an upload or a mount.
    PushBlob,
    GetToken,
    LogIn,
    /// To query a project.
    FindProject,
    CreateProject,
}

/// What was attempted, on what, and why it failed. `Display` is `attempted: why`, without the hint.
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: Kind,
    side: Option<Side>,
    stage: Option<Stage>,
    task: Option<Task>,
    code: Option<&'static str>,
    attempted: String,
    why: String,
    status: Option<u16>,
    attempts: u32,
    retry_after: Option<Duration>,
    trouble: Option<Duration>,
    is_final: bool,
    is_about_login: bool,
    hint: Option<String>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

/// The result of `work`, or an interruption as soon as `stop` is cancelled.
///
/// # Errors
/// Those of `work`, and `Interrupted`.
pub(crate) async fn unless_stopped<T>(stop: &CancellationToken, work: impl Future<Output = Result<T>>) -> Result<T> {
    stop.run_until_cancelled(work).await.unwrap_or_else(|| Err(Error::interrupted()))
}

impl Error {
    /// This program was asked to stop before the work was done.
    pub fn interrupted() -> Self {
        Self::new(Kind::Interrupted, "mirror it", "the run was interrupted before it was finished")
    }

    /// A defect of this program.
    pub fn defect(attempted: impl Into<String>, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::new(Kind::Invalid, attempted, source.to_string())
            .with_hint("this is a defect of transship: please report it with the output of `-vv`")
            .with_source(source)
    }

    /// `attempted` is a verb and its object (`push manifest sha256:… to host/repository`), `why` the reason; both
    /// in lower case, without a full stop.
    pub fn new(kind: Kind, attempted: impl Into<String>, why: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            side: None,
            stage: None,
            task: None,
            code: None,
            attempted: attempted.into(),
            why: why.into(),
            status: None,
            attempts: 1,
            retry_after: None,
            trouble: None,
            is_final: false,
            is_about_login: false,
            hint: None,
            source: None,
        }))
    }

    /// Replaces kind and reason, for a caller that knows more about the failure.
    #[must_use]
    pub fn reclassified(mut self, kind: Kind, why: impl Into<String>) -> Self {
        (self.0.kind, self.0.why) = (kind, why.into());
        self
    }

    /// Sets the HTTP status of the answer.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.0.status = Some(status);
        self
    }

    /// Sets the purpose of the request.
    #[must_use]
    pub(crate) fn of_task(mut self, task: Task) -> Self {
        self.0.task = Some(task);
        self
    }

    /// Sets the registry's error code.
    #[must_use]
    pub(crate) fn with_code(mut self, code: &'static str) -> Self {
        self.0.code = Some(code);
        self
    }

    /// Sets the number of attempts.
    #[must_use]
    pub fn with_attempts(mut self, attempts: u32) -> Self {
        self.0.attempts = attempts;
        self
    }

    /// Sets the pause that the server asked for.
    #[must_use]
    pub fn with_retry_after(mut self, pause: Option<Duration>) -> Self {
        self.0.retry_after = pause;
        self
    }

    /// Marks the error as trouble of the host rather than of the object: it is retried for `patience`, with any
    /// number of attempts.
    #[must_use]
    pub(crate) fn with_trouble(mut self, patience: Duration) -> Self {
        self.0.trouble = Some(patience);
        self
    }

    /// Marks the error as final: this run doesn't retry it.
    #[must_use]
    pub fn as_final(mut self) -> Self {
        self.0.is_final = true;
        self
    }

    /// Marks the error as a rejection of the credentials themselves, not of one request.
    #[must_use]
    pub(crate) fn about_login(mut self) -> Self {
        self.0.is_about_login = true;
        self
    }

    /// Sets a hint that is more specific than the table's.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Sets the underlying error.
    #[must_use]
    pub fn with_source(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.0.source = Some(Arc::new(source));
        self
    }

    /// Sets the side, unless it is known already. Stores do this for their own errors.
    #[must_use]
    pub fn on(mut self, side: impl Into<Option<Side>>) -> Self {
        self.0.side = self.0.side.or(side.into());
        self
    }

    /// Replaces the side, for a store that was opened for another purpose.
    #[must_use]
    pub(crate) fn moved_to(mut self, side: Side) -> Self {
        self.0.side = Some(side);
        self
    }

    /// Sets the stage, unless it is known already.
    #[must_use]
    pub fn at(mut self, stage: Stage) -> Self {
        self.0.stage.get_or_insert(stage);
        self
    }

    /// The stage, if known.
    pub fn stage(&self) -> Option<Stage> {
        self.0.stage
    }

    /// The purpose of the request, if there was one.
    pub(crate) fn task(&self) -> Option<Task> {
        self.0.task
    }

    /// The kind.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Whether this run doesn't retry it.
    pub fn is_final(&self) -> bool {
        self.0.is_final
    }

    /// Whether another attempt may succeed.
    pub fn retry(&self) -> bool {
        self.0.kind.retry() && !self.0.is_final
    }

    /// Whether a registry has only refused this request, so that its answer remains unknown. `false` for failures that
    /// affect other requests, too: no answer, trouble of the host, a quota, or a rejected login.
    pub(crate) fn is_refusal(&self) -> bool {
        let answered = self.status().is_some_and(|status| match status {
            407 | 408 | 429 | 502..=504 | 520..=529 => false,
            status => status >= 400,
        });
        let about_more =
            matches!(self.kind(), Kind::RateLimited | Kind::QuotaExceeded | Kind::Interrupted | Kind::Configuration);
        // A push to an invalid name fails, too.
        let is_about_name = self.kind() == Kind::Invalid && self.0.code.is_some();
        answered && !about_more && !is_about_name && !self.0.is_about_login
    }

    /// The side, if it has one.
    pub fn side(&self) -> Option<Side> {
        self.0.side
    }

    /// The HTTP status, if there was an answer.
    pub fn status(&self) -> Option<u16> {
        self.0.status
    }

    /// The number of attempts.
    pub fn attempts(&self) -> u32 {
        self.0.attempts
    }

    /// The pause that the server asked for.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// How long to retry, if the host was in trouble.
    pub(crate) fn trouble(&self) -> Option<Duration> {
        self.0.trouble
    }

    /// The reason alone.
    pub fn why(&self) -> &str {
        &self.0.why
    }

    /// What the user can do.
    pub fn hint(&self) -> Option<&str> {
        let Inner { kind, code, why, status, task, side, stage, hint, .. } = &*self.0;
        let case =
            hints::Case { kind: *kind, code: *code, why, status: *status, task: *task, side: *side, stage: *stage };
        hint.as_deref().or_else(|| hints::hint(&case))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.attempted, self.0.why)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({self})", self.0.kind)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|source| &**source as &(dyn std::error::Error + 'static))
    }
}
