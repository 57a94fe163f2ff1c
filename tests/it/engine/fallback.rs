//! Targets without referrers API: the fallback index that clients keep there instead.

use std::time::Duration;

use serde_json::{Value, json};
use transship::error::{Kind, Side};
use transship::oci::{Digest, Manifest, MediaType, Referrer, Repository, Selector};
use transship::plan::Action;
use transship::report::Status;
use transship::store::{Source as _, Target as _};

use super::referrers::{rows, sbom};
use super::{Batch, statuses};
use crate::support::cosign;
use crate::support::gate::Gate;
use crate::support::images::{Image, image, multi_platform};
use crate::support::recorded::{Fault, What};

/// An index of `referrers` as another client writes it, with different bytes.
fn index_of(referrers: &[&Image], more: &Value) -> Manifest {
    let entries: Vec<Value> = referrers.iter().map(|referrer| Referrer::entry(&referrer.manifest)).collect();
    let mut index = json!({ "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": entries });
    if more.is_object() {
        index["annotations"] = more.clone();
    }
    let bytes = serde_json::to_vec_pretty(&index).unwrap();
    Manifest::new(Digest::of(&bytes), Some(MediaType::OCI_INDEX), bytes.into()).unwrap()
}

impl Batch {
    async fn list(&self, index: &Manifest, of: &Image, repository: &str) {
        let repository = self.memory.repository(&repository.parse::<Repository>().unwrap());
        repository.push_manifest(index, &Selector::Tag(of.digest().referrers_tag())).await.unwrap();
    }

    /// The fallback index of `of` at the target.
    async fn listed(&self, of: &Image) -> Manifest {
        let repository = self.memory.repository(&"dst.test/app".parse::<Repository>().unwrap());
        let found = repository.resolve(&Selector::Tag(of.digest().referrers_tag())).await.unwrap();
        repository.manifest(&found.digest).await.unwrap()
    }
}

fn digests(index: &Manifest) -> Vec<Digest> {
    Referrer::in_index(index.bytes()).unwrap().into_iter().map(|referrer| referrer.digest).collect()
}

/// An image with two referrers, and their fallback index at the source; no registry has the API.
async fn scene() -> (Batch, Image, [Image; 2], Manifest) {
    let mut batch = Batch::new();
    batch.oddities.without_api("src.test");
    batch.oddities.without_api("dst.test");
    let root = image("app").build();
    let referrers = [cosign::bundle(root.descriptor()), sbom(&root, "a")];
    batch.image(&root, "src.test/app:1", "dst.test/app").await;
    for referrer in &referrers {
        batch.locked(0, referrer).await;
    }
    let index = index_of(&[&referrers[0], &referrers[1]], &Value::Null);
    batch.list(&index, &root, "src.test/app").await;
    (batch, root, referrers, index)
}

#[tokio::test]
async fn the_fallback_index_of_the_source_is_copied_byte_for_byte() {
    let (batch, root, referrers, index) = scene().await;
    let outcomes = batch.run().await;
    assert_eq!(statuses(&outcomes), [Status::Copied], "{outcomes:?}");
    assert_eq!(batch.listed(&root).await.bytes(), index.bytes());
    let at = |name: &str| batch.stores.position(What::PushManifest, name).unwrap();
    let tag = root.digest().referrers_tag();
    assert!(referrers.iter().all(|referrer| at(referrer.digest().as_str()) < at(tag.as_str())));
    assert!(at(tag.as_str()) < at("1"));
    assert_eq!(batch.stores.count(What::PushManifest), 4);
}

#[tokio::test]
async fn the_fallback_index_of_a_child_is_copied_too() {
    let mut batch = Batch::new();
    batch.oddities.without_api("src.test");
    batch.oddities.without_api("dst.test");
    let root = multi_platform("app", &["linux/amd64", "linux/arm64"]);
    batch.image(&root, "src.test/app:1", "dst.test/app").await;
    let referrer = cosign::bundle(root.children[1].descriptor());
    batch.put(&referrer, "src.test/app", None).await;
    // It lists one referrer twice, the child itself, and a referrer of something else.
    let stranger = cosign::bundle(root.children[0].descriptor());
    batch.put(&stranger, "src.test/app", None).await;
    let index = index_of(&[&referrer, &referrer, &root.children[1], &stranger], &Value::Null);
    batch.list(&index, &root.children[1], "src.test/app").await;
    let outcomes = batch.run().await;
    assert_eq!(statuses(&outcomes), [Status::Copied], "{outcomes:?}");
    let wanted = [(referrer.digest().clone(), Status::Copied), (stranger.digest().clone(), Status::Skipped)];
    assert_eq!(rows(&outcomes[0]), wanted);
    assert_eq!(digests(&batch.listed(&root.children[1]).await), [referrer.digest().clone()]);
}

