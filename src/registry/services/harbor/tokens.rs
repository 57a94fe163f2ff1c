//! The reach of Harbor's tokens: whatever is requested, a token has all permissions of the account in each
//! repository that is named, and one request may name many.
//!
//! So repositories are grouped, as many as fit: a token is sent in a header, which proxies limit to 8 KiB.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::registry::auth::scopes::Scopes;

/// The most bytes in a token about repositories: nginx accepts 8 KiB in a header, of which signature and the rest
/// of a token need one.
const MOST: usize = 6000;

/// A younger token isn't refused for its age: it can neither have expired nor be older than the project.
pub(crate) const YOUNG: Duration = Duration::from_secs(60);

/// The groups of repositories that share a token.
#[derive(Debug, Default)]
pub(crate) struct Reach(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// The repositories of the run.
    expected: BTreeSet<String>,
    groups: Vec<BTreeSet<String>>,
}

impl Reach {
    /// Announces requests about these repositories.
    pub(crate) fn expect<'a>(&self, paths: impl Iterator<Item = &'a str>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).expected.extend(paths.map(str::to_owned));
    }

    /// The scopes of a token that covers `scopes`, and as many other repositories as fit.
    pub(crate) fn widen(&self, scopes: &Scopes) -> Scopes {
        let wanted: Vec<&str> = scopes.paths().collect();
        // The scopes of a token that only proves the password.
        if wanted.is_empty() {
            return scopes.clone();
        }
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let has_all = |group: &BTreeSet<String>| wanted.iter().all(|path| group.contains(*path));
        let place = inner.groups.iter().position(has_all).unwrap_or_else(|| inner.place(&wanted));
        Scopes::of_all(inner.groups[place].iter().map(String::as_str))
    }
}

impl Inner {
    /// Assigns a group to `wanted`: an existing group with some of them grows if all fit, otherwise a new one
    /// begins. The remaining room is for other repositories of the run: first those without a group, then those
    /// that blobs may be mounted from.
    fn place(&mut self, wanted: &[&str]) -> usize {
        let grows = |group: &BTreeSet<String>| wanted.iter().any(|path| group.contains(*path)) && fits(group, wanted);
        let place = self.groups.iter().position(grows).unwrap_or_else(|| {
            self.groups.push(BTreeSet::new());
            self.groups.len() - 1
        });
        let mut group = std::mem::take(&mut self.groups[place]);
        group.extend(wanted.iter().map(|path| (*path).to_owned()));
        let is_new = |path: &&String| !self.groups.iter().any(|group| group.contains(*path));
        let (fresh, known): (Vec<_>, Vec<_>) = self.expected.iter().partition(is_new);
        let known = if wanted.len() > 1 { known } else { Vec::new() };
        for path in fresh.into_iter().chain(known) {
            if fits(&group, &[path]) {
                group.insert(path.clone());
            }
        }
        self.groups[place] = group;
        place
    }
}

/// Whether a token has room for `more`: each entry is JSON in base64.
fn fits(group: &BTreeSet<String>, more: &[&str]) -> bool {
    let more = more.iter().filter(|path| !group.contains(**path)).copied();
    let entries = group.iter().map(String::as_str).chain(more);
    entries.map(|path| (path.len() + 85) * 4 / 3).sum::<usize>() <= MOST
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(count: usize) -> Vec<String> {
        (0..count).map(|n| format!("mirror/docker.io/library/app{n:03}")).collect()
    }

    fn reach(paths: &[String]) -> Reach {
        let reach = Reach::default();
        reach.expect(paths.iter().map(String::as_str));
        reach
    }

    #[test]
    fn a_few_tokens_cover_many_repositories() {
        let paths = paths(50);
        let reach = reach(&paths);
        let tokens: BTreeSet<String> =
            paths.iter().map(|path| reach.widen(&Scopes::of(path, false)).joined()).collect();
        assert_eq!(tokens.len(), 2);
        for path in &paths {
            let token = reach.widen(&Scopes::of(path, true));
            assert!(token.paths().any(|covered| covered == path), "{path}");
            assert!(token.iter().all(|scope| scope.ends_with(":pull,push")));
        }
        // A mount needs both: not one token for each pair.
        let pairs = paths.iter().flat_map(|to| paths[..5].iter().map(move |from| (to, from)));
        let tokens: BTreeSet<String> = pairs
            .map(|(to, from)| {
                let token = reach.widen(&Scopes::of(to, true).and_pull(from));
                assert!([to, from].iter().all(|path| token.paths().any(|covered| covered == path.as_str())));
                token.joined()
            })
            .collect();
        assert!(tokens.len() <= 4, "{}", tokens.len());
    }

    #[test]
    fn a_token_fits_into_a_header() {
        let mut paths = paths(400);
        paths.push(format!("mirror/{}", "long/".repeat(40)));
        let reach = reach(&paths);
        for path in &paths {
            let token = reach.widen(&Scopes::of(path, true));
            let length: usize = token.paths().map(|path| (path.len() + 85) * 4 / 3).sum();
            assert!(length <= MOST, "{length}");
        }
    }

    #[test]
    fn an_unexpected_repository_gets_a_separate_token_and_keeps_it() {
        let reach = Reach::default();
        let one = reach.widen(&Scopes::of("a/b", false));
        assert_eq!(one.joined(), "repository:a/b:pull,push");
        assert_eq!(reach.widen(&Scopes::of("c/d", false)).joined(), "repository:c/d:pull,push");
        assert_eq!(reach.widen(&Scopes::of("a/b", true)), one);
        assert_eq!(reach.widen(&Scopes::default()), Scopes::default());
    }
}
