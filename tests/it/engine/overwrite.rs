//! Tags of referrers with another digest at the target, such as a signature that its owner added.

use transship::error::{Kind, Side};
use transship::oci::{Digest, Referrer};
use transship::plan::{Action, Overwrite, ReferrerPolicy};
use transship::report::{ReferrerOutcome, Status};

use super::Batch;
use super::referrers::rows;
use crate::support::cosign;
use crate::support::images::{Image, image, index};
use crate::support::recorded::What;

const ALL: [Overwrite; 3] = [Overwrite::Replace, Overwrite::Refuse, Overwrite::Keep];

/// An artifact for the tag, at the source or the target.
struct Signed {
    batch: Batch,
    root: Image,
    tag: String,
    upstream: Image,
}

impl Signed {
    /// An image with a locked referrer under `tag`.
    async fn new(overwrite: Overwrite, tag: impl Fn(&Digest) -> String) -> Self {
        let mut batch = Batch::new();
        let (root, upstream) = (image("app").build(), image("upstream's").build());
        batch.image(&root, "src.test/app:1", "dst.test/app").await;
        batch.not_empty();
        let tag = tag(root.digest());
        batch.put(&upstream, "src.test/app", Some(&tag)).await;
        let referrer = Referrer { tag: Some(tag.parse().unwrap()), ..Referrer::of(&upstream.manifest) };
        let transfer = batch.transfer(0);
        transfer.referrers.push(referrer);
        transfer.handling.overwrite = overwrite;
        Self { batch, root, tag, upstream }
    }

    /// The target has other content under the tag.
    async fn resigned(overwrite: Overwrite, tag: impl Fn(&Digest) -> String) -> (Self, Image) {
        let (signed, theirs) = (Self::new(overwrite, tag).await, image("theirs").build());
        signed.batch.put(&theirs, "dst.test/app", Some(&signed.tag)).await;
        (signed, theirs)
    }

    fn pushed(&self) -> bool {
        let digest = self.upstream.digest().as_str();
        self.batch.stores.position(What::PushManifest, &self.tag).is_some()
            || self.batch.stores.position(What::PushManifest, digest).is_some()
    }

    async fn holds(&self, image: &Image) {
        self.batch.assert_at(image, "dst.test/app", &self.tag).await;
    }
}

fn signature(of: &Digest) -> String {
    cosign::signature(of).0
}

fn alone(of: &Digest) -> String {
    of.referrers_tag().to_string()
}

fn assert_conflict(row: &ReferrerOutcome) {
    let error = row.error.as_ref().unwrap();
    assert_eq!((row.status, error.kind(), error.side()), (Status::Failed, Kind::Conflict, Some(Side::Target)));
    assert!(error.hint().unwrap().contains("overwrite: true or keep"), "{error:?}");
}

#[tokio::test]
async fn missing_referrers_are_copied_whatever_overwrite_is() {
    for overwrite in ALL {
        for tag in [signature, alone] {
            let signed = Signed::new(overwrite, tag).await;
            let outcomes = signed.batch.run().await;
            assert_eq!(rows(&outcomes[0]), [(signed.upstream.digest().clone(), Status::Copied)], "{overwrite:?}");
            signed.holds(&signed.upstream).await;
            let again = signed.batch.run().await;
            assert_eq!(rows(&again[0]), [(signed.upstream.digest().clone(), Status::UpToDate)], "{overwrite:?}");
        }
    }
}

