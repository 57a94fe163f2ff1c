//! Sends requests: adds the authorization, handles rejected credentials, and retries while that can help.

use std::sync::Arc;

use super::auth::{ANONYMOUS, Unauthorized};
use super::upload::{self, Outgoing, Progress};
use super::{Action, Answer, Host, Request, elsewhere};
use crate::error::{Error, Kind, Result};

const NO_CHALLENGE: &str = "neither this answer nor that of /v2/ has a WWW-Authenticate header: check whether a proxy \
    in front of the registry removes it, or set token: under registries:, which is sent without a challenge";

const OWN_TOKEN_REJECTED: &str = "the registry rejects a token that its own token service has just issued: compare \
    their clocks, and the issuer and key that the registry trusts";

/// How often one request may be rejected: with an old token or password, and with the new one.
const MOST_REFUSALS: u32 = 2;

/// Why a streamed upload failed.
#[derive(Debug)]
pub(crate) enum UploadError {
    /// The body failed, with this error.
    Body(Error),
    /// The host refused the upload or broke the connection.
    Host {
        error: Error,
        /// Whether all bytes had been sent: then the upload may have succeeded.
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
                // A failed mount isn't retried: the blob is uploaded instead.
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
            Ok(answer) if elsewhere::asks_for_credentials(&answer) => self.attempt_elsewhere(request, answer).await,
            attempted => attempted,
        };
        attempted.map_err(|error| error.on(request.side))
    }

    /// Like [`Host::attempt`], but doesn't log in to a host that a redirect leads to.
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
                answer.report_quota(request, &budget, mark);
            }
            if elsewhere::asks_for_credentials(&answer) {
                authorization.accepted();
                return Ok(answer);
            }
            if let Some(error) = self.missing_project(request, &answer) {
                authorization.accepted();
                return Err(error);
            }
            // Status 400 is ambiguous, so it counts as a rejected token only once.
            let may_be_stale = refusals == 0 && self.quirks.stale_is_400 && authorization.is_kept_token();
            let refused = rejects_credentials(&answer) || (may_be_stale && may_mean_stale(&answer));
            if !refused && authorization.is_unknown() && may_hide(&answer) {
                match self.auth.refused(authorization, request, &answer).await? {
                    (_, true) => continue,
                    (_, false) => return answer.check(request),
                }
            }
            if !refused {
                authorization.accepted();
                let checked = self.tls_expected(request, &answer).map_or_else(|| answer.check(request), Err);
                return checked.map_err(|error| self.explain(request, error));
            }
            // A 401 to a request without credentials is a challenge, not a rejection.
            refusals += u32::from(authorization.header.is_some());
            let (meaning, again) = self.auth.refused(authorization, request, &answer).await?;
            if !again || refusals == MOST_REFUSALS {
                return Err(self.refusal(request, &answer, meaning).await);
            }
        }
    }

    /// The error for an answer that rejects the credentials.
    async fn refusal(&self, request: &Request, answer: &Answer, meaning: Unauthorized) -> Error {
        let error = answer.failure(request);
        if self.auth.is_anonymous(&request.repository).await {
            return error.reclassified(Kind::Unauthorized, answer.message()).with_hint(ANONYMOUS);
        }
        let error = match meaning {
            Unauthorized::NotSent => {
                let why =
                    format!("{}; it doesn't say how to log in, so the credentials for it weren't sent", error.why());
                error.reclassified(Kind::Unauthorized, why).with_hint(NO_CHALLENGE)
            }
            Unauthorized::OwnToken => error.with_hint(OWN_TOKEN_REJECTED),
            Unauthorized::Permission if error.kind() == Kind::Unauthorized => {
                let why = error.why().to_owned();
                error.reclassified(Kind::Denied, why)
            }
            Unauthorized::Login => error.about_login(),
            Unauthorized::Permission => error,
        };
        self.explain_unauthorized(request, error).await
    }

    /// Sends `request` at most once, without requesting a token, and ignores the result. Returns `false` if it wasn't
    /// sent because the host is in trouble.
    pub(crate) async fn send_best_effort(&self, request: &Request) -> bool {
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
        if let Some(error) = self.missing_project(request, &answer) {
            authorization.accepted();
            return Err(failed(error));
        }
        if !rejects_credentials(&answer) {
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

/// Whether the registry itself rejects the credentials: by 401, or by 403, which ECR answers to an expired token.
fn rejects_credentials(answer: &Answer) -> bool {
    let expired = || String::from_utf8_lossy(&answer.body).contains("authorization token has expired");
    match answer.status.as_u16() {
        401 => !answer.foreign,
        403 => !answer.foreign && expired(),
        _ => false,
    }
}

/// Whether the status is one that registries use to hide content from anonymous clients.
fn may_hide(answer: &Answer) -> bool {
    matches!(answer.status.as_u16(), 403 | 404) && !answer.foreign
}

/// Whether a 400 may mean an expired token: the body names no other cause. An answer to a HEAD has no body.
fn may_mean_stale(answer: &Answer) -> bool {
    let body = String::from_utf8_lossy(&answer.body);
    answer.status == 400 && !answer.foreign && (body.is_empty() || body.contains("Authorization Token is invalid"))
}
