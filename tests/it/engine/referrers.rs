//! Referrers of an image: which are copied, in which order, and with what effect on the image.

mod failures;

use std::time::Duration;

use serde_json::json;
use transship::oci::{Digest, MediaType, Referrer, Repository};
use transship::plan::{Action, Planned, ReferrerPolicy, Transfer};
use transship::report::{Outcome, Status};
use transship::store::MountRule;

use super::{Batch, statuses};
use crate::support::cosign;
use crate::support::images::{Image, image, index, json_of, multi_platform};
use crate::support::recorded::What;

pub(super) const SBOM: &str = "application/spdx+json";

/// A referrer of `subject` that isn't a signature.
pub(super) fn sbom(subject: &Image, seed: &str) -> Image {
    image(&format!("{seed} of {}", subject.digest())).artifact(SBOM).layer(500).subject(subject.descriptor()).build()
}

impl Batch {
    pub(super) async fn put(&self, image: &Image, repository: &str, tag: Option<&str>) {
        let repository: Repository = repository.parse().unwrap();
        image.try_push(&self.memory.repository(&repository), tag).await.unwrap();
    }

    pub(super) fn transfer(&mut self, at: usize) -> &mut Transfer {
        match &mut self.plan.images[at] {
            Planned::Image(transfer) => transfer,
            Planned::Failed { .. } => panic!("image {at} has failed"),
        }
    }

    /// Adds `referrer` at the source and to the lock.
    pub(super) async fn locked(&mut self, at: usize, referrer: &Image) {
        let source = self.transfer(at).source.repository().to_string();
        self.put(referrer, &source, None).await;
        self.transfer(at).referrers.push(Referrer::of(&referrer.manifest));
    }

    /// How often `name` was pushed.
    fn pushes(&self, name: &str) -> usize {
        self.stores.calls_of(What::PushManifest).iter().filter(|call| call.subject == name).count()
    }

    fn pushed_at(&self, name: &str) -> usize {
        self.stores.position(What::PushManifest, name).unwrap_or_else(|| panic!("{name} wasn't pushed"))
    }
}

pub(super) fn rows(outcome: &Outcome) -> Vec<(Digest, Status)> {
    outcome
        .referrers
        .iter()
        .map(|row| (row.referrer.as_ref().expect("a referrer").digest.clone(), row.status))
        .collect()
}

/// An index of two platforms at the source, to be copied.
async fn two_platforms(batch: &mut Batch) -> Image {
    let root = multi_platform("app", &["linux/amd64", "linux/arm64"]);
    batch.image(&root, "src.test/app:1", "dst.test/app").await;
    root
}

#[tokio::test]
async fn all_kinds_of_referrers_are_pushed_before_the_root() {
    let mut batch = Batch::new();
    let root = two_platforms(&mut batch).await;
    let [amd, arm] = [&root.children[0], &root.children[1]];
    let of_root = cosign::bundle(root.descriptor());
    let of_child = cosign::bundle(amd.descriptor());
    let of_referrer = sbom(&of_root, "deep");
    let deepest = cosign::bundle(of_referrer.descriptor());
    batch.locked(0, &of_root).await;
    for referrer in [&of_child, &of_referrer, &deepest] {
        batch.put(referrer, "src.test/app", None).await;
    }
    let tagged = [cosign::signature(arm.digest()), cosign::attestation(arm.digest()), cosign::sbom(arm.digest())];
    for (tag, image) in &tagged {
        batch.put(image, "src.test/app", Some(tag)).await;
    }
    let outcomes = batch.run().await;
    assert_eq!(statuses(&outcomes), [Status::Copied], "{outcomes:?}");
    batch.assert_at(&root, "dst.test/app", "1").await;
    for (tag, image) in &tagged {
        batch.assert_at(image, "dst.test/app", tag).await;
        assert_eq!((batch.pushes(tag), batch.pushes(image.digest().as_str())), (1, 0));
        assert!(batch.pushed_at(tag) > batch.pushed_at(arm.digest().as_str()));
        assert!(batch.pushed_at(tag) < batch.pushed_at("1"));
    }
    let chain = [&of_root, &of_referrer, &deepest].map(|image| batch.pushed_at(image.digest().as_str()));
    assert!(chain.is_sorted() && chain[2] < batch.pushed_at("1"));
    for image in [&of_root, &of_child, &of_referrer, &deepest] {
        assert_eq!(batch.pushes(image.digest().as_str()), 1);
        let target = batch.memory.repository(&"dst.test/app".parse().unwrap());
        let found = transship::store::Source::manifest(&target, image.digest()).await.unwrap();
        assert_eq!(found.bytes(), image.manifest.bytes());
    }
    // The root once, by its tag; of an empty target, only the list of each subject's referrers was read afterwards.
    assert_eq!((batch.pushes("1"), batch.pushes(root.digest().as_str())), (1, 0));
    assert_eq!((batch.calls(What::Referrers, "dst."), batch.calls(What::Resolve, "dst.")), (4, 0));
    // The referrers of the root come from the lock.
    let asked = batch.stores.calls_of(What::Referrers).into_iter();
    let asked: Vec<_> = asked.filter(|call| call.repository.registry().as_str().starts_with("src.")).collect();
    assert!(asked.iter().all(|call| call.subject != root.digest().as_str()), "{asked:?}");
    let by_tag = tagged.each_ref().map(|(_, image)| image);
    let order = [&of_root, &of_child].into_iter().chain(by_tag).chain([&of_referrer, &deepest]);
    let wanted: Vec<_> = order.map(|image| (image.digest().clone(), Status::Copied)).collect();
    assert_eq!(rows(&outcomes[0]), wanted);
}

