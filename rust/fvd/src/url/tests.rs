use super::*;

fn url(text: &str) -> Url {
    Url::parse(OsStr::new(text)).expect("a URL")
}

fn refused(text: &str) -> String {
    Url::parse(OsStr::new(text)).expect_err(text).to_string()
}

#[test]
fn a_url_begins_with_a_scheme_and_two_slashes() {
    for name in ["https://x", "s3://b/k", "nbd+unix:///e?socket=/s", "HTTP://x"] {
        assert!(is_url(OsStr::new(name)), "{name}");
    }
    for name in [
        "",
        "disk",
        "./https://x",
        "/https://x",
        "nbd:host:10809",
        "json:{}",
        "a b://x",
        "://x",
        "1a://x",
    ] {
        assert!(!is_url(OsStr::new(name)), "{name}");
    }
}

#[test]
fn equal_urls_have_one_normal_form() {
    for (text, normal) in [
        ("HTTPS://Example.ORG:443/A/b", "https://example.org/A/b"),
        ("http://x:80", "http://x/"),
        ("http://x:/", "http://x/"),
        ("http://x:8080/a", "http://x:8080/a"),
        ("https://[2001:DB8::1]/a", "https://[2001:db8::1]/a"),
        ("https://[::1]:443/a", "https://[::1]/a"),
        ("https://x/a/./b/../c", "https://x/a/c"),
        ("https://x/a/%2e%2E/c", "https://x/c"),
        ("https://x/../../c", "https://x/c"),
        ("https://x/a/..", "https://x/"),
        ("https://x/a/b/..", "https://x/a/"),
        ("https://x/a//b", "https://x/a//b"),
        ("https://x/%7euser/%c3%a4%2f", "https://x/~user/%C3%A4%2F"),
        ("https://x/100%", "https://x/100%25"),
        ("nbd://Host:10809/Export", "nbd://host/Export"),
        ("s3://Bucket/a//b%20c", "s3://Bucket/a//b%20c"),
        ("s3://b/a#1", "s3://b/a#1"),
    ] {
        assert_eq!(url(text).to_string(), normal);
        assert_eq!(url(normal).to_string(), normal, "it is normal");
    }
}

#[test]
fn what_can_be_understood_in_two_ways_is_refused() {
    for (text, why) in [
        ("https://x/a/..%2f..%2fb", "folder above"),
        ("https://x/a%5c..%5cb", "folder above"),
        ("https://x/a\\..\\b", "backslash"),
        ("https://x/a\nb", "control"),
        ("https://x/a#b", "fragment"),
        ("https:///a", "no server"),
        ("https://:80/a", "no server"),
        ("s3://b/a/../c", "in its key"),
        ("s3://b/%2e%2e/c", "in its key"),
        ("nbd+unix:///e", "no socket"),
        ("nbd+unix://host/e?socket=/s", "no server"),
        ("disk", "no scheme"),
    ] {
        assert!(refused(text).contains(why), "{}", refused(text));
    }
}

#[test]
fn credentials_are_refused_and_never_shown() {
    for text in ["https://me:s3cr3t@x/a", "https://s3cr3t@x/a", "nbd://a:s3cr3t@b@x/a"] {
        let message = refused(text);
        assert!(
            message.contains("credentials") && !message.contains("s3cr3t"),
            "{message}"
        );
        assert!(!shown(OsStr::new(text)).contains("s3cr3t"));
    }
    for parameter in [
        "X-Amz-Signature",
        "x-amz-security-token",
        "X-Goog-Signature",
        "Signature",
        "sig",
        "%73ig",
        "token",
    ] {
        let signed = url(&format!("https://x/a?a=b&{parameter}=s3cr3t&c=d"));
        let message = signed.check_storable().expect_err(parameter).to_string();
        assert!(message.contains("signed") && !message.contains("s3cr3t"), "{message}");
        assert!(!format!("{signed:?}").contains("s3cr3t"));
        assert!(signed.to_string().contains("s3cr3t"), "the server gets it");
    }
    url("s3://b/k?versionId=7").check_storable().expect("no secret");
    assert_eq!(url("s3://b/k?versionId=7").shown(), "s3://b/k?versionId=7");
}

#[test]
fn a_prefix_covers_whole_segments_of_one_server() {
    let covers = |prefix: &str, other: &str| url(prefix).covers(&url(other));
    for other in [
        "https://x/a",
        "https://x/a/",
        "https://x/a/b",
        "https://X:443/a/./b",
        "https://x/a//b",
    ] {
        assert!(covers("https://x/a", other) && covers("https://x/a/", other), "{other}");
        assert!(covers("https://x", other) && covers("https://x/", other), "{other}");
    }
    for other in [
        "https://x/ab",
        "https://x/",
        "https://x//a",
        "https://x/A",
        "https://x/a/../b",
        "https://x/a/%2e%2e/b",
        "https://x:444/a",
        "https://x.org/a",
        "http://x/a",
        "s3://x/a",
    ] {
        assert!(!covers("https://x/a", other), "{other}");
    }
    let socket = "nbd+unix:///e?socket=/run/a";
    assert!(covers("nbd+unix:///?socket=/run/a", socket));
    assert!(!covers("nbd+unix:///?socket=/run/b", socket));
    url("https://x/?a=b").check_prefix().expect_err("a query");
    url("nbd+unix:///?socket=/run/a")
        .check_prefix()
        .expect("the socket is the server");
}

#[test]
fn a_relative_name_starts_at_the_folder_of_the_image() {
    let join = |image: &str, name: &str| url(image).join(OsStr::new(name)).map(|url| url.to_string());
    for (image, name, joined) in [
        ("https://x/a/top.qcow2?v=1", "base.raw", "https://x/a/base.raw"),
        ("https://x/a/top", "b/c d?.raw", "https://x/a/b/c%20d%3F.raw"),
        ("https://x/a/top", "../base", "https://x/base"),
        ("https://x/a/top", "../../../base", "https://x/base"),
        ("https://x", "base", "https://x/base"),
        ("https://x/a/top", "./b", "https://x/a/b"),
        ("s3://b/a/top", "c d", "s3://b/a/c d"),
        ("s3://b/a/top", "../c", "s3://b/c"),
    ] {
        assert_eq!(join(image, name).expect("relative"), joined);
    }
    for (image, name) in [
        ("https://x/a", "/etc/shadow"),
        ("https://x/a", "//y/b"),
        ("https://x/a", "..%2f..%2fb"),
        ("https://x/a", "b\nc"),
        ("s3://b/a", "../c"),
        ("nbd://x/a", "b"),
        ("nbd+unix:///a?socket=/s", "b"),
    ] {
        let error = join(image, name).expect_err(name);
        assert_eq!(error.kind(), crate::ErrorKind::NotPermitted, "{error}");
    }
    assert_eq!(url("https://x/a/b?c").folder().to_string(), "https://x/a/");
    assert_eq!(url("https://x").folder().to_string(), "https://x/");
}
