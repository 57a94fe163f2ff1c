use super::samples::{digest, transfer};
use super::*;
use crate::error::{Error, Kind, Side, Stage};
use crate::plan::{Action, Transfer};

fn failed(side: Side, stage: Stage, kind: Kind) -> Outcome {
    let error = Error::new(kind, "x", "y").on(side).at(stage);
    Outcome::failed(&transfer("docker.io/library/a:1", Action::Copy), error)
}

fn run(outcomes: &[Outcome]) -> Report {
    Report { outcomes: outcomes.to_vec(), ..Report::new("sync", Timestamp::UNIX_EPOCH) }
}

#[test]
fn the_exit_status_of_a_run() {
    let copied = Outcome::of(&transfer("docker.io/library/a:1", Action::Copy), Status::Copied);
    let deferred = Outcome { status: Status::Deferred, ..copied.clone() };
    let silent = failed(Side::Target, Stage::Plan, Kind::Unavailable);
    let lost = failed(Side::Target, Stage::Copy, Kind::Unavailable);
    let refused = failed(Side::Target, Stage::Plan, Kind::Unauthorized);
    let unresolved = Outcome { digest: None, ..failed(Side::Source, Stage::Resolve, Kind::NotFound) };
    let conflict = failed(Side::Target, Stage::Plan, Kind::Conflict);
    assert_eq!(conflict.status, Status::Conflict);
    for (outcomes, exit) in [
        (vec![], Exit::Success),
        (vec![copied.clone()], Exit::Success),
        (vec![copied.clone(), deferred.clone()], Exit::Deferred),
        (vec![deferred, conflict], Exit::Failed),
        (vec![silent.clone(), silent.clone()], Exit::Unable),
        (vec![unresolved.clone(), silent.clone()], Exit::Unable),
        (vec![unresolved], Exit::Failed),
        (vec![copied, silent.clone()], Exit::Failed),
        (vec![refused], Exit::Failed),
        (vec![lost], Exit::Failed),
    ] {
        assert_eq!(run(&outcomes).exit(), exit, "{outcomes:?}");
    }
    assert_eq!(Report { interrupted: true, ..run(&[silent]) }.exit().code(), 130);
}

#[test]
fn the_exit_status_of_a_comparison() {
    let difference = Difference {
        source: "x".to_owned(),
        target: None,
        what: Part::Pin,
        expected: None,
        found: Some(digest("x")),
        why: None,
    };
    for (differences, exit) in [(vec![], Exit::Success), (vec![difference], Exit::Difference)] {
        assert_eq!(Report { differences: Some(differences), ..run(&[]) }.exit(), exit);
    }
    for (action, check, exit) in [
        (Action::Copy, false, Exit::Success),
        (Action::Copy, true, Exit::Difference),
        (Action::Tag, true, Exit::Difference),
        (Action::UpToDate, true, Exit::Success),
        (Action::Kept { found: Some(digest("x")) }, true, Exit::Success),
        (Action::Conflict { found: digest("x") }, true, Exit::Failed),
    ] {
        let images = vec![Planned::Image(transfer("docker.io/library/a:1", action))];
        let report = run(&[]).with_plan(Plan { images, ..Plan::default() });
        assert_eq!(Report { expect_no_work: check, ..report }.exit(), exit);
    }
}

#[test]
fn the_exit_status_of_a_check() {
    let check = |proof| Check { host: "h".to_owned(), repository: None, right: Right::Login, proof };
    let unknown = check(Proof::Unknown { why: "x".to_owned(), hint: None });
    let failed = check(Proof::Fails(Error::new(Kind::Unavailable, "x", "y")));
    for (checks, exit) in [
        (vec![], Exit::Success),
        (vec![check(Proof::Holds(None)), unknown], Exit::Success),
        (vec![check(Proof::Holds(None)), failed], Exit::Failed),
    ] {
        assert_eq!(Report { checks: Some(checks), ..run(&[]) }.exit(), exit);
    }
}

#[test]
fn a_pin_that_could_not_be_updated_has_failed() {
    for action in [Action::Copy, Action::UpToDate] {
        let stale = Some(Error::new(Kind::Unavailable, "resolve x", "no answer").on(Side::Source).at(Stage::Resolve));
        let planned = Planned::Image(Transfer { stale, ..transfer("docker.io/library/a:1", action) });
        let report = run(&[]).with_plan(Plan { images: vec![planned], ..Plan::default() });
        assert_eq!((report.outcomes.len(), report.exit()), (1, Exit::Failed));
    }
}
