//! Whether a registry has the referrers API (distribution-spec, "Listing Referrers", "Backwards Compatibility").
//!
//! A run determines this once: by its first request, for which all others wait, or from `OCI-Subject` in the answer
//! to a push.

use tokio::sync::OnceCell;

use crate::error::Result;
use crate::registry::answer::Answer;

/// Why referrers can't be listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Absence {
    /// The registry has no referrers API.
    Api,
    /// The repository doesn't exist, or the registry lacks the API and takes the path for that of a repository.
    /// This says nothing about the API.
    Repository,
}

impl Answer {
    /// The reason according to the answer to a request for referrers; `None` if it doesn't say that something is
    /// missing.
    ///
    /// Besides the 404 of the specification, registries without the API were seen to redirect to a web page (GHCR,
    /// 303), and to refuse the method, the media type, or the unknown request (400). A 400 with an error code has
    /// another cause.
    pub(crate) fn absence(&self) -> Option<Absence> {
        // Only the registry itself can know.
        if self.foreign {
            return None;
        }
        let codes = self.codes();
        match self.status.as_u16() {
            404 if codes.iter().any(|code| code == "NAME_UNKNOWN") => Some(Absence::Repository),
            303 | 404 | 405 | 406 | 501 => Some(Absence::Api),
            400 if codes.iter().all(|code| code == "UNSUPPORTED") => Some(Absence::Api),
            _ => None,
        }
    }
}

/// What is known about a registry's referrers API.
///
/// `Some(None)`: the first request failed. From then on all requests are sent independently, as waiting for one
/// another would make a long series of failures.
#[derive(Debug, Default)]
pub(crate) struct ReferrersApi(OnceCell<Option<bool>>);

impl ReferrersApi {
    /// Records that the registry has the API, because it names subjects.
    pub(crate) fn record_support(&self) {
        // An earlier request has the same result.
        let _ = self.0.set(Some(true));
    }

    /// The result of `ask`; `Err(Absence::Api)` without asking if the API is known to be missing.
    ///
    /// # Errors
    /// The error of `ask`.
    pub(crate) async fn ask<T: Send, F>(&self, ask: impl Fn() -> F + Send + Sync) -> Result<Result<T, Absence>>
    where
        F: Future<Output = Result<Result<T, Absence>>> + Send,
    {
        let mut own: Option<Result<Result<T, Absence>>> = None;
        let (slot, ask) = (&mut own, &ask);
        let first = move || async move {
            let answer = ask().await;
            let told = match &answer {
                Ok(Ok(_)) => Ok(Some(true)),
                Ok(Err(Absence::Api)) => Ok(Some(false)),
                Ok(Err(Absence::Repository)) => Err(()),
                Err(_) => Ok(None),
            };
            *slot = Some(answer);
            told
        };
        let known = self.0.get_or_try_init(first).await.copied();
        match (own, known) {
            (Some(answer), _) => answer,
            (None, Ok(Some(false))) => Ok(Err(Absence::Api)),
            (None, _) => ask().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::error::{Error, Kind};

    fn failed() -> Error {
        Error::new(Kind::Unavailable, "list", "as the test has it")
    }

    /// How many of ten concurrent requests are sent, and the result of the last one.
    async fn asked(
        api: &ReferrersApi,
        answer: impl Fn(usize) -> Result<Result<u8, Absence>> + Sync,
    ) -> (usize, String) {
        let count = AtomicUsize::new(0);
        let each = (0..10).map(|_| {
            api.ask(|| async {
                let turn = count.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                answer(turn)
            })
        });
        let answers = futures::future::join_all(each).await;
        (count.load(Ordering::Relaxed), format!("{:?}", answers[9].as_ref().map_err(Error::kind)))
    }

    #[tokio::test]
    async fn a_missing_api_is_requested_once_and_an_existing_one_by_all() {
        let api = ReferrersApi::default();
        assert_eq!(asked(&api, |_| Ok(Err(Absence::Api))).await, (1, "Ok(Err(Api))".into()));
        assert_eq!(asked(&api, |_| Ok(Ok(1))).await, (0, "Ok(Err(Api))".into()));
        assert_eq!(asked(&ReferrersApi::default(), |_| Ok(Ok(1))).await, (10, "Ok(Ok(1))".into()));
        let api = ReferrersApi::default();
        api.record_support();
        assert_eq!(asked(&api, |_| Ok(Err(Absence::Api))).await, (10, "Ok(Err(Api))".into()));
    }

    #[tokio::test]
    async fn inconclusive_answers_leave_the_api_unknown() {
        let first = |turn, then| if turn == 0 { Ok(Err(Absence::Repository)) } else { Ok(Err(then)) };
        let api = ReferrersApi::default();
        assert_eq!(asked(&api, |turn| first(turn, Absence::Api)).await, (2, "Ok(Err(Api))".into()));
        let api = ReferrersApi::default();
        let answer = |turn| if turn == 0 { Err(failed()) } else { Ok(Err(Absence::Api)) };
        assert_eq!(asked(&api, answer).await, (10, "Ok(Err(Api))".into()));
        let api = ReferrersApi::default();
        assert_eq!(asked(&api, |_| Err(failed())).await, (10, "Err(Unavailable)".into()));
    }
}