#[tokio::test]
async fn with_the_policy_none_no_referrer_is_listed_or_copied() {
    let mut batch = Batch::new();
    let root = two_platforms(&mut batch).await;
    batch.locked(0, &cosign::bundle(root.descriptor())).await;
    batch.transfer(0).handling.referrers.policy = ReferrerPolicy::None;
    let outcomes = batch.run().await;
    assert_eq!((statuses(&outcomes), rows(&outcomes[0])), (vec![Status::Copied], vec![]));
    assert_eq!(batch.stores.count(What::Referrers), 0);
    assert_eq!(batch.stores.count(What::PushManifest), 3);
}

#[tokio::test]
async fn only_referrers_of_the_configured_types_are_copied() {
    let mut batch = Batch::new();
    let root = two_platforms(&mut batch).await;
    let (wanted, other) = (sbom(&root, "a"), cosign::bundle(root.descriptor()));
    let of_child = sbom(&root.children[1], "b");
    for referrer in [&wanted, &other] {
        batch.locked(0, referrer).await;
    }
    batch.put(&of_child, "src.test/app", None).await;
    batch.transfer(0).handling.referrers.artifact_types = vec![SBOM.to_owned()];
    let outcomes = batch.run().await;
    let both = [&wanted, &of_child].map(|image| (image.digest().clone(), Status::Copied));
    assert_eq!(rows(&outcomes[0]), both);
    assert_eq!(batch.pushes(other.digest().as_str()), 0);
}

#[tokio::test]
async fn referrers_of_a_shared_child_are_listed_and_sent_once() {
    let mut batch = Batch::new();
    let root = two_platforms(&mut batch).await;
    let other = index().child("linux/amd64", root.children[0].clone()).build();
    batch.image(&other, "src.test/app:2", "dst.test/app").await;
    batch.image(&root, "src.test/app:3", "dst.test/app").await;
    let of_child = cosign::bundle(root.children[0].descriptor());
    batch.put(&of_child, "src.test/app", None).await;
    let outcomes = batch.run().await;
    assert_eq!(statuses(&outcomes), [Status::Copied; 3], "{outcomes:?}");
    assert_eq!(batch.pushes(of_child.digest().as_str()), 1);
    assert_eq!(batch.calls(What::Referrers, "src."), 3, "two platforms, one referrer");
    assert!(outcomes.iter().all(|outcome| outcome.referrers.len() == 1));
}

#[tokio::test]
async fn if_the_registry_requires_the_subject_the_root_is_pushed_by_digest_before_the_referrers_and_the_tag() {
    let mut batch = Batch::new();
    batch.oddities.subject_first("dst.test");
    let mut images = Vec::new();
    for n in 0..3 {
        let root = image(&format!("app{n}")).build();
        let referrer = cosign::bundle(root.descriptor());
        batch.image(&root, &format!("src.test/app{n}:1"), &format!("dst.test/app{n}")).await;
        batch.locked(n, &referrer).await;
        images.push((root, referrer));
    }
    let outcomes = batch.run().await;
    assert_eq!(statuses(&outcomes), [Status::Copied; 3], "{outcomes:?}");
    for (root, referrer) in &images {
        let [by_digest, about] = [root, referrer].map(|image| image.digest().as_str());
        assert_eq!(batch.pushes(by_digest), 1);
        let pushes = batch.stores.calls();
        let last = pushes.iter().rposition(|call| call.what == What::PushManifest && call.subject == about).unwrap();
        assert!(batch.pushed_at(by_digest) < last);
    }
    // Each referrer was refused once.
    let about: usize = images.iter().map(|(_, referrer)| batch.pushes(referrer.digest().as_str())).sum();
    assert_eq!((about, batch.pushes("1")), (6, 3));
}

