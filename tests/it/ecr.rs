//! ECR's control plane: the library and the real SDK against moto.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aws_sdk_ecr::types::{EncryptionType, ImageTagMutability};
use base64::Engine as _;
use transship::aws::{Session, Sessions};
use transship::config::{EcrCreate, EcrSettings, RegistrySettings};
use transship::oci::{Registry, Repository};
use transship::provision::Provisioners;

use crate::support::moto::{ACCOUNT, Moto};

/// moto keeps the state of each region apart, as AWS does.
fn registry(region: &str) -> Registry {
    format!("{ACCOUNT}.dkr.ecr.{region}.amazonaws.com").parse().unwrap()
}

fn sessions(moto: &Moto) -> Arc<Sessions> {
    Arc::new(Sessions::at_endpoint(moto.endpoint(), "test", "test"))
}

async fn describe(session: &Session, path: &str) -> aws_sdk_ecr::types::Repository {
    let ecr = session.ecr().await.unwrap();
    let answer = ecr.describe_repositories().repository_names(path).send().await.unwrap();
    answer.repositories()[0].clone()
}

#[tokio::test]
async fn a_missing_repository_is_created_once_with_the_settings() {
    let Some(moto) = Moto::start() else { return };
    let (sessions, registry) = (sessions(&moto), registry("eu-west-1"));
    let create = EcrCreate {
        tag_mutability: Some("IMMUTABLE".into()),
        scan_on_push: Some(true),
        kms_key: Some("alias/mirror".into()),
        tags: BTreeMap::from([("team".into(), "platform".into())]),
        ..EcrCreate::default()
    };
    let ecr = EcrSettings { create: Some(create), ..EcrSettings::default() };
    let session = sessions.session(&registry, &ecr);
    let settings = BTreeMap::from([(registry.clone(), RegistrySettings { ecr, ..RegistrySettings::default() })]);
    let path = "mirror/docker.io/library/alpine";
    let wanted = [Repository::new(registry.clone(), path).unwrap()];

    for first in [true, false] {
        // A new session each time, as in a second run.
        let provisioners = Provisioners::new(&settings, Arc::clone(&sessions));
        let (_, missing) = provisioners.missing(&wanted).await.remove(0);
        assert_eq!(missing.unwrap(), first);
        let (_, ready) = provisioners.ensure(&wanted).await.remove(0);
        let ready = ready.unwrap();
        assert_eq!((ready.repository(), ready.created()), (&wanted[0], first));
    }

    let repository = describe(&session, path).await;
    assert_eq!(repository.image_tag_mutability(), Some(&ImageTagMutability::Immutable));
    assert!(repository.image_scanning_configuration().unwrap().scan_on_push());
    let encryption = repository.encryption_configuration().unwrap();
    assert_eq!((encryption.encryption_type(), encryption.kms_key()), (&EncryptionType::Kms, Some("alias/mirror")));
    let arn = repository.repository_arn().unwrap();
    let tags = session.ecr().await.unwrap().list_tags_for_resource().resource_arn(arn).send().await.unwrap();
    let tags: Vec<_> = tags.tags().iter().map(|tag| (tag.key(), tag.value())).collect();
    assert_eq!(tags, [("team", "platform")]);
}

#[tokio::test]
async fn concurrent_runs_dont_disturb_each_other() {
    let Some(moto) = Moto::start() else { return };
    let sessions = sessions(&moto);
    let registry = registry("us-east-1");
    let wanted: Vec<_> = (0..5).map(|n| Repository::new(registry.clone(), &format!("mirror/r{n}")).unwrap()).collect();
    let runs: Vec<_> = (0..8).map(|_| Provisioners::new(&BTreeMap::new(), Arc::clone(&sessions))).collect();
    let ready = futures::future::join_all(runs.iter().map(|run| run.ensure(&wanted))).await;
    let ready = ready.into_iter().flatten().map(|(repository, ready)| (repository, ready.unwrap()));
    // Not how often: moto may accept two requests at once to create the same repository; ECR doesn't.
    let created: BTreeSet<_> = ready.filter(|(_, ready)| ready.created()).map(|(repository, _)| repository).collect();
    assert_eq!(created, wanted.into_iter().collect());
}

#[tokio::test]
async fn the_token_is_that_of_the_user_aws() {
    let Some(moto) = Moto::start() else { return };
    let session = sessions(&moto).session(&registry("eu-west-2"), &EcrSettings::default());
    let token = session.authorization_token().await.unwrap();
    let decoded = base64::engine::general_purpose::STANDARD.decode(token.basic).unwrap();
    assert!(decoded.starts_with(b"AWS:"), "{}", String::from_utf8_lossy(&decoded));
    // moto's tokens ended in 2015.
    assert!(!token.lifetime.is_zero());
}
