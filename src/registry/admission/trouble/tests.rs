use super::*;

const SECOND: Duration = Duration::from_secs(1);

struct Host {
    health: Health,
    now: Instant,
    requests: u64,
}

impl Host {
    fn new() -> Self {
        let backoff = Backoff { attempts: 5, first: SECOND, longest: 4 * SECOND };
        let patience = Patience { host: "h.io:443".into(), backoff, max_wait: 60 * SECOND };
        Self { health: Health::new(patience), now: Instant::now(), requests: 0 }
    }

    fn turn(&self) -> Turn {
        self.health.turn("", self.now)
    }

    fn fail(&mut self, error: &Error, probe: bool) {
        self.requests += 1;
        let failed = Failed { error, subject: &Subject::Request(self.requests), probe, sent: self.now };
        assert_eq!(self.health.failed(failed, self.now), Trial::Host);
    }

    /// Waits for the pause to end, and sends the probe.
    fn probe(&mut self, error: &Error) {
        while let Turn::Until(next) = self.turn() {
            self.now = next;
        }
        assert!(matches!(self.turn(), Turn::Probe(_)));
        self.fail(error, true);
    }

    fn given_up(&self) -> Option<Error> {
        match self.turn() {
            Turn::Never(error) => Some(error),
            _ => None,
        }
    }
}

fn refused() -> Error {
    Error::new(Kind::Unavailable, "resolve 1 in h.io/a", "connection refused")
}

fn busy(asked: Option<Duration>) -> Error {
    Error::new(Kind::RateLimited, "resolve 1 in h.io/a", "429").with_status(429).with_retry_after(asked)
}

#[test]
fn a_silent_host_is_given_up_after_five_waves_of_attempts() {
    let mut host = Host::new();
    for _ in 0..32 {
        assert!(matches!(host.turn(), Turn::Go));
    }
    for _ in 0..32 {
        host.fail(&refused(), false);
    }
    for _ in 0..4 {
        assert!(host.given_up().is_none());
        host.probe(&refused());
    }
    let error = host.given_up().unwrap();
    assert_eq!((error.kind(), error.attempts(), error.retry()), (Kind::Unavailable, 5, false));
    assert_eq!(error.to_string(), "reach h.io:443: connection refused");
}

#[test]
fn a_host_that_answers_with_errors_gets_the_full_waiting_time() {
    let mut host = Host::new();
    let began = host.now;
    host.fail(&busy(None), false);
    let mut probes = 1;
    let error = loop {
        if let Some(error) = host.given_up() {
            break error;
        }
        host.probe(&busy(None));
        probes += 1;
    };
    assert_eq!(host.now - began, 60 * SECOND);
    assert!(probes > 10 && error.attempts() == probes, "{probes} {error:?}");
    assert_eq!(error.hint(), Some("run it again later, log in for a higher limit, or raise limits.max_wait"));
}

#[test]
fn a_good_answer_ends_the_trouble_and_resets_the_count() {
    let mut host = Host::new();
    host.fail(&busy(Some(50 * SECOND)), false);
    assert!(matches!(host.turn(), Turn::Until(next) if next == host.now + 50 * SECOND));
    assert!(host.health.answered(host.now));
    assert!(matches!(host.turn(), Turn::Go) && !host.health.answered(host.now));
    host.now += 50 * SECOND;
    host.fail(&busy(Some(50 * SECOND)), false);
    assert!(matches!(host.turn(), Turn::Until(_)), "it isn't given up");
}

#[test]
fn a_retry_after_beyond_the_remaining_time_gives_up_at_once_and_names_the_time() {
    let mut host = Host::new();
    host.fail(&busy(Some(59 * SECOND)), false);
    assert!(host.given_up().is_none());
    host.fail(&busy(Some(86400 * SECOND)), false);
    let error = host.given_up().unwrap();
    assert_eq!(
        (error.kind(), error.status(), error.retry_after()),
        (Kind::RateLimited, Some(429), Some(86400 * SECOND))
    );
    assert_eq!(
        error.to_string(),
        "reach h.io:443: the server asks to wait 1day, but limits.max_wait is 1m; the last answer: 429"
    );
    assert!(error.hint().unwrap().starts_with("run it again after 2"), "{error:?}");
}

