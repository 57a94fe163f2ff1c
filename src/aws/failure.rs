//! Converts the SDK's errors: the kind, a reason on one line, and a hint.
//!
//! The codes are those of ECR's API reference and of AWS's common errors.

use std::error::Error as StdError;

use aws_config::meta::ProviderChainError;
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_ecr::error::{ConnectorError, ErrorMetadata, ProvideErrorMetadata, SdkError};

use crate::error::{Error, Kind};

/// The longest text from AWS that is repeated, in characters.
const LONGEST: usize = 300;

/// Converts `error` in `attempted`, for which the identity of `profile` needs the permission `action`.
pub(super) fn map<E>(attempted: String, action: &str, profile: Option<&str>, error: SdkError<E>) -> Error
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    let failed = match &error {
        SdkError::ServiceError(context) => {
            let status = context.raw().status().as_u16();
            service(attempted, action, profile, error.meta(), status).with_status(status)
        }
        SdkError::TimeoutError(_) => Error::new(Kind::Unavailable, attempted, "no answer in time"),
        SdkError::ResponseError(context) => {
            let why = format!("the answer is invalid: {}", root(&error));
            Error::new(Kind::Invalid, attempted, why).with_status(context.raw().status().as_u16())
        }
        SdkError::DispatchFailure(_) => match find::<CredentialsError>(&error) {
            Some(reason) => credentials(attempted, profile, reason),
            None => Error::new(Kind::Unavailable, attempted, root(&error)),
        },
        _ => Error::new(Kind::Configuration, attempted, root(&error)),
    };
    failed.with_source(error)
}

/// The service answered with an error.
fn service(attempted: String, action: &str, profile: Option<&str>, meta: &ErrorMetadata, status: u16) -> Error {
    let code = meta.code().unwrap_or_default();
    let message = one_line(meta.message().unwrap_or_default());
    let why = match (code, message.as_str()) {
        ("", "") => format!("answered {status} without saying why"),
        ("", text) | (text, "") => text.to_owned(),
        (code, message) => format!("{code}: {message}"),
    };
    match code {
        "AccessDeniedException" | "AccessDenied" => {
            // The missing permission may differ from that of the call, as with ecr:TagResource.
            let action = denied_action(&message).unwrap_or(action);
            Error::new(Kind::Denied, attempted, format!("{action} isn't allowed: {message}"))
                .with_hint(format!("allow {action} in the policies of this AWS identity"))
        }
        "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException" => {
            Error::new(Kind::Unauthorized, attempted, why).with_hint(log_in(profile))
        }
        "InvalidSignatureException" | "SignatureDoesNotMatch" | "RequestExpired" => {
            Error::new(Kind::Unauthorized, attempted, why)
                .with_hint("check the secret access key, and that this machine's clock is right")
        }
        "ThrottlingException" | "Throttling" | "TooManyRequestsException" | "RequestLimitExceeded" => {
            Error::new(Kind::RateLimited, attempted, why).with_hint("wait, then run it again")
        }
        "LimitExceededException" => Error::new(Kind::QuotaExceeded, attempted, why)
            .with_hint("delete unused repositories, or ask AWS for a higher quota (Service Quotas, Amazon ECR)"),
        "RepositoryNotFoundException" => Error::new(Kind::NotFound, attempted, why),
        "RepositoryAlreadyExistsException" => Error::new(Kind::Conflict, attempted, why),
        "InvalidParameterException"
        | "InvalidTagParameterException"
        | "TooManyTagsException"
        | "ValidationException"
        | "KmsException" => Error::new(Kind::Configuration, attempted, why)
            .with_hint("correct the settings of this registry under registries: in mirror.yaml"),
        _ if status >= 500 => Error::new(Kind::Unavailable, attempted, why),
        _ => Error::new(Kind::Unsupported, attempted, why),
    }
}

