//! Adds a hint to images whose pinned digest is no longer upstream: where it still exists, and how to move the pin.

use crate::error::{Kind, Side, Stage};
use crate::report::{Outcome, Status};

/// Sets the hint for each image that failed for this reason.
pub(crate) fn explain(outcomes: &mut [Outcome]) {
    let is_gone = |outcome: &Outcome| {
        outcome.error.as_ref().zip(outcome.digest.as_ref()).is_some_and(|(error, digest)| {
            let of_source = error.side() == Some(Side::Source) && matches!(error.stage(), None | Some(Stage::Copy));
            // Referrers and content below the image have their own hints.
            let of_root = error.to_string().starts_with(&format!("get manifest {digest} "));
            of_source && of_root && error.kind() == Kind::NotFound && error.status().is_some()
        })
    };
    let gone: Vec<usize> = (0..outcomes.len()).filter(|at| is_gone(&outcomes[*at])).collect();
    for at in gone {
        let hint = hint(&outcomes[at], &holders(outcomes, &outcomes[at]));
        let outcome = &mut outcomes[at];
        if let Some(error) = outcome.error.take() {
            let why = format!("the pinned manifest is no longer upstream: {}", error.why());
            outcome.error = Some(error.reclassified(Kind::NotFound, why).with_hint(hint));
        }
    }
}

/// The targets that have the same content.
fn holders(outcomes: &[Outcome], wanted: &Outcome) -> Vec<String> {
    let holds = |other: &&Outcome| {
        matches!(other.status, Status::UpToDate | Status::Copied)
            && (&other.source, &other.digest, &other.mirrored) == (&wanted.source, &wanted.digest, &wanted.mirrored)
    };
    outcomes.iter().filter(holds).map(|other| other.target.clone()).collect()
}

fn hint(outcome: &Outcome, holders: &[String]) -> String {
    let held = match holders {
        [] => String::new(),
        holders => format!("{} still has it: copy it from there, or ", holders.join(" and ")),
    };
    // A digest in mirror.yaml never moves.
    match outcome.source.contains('@') {
        true => format!("{held}name another digest in mirror.yaml"),
        false => format!("{held}run `transship update {}` to pin what is upstream now", outcome.source),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::oci::Digest;

    fn outcome(source: &str, target: &str, status: Status, error: Option<Error>) -> Outcome {
        let digest = Some(Digest::of(source.as_bytes()));
        let blank = Outcome::unresolved(source.to_owned(), Error::interrupted());
        Outcome { target: target.to_owned(), digest, status, reason: None, error, ..blank }
    }

    fn missing(source: &str, kind: Kind, side: Side, status: Option<u16>) -> Option<Error> {
        let attempted = format!("get manifest {} from h.io/a", Digest::of(source.as_bytes()));
        let error = Error::new(kind, attempted, "404 Not Found").on(side).at(Stage::Copy);
        Some(status.map_or(error.clone(), |status| error.with_status(status)))
    }

    fn hint_of(mut outcomes: Vec<Outcome>) -> String {
        explain(&mut outcomes);
        let error = outcomes[0].error.clone().expect("it failed");
        format!("{} | {}", error.why(), error.hint().unwrap_or_default())
    }

    #[test]
    fn the_hint_for_a_lost_pin_names_where_it_still_exists() {
        let gone = |source: &str| missing(source, Kind::NotFound, Side::Source, Some(404));
        let failed = |source: &str| outcome(source, "t1.io/a:1", Status::Failed, gone(source));
        let why = "the pinned manifest is no longer upstream: 404 Not Found";
        assert_eq!(
            hint_of(vec![failed("h.io/a:1")]),
            format!("{why} | run `transship update h.io/a:1` to pin what is upstream now")
        );
        assert_eq!(
            hint_of(vec![
                failed("h.io/a:1"),
                outcome("h.io/a:1", "t2.io/a:1", Status::UpToDate, None),
                outcome("h.io/b:1", "t2.io/b:1", Status::UpToDate, None),
                outcome("h.io/a:1", "t3.io/a:1", Status::Skipped, None),
            ]),
            format!(
                "{why} | t2.io/a:1 still has it: copy it from there, or run `transship update h.io/a:1` to pin what is \
                 upstream now"
            )
        );
        let pinned = "h.io/a:1@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(hint_of(vec![failed(pinned)]), format!("{why} | name another digest in mirror.yaml"));
        for other in [
            missing("h.io/a:1", Kind::NotFound, Side::Target, Some(404)),
            missing("h.io/a:1", Kind::Denied, Side::Source, Some(403)),
            // The layout lacks it.
            missing("h.io/a:1", Kind::NotFound, Side::Source, None),
            // A referrer of the image.
            missing("its signature", Kind::NotFound, Side::Source, Some(404)),
        ] {
            assert!(!hint_of(vec![outcome("h.io/a:1", "t", Status::Failed, other)]).contains("no longer upstream"));
        }
    }
}
