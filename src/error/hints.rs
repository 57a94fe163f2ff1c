//! Advice for failures: one table, by the kind of the failure, the registry's message, the request, the side and
//! the stage.
//!
//! The first match counts, so more specific rows come first, and each kind ends with its general advice. Only code
//! that knows more than this table sets a hint itself.

use super::{Kind, Side, Stage, Task};

/// What is known about a failure.
#[derive(Debug, Clone, Copy)]
pub(super) struct Case<'a> {
    pub(super) kind: Kind,
    pub(super) code: Option<&'a str>,
    pub(super) why: &'a str,
    pub(super) status: Option<u16>,
    pub(super) task: Option<Task>,
    pub(super) side: Option<Side>,
    pub(super) stage: Option<Stage>,
}

/// A condition for a hint; unset members match everything.
struct Row {
    kind: Kind,
    code: &'static str,
    /// Occurs in the reason, in lower case.
    says: &'static str,
    status: u16,
    tasks: &'static [Task],
    side: Option<Side>,
    stage: Option<Stage>,
    hint: &'static str,
}

const fn of(kind: Kind, hint: &'static str) -> Row {
    Row { kind, code: "", says: "", status: 0, tasks: &[], side: None, stage: None, hint }
}

impl Row {
    const fn code(self, code: &'static str) -> Self {
        Self { code, ..self }
    }

    const fn says(self, says: &'static str) -> Self {
        Self { says, ..self }
    }

    const fn status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    const fn to(self, tasks: &'static [Task]) -> Self {
        Self { tasks, ..self }
    }

    const fn on(self, side: Side) -> Self {
        Self { side: Some(side), ..self }
    }

    const fn at(self, stage: Stage) -> Self {
        Self { stage: Some(stage), ..self }
    }

    fn fits(&self, case: &Case<'_>) -> bool {
        self.kind == case.kind
            && (self.code.is_empty() || case.code == Some(self.code))
            && (self.says.is_empty() || case.why.to_lowercase().contains(self.says))
            && (self.status == 0 || case.status == Some(self.status))
            && (self.tasks.is_empty() || case.task.is_some_and(|task| self.tasks.contains(&task)))
            && (self.side.is_none() || case.side == self.side)
            && (self.stage.is_none() || case.stage == self.stage)
    }
}

