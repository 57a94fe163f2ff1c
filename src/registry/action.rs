//! The purpose of a request.

use http::Method;

use crate::error::Task;

/// The purpose of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Resolve,
    PullManifest,
    PullBlob,
    FindBlob,
    ListTags,
    ListReferrers,
    PushManifest,
    OpenUpload,
    PushBlob,
    PushChunk,
    AbandonUpload,
    MountBlob,
    GetToken,
    RefreshToken,
    /// The base of the API: succeeds with valid credentials.
    Ping,
    /// For Harbor, whose API wants the credentials themselves rather than a token.
    ShowProject,
    FindProject,
    CreateProject,
    ChangeProject,
    ShowArtifact,
}

/// The properties of an action.
pub(crate) struct Traits {
    pub(crate) method: Method,
    /// The verb, and the preposition between its object and the repository.
    pub(crate) words: (&'static str, &'static str),
    /// The body contains a blob's bytes, in either direction.
    pub(crate) bulk: bool,
    /// It needs push permission.
    pub(crate) writes: bool,
}

impl Action {
    /// It goes to a token service, which is often another host.
    pub(crate) const fn is_for_token(self) -> bool {
        matches!(self, Self::GetToken | Self::RefreshToken)
    }

    /// It goes to Harbor's own API.
    pub(crate) const fn is_about_project(self) -> bool {
        matches!(
            self,
            Self::ShowProject | Self::FindProject | Self::CreateProject | Self::ChangeProject | Self::ShowArtifact
        )
    }

    /// The task, for choosing how to handle a failure.
    pub(crate) const fn task(self) -> Task {
        match self {
            Self::Resolve => Task::Resolve,
            Self::PullManifest => Task::ReadManifest,
            Self::PullBlob | Self::FindBlob => Task::ReadBlob,
            Self::ListTags => Task::ListTags,
            Self::ListReferrers => Task::ListReferrers,
            Self::PushManifest => Task::PushManifest,
            Self::OpenUpload | Self::PushBlob | Self::PushChunk | Self::AbandonUpload | Self::MountBlob => {
                Task::PushBlob
            }
            Self::GetToken | Self::RefreshToken => Task::GetToken,
            Self::Ping => Task::LogIn,
            Self::ShowProject | Self::FindProject | Self::ShowArtifact => Task::FindProject,
            Self::CreateProject | Self::ChangeProject => Task::CreateProject,
        }
    }

    pub(crate) const fn traits(self) -> Traits {
        const fn of(method: Method, words: (&'static str, &'static str), bulk: bool, writes: bool) -> Traits {
            Traits { method, words, bulk, writes }
        }
        match self {
            Self::Resolve => of(Method::HEAD, ("resolve", "in"), false, false),
            Self::PullManifest => of(Method::GET, ("get manifest", "from"), false, false),
            Self::PullBlob => of(Method::GET, ("get blob", "from"), true, false),
            Self::FindBlob => of(Method::HEAD, ("look for blob", "in"), false, false),
            Self::ListTags => of(Method::GET, ("list tags", "of"), false, false),
            Self::ListReferrers => of(Method::GET, ("list referrers", "in"), false, false),
            Self::PushManifest => of(Method::PUT, ("push manifest", "to"), false, true),
            Self::OpenUpload => of(Method::POST, ("open an upload", "to"), false, true),
            Self::PushBlob => of(Method::PUT, ("push blob", "to"), true, true),
            Self::PushChunk => of(Method::PATCH, ("push a chunk of blob", "to"), true, true),
            Self::AbandonUpload => of(Method::DELETE, ("give an upload up", "to"), false, true),
            Self::MountBlob => of(Method::POST, ("mount blob", "in"), false, true),
            Self::GetToken => of(Method::GET, ("get a token", "for"), false, false),
            Self::RefreshToken => of(Method::POST, ("get a token", "for"), false, false),
            Self::Ping => of(Method::GET, ("log in", "to"), false, false),
            Self::ShowProject => of(Method::GET, ("look at", "at"), false, false),
            Self::FindProject => of(Method::HEAD, ("look for", "at"), false, false),
            Self::CreateProject => of(Method::POST, ("create", "at"), false, true),
            Self::ChangeProject => of(Method::PUT, ("change", "at"), false, true),
            Self::ShowArtifact => of(Method::GET, ("look at", "in"), false, false),
        }
    }
}
