//! Checks what a cache has of an image, without pulling.

use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _};

use super::ask::Caches;
use super::graph::{From, Graph, is_index};
use super::{MissingContent, Seen};
use crate::error::{Error, Kind, Result, Stage};
use crate::oci::Manifest;
use crate::plan::Transfer;
use crate::report::{Bytes, CacheProof, Cached, CachedTag, Part};
use crate::store::HeadProves;

/// Concurrent requests for one image.
const AT_ONCE: usize = 16;

impl Caches {
    /// Sends only HEAD requests, and for a Harbor requests to the API that lists stored manifests.
    pub(super) async fn look(self: &Arc<Self>, transfer: &Transfer) -> Result<Seen> {
        let tag = self.tag(transfer).await?;
        let proves = self.head_proves(&transfer.target).await?;
        let root = &transfer.root.digest;
        let looked = async {
            if proves == HeadProves::Nothing && !self.answers_to(&transfer.target, root).await? {
                let lacks = vec![MissingContent { part: Part::Manifest, digest: root.clone() }];
                self.pulls.price(self, transfer, 1);
                let cached = Cached { proof: CacheProof::Served, only_upstream: Vec::new(), tag };
                return Ok(Seen { cached, bytes: Bytes::default(), lacks, is_pulled: false });
            }
            let graph = self.graph(transfer, From::Local).await?.ok_or_else(|| not_cached(transfer))?;
            match proves {
                HeadProves::Blobs => self.keeps(transfer, &graph, tag).await,
                HeadProves::Nothing => self.serves(transfer, &graph, tag).await,
            }
        };
        looked.await.map_err(|error| error.at(Stage::Verify))
    }

    /// What a Harbor stores: blobs are checked by HEAD, manifests by the artifacts API. Indexes aren't checked: they
    /// are stored under a different digest.
    pub(super) async fn keeps(
        self: &Arc<Self>,
        transfer: &Transfer,
        graph: &Graph,
        tag: Option<CachedTag>,
    ) -> Result<Seen> {
        let (mut lacks, bytes) = self.blobs(transfer, graph).await?;
        let asked = graph.manifests.iter().filter(|manifest| !is_index(manifest));
        let asked = asked.map(|manifest| async move {
            let digest = manifest.digest();
            let kept = self.ask(&transfer.target, |cache| async move { cache.stores_manifest(digest).await }).await?;
            Ok::<_, Error>((manifest, kept))
        });
        // The first one finds out whether the account may use the API.
        let kept: Vec<_> = futures::stream::iter(asked.collect::<Vec<_>>()).then(|asked| asked).try_collect().await?;
        let is_known = kept.iter().all(|(_, kept)| kept.is_some());
        lacks.extend(kept.into_iter().filter(|(_, kept)| *kept == Some(false)).map(|(manifest, _)| lack(manifest)));
        let proof = if is_known { CacheProof::Kept } else { CacheProof::BlobsKept };
        // A refill also pulls the indexes, and content that isn't known to be stored.
        let is_kept = |manifest: &Manifest| is_known && lacks.iter().all(|lack| lack.digest != *manifest.digest());
        let to_fetch = graph.manifests.iter().filter(|manifest| is_index(manifest) || !is_kept(manifest));
        if !lacks.is_empty() {
            self.pulls.price(self, transfer, to_fetch.count());
        }
        let cached = Cached { proof, only_upstream: graph.indexes(), tag };
        Ok(Seen { cached, bytes, lacks, is_pulled: false })
    }

    /// What a cache answers that forwards each HEAD to its upstream.
    async fn serves(self: &Arc<Self>, transfer: &Transfer, graph: &Graph, tag: Option<CachedTag>) -> Result<Seen> {
        let (mut lacks, bytes) = self.blobs(transfer, graph).await?;
        // The root has been checked already.
        let asked = graph.manifests.iter().skip(1).map(|manifest| async move {
            let is_there = self.answers_to(&transfer.target, manifest.digest()).await?;
            Ok::<_, Error>((manifest, is_there))
        });
        let asked = futures::stream::iter(asked.collect::<Vec<_>>()).buffered(AT_ONCE);
        let asked: Vec<_> = asked.try_collect().await?;
        lacks.extend(asked.into_iter().filter(|(_, is_there)| !is_there).map(|(manifest, _)| lack(manifest)));
        self.pulls.price(self, transfer, graph.manifests.len());
        let cached = Cached { proof: CacheProof::Served, only_upstream: Vec::new(), tag };
        Ok(Seen { cached, bytes, lacks, is_pulled: false })
    }

    /// The missing blobs, and the total size of the others.
    async fn blobs(self: &Arc<Self>, transfer: &Transfer, graph: &Graph) -> Result<(Vec<MissingContent>, Bytes)> {
        let asked = graph.blobs.iter().map(|blob| async move {
            let is_there = self.has_blob(&transfer.target, blob).await?;
            Ok::<_, Error>((blob, is_there))
        });
        let asked = futures::stream::iter(asked.collect::<Vec<_>>()).buffered(AT_ONCE);
        let asked: Vec<_> = asked.try_collect().await?;
        let (there, missing): (Vec<_>, Vec<_>) = asked.into_iter().partition(|(_, is_there)| *is_there);
        let present = there.iter().map(|(blob, _)| blob.size).sum();
        let lacks =
            missing.into_iter().map(|(blob, _)| MissingContent { part: Part::Blob, digest: blob.digest.clone() });
        Ok((lacks.collect(), Bytes { present, ..Bytes::default() }))
    }
}

fn lack(manifest: &Manifest) -> MissingContent {
    MissingContent { part: Part::Manifest, digest: manifest.digest().clone() }
}

/// Reading them from the cache would make it fetch them.
fn not_cached(transfer: &Transfer) -> Error {
    let why = "its manifests aren't in the local cache, and reading them would fill the pull-through cache";
    Error::new(Kind::Unsupported, format!("look for {} in {}", transfer.source, transfer.target), why).with_hint(
        "run `transship warm` once without --check, and without --no-cache: the local cache keeps what it reads",
    )
}
