//! Sends requests: signs each, reads the refusals, and retries while that can help.

use std::sync::Arc;

use super::auth::{ANONYMOUS, Unauthorized};
use super::upload::{self, Outgoing, Progress};
use super::{Action, Answer, Host, Request, elsewhere};
use crate::error::{Error, Kind, Result};

const UNTOLD: &str = "the answer has no WWW-Authenticate header, nor has that of /v2/: check whether a proxy in front \
    removes it. A token: under registries: is sent without a challenge";

const DOUBTED_TOKEN: &str = "the registry rejects a token that its own token service has just issued: compare their \
    clocks, and the issuer and key that the registry trusts";

/// The refusals that one request may meet: for an old token or password, and for the new one.
const MOST_REFUSALS: u32 = 2;

/// Why a streamed upload failed.
#[derive(Debug)]
pub(crate) enum UploadError {
    /// The body failed, with this error.
    Body(Error),
    /// The host refused it or broke the connection.
    Host {
        error: Error,
        /// Whether all bytes had been sent: then it may have succeeded.
        all_sent: bool,
    },
}

impl Host {
    /// Sends `request` until it succeeds or a retry can't help.
    ///
    /// # Errors
    /// The error of the last attempt, with the number of attempts.
    pub(crate) async fn send(&self, request: &Request) -> Result<Answer> {
        let mut tries = self.backoff().tries();
        loop {
            match self.attempt(request).await {
                Ok(answer) => return Ok(answer),
                Err(error) if request.action == Action::AbandonUpload || !request.waits => return Err(error),
                // An upload is as good as another attempt to mount.
                Err(error) if request.action == Action::MountBlob => return Err(error),
                Err(error) => tries.again(error).await?,
            }
        }
    }

    /// One attempt, following redirects.
    ///
    /// # Errors
    /// The error of the attempt.
    pub(crate) async fn attempt(&self, request: &Request) -> Result<Answer> {
        let attempted = match self.attempt_here(request).await {
            Ok(answer) if elsewhere::asks(&answer) => self.attempt_elsewhere(request, answer).await,
            attempted => attempted,
        };
        attempted.map_err(|error| error.on(request.side))
    }

    /// Like [`Host::attempt`], but without authentication at another host that a redirect leads to.
    pub(super) async fn attempt_here(&self, request: &Request) -> Result<Answer> {
        let mut refusals = 0;
        loop {
            let authorization = self.auth.authorize(request).await.map_err(|error| self.about_account(error))?;
            let budget = self.budget(&request.repository).await;
            let mark = budget.mark();
            let outcome = self.transport.exchange(request, authorization.header.clone()).await;
            let answer = match outcome {
                Ok(answer) => answer,
                Err(error) => {
                    authorization.unanswered();
                    return Err(error);
                }
            };
            if request.ticket.is_none() && !answer.foreign {
                answer.tell(request, &budget, mark);
            }
            if elsewhere::asks(&answer) {
                authorization.accepted();
                return Ok(answer);
            }
            if let Some(error) = self.lacks_project(request, &answer) {
                authorization.accepted();
                return Err(error);
            }
            // Status 400 is ambiguous, so it is taken for a refusal only once.
            let may_be_stale = refusals == 0 && self.quirks.stale_is_400 && authorization.is_kept_token();
            let refused = refuses_us(&answer) || (may_be_stale && may_mean_stale(&answer));
            if !refused && authorization.is_unknown() && may_hide(&answer) {
                match self.auth.refused(authorization, request, &answer).await? {
                    (_, true) => continue,
                    (_, false) => return answer.check(request),
                }
            }
            if !refused {
                authorization.accepted();
                let checked = self.wants_tls(request, &answer).map_or_else(|| answer.check(request), Err);
                return checked.map_err(|error| self.explain(request, error));
            }
            // Without credentials, a refusal only tells which ones are wanted.
            refusals += u32::from(authorization.header.is_some());
            let (meaning, again) = self.auth.refused(authorization, request, &answer).await?;
            if !again || refusals == MOST_REFUSALS {
                return Err(self.refusal(request, &answer, meaning).await);
            }
        }
    }

