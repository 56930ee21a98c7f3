//! How each store is asked.

mod support;

use fvd_remote::Opener;
use support::{Disk, Reply, Server, UNIT, config, open, parsed, read};

#[test]
fn a_request_to_s3_is_signed_and_names_the_version() {
    let disk = Disk::new(4 * UNIT);
    let server = Server::start(move |request, _| disk.serve(request).with("x-amz-version-id", "v7"));
    let variables = [
        ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "hunter2".to_owned()),
        ("AWS_SESSION_TOKEN", "session".to_owned()),
        ("AWS_REGION", "eu-central-1".to_owned()),
        ("AWS_ENDPOINT_URL_S3", server.url("")),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value));
    let file = open(
        &Opener::new(config().with_variables(variables)),
        "s3://images/a b.raw",
        None,
    )
    .expect("opened");
    assert_eq!(file.pin().validator, fvd::remote::Validator::Version("v7".into()));
    read(&*file, UNIT, 10).expect("read");
    let log = server.log();
    let paths: Vec<_> = log.iter().map(|request| request.path.as_str()).collect();
    assert_eq!(paths, ["/images/a%20b.raw", "/images/a%20b.raw?versionId=v7"]);
    for request in log {
        let authorization = request.header("authorization").expect("signed");
        assert!(
            authorization.starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/"),
            "{authorization}"
        );
        assert!(
            authorization.contains("/eu-central-1/s3/aws4_request"),
            "{authorization}"
        );
        assert_eq!(request.header("x-amz-security-token"), Some("session"));
        assert!(!format!("{request:?}").contains("hunter2"));
    }
}

#[test]
fn a_bucket_in_another_region_is_named() {
    let server = Server::start(|_, _| Reply::status(301).with("x-amz-bucket-region", "eu-west-1"));
    let toml = format!(
        "[[remote]]\nprefix = \"s3://images\"\nendpoint = {:?}\nanonymous = true\n",
        server.url("")
    );
    let error = open(&Opener::new(parsed(&toml)), "s3://images/x", None)
        .err()
        .expect("refused")
        .to_string();
    assert!(error.contains("another region: \"eu-west-1\""), "{error}");
}

#[test]
fn a_request_to_google_has_the_token_and_names_the_generation() {
    let disk = Disk::new(4 * UNIT);
    let server = Server::start(move |request, _| disk.serve(request).with("x-goog-generation", "17"));
    let toml = format!(
        "[[remote]]\nprefix = \"gs://images\"\nendpoint = {:?}\n",
        server.url("")
    );
    let variables = [("GOOGLE_BEARER_TOKEN".to_owned(), "hunter2".to_owned())];
    let file = open(
        &Opener::new(parsed(&toml).with_variables(variables)),
        "gs://images/x",
        None,
    )
    .expect("opened");
    read(&*file, UNIT, 10).expect("read");
    let log = server.log();
    assert_eq!(log[1].path, "/images/x?generation=17");
    assert_eq!(log[1].header("authorization"), Some("Bearer hunter2"));
}

#[test]
fn a_request_to_azure_is_signed_or_has_the_shared_signature() {
    let disk = Disk::new(4 * UNIT);
    let server = Server::start(move |request, _| disk.serve(request));
    let toml = format!(
        "[[remote]]\nprefix = \"az://images\"\nendpoint = {:?}\naccount = \"acc\"\n",
        server.url("/acc")
    );
    let with = |name: &str, value: &str| parsed(&toml).with_variables([(name.to_owned(), value.to_owned())]);
    open(
        &Opener::new(with("AZURE_STORAGE_KEY", "aHVudGVyMg==")),
        "az://images/x",
        None,
    )
    .expect("opened");
    open(
        &Opener::new(with("AZURE_STORAGE_SAS_TOKEN", "sv=1&sig=abc")),
        "az://images/x",
        None,
    )
    .expect("opened");
    let log = server.log();
    assert_eq!(log[0].path, "/acc/images/x");
    assert!(
        log[0]
            .header("authorization")
            .is_some_and(|text| text.starts_with("SharedKey acc:"))
    );
    assert_eq!(log[1].path, "/acc/images/x?sv=1&sig=abc");
}