#[tokio::test]
async fn referrers_listed_only_at_the_target_are_kept() {
    let (mut batch, root, referrers, _) = scene().await;
    let ours = sbom(&root, "made here");
    for image in [&ours, &referrers[1]] {
        batch.put(image, "dst.test/app", None).await;
    }
    let before = index_of(&[&ours, &referrers[1]], &json!({ "kept": "as it is" }));
    batch.list(&before, &root, "dst.test/app").await;
    batch.not_empty();
    let outcomes = batch.run().await;
    assert_eq!(statuses(&outcomes), [Status::Copied], "{outcomes:?}");
    let after = batch.listed(&root).await;
    let all = [&ours, &referrers[1], &referrers[0]].map(|image| image.digest().clone());
    assert_eq!(digests(&after), all);
    let entry = Referrer::entry(&referrers[0].manifest).to_string();
    let text = std::str::from_utf8(after.bytes()).unwrap().replace(&format!(",{entry}"), "");
    assert_eq!(text.as_bytes(), before.bytes());

    // Everything exists: nothing is sent.
    batch.transfer(0).action = Action::Refer;
    let outcomes = batch.run().await;
    assert_eq!(batch.stores.count(What::PushManifest), 0);
    assert!(rows(&outcomes[0]).iter().all(|(_, status)| *status == Status::UpToDate));
}

#[tokio::test]
async fn referrers_listed_but_missing_at_the_target_are_copied() {
    let (mut batch, root, referrers, index) = scene().await;
    for referrer in &referrers {
        batch.put(referrer, "dst.test/app", None).await;
    }
    batch.list(&index, &root, "dst.test/app").await;
    batch.not_empty();
    let (gone, target) = (referrers[0].digest(), "dst.test/app".parse().unwrap());
    batch.stores.on(What::Resolve).of(&target).for_subject(gone).times(usize::MAX).fails(Kind::NotFound);
    let outcomes = batch.run().await;
    let wanted = [(gone.clone(), Status::Copied), (referrers[1].digest().clone(), Status::UpToDate)];
    assert_eq!(rows(&outcomes[0]), wanted);
    assert!(batch.stores.position(What::PushManifest, gone.as_str()).is_some());
    assert_eq!(batch.listed(&root).await.bytes(), index.bytes());
}

#[tokio::test]
async fn a_fallback_index_with_missing_referrers_is_reported_and_the_image_is_copied() {
    let (mut batch, root, referrers, _) = scene().await;
    let tag = root.digest().referrers_tag();
    let theirs = sbom(&root, "theirs");
    batch.put(&theirs, "dst.test/app", None).await;
    batch.list(&index_of(&[&theirs], &Value::Null), &root, "dst.test/app").await;
    batch.not_empty();
    batch.stores.on(What::PushManifest).for_subject(&tag).times(usize::MAX).fails(Kind::MissingContent);
    let outcomes = batch.run().await;
    assert_eq!(statuses(&outcomes), [Status::Copied], "{outcomes:?}");
    let wanted = referrers.each_ref().map(|image| (image.digest().clone(), Status::Failed));
    assert_eq!(rows(&outcomes[0]), wanted);
    let error = outcomes[0].referrers[0].error.as_ref().unwrap();
    assert!(error.hint().unwrap().contains(&format!("remove the tag {tag}")), "{error}");
    assert_eq!(error.side(), Some(Side::Target));
}

#[tokio::test]
async fn a_newly_written_fallback_index_is_deterministic() {
    let mut made = Vec::new();
    for _ in 0..2 {
        let (mut batch, root, referrers, _) = scene().await;
        batch.transfer(0).handling.referrers.artifact_types = vec![cosign::BUNDLE.to_owned()];
        assert_eq!(statuses(&batch.run().await), [Status::Copied]);
        let index = batch.listed(&root).await;
        assert_eq!(digests(&index), [referrers[0].digest().clone()]);
        made.push(index.bytes().clone());
    }
    assert_eq!(made[0], made[1]);
}

