//! Authenticates at another registry that a redirect leads to. It gets the credentials configured for it, never
//! those for the registry that redirected.

use crate::error::Result;
use crate::oci::Registry;
use crate::registry::Host;
use crate::registry::answer::Answer;
use crate::registry::auth::challenge;
use crate::registry::auth::scopes::Scopes;
use crate::registry::net::destination::is_same_origin;
use crate::registry::request::Request;

/// Whether a host other than the registry asks for credentials.
pub(super) fn asks_for_credentials(answer: &Answer) -> bool {
    answer.foreign && answer.status == 401 && challenge::read(&answer.headers).is_some()
}

impl Host {
    /// Sends `request` to the URL that `answer` came from, with the credentials for that host, if there are any.
    ///
    /// # Errors
    /// The error of that attempt.
    pub(super) async fn attempt_elsewhere(&self, request: &Request, answer: Answer) -> Result<Answer> {
        let authority = &answer.url[url::Position::BeforeHost..url::Position::AfterPort];
        let other = authority.parse::<Registry>().ok().zip(self.others.upgrade());
        let other = other.and_then(|(registry, others)| others.host(&registry).ok());
        // The settings of the registry of that name may use another endpoint.
        let Some(other) = other.filter(|other| is_same_origin(other.base(), &answer.url)) else {
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
            side: request.side,
        };
        let answer = other.attempt_here(&there).await?;
        if asks_for_credentials(&answer) { answer.check(&there) } else { Ok(Answer { foreign: true, ..answer }) }
    }
}

/// The repository in a path of the API; empty for another path.
fn repository_of(path: &str) -> &str {
    let rest = path.split_once("/v2/").map_or("", |(_, rest)| rest);
    let kinds = ["/manifests/", "/blobs/", "/tags/", "/referrers/"];
    kinds.iter().find_map(|kind| rest.rsplit_once(kind)).map_or("", |(repository, _)| repository)
}
