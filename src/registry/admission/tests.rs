use futures::poll;

use super::*;
use crate::error::Kind;

fn admission() -> Arc<Admission> {
    let admissions = Admissions::new(Backoff::default(), Duration::from_secs(300));
    let url: Url = "https://h.io/v2/".parse().unwrap();
    assert!(Arc::ptr_eq(&admissions.of(&url), &admissions.of(&"https://h.io:443/x".parse().unwrap())));
    admissions.of(&url)
}

fn busy(asked: u64) -> Error {
    let asked = Some(Duration::from_secs(asked));
    Error::new(Kind::RateLimited, "resolve", "429").with_status(429).with_retry_after(asked)
}

#[tokio::test(start_paused = true)]
async fn trouble_blocks_all_requests_and_after_a_pause_admits_one_at_a_time() {
    let admission = admission();
    let first = admission.admit(Action::Resolve, "", false).await.unwrap();
    let late = admission.admit(Action::PullBlob, "", false).await.unwrap();
    first.failed(&busy(100), &Subject::Request(0));
    let began = Instant::now();
    let mut probe = std::pin::pin!(admission.admit(Action::PullBlob, "", false));
    let mut other = std::pin::pin!(admission.admit(Action::PushBlob, "", false));
    assert!(poll!(&mut probe).is_pending() && poll!(&mut other).is_pending());
    assert_eq!(admission.admit(Action::AbandonUpload, "", false).await.unwrap_err().kind(), Kind::Interrupted);
    let mut probe = probe.await.unwrap();
    assert_eq!(began.elapsed().as_secs(), 100);
    assert!(probe.probe.is_some() && poll!(&mut other).is_pending());
    probe.answered();
    drop(probe);
    assert!(other.await.unwrap().probe.is_none());
    drop(late);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_probe_is_replaced_by_the_next_waiting_request() {
    let admission = admission();
    admission.admit(Action::Resolve, "", false).await.unwrap().failed(&busy(1), &Subject::Request(0));
    let probe = admission.admit(Action::Resolve, "", false).await.unwrap();
    let mut next = std::pin::pin!(admission.admit(Action::Resolve, "", false));
    assert!(poll!(&mut next).is_pending());
    drop(probe);
    assert!(next.await.unwrap().probe.is_some());
}

#[tokio::test(start_paused = true)]
async fn requests_that_have_not_failed_yet_go_before_those_that_have() {
    let admission = admission();
    admission.admit(Action::Resolve, "", false).await.unwrap().failed(&busy(1), &Subject::Request(0));
    let first = admission.admit(Action::Resolve, "", true).await.unwrap();
    let mut second = std::pin::pin!(admission.admit(Action::Resolve, "", true));
    assert!(poll!(&mut second).is_pending());
    let mut newcomer = std::pin::pin!(admission.admit(Action::Resolve, "", false));
    assert!(poll!(&mut newcomer).is_pending());
    first.failed(&busy(1), &Subject::Request(1));
    assert!(newcomer.await.unwrap().probe.is_some());
    assert!(second.await.unwrap().probe.is_some());
}

#[tokio::test]
async fn after_a_host_is_given_up_all_requests_get_the_same_error() {
    let admission = admission();
    let permit = admission.admit(Action::Resolve, "", false).await.unwrap();
    let waits = async {
        admission.admit(Action::Resolve, "", false).await.unwrap().failed(&busy(1), &Subject::Request(0));
        admission.admit(Action::Resolve, "", false).await
    };
    let mut waits = std::pin::pin!(waits);
    assert!(poll!(&mut waits).is_pending());
    permit.failed(&busy(86400), &Subject::Request(1));
    let (waited, later) = (waits.await.unwrap_err(), admission.admit(Action::PullBlob, "", false).await.unwrap_err());
    assert_eq!(waited.to_string(), later.to_string());
}

#[tokio::test]
async fn bulk_requests_pass_queued_short_requests() {
    let admission = admission();
    let mut held = Vec::new();
    for _ in 0..SHORT_IN_FLIGHT {
        held.push(admission.admit(Action::Resolve, "", false).await.unwrap());
    }
    assert!(poll!(Box::pin(admission.admit(Action::Resolve, "", false))).is_pending());
    admission.admit(Action::PushBlob, "", false).await.unwrap();
    held.pop();
    admission.admit(Action::Resolve, "", false).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_action_keeps_its_rate_limit() {
    let paces = Paces::new(&[Pace { action: Action::PushManifest, per_second: 8, burst: 10 }]);
    let started = Instant::now();
    for _ in 0..10 {
        paces.wait(Action::PushManifest).await;
    }
    paces.wait(Action::Resolve).await;
    assert_eq!(started.elapsed(), Duration::ZERO);
    for _ in 0..16 {
        paces.wait(Action::PushManifest).await;
    }
    assert_eq!(started.elapsed().as_secs(), 2, "eight a second");
}