#[test]
fn one_failing_request_does_not_give_up_the_host_for_others() {
    let mut host = Host::new();
    host.health.answered(host.now);
    let error = busy(None);
    let failed = |probe, sent| Failed { error: &error, subject: &Subject::Request(7), probe, sent };
    let mut trial = host.health.failed(failed(false, host.now), host.now);
    while trial == Trial::Host {
        while let Turn::Until(next) = host.turn() {
            host.now = next;
        }
        assert!(host.given_up().is_none());
        trial = host.health.failed(failed(true, host.now), host.now);
    }
    assert!(matches!(host.turn(), Turn::Go));
}

#[test]
fn a_silent_host_is_given_up_also_if_requests_come_one_by_one() {
    let mut host = Host::new();
    host.health.answered(host.now);
    let error = busy(None);
    let mut tried = Vec::new();
    for request in 1..=3 {
        let began = host.now;
        loop {
            let probe = match host.turn() {
                Turn::Go => false,
                Turn::Probe(_) => true,
                Turn::Until(next) => {
                    host.now = next;
                    continue;
                }
                Turn::Never(_) => break,
            };
            let failed = Failed { error: &error, subject: &Subject::Request(request), probe, sent: host.now };
            if host.health.failed(failed, host.now) == Trial::Alone {
                break;
            }
        }
        tried.push((host.now - began, host.given_up().is_some()));
    }
    assert_eq!(tried, [(60 * SECOND, false), (Duration::ZERO, true), (Duration::ZERO, true)]);
}

/// Sends failing requests about `repository` until it is given up. Returns the time this takes, and the final error.
fn exhaust(host: &mut Host, repository: &str) -> (Duration, Error) {
    let (began, subject, error) = (host.now, Subject::Repository(repository.to_owned()), busy(None));
    loop {
        let probe = match host.health.turn(repository, host.now) {
            Turn::Go => false,
            Turn::Probe(_) => true,
            Turn::Until(next) => {
                host.now = next;
                continue;
            }
            Turn::Never(error) => return (host.now - began, error),
        };
        host.health.failed(Failed { error: &error, subject: &subject, probe, sent: host.now }, host.now);
    }
}

#[test]
fn one_failing_repository_is_given_up_without_its_host() {
    let mut host = Host::new();
    host.health.answered(host.now);
    let (took, error) = exhaust(&mut host, "bad");
    assert_eq!((took, error.is_final()), (60 * SECOND, true));
    assert!(error.to_string().starts_with("reach bad at h.io:443: no success within 1m"), "{error}");
    assert!(matches!(host.health.turn("good", host.now), Turn::Go));
    host.health.answered(host.now);
    assert!(matches!(host.health.turn("bad", host.now), Turn::Never(_)));
    assert_eq!(exhaust(&mut host, "worse").0, 60 * SECOND);
    assert!(host.given_up().is_none());
    let (took, error) = exhaust(&mut host, "another");
    assert_eq!((took, error.to_string().starts_with("reach h.io:443: ")), (Duration::ZERO, true), "{error}");
}

#[test]
fn a_timeout_longer_than_the_whole_waiting_time_is_retried_once() {
    let mut host = Host::new();
    host.health.answered(host.now);
    let (sent, subject) = (host.now, Subject::Repository("a".to_owned()));
    host.now += 70 * SECOND;
    let failed = Failed { error: &refused(), subject: &subject, probe: false, sent };
    assert_eq!(host.health.failed(failed, host.now), Trial::Host);
    assert!(!matches!(host.health.turn("a", host.now), Turn::Never(_)));
}

#[test]
fn a_probe_is_limited_to_the_remaining_time_and_the_next_follows_after_a_pause() {
    let mut host = Host::new();
    host.fail(&refused(), false);
    host.now += 30 * SECOND;
    assert!(matches!(host.turn(), Turn::Probe(left) if left == 30 * SECOND));
    host.health.probe_yielded(host.now);
    assert!(matches!(host.turn(), Turn::Until(_)));
}
