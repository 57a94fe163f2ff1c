//! The cells of the table, and what a fault may cost in each: the promises, as data.

use super::plot::{Fault, Host, Kind, When};

/// Which images may fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Cost {
    Nothing,
    /// Those with a request that got the fault.
    Touched,
    /// All that need the host: it is given up.
    Host,
}

/// The kind of trouble.
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
    /// The authentication has to be repeated.
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
        // A host has one door for all of its repositories.
        Fault::NoConnection => when != When::One,
        _ => true,
    };
    // A host that fails anew with each object is in trouble without end, and tokens that end again and again are none: that
    // is `ForEver`.
    let is_its_own = match when {
        When::Each => matches!(class, Class::Object | Class::Definite),
        When::While => class != Class::Login,
        _ => true,
    };
    makes_sense && is_its_own
}

fn cost(fault: Fault, class: Class, kind: Kind, when: When) -> Cost {
    if exceptions(fault, class, kind, when) {
        return Cost::Nothing;
    }
    match (class, when) {
        (Class::Harmless, _) => Cost::Nothing,
        (Class::Closed, _) | (Class::Trouble, When::ForEver) => Cost::Host,
        // A token is fetched first, and then tags are listed: a host that never answers the first question, five times over,
        // has given no sign of life.
        (Class::Trouble, When::One)
            if matches!(kind, Kind::ListTags | Kind::Token) && matches!(fault, Fault::Reset | Fault::Stall) =>
        {
            Cost::Host
        }
        // With these pauses there is no time to find out that others are served.
        (Class::Trouble, When::One) if matches!(fault, Fault::Busy(..)) => Cost::Host,
        (Class::Definite, _) | (_, When::One | When::ForEver) => Cost::Touched,
        (Class::Trouble | Class::Object | Class::Login, _) => Cost::Nothing,
    }
}

/// Requests whose final refusal costs nothing.
fn exceptions(fault: Fault, class: Class, kind: Kind, when: When) -> bool {
    let is_passing = matches!(when, When::First | When::Middle | When::Each);
    match (fault, kind) {
        // A mount only spares an upload.
        (_, Kind::Mount) => matches!(class, Class::Object | Class::Definite),
        // Missing or not confirmed: it is sent.
        (Fault::Status(404), Kind::Held) => true,
        (_, Kind::HasBlob) => class == Class::Definite && fault != Fault::Status(401),
        // There is no such API.
        (Fault::Status(404), Kind::Referrers) => true,
        // A token is fetched anew.
        (Fault::Status(401), _) => {
            matches!(kind.host(), Host::Source | Host::First) && when == When::Middle && kind != Kind::ListTags
        }
        // Bytes may be damaged on the way.
        (Fault::WrongDigest, Kind::Manifest | Kind::Blob | Kind::PushChild | Kind::PushTag) => is_passing,
        // The upload is gone: another one is opened.
        (Fault::Status(404), Kind::Upload) => is_passing,
        _ => false,
    }
}
