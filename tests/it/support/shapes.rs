//! Content of registries other than plain images.

use serde_json::{Value, json};
use transship::oci::MediaType;

use super::images::{Blob, FOREIGN_LAYER, Image, ZSTD_LAYER, image, index, json_of, multi_platform};

/// One graph of every shape that registries accept, each with its tag.
pub(crate) fn every_shape() -> Vec<(&'static str, Image)> {
    let odd = image("odd").config_type("application/vnd.example.model.v1+json").build();
    let list = index().docker().child("linux/amd64", image("list").docker().build()).build();
    let attested = index().child("linux/amd64", image("attested").build()).attested().build();
    let nested = index().nested(multi_platform("inner", &["linux/amd64"])).build();
    let wasm = image("wasm").config_type("application/vnd.wasm.config.v0+json").layer_of("application/wasm", 700);
    let sha512 = image("sha512").blob(Blob::seeded(MediaType::OCI_LAYER, "sha512", 900).by_sha512()).layer(10).build();
    vec![
        ("oci", image("oci").build()),
        ("docker", image("docker").docker().build()),
        ("empty", image("empty").layer(0).layer(5).build()),
        ("zstd", image("zstd").layer(10).layer_of(ZSTD_LAYER, 20_000).build()),
        ("odd-config", odd),
        ("artifact", image("artifact").artifact("application/vnd.example.sbom.v1").build()),
        ("multi", multi_platform("multi", &["linux/amd64", "linux/arm/v7"])),
        ("list", list),
        ("attested", attested),
        ("nested", nested),
        ("wasm", wasm.build()),
        ("sha512", sha512),
        ("foreign", image("foreign").layer(10).layer_of(FOREIGN_LAYER, 900).build()),
        ("untyped", untyped()),
        ("build-cache", build_cache()),
        ("no-children", index().build()),
    ]
}

/// An image without `mediaType`.
fn untyped() -> Image {
    let Image { manifest: typed, blobs, .. } = image("untyped").build();
    let mut members: Value = serde_json::from_slice(typed.bytes()).expect("JSON");
    members.as_object_mut().expect("an object").remove("mediaType");
    Image::of(MediaType::OCI_MANIFEST, members, blobs)
}

/// A cache of buildkit: an index whose members are layers.
fn build_cache() -> Image {
    let layer = Blob::seeded(MediaType::OCI_LAYER, "build cache", 3000);
    let config = Blob::new("application/vnd.buildkit.cacheconfig.v0", r#"{"layers":[]}"#);
    let blobs = vec![layer, config];
    let entries: Vec<Value> = blobs.iter().map(|blob| json_of(&blob.descriptor)).collect();
    let members = json!({ "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": entries });
    Image::of(MediaType::OCI_INDEX, members, blobs)
}
