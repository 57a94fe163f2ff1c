//! What a plan says it costs.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use transship::aws::Sessions;
use transship::config::{ImageRule, Wanted};
use transship::lock::{Lock, LockedImage};
use transship::oci::{Reference, Repository};
use transship::plan::{Plan, Planned, Request, plan, weigh};
use transship::provision::Provisioners;
use transship::select::Only;
use transship::store::Stores;
use transship::store::memory::Memory;

use crate::support::images::multi_platform;
use crate::support::recorded::{Recorded, What};

fn pulls(plan: &Plan) -> Vec<(u64, bool)> {
    let transfers = plan.images.iter().map(|planned| match planned {
        Planned::Image(transfer) => (transfer.pulls, transfer.pulls_exact),
        Planned::Failed { error, .. } => panic!("{error}"),
    });
    transfers.collect()
}

#[tokio::test]
async fn a_manifest_counts_once_however_many_tags_and_targets_it_is_for() {
    let memory = Memory::new();
    let recorded = Recorded::new(Arc::new(memory.clone()));
    recorded.counts_pulls(&"src.test".parse().unwrap());
    let app = multi_platform("app", &["linux/amd64", "linux/arm64"]);
    let from: Repository = "src.test/app".parse().unwrap();
    let targets: Vec<Repository> = ["a.test/app", "b.test/app"].map(|text| text.parse().unwrap()).into();
    // One target has a child of it already.
    app.children[0].push(&memory.repository(&targets[0]), "child").await;
    let mut lock = Lock::default();
    let tags: [transship::oci::Tag; 2] = ["1", "1.0"].map(|tag| tag.parse().unwrap());
    for tag in &tags {
        app.push(&memory.repository(&from), tag.as_str()).await;
        lock.pin(LockedImage::new(Reference::tagged(from.clone(), tag.clone()), app.descriptor()));
    }
    let wanted = Wanted::Tags(tags.into_iter().map(|tag| (tag, None)).collect());
    let images = [ImageRule::new(from, wanted, targets)];
    let stores: Arc<dyn Stores> = Arc::new(recorded.clone());
    let provisioners = Provisioners::new(&BTreeMap::new(), Arc::new(Sessions::new()));
    let (failed, only, stop) = (BTreeMap::new(), Only::default(), CancellationToken::new());
    let request = Request {
        images: &images,
        lock: &lock,
        failed: &failed,
        only: &only,
        stores: &stores,
        provisioners: &provisioners,
        follow: false,
        stop: &stop,
    };
    let mut plan = plan(request).await;
    assert_eq!(pulls(&plan), [(1, false), (0, true), (0, true), (0, true)]);

    recorded.clear();
    weigh(&mut plan, &stores).await;
    // Root and one child for the first target; the other child for the second. What refers to the children isn't known yet.
    assert_eq!(pulls(&plan), [(2, false), (1, true), (0, true), (0, true)]);
    let read =
        recorded.calls_of(What::Manifest).into_iter().filter(|call| call.repository.registry().as_str() == "src.test");
    assert_eq!(read.count(), 3, "weighing reads each once, too");
}