#[tokio::test]
async fn a_subject_that_already_exists_doesnt_affect_other_images() {
    let mut batch = Batch::new();
    batch.oddities.subject_first("dst.test");
    for n in 0..3 {
        let root = image(&format!("app{n}")).build();
        batch.image(&root, &format!("src.test/app{n}:1"), &format!("dst.test/app{n}")).await;
        batch.locked(n, &cosign::bundle(root.descriptor())).await;
        if n == 0 {
            // Left by a run that was interrupted.
            batch.put(&root, "dst.test/app0", None).await;
        }
    }
    let outcomes = batch.run().await;
    assert!(outcomes.iter().flat_map(rows).all(|(_, status)| status == Status::Copied), "{outcomes:?}");
}

#[tokio::test]
async fn only_missing_referrers_are_sent_for_an_up_to_date_tag() {
    let mut batch = Batch::new();
    let root = two_platforms(&mut batch).await;
    batch.not_empty();
    batch.put(&root, "dst.test/app", Some("1")).await;
    let (old, new) = (sbom(&root, "old"), cosign::bundle(root.descriptor()));
    batch.put(&old, "dst.test/app", None).await;
    batch.locked(0, &old).await;
    batch.locked(0, &new).await;
    let (tag, signature) = cosign::signature(root.digest());
    batch.put(&signature, "src.test/app", Some(&tag)).await;
    let tagged = Referrer { tag: Some(tag.parse().unwrap()), ..Referrer::of(&signature.manifest) };
    batch.transfer(0).referrers.push(tagged);
    batch.transfer(0).action = Action::Refer;
    let outcomes = batch.run().await;
    assert_eq!(statuses(&outcomes), [Status::Copied], "{outcomes:?}");
    let wanted = [(&old, Status::UpToDate), (&new, Status::Copied), (&signature, Status::Copied)];
    assert_eq!(rows(&outcomes[0]), wanted.map(|(image, status)| (image.digest().clone(), status)));
    assert_eq!((batch.pushes("1"), batch.pushes(&tag), batch.stores.count(What::PushManifest)), (0, 1, 2));
    // One lookup for each form that the root has, and the list again after the push.
    assert_eq!((batch.calls(What::Referrers, "dst."), batch.calls(What::Resolve, "dst.")), (2, 1));
}

#[tokio::test]
async fn new_referrers_of_an_up_to_date_image_are_found_if_followed() {
    let mut batch = Batch::new();
    let root = two_platforms(&mut batch).await;
    batch.not_empty();
    batch.put(&root, "dst.test/app", Some("1")).await;
    let known = sbom(&root, "known");
    batch.locked(0, &known).await;
    batch.put(&known, "dst.test/app", None).await;
    let (late, of_known) = (cosign::bundle(root.children[1].descriptor()), cosign::bundle(known.descriptor()));
    batch.put(&late, "src.test/app", None).await;
    batch.put(&of_known, "src.test/app", None).await;
    batch.transfer(0).action = Action::UpToDate;
    let outcomes = batch.run().await;
    assert_eq!((statuses(&outcomes), batch.stores.calls()), (vec![Status::UpToDate], vec![]));

    batch.transfer(0).follow = true;
    let outcomes = batch.run().await;
    assert_eq!(statuses(&outcomes), [Status::Copied], "{outcomes:?}");
    let wanted = [(&known, Status::UpToDate), (&late, Status::Copied), (&of_known, Status::Copied)];
    assert_eq!(rows(&outcomes[0]), wanted.map(|(image, status)| (image.digest().clone(), status)));
    assert_eq!((batch.pushes("1"), batch.calls(What::Manifest, "src.")), (0, 2));

    let outcomes = batch.run().await;
    assert_eq!(statuses(&outcomes), [Status::UpToDate]);
    assert_eq!(batch.stores.count(What::PushManifest), 0);
    assert!(rows(&outcomes[0]).iter().all(|(_, status)| *status == Status::UpToDate));
}

#[tokio::test]
async fn if_reads_are_metered_or_recorded_no_index_is_read_to_find_new_referrers() {
    for counts in [true, false] {
        let mut batch = Batch::new();
        let root = two_platforms(&mut batch).await;
        batch.not_empty();
        batch.put(&root, "dst.test/app", Some("1")).await;
        let late = cosign::bundle(root.children[1].descriptor());
        batch.put(&late, "src.test/app", None).await;
        (batch.transfer(0).action, batch.transfer(0).follow) = (Action::UpToDate, true);
        batch.oddities.records_pull_time("dst.test");
        if counts {
            batch.stores.meters_pulls(&"src.test".parse().unwrap());
        }
        let wanted = if counts { Status::UpToDate } else { Status::Copied };
        assert_eq!(statuses(&batch.run().await), [wanted]);
        assert_eq!(batch.calls(What::Manifest, "dst."), 0);
        assert_eq!(batch.calls(What::Manifest, "src."), if counts { 0 } else { 2 });
    }
}

