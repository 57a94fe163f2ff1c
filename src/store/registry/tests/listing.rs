//! Lists: their pages, and the referrers API.

use super::super::listing::next_link;
use super::*;

#[tokio::test]
async fn all_pages_of_a_tag_list_are_read() {
    let script = Script::start(|asked| match asked.line.as_str() {
        "GET /v2/a/b/tags/list?n=1000" => {
            reply(200, &[("link", r#"</v2/a/b/tags/list?last=2>; rel="next""#)], r#"{"tags":["1","sha256:x"]}"#)
        }
        "GET /v2/a/b/tags/list?last=2" => reply(200, &[], r#"{"tags":["2",null]}"#),
        _ => reply(500, &[], ""),
    })
    .await;
    let tags = script.store().tags().await.unwrap();
    assert_eq!(tags.iter().map(crate::oci::Tag::as_str).collect::<Vec<_>>(), ["1", "2"]);
    let empty = Script::start(|_| reply(200, &[], r#"{"name":"a/b","tags":null}"#)).await;
    assert_eq!(empty.store().tags().await.unwrap(), []);
    let round = Script::start(|_| reply(200, &[("link", "<list?n=1000>; rel=next")], r#"{"tags":[]}"#)).await;
    assert!(round.store().tags().await.unwrap_err().to_string().contains("form a loop"));
    let away = Script::start(|_| reply(200, &[("link", "<http://h.example.com/x>; rel=next")], r#"{"tags":[]}"#)).await;
    assert!(away.store().tags().await.unwrap_err().to_string().contains("another host"));
}

#[test]
fn next_links_are_found() {
    for (value, expected) in [
        (r#"</v2/a/tags/list?last=x&n=1>; rel="next""#, Ok(Some("/v2/a/tags/list?last=x&n=1"))),
        ("</x>; rel=next", Ok(Some("/x"))),
        ("</x>;rel=next", Ok(Some("/x"))),
        (r#"  </x> ; rel = "next" "#, Ok(Some("/x"))),
        (r#"</first>; rel="first", </x,y>; REL="prev next""#, Ok(Some("/x,y"))),
        (r#"</first>; rel="first",</x>; title="a, b; c"; rel="next""#, Ok(Some("/x"))),
        (r#"</x>; rel="next", </last>; rel="last""#, Ok(Some("/x"))),
        (r#"</x?a=<b>; rel="next""#, Ok(Some("/x?a=<b"))),
        ("</x>; rel=\"next", Ok(Some("/x"))),
        // Some know no other relation, and leave it out.
        ("</x>", Ok(Some("/x"))),
        ("</x>; type=y", Ok(Some("/x"))),
        (r#"</x>; rel="prev""#, Ok(None)),
        (r#"</x>; rel="prev", </y>; rel="last""#, Ok(None)),
        ("", Ok(None)),
        (" , ", Ok(None)),
        // What can't be read may be where the list goes on.
        ("</x", Err(())),
        ("/x>; rel=next", Err(())),
        ("/x; rel=next", Err(())),
        (r#"rel="next""#, Err(())),
        ("garbage", Err(())),
        ("<>; rel=next", Err(())),
        (r#"</first>; rel="first", garbage"#, Err(())),
        (r#"</first>; rel="first" garbage"#, Err(())),
    ] {
        assert_eq!(next_link(value), expected, "{value}");
    }
}

#[tokio::test]
async fn a_list_whose_last_page_cant_be_read_is_an_error() {
    for link in [
        "</v2/a/b/tags/list?last=1",
        "garbage",
        "<http://[x>; rel=next",
        "<http://:>; rel=next",
        "\u{e9}; rel=next",
        "<>",
    ] {
        let link = link.to_owned();
        let script = Script::start(move |asked| {
            let body = if asked.line.contains("/tags/") { r#"{"tags":["1"]}"#.to_owned() } else { list(&["a"]) };
            let mut response = reply(200, &[], body);
            response.headers_mut().insert("link", axum::http::HeaderValue::from_bytes(link.as_bytes()).unwrap());
            response
        })
        .await;
        let store = script.store();
        for error in [store.tags().await.unwrap_err(), store.referrers(&digest()).await.unwrap_err()] {
            assert!(error.kind() == Kind::Invalid && error.to_string().contains("can't parse the link"), "{error}");
        }
    }
}

#[tokio::test]
async fn the_next_page_is_requested_at_the_registrys_known_address() {
    for (registry, next) in [
        (None, "<http://127.0.0.1/v2/a/b/tags/list?last=1>; rel=next"),
        (None, "<https://127.0.0.1/v2/a/b/tags/list?last=1>; rel=next"),
        (None, "<https://127.0.0.1:9/v2/a/b/tags/list?last=1>; rel=next"),
        (None, "<?last=1>; rel=next"),
        (None, "<list?last=1>"),
        (Some("h.example.com"), "<https://h.example.com/v2/a/b/tags/list?last=1>; rel=next"),
        (Some("h.example.com"), "<http://h.example.com/v2/a/b/tags/list?last=1>; rel=next"),
    ] {
        let script = Script::start(move |asked| match asked.line.ends_with("?last=1") {
            true => reply(200, &[], r#"{"tags":["2"]}"#),
            false => reply(200, &[("link", next)], r#"{"tags":["1"]}"#),
        })
        .await;
        let store = registry.map_or_else(|| script.store(), |name| script.store_called(name));
        assert_eq!(store.tags().await.unwrap().len(), 2, "{next}");
        assert_eq!(script.lines()[1], "GET /v2/a/b/tags/list?last=1");
    }
}

const LIST: &str = "/v2/a/b/referrers/";

/// A list of referrers with these entries, by what their digests are of.
fn list(entries: &[&str]) -> String {
    let entry = |of: &&str| {
        let digest = Digest::of(of.as_bytes());
        let manifest = "application/vnd.oci.image.manifest.v1+json";
        let of = of.chars().next().unwrap();
        format!(r#"{{"mediaType":"{manifest}","digest":"{digest}","size":1,"artifactType":"k/{of}"}}"#)
    };
    let entries: Vec<_> = entries.iter().map(entry).collect();
    format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{}]}}"#, entries.join(","))
}

fn listed(found: Result<Referrers>) -> Vec<String> {
    match found.unwrap() {
        Referrers::Listed(listed) => listed.into_iter().filter_map(|one| one.artifact_type).collect(),
        Referrers::Tagged(tagged) => panic!("{tagged:?}"),
    }
}

fn refuse(status: u16, code: &str) -> Response {
    reply(status, &[], format!(r#"{{"errors":[{{"code":"{code}","message":"m"}}]}}"#))
}

#[tokio::test]
async fn referrers_of_all_pages_are_unique_and_exclude_the_subject() {
    let script = Script::start(|asked| {
        assert_eq!(asked.headers["accept"], INDEX);
        match asked.line.as_str() {
            line if line.ends_with("?page=2") => {
                reply(200, &[("content-type", INDEX)], list(&["b", "a", MANIFEST, "c"]))
            }
            _ => {
                let next = format!("<{LIST}{}?page=2>; rel=next", digest());
                reply(200, &[("content-type", "application/json; charset=utf-8"), ("link", &next)], list(&["b", "a"]))
            }
        }
    })
    .await;
    assert_eq!(listed(script.store().referrers(&digest()).await), ["k/b", "k/a", "k/c"]);
    assert_eq!(script.lines().len(), 2);
}

#[tokio::test]
async fn a_missing_referrers_api_is_found_once_and_then_the_fallback_tag_is_read() {
    let script = Script::start(|asked| match asked.line.contains("/referrers/") {
        true => reply(404, &[("content-type", "text/html")], "<html>"),
        false => refuse(404, "MANIFEST_UNKNOWN"),
    })
    .await;
    let store = script.store();
    let subjects: Vec<Digest> = (0..20u8).map(|n| Digest::of(&[n])).collect();
    let found = futures::future::join_all(subjects.iter().map(|subject| store.referrers(subject))).await;
    assert!(found.iter().all(|found| matches!(found, Ok(Referrers::Tagged(None)))), "{found:?}");
    assert_eq!((script.count(LIST), script.count("GET /v2/a/b/manifests/sha256-"), script.lines().len()), (1, 20, 21));
    assert_eq!(store.listed_referrers(&digest()).await.unwrap(), None);
    assert_eq!(script.lines().len(), 21);
}

#[tokio::test]
async fn every_sign_of_a_missing_referrers_api_is_recognised() {
    for (status, body) in [
        (404, "404 page not found\n"),
        (404, r#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#),
        (405, ""),
        (406, ""),
        (501, ""),
        (400, "Bad Request"),
        (400, r#"{"errors":[{"code":"UNSUPPORTED"}]}"#),
    ] {
        let script = Script::start(move |asked| match asked.line.contains("/referrers/") {
            true => reply(status, &[], body),
            false => manifest_reply(),
        })
        .await;
        let subject = Digest::of(b"subject");
        match script.store().referrers(&subject).await {
            Ok(Referrers::Tagged(Some(index))) => assert_eq!(index.digest(), &digest()),
            other => panic!("{status} {body}: {other:?}"),
        }
        // The image itself has that tag.
        let itself = script.store().referrers(&digest()).await;
        assert!(matches!(itself, Ok(Referrers::Tagged(None))), "{itself:?}");
    }
}

#[tokio::test]
async fn a_redirect_to_a_web_page_is_not_followed() {
    let script = Script::start(|asked| match asked.line.contains("/referrers/") {
        true => reply(303, &[("location", "/people")], ""),
        false => refuse(404, "MANIFEST_UNKNOWN"),
    })
    .await;
    assert!(matches!(script.store().referrers(&digest()).await, Ok(Referrers::Tagged(None))));
    assert_eq!(script.count("/people"), 0);
}

#[tokio::test]
async fn a_missing_repository_leaves_the_referrers_api_unknown() {
    let script = Script::start(|asked| match asked.line.contains(digest().hex()) {
        true => refuse(404, "NAME_UNKNOWN"),
        false => reply(200, &[("content-type", INDEX)], list(&["a"])),
    })
    .await;
    let store = script.store();
    assert!(matches!(store.referrers(&digest()).await, Ok(Referrers::Tagged(None))));
    assert_eq!(listed(store.referrers(&Digest::of(b"other")).await), ["k/a"]);
    assert_eq!(script.lines().len(), 3);
}

#[tokio::test]
async fn after_name_unknown_the_fallback_tag_is_still_read() {
    for (status, code) in
        [(404, "NAME_UNKNOWN"), (404, "name_unknown"), (404, "MANIFEST_UNKNOWN"), (404, ""), (400, "UNSUPPORTED")]
    {
        for registry in ["", "docker.io"] {
            let script = Script::start(move |asked| match asked.line.contains("/referrers/") {
                true => refuse(status, code),
                false => manifest_reply(),
            })
            .await;
            let store = if registry.is_empty() { script.store() } else { script.store_called(registry) };
            let subject = Digest::of(b"subject");
            store.resolve(&tag("v1")).await.unwrap();
            assert_eq!(store.listed_referrers(&subject).await.unwrap(), None, "{code}");
            match store.referrers(&subject).await {
                Ok(Referrers::Tagged(Some(index))) => assert_eq!(index.digest(), &digest(), "{code}"),
                other => panic!("{code} {registry}: {other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_failed_or_invalid_list_of_referrers_is_an_error() {
    let looped = format!("<{LIST}{}>; rel=next", digest());
    let away = "<http://h.example.com/x>; rel=next";
    for (status, headers, body, kind, attempts) in [
        (500, vec![], String::new(), Kind::Unavailable, 5),
        (403, vec![], String::new(), Kind::Denied, 1),
        (400, vec![], r#"{"errors":[{"code":"DIGEST_INVALID"}]}"#.into(), Kind::Mismatch, 1),
        (200, vec![("content-type", "text/html")], "<html>".into(), Kind::Invalid, 1),
        (200, vec![("content-type", "text/html")], list(&[]), Kind::Invalid, 1),
        (200, vec![], "{}".into(), Kind::Invalid, 1),
        (200, vec![], "[]".into(), Kind::Invalid, 1),
        (200, vec![], list(&["a"])[..90].to_owned(), Kind::Invalid, 1),
        (200, vec![], r#"{"manifests":[{"digest":"sha256:1"}]}"#.into(), Kind::Invalid, 1),
        (200, vec![("link", looped.as_str())], list(&["a"]), Kind::Invalid, 1),
        (200, vec![("link", away)], list(&["a"]), Kind::Invalid, 1),
    ] {
        let (sent, owned) = (body.clone(), headers.iter().map(|(k, v)| (*k, (*v).to_owned())).collect::<Vec<_>>());
        let script = Script::start(move |_| {
            let headers: Vec<_> = owned.iter().map(|(k, v)| (*k, v.as_str())).collect();
            reply(status, &headers, sent.clone())
        })
        .await;
        let error = script.store().referrers(&digest()).await.unwrap_err();
        assert_eq!((error.kind(), error.attempts()), (kind, attempts), "{status} {headers:?} {body}: {error}");
        assert_eq!(script.count("/manifests/"), 0);
    }
}

#[tokio::test]
async fn a_missing_page_is_an_error_and_not_the_end_of_the_list() {
    let script = Script::start(|asked| match asked.line.ends_with("?page=2") {
        true => reply(404, &[], ""),
        false => reply(200, &[("link", &format!("<{LIST}{}?page=2>; rel=next", digest()))], list(&["a"])),
    })
    .await;
    assert_eq!(script.store().referrers(&digest()).await.unwrap_err().kind(), Kind::NotFound);
}

#[tokio::test]
async fn an_endless_list_of_referrers_is_given_up() {
    let script = Script::start(|asked| {
        let page: usize = asked.line.rsplit_once("p=").map_or(0, |(_, page)| page.parse().unwrap());
        let next = format!("<{LIST}{}?p={}>; rel=next", digest(), page + 1);
        reply(200, &[("link", &next)], list(&["a"]))
    })
    .await;
    let error = script.store().referrers(&digest()).await.unwrap_err();
    assert!(error.to_string().contains("more than 10000 pages"), "{error}");
}

#[tokio::test]
async fn a_tag_list_is_given_up_after_too_many_pages() {
    let script = Script::start(|asked| {
        let page: usize = asked.line.rsplit_once("p=").map_or(1, |(_, page)| page.parse().unwrap());
        let next = format!("<list?p={}>; rel=next", page + 1);
        let link = [("link", next.as_str())];
        reply(200, if page < 3 { &link } else { &[] }, format!(r#"{{"tags":["t{page}"]}}"#))
    })
    .await;
    for (pages, expected) in [(1, None), (2, None), (3, Some(3)), (9, Some(3))] {
        let before = script.lines().len();
        assert_eq!(script.store().tags_within(pages).await.unwrap().map(|tags| tags.len()), expected);
        assert_eq!(script.lines().len() - before, pages.min(3));
    }
}

#[tokio::test]
async fn an_oci_subject_header_shows_that_the_referrers_api_exists() {
    let script = Script::start(|asked| match asked.line.starts_with("PUT") {
        true => reply(201, &[("oci-subject", digest().as_str())], ""),
        false if asked.line.contains(digest().as_str()) => reply(404, &[], ""),
        false => reply(200, &[("content-type", INDEX)], list(&["a"])),
    })
    .await;
    let store = script.store();
    let manifest = Manifest::new(digest(), Some(INDEX), Bytes::from(MANIFEST)).unwrap();
    assert!(store.push_manifest(&manifest, &Selector::Digest(digest())).await.unwrap().subject_processed);
    // A problem with one subject doesn't affect the others.
    assert_eq!(store.listed_referrers(&digest()).await.unwrap(), None);
    assert_eq!(listed(store.referrers(&Digest::of(b"other")).await), ["k/a"]);
}

#[tokio::test]
async fn on_a_metered_registry_a_head_precedes_the_get_of_the_fallback_tag() {
    let script = Script::start(|asked| match asked.line.contains("/referrers/") {
        true => reply(404, &[], ""),
        false => refuse(404, "MANIFEST_UNKNOWN"),
    })
    .await;
    let store = script.store_called("docker.io");
    assert!(matches!(store.referrers(&digest()).await, Ok(Referrers::Tagged(None))));
    let asked = script.lines();
    assert!(asked.len() == 2 && asked[1].starts_with("HEAD /v2/a/b/manifests/sha256-"), "{asked:?}");
}

#[tokio::test]
async fn an_endless_page_is_refused_by_its_size() {
    let pages = Arc::new(AtomicUsize::new(0));
    let asked = Arc::clone(&pages);
    let script = Script::start(move |_| {
        let page = asked.fetch_add(1, Ordering::Relaxed);
        let tags: Vec<String> = (0..100_000).map(|n| format!("\"tag-{page}-{n:0>40}\"")).collect();
        let link = format!("</v2/a/b/tags/list?page={page}>; rel=\"next\"");
        reply(200, &[("link", &link)], format!("{{\"tags\":[{}]}}", tags.join(",")))
    })
    .await;
    let error = script.store().tags().await.unwrap_err();
    assert!(error.kind() == Kind::Invalid && error.why().contains("64 MiB"), "{error}");
    assert!(pages.load(Ordering::Relaxed) < 20);
}