#[tokio::test]
async fn referrers_from_the_api_are_listed_in_a_fallback_index() {
    let mut batch = Batch::new();
    batch.oddities.without_api("dst.test");
    let root = image("app").build();
    let referrer = cosign::bundle(root.descriptor());
    batch.image(&root, "src.test/app:1", "dst.test/app").await;
    batch.locked(0, &referrer).await;
    assert_eq!(statuses(&batch.run().await), [Status::Copied]);
    assert_eq!(digests(&batch.listed(&root).await), [referrer.digest().clone()]);
}

#[tokio::test]
async fn two_concurrent_runs_lose_no_entry() {
    let (batch, root, referrers, _) = scene().await;
    let (reads, gate) = (Gate::closed(), Gate::closed());
    reads.open();
    let target = "dst.test/app".parse().unwrap();
    for fault in [reads, gate.clone()] {
        batch.stores.on(What::Referrers).of(&target).for_subject(root.digest()).then(Fault::Waits(fault));
    }
    let theirs = sbom(&root, "of the other run");
    let other = async {
        // Both have found no index; the other run writes last.
        gate.reached(1).await;
        batch.put(&theirs, "dst.test/app", None).await;
        batch.list(&index_of(&[&theirs], &Value::Null), &root, "dst.test/app").await;
        gate.open();
    };
    let both = async { tokio::join!(batch.run(), other) };
    let both = tokio::time::timeout(Duration::from_secs(60), both).await;
    let (outcomes, ()) = both.expect("the index is read again after its push");
    assert_eq!(statuses(&outcomes), [Status::Copied], "{outcomes:?}");
    let all = [&theirs, &referrers[0], &referrers[1]].map(|image| image.digest().clone());
    assert_eq!(digests(&batch.listed(&root).await), all);
}

#[tokio::test]
async fn images_that_share_a_subject_write_its_index_once() {
    let (mut batch, root, referrers, index) = scene().await;
    batch.image(&root, "src.test/app:2", "dst.test/app").await;
    batch.transfer(1).referrers = referrers.iter().map(|image| Referrer::of(&image.manifest)).collect();
    assert_eq!(statuses(&batch.run().await), [Status::Copied; 2]);
    assert_eq!(batch.listed(&root).await.bytes(), index.bytes());
    assert_eq!(batch.stores.count(What::PushManifest), 5);
}

#[tokio::test]
async fn a_fallback_tag_on_other_content_isnt_overwritten() {
    let (mut batch, root, referrers, _) = scene().await;
    let other = image("other").build();
    batch.put(&other, "dst.test/app", Some(root.digest().referrers_tag().as_str())).await;
    batch.not_empty();
    let outcomes = batch.run().await;
    assert_eq!(statuses(&outcomes), [Status::Copied], "{outcomes:?}");
    assert_eq!(batch.listed(&root).await.digest(), other.digest());
    let wanted = referrers.each_ref().map(|image| (image.digest().clone(), Status::Failed));
    assert_eq!(rows(&outcomes[0]), wanted);
    let error = outcomes[0].referrers[0].error.as_ref().unwrap();
    assert_eq!((error.kind(), error.side()), (Kind::Unsupported, Some(Side::Target)));
    assert!(
        error.hint().unwrap().contains("remove the tag") && error.to_string().contains("isn't an index of referrers"),
        "{error}"
    );
    batch.transfer(0).handling.referrers.policy = transship::plan::ReferrerPolicy::Require;
    assert_eq!(statuses(&batch.run().await), [Status::Failed]);
}

#[tokio::test]
async fn a_referrer_under_the_fallback_tag_stays_or_is_replaced_by_an_index() {
    for occupied in [false, true] {
        let mut batch = Batch::new();
        batch.oddities.without_api("src.test");
        batch.oddities.without_api("dst.test");
        let root = image("app").build();
        let (alone, tag) = (cosign::bundle(root.descriptor()), root.digest().referrers_tag());
        batch.image(&root, "src.test/app:1", "dst.test/app").await;
        batch.put(&alone, "src.test/app", Some(tag.as_str())).await;
        batch.transfer(0).referrers = vec![Referrer { tag: Some(tag), ..Referrer::of(&alone.manifest) }];
        let theirs = sbom(&root, "theirs");
        if occupied {
            batch.put(&theirs, "dst.test/app", None).await;
            batch.list(&index_of(&[&theirs], &Value::Null), &root, "dst.test/app").await;
            batch.not_empty();
        }
        assert_eq!(statuses(&batch.run().await), [Status::Copied]);
        let found = batch.listed(&root).await;
        if occupied {
            assert_eq!(digests(&found), [theirs.digest().clone(), alone.digest().clone()]);
        } else {
            assert_eq!(found.bytes(), alone.manifest.bytes());
        }
    }
}
