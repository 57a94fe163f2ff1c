//! The cost that a plan reports.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio_util::sync::CancellationToken;
use transship::aws::Sessions;
use transship::config::{ImageRule, Wanted};
use transship::lock::{Lock, LockedImage};
use transship::oci::{Reference, Repository};
use transship::plan::{Plan, Planned, Prefetch, ReferrerPolicy, Request, Spending, plan, price};
use transship::progress::{Finished, Progress, Silent};
use transship::provision::Provisioners;
use transship::select::Only;
use transship::store::Stores;
use transship::store::cache::CachedStores;
use transship::store::memory::Memory;

use crate::support::images::{Image, multi_platform};
use crate::support::recorded::{Recorded, What};

fn pulls(plan: &Plan) -> Vec<(u64, bool)> {
    let transfers = plan.images.iter().map(|planned| match planned {
        Planned::Image(transfer) => (transfer.cost.pulls, transfer.cost.pulls_exact),
        Planned::Failed { error, .. } => panic!("{error}"),
    });
    transfers.collect()
}

/// An image with two tags, for two targets, at a source that counts pulls.
struct Scene {
    recorded: Recorded,
    stores: Arc<dyn Stores>,
    app: Image,
    lock: Lock,
    images: Vec<ImageRule>,
}

impl Scene {
    async fn new() -> Self {
        let memory = Memory::new();
        let recorded = Recorded::new(Arc::new(memory.clone()));
        recorded.meters_pulls(&"src.test".parse().unwrap());
        let app = multi_platform("app", &["linux/amd64", "linux/arm64"]);
        let from: Repository = "src.test/app".parse().unwrap();
        let targets: Vec<Repository> = ["a.test/app", "b.test/app"].map(|text| text.parse().unwrap()).into();
        // One target already has a child of it.
        app.children[0].push(&memory.repository(&targets[0]), "child").await;
        let mut lock = Lock::default();
        let tags: [transship::oci::Tag; 2] = ["1", "1.0"].map(|tag| tag.parse().unwrap());
        for tag in &tags {
            app.push(&memory.repository(&from), tag.as_str()).await;
            lock.pin(LockedImage::new(Reference::tagged(from.clone(), tag.clone()), app.descriptor()));
        }
        let wanted = Wanted::Tags(tags.into_iter().map(|tag| (tag, None)).collect());
        let images = vec![ImageRule::new(from, wanted, targets)];
        let stores: Arc<dyn Stores> = Arc::new(recorded.clone());
        Self { recorded, stores, app, lock, images }
    }

    async fn plan(&self, spending: Spending) -> Plan {
        let mut plan = self.plan_after(|_| Prefetch::nothing(), Arc::new(Silent)).await;
        price(&mut plan, &self.stores, spending).await;
        plan
    }

    async fn plan_after(&self, prefetch: fn(Request<'_>) -> Prefetch<'_>, progress: Arc<dyn Progress>) -> Plan {
        let provisioners = Provisioners::new(&BTreeMap::new(), Arc::new(Sessions::new()));
        let request = Request {
            images: &self.images,
            lock: &self.lock,
            before: None,
            failed: &BTreeMap::new(),
            only: &Only::default(),
            stores: &self.stores,
            provisioners: &provisioners,
            follow: false,
            progress: &progress,
            stop: &CancellationToken::new(),
        };
        plan(request, prefetch(request)).await
    }

    /// Manifests that were read at the source.
    fn read(&self) -> usize {
        let calls = self.recorded.calls_of(What::Manifest).into_iter();
        calls.filter(|call| call.repository.registry().as_str() == "src.test").count()
    }
}

#[tokio::test]
async fn a_manifest_is_counted_once_for_all_its_tags_and_targets() {
    let scene = Scene::new().await;
    // Other children may have to be pulled for the second target.
    let plan = scene.plan(Spending::Nothing).await;
    assert_eq!(pulls(&plan), [(1, false), (0, false), (0, true), (0, true)]);

    scene.recorded.clear();
    let plan = scene.plan(Spending::Pulls).await;
    // Root and one child for the first target; the other child for the second. Referrers of children are unknown yet.
    assert_eq!(pulls(&plan), [(2, false), (1, true), (0, true), (0, true)]);
    assert_eq!(scene.read(), 3, "pricing reads each once, too");
}

#[tokio::test]
async fn cached_manifests_are_not_counted() {
    let folder = tempfile::tempdir().unwrap();
    let mut scene = Scene::new().await;
    // Referrers of the children would have to be found.
    scene.images[0].handling.referrers.policy = ReferrerPolicy::None;
    scene.stores = Arc::new(CachedStores::new(Arc::clone(&scene.stores), folder.path().to_owned(), 1 << 20));
    let source = scene.stores.source(&scene.images[0].repository).unwrap();
    let plan = scene.plan(Spending::Nothing).await;
    assert_eq!(pulls(&plan), [(1, false), (0, false), (0, true), (0, true)]);

    source.manifest(scene.app.digest()).await.unwrap();
    // The children haven't been looked up at the target.
    let plan = scene.plan(Spending::Nothing).await;
    assert_eq!(pulls(&plan), [(0, false), (0, false), (0, true), (0, true)]);
    scene.recorded.clear();
    let plan = scene.plan(Spending::Pulls).await;
    assert_eq!(scene.read(), 2);
    // They have been read now, and cost the copy nothing.
    assert_eq!(pulls(&plan), [(0, true); 4]);
    assert_eq!(pulls(&scene.plan(Spending::Nothing).await), [(0, true); 4]);
}

fn prefetch(request: Request<'_>) -> Prefetch<'_> {
    Prefetch::new(request)
}

/// Records the number of calls before each image that was planned.
#[derive(Debug)]
struct CallsBefore(Recorded, Mutex<Vec<usize>>);

impl Progress for CallsBefore {
    fn finished(&self, _image: &str, _how: Finished) {
        self.1.lock().unwrap().push(self.0.calls().len());
    }
}

/// Without sources to wait for, all tags are asked about while the plan shows its progress.
#[tokio::test]
async fn requests_that_were_not_sent_early_are_sent_with_progress() {
    let mut scene = Scene::new().await;
    let targets = (0..200).map(|n| format!("a.test/app{n}").parse().unwrap());
    scene.images[0].destinations = targets.collect();
    let progress = Arc::new(CallsBefore(scene.recorded.clone(), Mutex::default()));
    let plan = scene.plan_after(prefetch, Arc::clone(&progress) as Arc<dyn Progress>).await;
    assert_eq!(plan.images.len(), 400);
    let calls = progress.1.lock().unwrap();
    assert!(calls.len() == 400 && calls[0] < 100, "{} calls before the first image is reported as planned", calls[0]);
}
