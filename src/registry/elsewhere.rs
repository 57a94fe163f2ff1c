//! Where a redirect has led to another registry that wants to know who asks: it is told who we are there, by what is set for
//! it, and never by what is meant for the registry that led there.

use crate::error::Result;
use crate::oci::Registry;
use crate::registry::Host;
use crate::registry::action::Request;
use crate::registry::answer::Answer;
use crate::registry::auth::challenge;
use crate::registry::auth::scopes::Scopes;

/// Whether another host than the registry wants to know who we are.
pub(super) fn asks(answer: &Answer) -> bool {
    answer.foreign && answer.status == 401 && challenge::read(&answer.headers).is_some()
}

impl Host {
    /// `request`, sent where `answer` came from, with the credentials for there, if there are any.
    ///
    /// # Errors
    /// What it meets there.
    pub(super) async fn attempt_elsewhere(&self, request: &Request, answer: Answer) -> Result<Answer> {
        let authority = &answer.url[url::Position::BeforeHost..url::Position::AfterPort];
        let other = authority.parse::<Registry>().ok().zip(self.others.upgrade());
        let other = other.and_then(|(registry, others)| others.host(&registry).ok());
        // What is set for a registry of that name may lead to yet another place.
        let Some(other) = other.filter(|other| other.base().origin() == answer.url.origin()) else {
            return answer.check(request);
        };
        other.auth.learn(&answer);
        let repository = repository_of(answer.url.path()).to_owned();
        let ticket = match &request.ticket {
            Some(ticket) => {
                let wanted = ticket.elsewhere(&repository);
                Some(other.budget(&repository).await.ticket(wanted, other.in_trouble()).await)
            }
            None => None,
        };
        let there = Request {
            action: request.action,
            attempted: format!("{}, which leads to {}", request.attempted, other.registry),
            url: answer.url.clone(),
            headers: request.headers.clone(),
            scopes: Scopes::named(challenge::scopes(&answer.headers)),
            repository,
            body: request.body.clone(),
            limit: request.limit,
            ticket,
            waits: request.waits,
        };
        let answer = other.attempt_here(&there).await?;
        if asks(&answer) { answer.check(&there) } else { Ok(Answer { foreign: true, ..answer }) }
    }
}

/// The repository that a path of the API is about; nothing for another path.
fn repository_of(path: &str) -> &str {
    let rest = path.split_once("/v2/").map_or("", |(_, rest)| rest);
    let kinds = ["/manifests/", "/blobs/", "/tags/", "/referrers/"];
    kinds.iter().find_map(|kind| rest.rsplit_once(kind)).map_or("", |(repository, _)| repository)
}