    /// The error for an answer that refuses the credentials.
    async fn refusal(&self, request: &Request, answer: &Answer, meaning: Unauthorized) -> Error {
        let error = answer.failure(request);
        if self.auth.is_anonymous(&request.repository).await {
            return error.reclassified(Kind::Unauthorized, answer.message()).with_hint(ANONYMOUS);
        }
        let error = match meaning {
            Unauthorized::NotSent => {
                let why =
                    format!("{}; it doesn't say how to log in, so the credentials for it weren't sent", error.why());
                error.reclassified(Kind::Unauthorized, why).with_hint(UNTOLD)
            }
            Unauthorized::OwnToken => error.with_hint(DOUBTED_TOKEN),
            Unauthorized::Permission if error.kind() == Kind::Unauthorized => {
                let why = error.why().to_owned();
                error.reclassified(Kind::Denied, why)
            }
            Unauthorized::Login => error.about_login(),
            Unauthorized::Permission => error,
        };
        self.explain_unauthorized(request, error).await
    }

    /// Sends `request` at most once and without requesting a token: it is a courtesy, and its result is ignored. Returns
    /// whether nothing is left to do: it isn't sent to a host in trouble.
    pub(crate) async fn give_up(&self, request: &Request) -> bool {
        let Some(header) = self.auth.cached(request).await else { return true };
        let sent = self.transport.exchange(request, header).await;
        !sent.is_err_and(|error| error.kind() == Kind::Interrupted)
    }

    /// Sends `request` once, with a streamed body of `size` bytes.
    ///
    /// # Errors
    /// See [`UploadError`].
    pub(crate) async fn upload(&self, request: &Request, body: upload::Body, size: u64) -> Result<Answer, UploadError> {
        let failed_at = |error: Error, all_sent| UploadError::Host { error: error.on(request.side), all_sent };
        let nothing_sent = |error| failed_at(self.about_account(error), false);
        let authorization = self.auth.authorize(request).await.map_err(nothing_sent)?;
        let progress = Progress::new();
        let outgoing = Outgoing { body, size, progress: Arc::clone(&progress) };
        let outcome = self.transport.upload(request, authorization.header.clone(), outgoing).await;
        if let Some(error) = progress.failed() {
            return Err(UploadError::Body(error));
        }
        let failed = |error| failed_at(error, progress.handed() >= size);
        let answer = match outcome {
            Ok(answer) => answer,
            Err(error) => {
                authorization.unanswered();
                return Err(failed(error));
            }
        };
        if let Some(error) = self.lacks_project(request, &answer) {
            authorization.accepted();
            return Err(failed(error));
        }
        if !refuses_us(&answer) {
            authorization.accepted();
            return answer.check(request).map_err(failed);
        }
        let (meaning, again) = self.auth.refused(authorization, request, &answer).await.map_err(failed)?;
        let error = match again {
            // The body is consumed, but a new upload will use new credentials.
            true => {
                request.error(Kind::Unavailable, "its credentials are refused now").with_status(answer.status.as_u16())
            }
            false => self.refusal(request, &answer, meaning).await,
        };
        Err(failed(error))
    }
}

/// 401 from the registry itself, or 403, which ECR answers to an expired token.
fn refuses_us(answer: &Answer) -> bool {
    let expired = || String::from_utf8_lossy(&answer.body).contains("authorization token has expired");
    match answer.status.as_u16() {
        401 => !answer.foreign,
        403 => !answer.foreign && expired(),
        _ => false,
    }
}

/// The statuses with which registries hide content from anonymous clients.
fn may_hide(answer: &Answer) -> bool {
    matches!(answer.status.as_u16(), 403 | 404) && !answer.foreign
}

/// Whether a 400 may be about the token: it names no other cause, like every answer to a HEAD.
fn may_mean_stale(answer: &Answer) -> bool {
    let said = String::from_utf8_lossy(&answer.body);
    answer.status == 400 && !answer.foreign && (said.is_empty() || said.contains("Authorization Token is invalid"))
}