/// No request could be signed.
fn credentials(attempted: String, profile: Option<&str>, error: &CredentialsError) -> Error {
    // Only the end of the chain means that there are no credentials; each of its members failed for another reason.
    let none = find::<ProviderChainError<CredentialsError>>(error).is_some();
    if none || matches!(error, CredentialsError::CredentialsNotLoaded(_)) {
        let why = match profile {
            Some(profile) => format!("no AWS credentials in profile {profile}: {}", root(error)),
            None => "no AWS credentials".to_owned(),
        };
        return Error::new(Kind::Unauthorized, attempted, why).with_hint(log_in(profile));
    }
    if let Some(meta) = find::<ErrorMetadata>(error)
        && matches!(meta.code(), Some("AccessDenied" | "AccessDeniedException"))
    {
        let message = one_line(meta.message().unwrap_or_default());
        let action = denied_action(&message).unwrap_or("sts:AssumeRole");
        return Error::new(Kind::Denied, attempted, format!("{action} isn't allowed: {message}"))
            .with_hint("check role_arn and external_id, and that the role trusts this AWS identity");
    }
    let broken = |error: &ConnectorError| error.is_io() || error.is_timeout();
    if matches!(error, CredentialsError::ProviderTimedOut(_)) || find::<ConnectorError>(error).is_some_and(broken) {
        let why = format!("no answer while loading AWS credentials: {}", root(error));
        return Error::new(Kind::Unavailable, attempted, why);
    }
    Error::new(Kind::Unauthorized, attempted, format!("AWS credentials can't be used: {}", root(error)))
        .with_hint(log_in(profile))
}

fn log_in(profile: Option<&str>) -> String {
    match profile {
        Some(profile) => format!("run `aws sso login --profile {profile}`, or give profile {profile} credentials"),
        None => "run `aws sso login` and set AWS_PROFILE, set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a \
                 profile under registries: in mirror.yaml"
            .to_owned(),
    }
}

/// The action in `… is not authorized to perform: ecr:TagResource on resource: …`.
fn denied_action(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once("not authorized to perform: ")?;
    rest.split_whitespace().next().filter(|action| action.contains(':'))
}

/// `error` and its sources.
fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// The first cause of type `T`, including `error` itself.
fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    causes(error).find_map(|error| error.downcast_ref())
}

/// The text of the innermost cause: the SDK's outer errors only name the layer (`dispatch failure`).
fn root(error: &(dyn StdError + 'static)) -> String {
    one_line(&causes(error).last().unwrap_or(error).to_string())
}

/// `text` on one line, without a full stop, and shortened.
fn one_line(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut line: String = words.trim_end_matches('.').chars().take(LONGEST).collect();
    if words.chars().count() > LONGEST + 1 {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(code: &str, message: &str, status: u16) -> Error {
        let meta = ErrorMetadata::builder().code(code).message(message).build();
        service("create repository r".into(), "ecr:CreateRepository", None, &meta, status)
    }

    #[test]
    fn errors_of_the_sdk_have_a_kind_and_a_one_line_message() {
        for (code, kind) in [
            ("AccessDeniedException", Kind::Denied),
            ("ExpiredTokenException", Kind::Unauthorized),
            ("ThrottlingException", Kind::RateLimited),
            ("LimitExceededException", Kind::QuotaExceeded),
            ("RepositoryNotFoundException", Kind::NotFound),
            ("KmsException", Kind::Configuration),
            ("SomethingNew", Kind::Unsupported),
        ] {
            let error = answered(code, "The reason\n is this.", 400);
            assert_eq!(error.kind(), kind, "{code}");
            assert!(error.to_string().ends_with("The reason is this"), "{error}");
        }
        let error = answered("", "", 502);
        assert_eq!(error.kind(), Kind::Unavailable);
        assert_eq!(error.to_string(), "create repository r: answered 502 without saying why");
    }

    #[test]
    fn a_refusal_names_the_missing_permission() {
        let message = "User: arn:aws:iam::1:user/u is not authorized to perform: ecr:TagResource on resource: x";
        let error = answered("AccessDeniedException", message, 400);
        assert!(error.to_string().contains("ecr:TagResource isn't allowed: User"), "{error}");
        assert_eq!(error.hint(), Some("allow ecr:TagResource in the policies of this AWS identity"));
        assert!(
            answered("AccessDeniedException", "no", 400).to_string().contains("ecr:CreateRepository isn't allowed")
        );
    }

    #[test]
    fn missing_credentials_and_a_missing_network_give_different_errors() {
        let none = CredentialsError::not_loaded("x");
        let error = credentials("a".into(), Some("prod"), &none);
        assert_eq!(error.kind(), Kind::Unauthorized);
        assert!(error.hint().is_some_and(|hint| hint.contains("aws sso login --profile prod")));

        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let cut_off = CredentialsError::provider_error(ConnectorError::io(refused.into()));
        assert_eq!(credentials("a".into(), None, &cut_off).kind(), Kind::Unavailable);

        let meta = ErrorMetadata::builder().code("AccessDenied").message("not for you").build();
        let error = credentials("a".into(), None, &CredentialsError::provider_error(meta));
        assert_eq!(error.to_string(), "a: sts:AssumeRole isn't allowed: not for you");
    }
}
