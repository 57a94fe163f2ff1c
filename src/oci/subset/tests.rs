use super::*;

fn index(text: &str) -> Manifest {
    let bytes = Bytes::copy_from_slice(text.as_bytes());
    Manifest::new(Digest::of(&bytes), Some(MediaType::OCI_INDEX), bytes).unwrap()
}

fn platforms(texts: &[&str]) -> Vec<Platform> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn digest(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

/// An entry with this name for a digest, and these additional members.
fn entry(name: &str, further: &str) -> String {
    format!(r#"{{"mediaType":"{}","digest":"{}","size":3{further}}}"#, MediaType::OCI_MANIFEST, digest(name))
}

fn on(name: &str, platform: &str) -> String {
    let mut parts = platform.split('/');
    let (os, architecture) = (parts.next().unwrap(), parts.next().unwrap());
    let variant = parts.next().map(|variant| format!(r#","variant":"{variant}""#)).unwrap_or_default();
    entry(name, &format!(r#","platform":{{"os":"{os}","architecture":"{architecture}"{variant}}}"#))
}

fn attestation(name: &str, of: &str) -> String {
    let platform = r#","platform":{"architecture":"unknown","os":"unknown"}"#;
    entry(name, &format!(r#"{platform},"annotations":{{"vnd.docker.reference.digest":"{}"}}"#, digest(of)))
}

fn of(entries: &[String]) -> Manifest {
    index(&format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(",")))
}

/// The names of the remaining `entries`, in order.
fn left(entries: &[String], wanted: &[&str]) -> Vec<String> {
    let subset = of(entries).subset(&platforms(wanted)).unwrap_or_else(|error| panic!("{error}"));
    let left = subset.manifest.successors().iter().map(|edge| edge.descriptor().digest.clone());
    let name = |digest: Digest| {
        ["amd64", "arm64", "armv6", "armv7", "att-amd64", "att-arm64", "att-att", "bare", "inner"]
            .into_iter()
            .find(|name| Digest::of(name.as_bytes()) == digest)
            .unwrap()
            .to_owned()
    };
    left.map(name).collect()
}

/// Everything that an encoder would normalise: white space, order, escapes, numbers, unknown members.
const ODD: &str = "\u{20}{\n\t\"annotations\" : { \"b\": \"\\u00e9\\/\", \"a\":\"é\" } ,\r\n  \"x-number\":1.0E+2, \"\\u0078-name\": [ 1 ,2 ],\n\
    \"manifests\": [\n {\"size\" : 7, \"x\": 12345678901234567890123, \"digest\":\"sha256:ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb\", \
    \"mediaType\":\"application/vnd.oci.image.manifest.v1+json\" , \"platform\": { \"architecture\":\"amd64\",\"os\" : \"linux\", \"features\":[ ] } } ,\n\
    {\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"digest\":\"sha256:3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d\",\
    \"size\":8,\"platform\":{\"architecture\":\"arm64\",\"os\":\"linux\"}}\n ]\n , \"schemaVersion\" :2 ,\"null\":null}\n";

/// Never change these: they are pinned in locks.
#[test]
fn version_1_of_the_subset_has_fixed_bytes_and_a_fixed_digest() {
    let subset = index(ODD).subset(&platforms(&["linux/amd64"])).unwrap();
    let expected = "{\"annotations\":{ \"b\": \"\\u00e9\\/\", \"a\":\"é\" },\"x-number\":1.0E+2,\"\\u0078-name\":[ 1 ,2 ],\
        \"manifests\":[{\"size\" : 7, \"x\": 12345678901234567890123, \
        \"digest\":\"sha256:ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb\", \
        \"mediaType\":\"application/vnd.oci.image.manifest.v1+json\" , \
        \"platform\": { \"architecture\":\"amd64\",\"os\" : \"linux\", \"features\":[ ] } }],\"schemaVersion\":2,\"null\":null}";
    assert_eq!(std::str::from_utf8(subset.manifest.bytes()).unwrap(), expected);
    assert_eq!(
        subset.manifest.digest().as_str(),
        "sha256:92aade7217bd9a7a0122a4ebe5dccb0997f9331a833bab7e9d6f500a6db7343b"
    );
    assert_eq!(subset.manifest.media_type().as_str(), MediaType::OCI_INDEX);
    assert_eq!(subset.manifest.descriptor().size, expected.len() as u64);
}

#[test]
fn a_subset_of_all_platforms_is_the_source_index_itself() {
    for wanted in [&["linux/amd64", "linux/arm64"][..], &["linux/arm64/v8", "linux/amd64", "linux/s390x"], &[]] {
        let subset = index(ODD).subset(&platforms(wanted)).unwrap();
        assert_eq!(subset.manifest.bytes(), ODD.as_bytes());
        assert_eq!(*subset.manifest.digest(), Digest::of(ODD.as_bytes()));
    }
    let bytes = Bytes::from_static(br#"{"layers":[]}"#);
    let image = Manifest::new(Digest::of(&bytes), None, bytes).unwrap();
    assert_eq!(image.subset(&platforms(&["linux/amd64"])).unwrap().manifest.digest(), image.digest());
}

#[test]
fn a_subset_of_a_subset_equals_the_direct_subset() {
    let entries = [on("amd64", "linux/amd64"), on("arm64", "linux/arm64"), on("armv7", "linux/arm/v7")];
    let two = of(&entries).subset(&platforms(&["linux/amd64", "linux/arm64"])).unwrap().manifest;
    let one = two.subset(&platforms(&["linux/amd64"])).unwrap().manifest;
    assert_eq!(one.digest(), of(&entries).subset(&platforms(&["linux/amd64"])).unwrap().manifest.digest());
}

#[test]
fn a_subset_keeps_matching_children_and_their_attestations() {
    let inner = entry("inner", r#","platform":{"os":"linux","architecture":"arm64"}"#);
    let inner = inner.replace(MediaType::OCI_MANIFEST, MediaType::OCI_INDEX);
    let all = [
        attestation("att-arm64", "arm64"),
        on("amd64", "linux/amd64"),
        on("armv6", "linux/arm/v6"),
        on("armv7", "linux/arm/v7"),
        attestation("att-amd64", "amd64"),
        attestation("att-att", "att-amd64"),
        entry("bare", ""),
        inner,
    ];
    for (wanted, expected) in [
        (&["linux/amd64"][..], "amd64 att-amd64"),
        (&["linux/arm"], "armv6 armv7"),
        (&["linux/arm/v7", "linux/amd64"], "amd64 armv7 att-amd64"),
        (&["linux/arm64"], "inner"),
        (&["linux/amd64", "linux/s390x"], "amd64 att-amd64"),
    ] {
        assert_eq!(left(&all, wanted).join(" "), expected, "{wanted:?}");
    }
    let subset = of(&all).subset(&platforms(&["linux/s390x", "linux/amd64"])).unwrap();
    assert_eq!(subset.missing, platforms(&["linux/s390x"]));
    assert_eq!(subset.nameless, [(digest("bare"), MediaType::OCI_MANIFEST.parse().unwrap())]);
    // Manifests without a platform that attest no kept image are reported, too.
    let stray = entry("bare", r#","platform":{"architecture":"unknown","os":"unknown"}"#);
    let subset = of(&[on("amd64", "linux/amd64"), stray]).subset(&platforms(&["linux/amd64"])).unwrap();
    assert_eq!(subset.nameless, [(digest("bare"), MediaType::OCI_MANIFEST.parse().unwrap())]);
}

#[test]
fn no_match_lists_the_available_platforms() {
    let entries = [
        on("amd64", "linux/amd64"),
        on("arm64", "linux/arm64/v9"),
        on("armv7", "linux/amd64"),
        attestation("att-amd64", "amd64"),
    ];
    let why = |entries: &[String], wanted: &[&str]| of(entries).subset(&platforms(wanted)).unwrap_err().to_string();
    assert_eq!(
        why(&entries, &["linux/arm64", "linux/s390x"]),
        "it has no linux/arm64, linux/s390x: it has linux/amd64, linux/arm64/v9"
    );
    assert_eq!(why(&[entry("bare", "")], &["linux/amd64"]), "it has no linux/amd64: it has no platforms at all");
    assert_eq!(why(&[], &["linux/amd64"]), "it has no linux/amd64: it has no platforms at all");
}

#[test]
fn an_index_that_cant_be_filtered_byte_for_byte_is_refused() {
    let entries = format!("[{},{}]", on("amd64", "linux/amd64"), on("arm64", "linux/arm64"));
    for (text, why) in [
        (format!(r#"{{"a":1,"manifests":{entries},"\u0061":2}}"#), "the member `a` is listed twice"),
        (
            format!(r#"{{"manifests":[{}]}}"#, on("amd64", "linux/amd64").replace("{", r#"{"platform":{},"#)),
            "duplicate field `platform`",
        ),
    ] {
        let error = index(&text).subset(&platforms(&["linux/amd64"])).unwrap_err();
        assert!(matches!(&error, SubsetError::Invalid(_)) && error.to_string().contains(why), "{text}: {error}");
    }
}
