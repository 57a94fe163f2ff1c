//! The cells of the table, and which images a fault may cost in each.

use super::plot::{Fault, Host, Kind, When};

/// The images that may fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Cost {
    Nothing,
    /// Those that one of the failed requests was for.
    Touched,
    /// All that need the host, because it is given up.
    Host,
}

/// The effect of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    /// None.
    Harmless,
    /// The host is in trouble: the run waits for it.
    Trouble,
    /// The host asks for a pause longer than the limit.
    Closed,
    /// One object fails, and is retried.
    Object,
    /// A final answer.
    Definite,
    /// Authentication has to be repeated.
    Login,
}

/// A day, in seconds: longer than `limits.max_wait`.
const DAY: u32 = 86_400;

const FAULTS: &[(Fault, Class)] = &[
    (Fault::NoConnection, Class::Trouble),
    (Fault::Reset, Class::Trouble),
    (Fault::Cut, Class::Object),
    (Fault::Stall, Class::Trouble),
    (Fault::Late, Class::Harmless),
    (Fault::Status(401), Class::Definite),
    (Fault::Status(403), Class::Definite),
    (Fault::Status(404), Class::Definite),
    (Fault::Status(416), Class::Definite),
    (Fault::Status(429), Class::Trouble),
    (Fault::Busy(429, 1), Class::Trouble),
    (Fault::Busy(429, DAY), Class::Closed),
    (Fault::Status(500), Class::Object),
    (Fault::Status(501), Class::Definite),
    (Fault::Status(503), Class::Trouble),
    (Fault::Status(507), Class::Object),
    (Fault::Status(520), Class::Trouble),
    (Fault::Html, Class::Definite),
    (Fault::WrongDigest, Class::Definite),
    (Fault::WrongLength, Class::Definite),
    (Fault::Lost, Class::Trouble),
    (Fault::Expired, Class::Login),
];

const WHENS: [When; 6] = [When::First, When::Middle, When::Each, When::While, When::One, When::ForEver];

/// A cell of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Cell {
    pub(super) fault: Fault,
    pub(super) kind: Kind,
    pub(super) when: When,
    pub(super) cost: Cost,
}

/// All cells, those of a fault and a kind of request together.
pub(super) fn table() -> Vec<Vec<Cell>> {
    let pairs = FAULTS.iter().flat_map(|(fault, class)| Kind::ALL.map(|kind| (*fault, *class, kind)));
    let cells = pairs.map(|(fault, class, kind)| {
        let whens = WHENS.into_iter().filter(|when| exists(fault, class, kind, *when));
        whens.map(|when| Cell { fault, kind, when, cost: cost(fault, class, kind, when) }).collect::<Vec<_>>()
    });
    cells.filter(|cells| !cells.is_empty()).collect()
}

fn exists(fault: Fault, class: Class, kind: Kind, when: When) -> bool {
    let has_answer = matches!(kind, Kind::ListTags | Kind::Referrers | Kind::Manifest | Kind::Blob | Kind::Token);
    let has_body = matches!(kind, Kind::Upload | Kind::PushChild | Kind::PushTag);
    let is_head = matches!(kind, Kind::Resolve | Kind::Held | Kind::HasBlob);
    let tells_digest = matches!(kind, Kind::Resolve | Kind::Held | Kind::PushChild | Kind::PushTag);
    let makes_sense = match fault {
        Fault::Cut => has_answer || has_body,
        Fault::WrongDigest => has_answer || tells_digest,
        Fault::WrongLength => has_answer || is_head,
        Fault::Lost => has_body || matches!(kind, Kind::OpenUpload | Kind::Mount),
        Fault::Expired => matches!(kind.host(), Host::Source | Host::First),
        // All repositories of a host share its port.
        Fault::NoConnection => when != When::One,
        _ => true,
    };
    // A fault that affects a whole host is the same with `Each` as with `ForEver`. So is a token that expires again
    // and again.
    let is_distinct = match when {
        When::Each => matches!(class, Class::Object | Class::Definite),
        When::While => class != Class::Login,
        _ => true,
    };
    makes_sense && is_distinct
}

fn cost(fault: Fault, class: Class, kind: Kind, when: When) -> Cost {
    if exceptions(fault, class, kind, when) {
        return Cost::Nothing;
    }
    match (class, when) {
        (Class::Harmless, _) => Cost::Nothing,
        (Class::Closed, _) | (Class::Trouble, When::ForEver) => Cost::Host,
        // A token is the first request, and a list of tags the second: a host that doesn't answer its first request
        // in five attempts counts as down.
        (Class::Trouble, When::One)
            if matches!(kind, Kind::ListTags | Kind::Token) && matches!(fault, Fault::Reset | Fault::Stall) =>
        {
            Cost::Host
        }
        // The pauses leave no time to find out that the host serves other repositories.
        (Class::Trouble, When::One) if matches!(fault, Fault::Busy(..)) => Cost::Host,
        (Class::Definite, _) | (_, When::One | When::ForEver) => Cost::Touched,
        (Class::Trouble | Class::Object | Class::Login, _) => Cost::Nothing,
    }
}

/// Requests whose final refusal costs nothing.
fn exceptions(fault: Fault, class: Class, kind: Kind, when: When) -> bool {
    let is_passing = matches!(when, When::First | When::Middle | When::Each);
    match (fault, kind) {
        // If a mount fails, the blob is uploaded.
        (_, Kind::Mount) => matches!(class, Class::Object | Class::Definite),
        // Content is pushed if it isn't found, or if that can't be determined.
        (Fault::Status(404), Kind::Held) => true,
        (_, Kind::HasBlob) => class == Class::Definite && fault != Fault::Status(401),
        // The registry doesn't have the referrers API.
        (Fault::Status(404), Kind::Referrers) => true,
        // A new token is fetched.
        (Fault::Status(401), _) => {
            matches!(kind.host(), Host::Source | Host::First) && when == When::Middle && kind != Kind::ListTags
        }
        // Damaged bytes are requested again.
        (Fault::WrongDigest, Kind::Manifest | Kind::Blob | Kind::PushChild | Kind::PushTag) => is_passing,
        // The upload is lost: another one is opened.
        (Fault::Status(404), Kind::Upload) => is_passing,
        _ => false,
    }
}
