//! Manifest GETs where a pull quota counts them: once it is used up, no further one is sent in this run.
//!
//! The first goes alone, so that a quota that was used up before costs one request, and not one for each image.

use std::sync::{Mutex, PoisonError};

use crate::error::{Error, Kind, Result};
use crate::registry::action::Request;
use crate::registry::admission::gate::{Gate, Pass};

/// What is known of a host's pull quota.
#[derive(Debug, Default)]
pub(crate) struct Pulls {
    /// Until the first manifest has come.
    first: Gate,
    used_up: Mutex<Option<Error>>,
}

/// A manifest GET that may be sent.
#[derive(Debug)]
pub(crate) struct Pull<'a> {
    pulls: &'a Pulls,
    first: Option<Pass>,
}

impl Pulls {
    /// Waits for the turn of `request`.
    ///
    /// # Errors
    /// `QuotaExceeded` if the quota is known to be used up; nothing is sent for it, so it has no attempts.
    pub(crate) async fn enter(&self, request: &Request) -> Result<Pull<'_>> {
        let first = self.first.enter().await;
        let used_up = self.used_up.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(last) = used_up else { return Ok(Pull { pulls: self, first }) };
        let mut error = request.error(last.kind(), last.why()).with_retry_after(last.retry_after()).with_attempts(0);
        if let Some(status) = last.status() {
            error = error.with_status(status);
        }
        Err(error)
    }
}

impl Pull<'_> {
    /// What came of it.
    pub(crate) fn ended<T>(self, outcome: &Result<T>) {
        match outcome {
            Ok(_) => {}
            Err(error) if error.kind() == Kind::QuotaExceeded => {
                *self.pulls.used_up.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.clone());
            }
            // It says nothing about the quota unless there was an answer.
            Err(error) if error.status().is_none() => return,
            Err(_) => {}
        }
        if let Some(first) = self.first {
            first.open();
        }
    }
}