/// The advice for this case, if there is any.
pub(super) fn hint(case: &Case<'_>) -> Option<&'static str> {
    ROWS.iter().find(|row| row.fits(case)).map(|row| row.hint)
}

/// Requests that write content.
const WRITES: &[Task] = &[Task::PushManifest, Task::PushBlob];
/// Requests for content that may be absent.
const READS: &[Task] = &[Task::Resolve, Task::ReadManifest, Task::ReadBlob];

const ROWS: &[Row] = &[
    // There is no such tag, manifest, blob or repository.
    of(
        Kind::NotFound,
        "there is no such repository there, or no such owner of one: create it, or choose another path \
         with target:, layout: or to:",
    )
    .to(WRITES),
    of(
        Kind::NotFound,
        "the registry names a token service that isn't there: is it the registry's own address that is \
         set?",
    )
    .to(&[Task::GetToken]),
    of(
        Kind::NotFound,
        "what answers there has no registry's API (/v2/): check host and port, or set endpoint: for this \
         registry",
    )
    .to(&[Task::LogIn]),
    of(Kind::NotFound, "it is named upstream and isn't there: its publisher has to push the image anew")
        .to(&[Task::ReadBlob])
        .on(Side::Source),
    of(Kind::NotFound, "the target has lost it: `transship sync` brings it back").on(Side::Target).at(Stage::Verify),
    of(Kind::NotFound, "the target has lost it: run it again").to(READS).on(Side::Target),
    of(Kind::NotFound, "check the spelling of the repository, and that it exists and may be seen").code("NAME_UNKNOWN"),
    of(Kind::NotFound, "check the spelling of the repository, and that it exists and may be seen")
        .to(&[Task::ListTags]),
    of(Kind::NotFound, "check the spelling, and that the tag still exists"),
    // The credentials are missing or refused.
    of(
        Kind::Unauthorized,
        "is the login wrong, expired or missing? It comes from registries: in mirror.yaml, else from \
         docker login",
    ),
    // The credentials are accepted, but a permission is missing.
    of(
        Kind::Denied,
        "the registry is in read-only mode, perhaps for maintenance: run it again later, or have the mode \
         switched off",
    )
    .says("read only mode"),
    of(
        Kind::Denied,
        "the project's policy (vulnerabilities or signatures) keeps the image from being served: see its \
         configuration",
    )
    .code("PROJECTPOLICYVIOLATION"),
    of(
        Kind::Denied,
        "the project's policy (vulnerabilities or signatures) keeps the image from being served: see its \
         configuration",
    )
    .says("the project's policy ("),
    of(Kind::Denied, "a project's robot creates none: use a system robot, or have the project created beforehand")
        .says("only system level robot")
        .to(&[Task::CreateProject]),
    of(
        Kind::Denied,
        "give the account the system permission to create projects, or have the project created \
         beforehand",
    )
    .to(&[Task::CreateProject]),
    of(
        Kind::Denied,
        "the login is accepted, but not for this repository: ask the registry's owner for the right to it",
    )
    .to(&[Task::GetToken]),
    of(
        Kind::Denied,
        "the account may read the image but not what refers to it: ask the registry's owner, or set \
         referrers: none",
    )
    .to(&[Task::ListReferrers]),
    of(Kind::Denied, "the account is known but lacks the right: ask the registry's owner for it"),
    // Something else is there.
    of(
        Kind::Conflict,
        "a rule of the project makes the tag immutable: remove the rule or the tag, or set overwrite: \
         keep",
    )
    .says("configured as immutable"),
    of(Kind::Conflict, "remove the tag at the target, or set overwrite: true or keep"),
    // Limits.
    of(Kind::RateLimited, "wait, or lower limits.transfers (-j) for the target's sake").on(Side::Target),
    of(Kind::RateLimited, "wait, or log in for a higher limit"),
    of(
        Kind::QuotaExceeded,
        "the project's storage quota is full: have it raised, or delete what is no longer needed and \
         collect garbage",
    )
    .says("exceed the configured upper limit"),
    of(Kind::QuotaExceeded, "the quota of the target is used up: have it raised, or delete what is no longer needed")
        .to(WRITES),
    of(Kind::QuotaExceeded, "wait until the quota's window has passed, or log in for a larger one"),
    // Wrong content.
    of(Kind::MissingContent, "run it again: what the target lost is sent anew"),
    of(
        Kind::Mismatch,
        "the target got other bytes than were sent: compare with another client, and without a proxy \
         between",
    )
    .to(WRITES),
    of(Kind::Mismatch, "the bytes were damaged on the way or at rest: compare with another client"),
    of(
        Kind::Unsupported,
        "Harbor fills a proxy cache itself and takes no pushes there: name another project in target: or \
         to:",
    )
    .says("proxy project"),
    of(
        Kind::Unsupported,
        "Harbor fills a proxy cache itself and takes no pushes there: name another project in target: or \
         to:",
    )
    .says("proxy cache"),
    of(Kind::Unsupported, "the registry takes no manifest of this kind: leave it out, or mirror it to one that does")
        .code("MANIFEST_INVALID"),
    of(
        Kind::Unsupported,
        "it is too large for the registry, or for a proxy in front of it: have the limit raised there",
    )
    .status(413),
    of(
        Kind::Unsupported,
        "the registry takes no pushes: it is read-only, perhaps for maintenance, or a pull-through cache. \
         Have that changed, or name another target",
    )
    .status(405)
    .to(&[Task::PushBlob]),
    of(Kind::Invalid, "Harbor wants PROJECT/NAME: name a project in target:, layout: or to:")
        .says("invalid repository name"),
    of(Kind::Invalid, "the registry takes no such name: choose another path with to: or layout:")
        .code("NAME_INVALID")
        .to(WRITES),
    of(Kind::Invalid, "the registry takes no such name: choose another path with to: or layout:")
        .code("NAME_INVALID")
        .on(Side::Target),
    of(Kind::Invalid, "the registry knows no such names: check the spelling of the repository").code("NAME_INVALID"),
    of(Kind::Invalid, "the registry takes no such tag: choose another with as:").code("TAG_INVALID").to(WRITES),
    of(Kind::Invalid, "check the spelling of the tag").code("TAG_INVALID"),
    of(Kind::Invalid, "is it a registry, and not a proxy's or login page?"),
    // Transient failures.
    of(Kind::Unavailable, "check the network and the registry's status, then run it again"),
    of(Kind::Interrupted, "run it again: it goes on where it stopped"),
    // Settings.
    of(Kind::Configuration, "compare registries.HOST.harbor.create in mirror.yaml with what this Harbor allows")
        .code("BAD_REQUEST")
        .to(&[Task::CreateProject]),
];

#[cfg(test)]
mod tests;