/// Copied with the image or, if the image is up to date, after it.
#[tokio::test]
async fn a_signature_tag_on_other_content_is_replaced_refused_or_kept() {
    for (overwrite, status) in ALL.into_iter().zip([Status::Copied, Status::Failed, Status::Skipped]) {
        for (tag, action) in
            [(signature as fn(&_) -> _, Action::Copy), (signature, Action::Refer), (alone, Action::Copy)]
        {
            let (mut signed, theirs) = Signed::resigned(overwrite, tag).await;
            if action == Action::Refer {
                signed.batch.put(&signed.root, "dst.test/app", Some("1")).await;
            }
            signed.batch.transfer(0).action = action.clone();
            let outcomes = signed.batch.run().await;
            let replaced = overwrite == Overwrite::Replace;
            let late = action == Action::Refer && !replaced;
            let expected = if late { Status::UpToDate } else { Status::Copied };
            assert_eq!(outcomes[0].status, expected, "{overwrite:?} {action:?}: {outcomes:?}");
            assert_eq!(rows(&outcomes[0]), [(signed.upstream.digest().clone(), status)]);
            signed.batch.assert_at(&signed.root, "dst.test/app", "1").await;
            signed.holds(if replaced { &signed.upstream } else { &theirs }).await;
            assert_eq!(signed.pushed(), replaced);
            match overwrite {
                Overwrite::Refuse => assert_conflict(&outcomes[0].referrers[0]),
                _ => assert!(outcomes[0].referrers[0].error.is_none()),
            }
            if !replaced {
                let reads = signed.batch.stores.position(What::Manifest, signed.upstream.digest().as_str());
                assert_eq!(reads, None, "no unnecessary read");
            }
        }
    }
}

/// Cosign's signatures of children aren't in the lock.
#[tokio::test]
async fn the_signature_of_a_child_follows_overwrite_too() {
    for overwrite in ALL {
        let mut batch = Batch::new();
        let root = index().child("linux/amd64", image("app").build()).build();
        batch.image(&root, "src.test/app:1", "dst.test/app").await;
        batch.not_empty();
        batch.transfer(0).handling.overwrite = overwrite;
        let (tag, upstream) = cosign::signature(root.children[0].digest());
        let theirs = image("theirs").build();
        batch.put(&upstream, "src.test/app", Some(&tag)).await;
        batch.put(&theirs, "dst.test/app", Some(&tag)).await;
        batch.run().await;
        let held = if overwrite == Overwrite::Replace { &upstream } else { &theirs };
        batch.assert_at(held, "dst.test/app", &tag).await;
    }
}

/// The plan has looked it up, and the engine doesn't repeat that.
#[tokio::test]
async fn kept_referrers_are_reported_and_not_followed() {
    for follow in [false, true] {
        let (mut signed, theirs) = Signed::resigned(Overwrite::Keep, signature).await;
        signed.batch.put(&signed.root, "dst.test/app", Some("1")).await;
        let of_upstream = cosign::bundle(signed.upstream.descriptor());
        signed.batch.put(&of_upstream, "src.test/app", None).await;
        let transfer = signed.batch.transfer(0);
        (transfer.action, transfer.follow) = (Action::UpToDate, follow);
        transfer.left = transfer.referrers.clone();
        let outcomes = signed.batch.run().await;
        assert_eq!(outcomes[0].status, Status::UpToDate, "{outcomes:?}");
        assert_eq!(rows(&outcomes[0]), [(signed.upstream.digest().clone(), Status::Skipped)]);
        signed.holds(&theirs).await;
        let counts = [What::PushManifest, What::Resolve].map(|what| signed.batch.calls(what, "dst."));
        assert_eq!(counts, [0, 0]);
    }
}

#[tokio::test]
async fn a_kept_signature_satisfies_require_and_a_refused_one_doesnt() {
    for (overwrite, status) in ALL.into_iter().zip([Status::Copied, Status::Conflict, Status::Copied]) {
        let (mut signed, _) = Signed::resigned(overwrite, signature).await;
        signed.batch.transfer(0).handling.referrers.policy = ReferrerPolicy::Require;
        let outcomes = signed.batch.run().await;
        assert_eq!(outcomes[0].status, status, "{outcomes:?}");
        assert_eq!(signed.batch.has_tag("dst.test/app", "1").await, status == Status::Copied);
    }
}
