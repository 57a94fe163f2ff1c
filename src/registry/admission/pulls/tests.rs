use super::*;

fn quota(limit: u64, remaining: u64) -> Quota {
    Quota { limit, remaining, window_seconds: Some(21600) }
}

fn wanted(name: &str) -> Wanted {
    ("library/app".into(), name.into())
}

fn budget(quota: Quota, margin: u64) -> Arc<Budget> {
    let budget = Arc::new(Budget::new("the quota of docker.io".into(), None, margin));
    budget.learn(quota, budget.mark(), false);
    budget
}

async fn send(budget: &Arc<Budget>, name: &str) -> Result<Ticket> {
    let ticket = budget.ticket(wanted(name), std::future::pending()).await;
    ticket.begin("get manifest").map(|()| ticket)
}

#[tokio::test]
async fn reserved_pulls_are_unavailable_to_others() {
    let budget = budget(quota(100, 7), 2);
    let mut image = budget.reservation();
    image.extend([wanted("a")], 1, "pull a").unwrap();
    image.extend([wanted("b"), wanted("c")], 0, "pull a").unwrap();
    assert_eq!(budget.room(), Some(2));
    let mut other = budget.reservation();
    other.extend([wanted("c"), wanted("d"), wanted("e")], 0, "pull b").unwrap();
    assert_eq!(budget.room(), Some(0), "c is set aside once for both");
    let refused = other.extend([wanted("f")], 0, "pull docker.io/library/b").unwrap_err();
    assert_eq!(
        refused.to_string(),
        "pull docker.io/library/b: it needs 1 pull, and the quota of docker.io has 7 left of 100, 2 kept for others \
         (limits.quota_reserve), 5 set aside"
    );
    assert_eq!((refused.attempts(), refused.retry_after()), (0, Some(Duration::from_secs(21600))));
    assert!(send(&budget, "f").await.is_err());
    let sent = send(&budget, "a").await.unwrap();
    sent.answered(Some(quota(100, 6)), None);
    assert_eq!(budget.room(), Some(0));
    drop(other);
    assert_eq!(budget.room(), Some(2));
    drop(image);
    assert_eq!(budget.room(), Some(4));
}

#[tokio::test]
async fn an_outdated_or_larger_quota_header_is_ignored() {
    let budget = budget(quota(100, 20), 0);
    let early = budget.mark();
    let (one, two) = (send(&budget, "1").await.unwrap(), send(&budget, "2").await.unwrap());
    one.answered(Some(quota(100, 19)), None);
    assert_eq!(budget.room(), Some(18), "the second is still in flight");
    two.answered(None, None);
    budget.learn(quota(100, 20), early, false);
    assert_eq!(budget.room(), Some(18));
    budget.learn(quota(100, 99), budget.mark(), false);
    assert_eq!(budget.room(), Some(18));
    budget.learn(quota(100, 3), budget.mark(), false);
    assert_eq!(budget.room(), Some(3), "others pull behind the same address");
    budget.learn(quota(2, 1_000_000), budget.mark(), false);
    assert_eq!(budget.room(), Some(2), "more than there can be");
}

#[tokio::test]
async fn concurrent_pulls_are_counted_once() {
    let budget = budget(quota(100, 20), 0);
    let (one, two) = (send(&budget, "1").await.unwrap(), send(&budget, "2").await.unwrap());
    two.answered(Some(quota(100, 18)), None);
    one.answered(Some(quota(100, 19)), None);
    assert_eq!(budget.room(), Some(18));
    // Another client has pulled one, and it is unknown whether the answer includes the one in flight: it does.
    let (three, four) = (send(&budget, "3").await.unwrap(), send(&budget, "4").await.unwrap());
    three.answered(Some(quota(100, 15)), None);
    assert_eq!(budget.room(), Some(14));
    four.answered(None, None);
    budget.learn(quota(100, 15), budget.mark(), false);
    assert_eq!(budget.room(), Some(15));
    budget.learn(quota(100, 16), budget.mark(), false);
    assert_eq!(budget.room(), Some(15));
}

#[tokio::test]
async fn every_answer_but_a_401_costs_a_pull_and_no_answer_costs_none() {
    let budget = budget(quota(100, 3), 0);
    let mut image = budget.reservation();
    image.extend([wanted("a"), wanted("b"), wanted("c")], 0, "pull").unwrap();
    let ticket = budget.ticket(wanted("a"), std::future::pending()).await;
    for _ in 0..3 {
        ticket.begin("get").unwrap();
        ticket.unanswered();
    }
    ticket.begin("get").unwrap();
    ticket.answered(None, None);
    let again = ticket.begin("get").unwrap_err();
    assert_eq!(again.kind(), Kind::QuotaExceeded, "the others are set aside");
}

#[tokio::test]
async fn a_limit_of_zero_blocks_every_pull_and_no_limit_blocks_none() {
    let none = budget(quota(0, 0), 0);
    assert_eq!(none.room(), Some(0));
    assert!(send(&none, "a").await.is_err());
    let unknown = Arc::new(Budget::new("the quota of h.io".into(), None, 10));
    unknown.reservation().extend((0..1000).map(|n| wanted(&n.to_string())), 7, "pull").unwrap();
    assert_eq!((unknown.room(), unknown.is_unknown()), (None, true));
    send(&unknown, "a").await.unwrap();
}

#[tokio::test]
async fn a_quota_reported_as_exhausted_stays_exhausted_for_the_run() {
    let budget = budget(quota(100, 50), 0);
    let mut image = budget.reservation();
    image.extend([wanted("a"), wanted("b")], 0, "pull").unwrap();
    let ticket = send(&budget, "a").await.unwrap();
    let error = Error::new(Kind::QuotaExceeded, "get a", "429 Too Many Requests: reached your pull rate limit");
    ticket.answered(None, Some(&error.with_status(429)));
    let refused = send(&budget, "b").await.unwrap_err();
    assert_eq!((refused.status(), refused.attempts()), (Some(429), 0));
    assert!(refused.hint().unwrap().starts_with("run it again after 2"), "{:?}", refused.hint());
    assert_eq!(budget.room(), Some(0));
    budget.learn(quota(100, 100), budget.mark(), false);
    assert!(send(&budget, "b").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn after_the_window_the_quota_is_requested_again() {
    let budget = budget(quota(100, 1), 0);
    send(&budget, "a").await.unwrap().answered(None, None);
    assert_eq!((budget.room(), budget.is_unknown()), (Some(0), false));
    tokio::time::advance(Duration::from_secs(21600)).await;
    assert!(budget.is_unknown());
    budget.learn(quota(100, 80), budget.mark(), false);
    assert_eq!((budget.room(), budget.is_unknown()), (Some(80), false));
}

#[tokio::test]
async fn the_first_pull_is_sent_alone_until_it_is_answered() {
    let budget = Arc::new(Budget::new("the quota of h.io".into(), None, 0));
    let first = budget.ticket(wanted("a"), std::future::pending()).await;
    let mut second = Box::pin(budget.ticket(wanted("b"), std::future::pending()));
    assert!(futures::poll!(&mut second).is_pending());
    first.begin("get").unwrap();
    first.unanswered();
    assert!(futures::poll!(&mut second).is_pending());
    first.begin("get").unwrap();
    first.answered(Some(quota(10, 0)), None);
    assert!(second.await.begin("get").is_err());
}
