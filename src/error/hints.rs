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
        "the repository or its owner doesn't exist: create it, or choose another path \
         with target:, layout: or to:",
    )
    .to(WRITES),
    of(Kind::NotFound, "the registry's token service doesn't exist: check the address of the registry")
        .to(&[Task::GetToken]),
    of(
        Kind::NotFound,
        "the server has no registry API (/v2/): check host and port, or set endpoint: for this \
         registry",
    )
    .to(&[Task::LogIn]),
    of(Kind::NotFound, "it is missing upstream: ask its publisher to push the image again")
        .to(&[Task::ReadBlob])
        .on(Side::Source),
    of(Kind::NotFound, "missing at the target: run `transship sync` to restore it").on(Side::Target).at(Stage::Verify),
    of(Kind::NotFound, "missing at the target: run it again").to(READS).on(Side::Target),
    of(Kind::NotFound, "check the spelling of the repository, and that it exists and is readable").code("NAME_UNKNOWN"),
    of(Kind::NotFound, "check the spelling of the repository, and that it exists and is readable")
        .to(&[Task::ListTags]),
    of(Kind::NotFound, "check the spelling, and that the tag still exists"),
    // The credentials are missing or refused.
    of(
        Kind::Unauthorized,
        "the login is wrong, expired or missing: check registries: in mirror.yaml, or use docker login",
    ),
    // The credentials are accepted, but a permission is missing.
    of(
        Kind::Denied,
        "the registry is in read-only mode, perhaps for maintenance: run it again later, or end that mode",
    )
    .says("read only mode"),
    of(
        Kind::Denied,
        "the project's policy (vulnerabilities or signatures) prevents pulls of the image: see its configuration",
    )
    .code("PROJECTPOLICYVIOLATION"),
    of(
        Kind::Denied,
        "the project's policy (vulnerabilities or signatures) prevents pulls of the image: see its configuration",
    )
    .says("the project's policy ("),
    of(Kind::Denied, "a project robot can't create projects: use a system robot, or create the project beforehand")
        .says("only system level robot")
        .to(&[Task::CreateProject]),
    of(Kind::Denied, "give the account the system permission to create projects, or create the project beforehand")
        .to(&[Task::CreateProject]),
    of(Kind::Denied, "the login is accepted, but not for this repository: ask the registry's owner for permission")
        .to(&[Task::GetToken]),
    of(
        Kind::Denied,
        "the account may read the image but not its referrers: ask the registry's owner for permission, or set \
         referrers: none",
    )
    .to(&[Task::ListReferrers]),
    of(Kind::Denied, "authenticated but not authorized: ask the registry's owner for permission"),
    // Something else is there.
    of(
        Kind::Conflict,
        "a rule of the project makes the tag immutable: remove the rule or the tag, or set overwrite: \
         keep",
    )
    .says("configured as immutable"),
    of(Kind::Conflict, "remove the tag at the target, or set overwrite: true or keep"),
    // Limits.
    of(Kind::RateLimited, "wait, or lower limits.transfers (-j)").on(Side::Target),
    of(Kind::RateLimited, "wait, or log in for a higher limit"),
    of(
        Kind::QuotaExceeded,
        "the project's storage quota is full: raise it, or delete unused images and collect garbage",
    )
    .says("exceed the configured upper limit"),
    of(Kind::QuotaExceeded, "the target's quota is used up: raise it, or delete unused images").to(WRITES),
    of(Kind::QuotaExceeded, "wait until the quota's window has passed, or log in for a larger quota"),
    // Wrong content.
    of(Kind::MissingContent, "run it again: the missing content is sent again"),
    of(Kind::Mismatch, "the target received different bytes: try another client, without a proxy in between")
        .to(WRITES),
    of(Kind::Mismatch, "the bytes were damaged in transit or in storage: try another client"),
    of(Kind::Unsupported, "a Harbor proxy cache accepts no pushes: use another project in target: or to:")
        .says("proxy project"),
    of(Kind::Unsupported, "a Harbor proxy cache accepts no pushes: use another project in target: or to:")
        .says("proxy cache"),
    of(Kind::Unsupported, "the registry doesn't accept manifests of this kind: leave it out, or use another target")
        .code("MANIFEST_INVALID"),
    of(Kind::Unsupported, "it is too large for the registry, or for a proxy in front of it: raise the limit there")
        .status(413),
    of(
        Kind::Unsupported,
        "the registry accepts no pushes: it is read-only, perhaps for maintenance, or a pull-through cache. Change \
         that, or use another target",
    )
    .status(405)
    .to(&[Task::PushBlob]),
    of(Kind::Invalid, "Harbor requires PROJECT/NAME: add a project in target:, layout: or to:")
        .says("invalid repository name"),
    of(Kind::Invalid, "the registry doesn't accept this name: choose another path with to: or layout:")
        .code("NAME_INVALID")
        .to(WRITES),
    of(Kind::Invalid, "the registry doesn't accept this name: choose another path with to: or layout:")
        .code("NAME_INVALID")
        .on(Side::Target),
    of(Kind::Invalid, "the registry doesn't accept this name: check its spelling").code("NAME_INVALID"),
    of(Kind::Invalid, "the registry doesn't accept this tag: choose another with as:").code("TAG_INVALID").to(WRITES),
    of(Kind::Invalid, "check the spelling of the tag").code("TAG_INVALID"),
    of(Kind::Invalid, "check that this is a registry's address, not that of a proxy or a login page"),
    // Transient failures.
    of(Kind::Unavailable, "check the network and the registry's status, then run it again"),
    of(Kind::Interrupted, "run it again: it continues where it stopped"),
    // Settings.
    of(Kind::Configuration, "compare registries.HOST.harbor.create in mirror.yaml with what this Harbor allows")
        .code("BAD_REQUEST")
        .to(&[Task::CreateProject]),
];

#[cfg(test)]
mod tests;
