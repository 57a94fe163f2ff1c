//! Turns, on repositories in memory: downloads wait for each other, lookups never wait for a download.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use transship::config::{ImageRule, Wanted};
use transship::lock::{Lock, LockedImage};
use transship::oci::{Reference, Repository};
use transship::progress::{Progress, Silent};
use transship::report::Status;
use transship::select::Only;
use transship::store::Stores;
use transship::store::memory::Memory;
use transship::verify::{Depth, Request, Verification, verify};

use crate::support::gate::{Gate, all_wait};
use crate::support::images::image;
use crate::support::recorded::{Fault, Recorded, What};

/// Images with one blob each in separate repositories, and the calls for them.
struct Mirror {
    images: Vec<ImageRule>,
    lock: Lock,
    stores: Recorded,
    stop: CancellationToken,
}

impl Mirror {
    async fn of(count: usize) -> Self {
        let memory = Memory::new();
        let (mut images, mut lock) = (Vec::new(), Lock::default());
        for number in 0..count {
            let source: Reference = format!("src.example/a{number}:1").parse().expect("a reference");
            let target: Repository = format!("dst.example/a{number}").parse().expect("a repository");
            let image = image(&format!("a{number}")).without_config().layer(100).build();
            image.push(&memory.repository(&target), "1").await;
            let tag = source.tag().expect("a tag").clone();
            images.push(ImageRule::new(source.repository().clone(), Wanted::Tags(vec![(tag, None)]), vec![target]));
            lock.pin(LockedImage::new(source, image.descriptor()));
        }
        Self { images, lock, stores: Recorded::new(Arc::new(memory)), stop: CancellationToken::new() }
    }

    async fn verify(&self, transfers: usize) -> Verification {
        let stores: Arc<dyn Stores> = Arc::new(self.stores.clone());
        let progress: Arc<dyn Progress> = Arc::new(Silent);
        let only = Only::default();
        let request = Request {
            images: &self.images,
            lock: &self.lock,
            only: &only,
            depth: Depth::Content,
            extra: false,
            stores: &stores,
            progress: &progress,
            stop: &self.stop,
            transfers,
        };
        verify(request).await
    }
}

#[tokio::test(start_paused = true)]
async fn downloads_stay_within_their_limit_and_dont_delay_lookups() {
    let mirror = Mirror::of(5).await;
    let gate = Gate::closed();
    mirror.stores.on(What::Blob).times(usize::MAX).then(Fault::Waits(gate.clone()));
    let watch = async {
        gate.reached(2).await;
        all_wait().await;
        assert_eq!(mirror.stores.count(What::Manifest), 5);
        assert_eq!(mirror.stores.count(What::Blob), 2);
        gate.open();
    };
    let (verification, ()) = tokio::join!(mirror.verify(2), watch);
    assert!(verification.differences.is_empty());
    assert_eq!(verification.outcomes.iter().filter(|outcome| outcome.status == Status::UpToDate).count(), 5);
    assert_eq!(mirror.stores.count(What::Blob), 5);
}

#[tokio::test(start_paused = true)]
async fn an_interrupt_ends_downloads_and_keeps_the_order() {
    let mirror = Mirror::of(3).await;
    let gate = Gate::closed();
    let first = mirror.images[0].destinations[0].clone();
    mirror.stores.on(What::Blob).of(&first).then(Fault::Waits(gate.clone()));
    let watch = async {
        gate.reached(1).await;
        all_wait().await;
        assert_eq!(mirror.stores.count(What::Blob), 3);
        mirror.stop.cancel();
    };
    let (verification, ()) = tokio::join!(mirror.verify(3), watch);
    let sources: Vec<_> = verification.outcomes.iter().map(|outcome| outcome.source.as_str()).collect();
    assert_eq!(sources, ["src.example/a0:1", "src.example/a1:1", "src.example/a2:1"]);
    assert_eq!(verification.outcomes[0].status, Status::Skipped);
    assert!(verification.differences.is_empty());
}