#[tokio::test]
async fn another_tag_is_set_only_after_the_referrers() {
    let mut batch = Batch::new();
    let root = two_platforms(&mut batch).await;
    batch.not_empty();
    batch.put(&root, "dst.test/app", Some("0")).await;
    let of_child = cosign::bundle(root.children[0].descriptor());
    batch.put(&of_child, "src.test/app", None).await;
    batch.transfer(0).action = Action::Tag;
    assert_eq!(statuses(&batch.run().await), [Status::Copied]);
    assert!(batch.pushed_at(of_child.digest().as_str()) < batch.pushed_at("1"));
    assert_eq!(batch.stores.count(What::PushManifest), 2);
}

#[tokio::test]
async fn the_empty_config_shared_by_all_referrers_causes_no_deadlock() {
    for rule in [MountRule::AtOnce, MountRule::Committed, MountRule::Never] {
        let mut batch = Batch::new();
        batch.transfers = 1;
        batch.stores.mounts(&"dst.test".parse().unwrap(), rule);
        // More than can be in flight, in few repositories, all with the same empty config.
        for n in 0..80 {
            let root = image(&format!("app{n}")).build();
            batch.image(&root, &format!("src.test/app{n}:1"), &format!("dst.test/app{}", n % 7)).await;
            batch.transfer(n).tag = Some(format!("t{n}").parse().unwrap());
            batch.locked(n, &cosign::bundle(root.descriptor())).await;
            if n % 3 == 0 {
                batch.put(&root, &format!("dst.test/app{}", n % 7), Some(&format!("t{n}"))).await;
                batch.transfer(n).action = Action::Refer;
            }
        }
        let outcomes = tokio::time::timeout(Duration::from_secs(60), batch.run()).await.expect("the batch ends");
        assert_eq!(statuses(&outcomes), [Status::Copied; 80], "{rule:?}");
        let empty = Digest::of(b"{}");
        let read = batch
            .stores
            .calls_of(What::Blob)
            .into_iter()
            .filter(|call| call.subject == empty.as_str() && call.repository.registry().as_str() == "src.test");
        assert_eq!(read.count(), 1, "{rule:?}");
    }
}

/// A referrer of `subject` that is an index of `children`.
fn index_about(subject: &Image, children: &[&Image]) -> Image {
    let list: Vec<_> = children.iter().map(|child| json_of(child.descriptor())).collect();
    let members = json!({ "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": list,
        "artifactType": SBOM, "subject": json_of(subject.descriptor()) });
    Image {
        children: children.iter().map(|child| (*child).clone()).collect(),
        ..Image::of(MediaType::OCI_INDEX, members, vec![])
    }
}

#[tokio::test(start_paused = true)]
async fn a_manifest_that_is_both_child_and_referrer_is_pushed_once() {
    for subject_first in [false, true] {
        for api in [true, false] {
            for is_nested in [false, true] {
                for tag in [true, false] {
                    let mut batch = Batch::new();
                    let root = image("app").build();
                    let both = sbom(&root, "both");
                    let inner = index_about(&root, &[&both]);
                    let outer = if is_nested { index_about(&root, &[&inner, &both]) } else { inner.clone() };
                    batch.image(&root, "src.test/app:1", "dst.test/app").await;
                    for referrer in [&both, &inner, &outer] {
                        batch.put(referrer, "src.test/app", None).await;
                    }
                    for referrer in if is_nested { vec![&outer, &both, &inner] } else { vec![&inner, &both] } {
                        batch.locked(0, referrer).await;
                    }
                    if subject_first {
                        batch.oddities.subject_first("dst.test");
                    }
                    if !api {
                        batch.oddities.without_api("dst.test");
                    }
                    if !tag {
                        batch.transfer(0).tag = None;
                    }
                    let outcomes = batch.run().await;
                    let case = format!("subject first {subject_first}, API {api}, nested {is_nested}, tag {tag}");
                    assert_eq!(statuses(&outcomes), [Status::Copied], "{case}: {outcomes:?}");
                    assert!(
                        rows(&outcomes[0]).iter().all(|(_, status)| *status == Status::Copied),
                        "{case}: {outcomes:?}"
                    );
                    let by_digest = batch.pushes(root.digest().as_str());
                    assert_eq!(by_digest, usize::from(subject_first || !tag), "{case}");
                    assert_eq!(batch.pushes("1"), usize::from(tag), "{case}");
                    let target = batch.memory.repository(&"dst.test/app".parse().unwrap());
                    for referrer in [&both, &inner, &outer] {
                        transship::store::Source::manifest(&target, referrer.digest()).await.unwrap();
                        let most = if subject_first { 3 } else { 1 };
                        let pushes = batch.pushes(referrer.digest().as_str());
                        assert!((1..=most).contains(&pushes), "{case}: {pushes} pushes of {}", referrer.digest());
                    }
                }
            }
        }
    }
}
