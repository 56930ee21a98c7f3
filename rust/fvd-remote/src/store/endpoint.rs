//! Where an object is, what leads there, and who signs, from its name and the configuration.

use std::sync::Arc;

use fvd::{Error, Result};
use http::HeaderMap;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use url::Url;

use super::aws::Aws;
use super::azure::Azure;
use super::credentials::{Credentials, Provider, headers};
use super::gcp::Gcp;
use super::write::Address;
use crate::config::{Config, Environment, Rule};
use crate::name::{Name, Scheme};
use crate::transport::{AddressRule, Client, Proxies, TlsRoots, Transport};

/// What a signature takes as it is: the unreserved characters, and the slash between the parts of a key.
pub(crate) const KEY: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/');

/// The URL of the object's bytes.
pub(crate) fn locate(name: &Name, rule: &Rule, environment: &Environment) -> Result<Url> {
    let bucket = name.bucket();
    let text = match name.scheme {
        Scheme::Web => return Ok(name.url.clone()),
        Scheme::S3 => match s3_place(name, rule, environment) {
            (endpoint, true) => endpoint,
            (endpoint, false) => format!("{endpoint}/{bucket}"),
        },
        Scheme::Gcs => format!("{}/{bucket}", gcs_endpoint(rule, environment)),
        Scheme::Azure => format!("{}/{bucket}", azure_endpoint(rule, environment)?),
    };
    let mut url = Url::parse(&text)
        .map_err(|error| Error::invalid_argument(format!("The endpoint of {} is no URL: {error}", name.text)))?;
    let decoded = percent_decode_str(name.key()).collect::<Vec<u8>>();
    let key = String::from_utf8(decoded).map_err(|_| Error::invalid_argument("The key in the URL is no UTF-8"))?;
    let path = format!(
        "{}/{}",
        url.path().trim_end_matches('/'),
        utf8_percent_encode(&key, KEY)
    );
    url.set_path(&path);
    Ok(url)
}

/// The endpoint of S3, and whether it has the bucket in the name of the host.
fn s3_place(name: &Name, rule: &Rule, environment: &Environment) -> (String, bool) {
    let bucket = name.bucket();
    let endpoint = s3_endpoint(rule, environment);
    let is_path_style = rule.path_style.unwrap_or(endpoint.is_some() || bucket.contains('.'));
    let endpoint = endpoint.unwrap_or_else(|| format!("https://s3.{}.amazonaws.com", region(rule, environment)));
    let endpoint = endpoint.trim_end_matches('/');
    match endpoint.split_once("://") {
        Some((scheme, host)) if !is_path_style => (format!("{scheme}://{bucket}.{host}"), true),
        _ => (endpoint.to_owned(), false),
    }
}

fn gcs_endpoint(rule: &Rule, environment: &Environment) -> String {
    let endpoint = rule.endpoint.clone().or_else(|| emulator(environment));
    let endpoint = endpoint.unwrap_or_else(|| "https://storage.googleapis.com".to_owned());
    endpoint.trim_end_matches('/').to_owned()
}

fn azure_endpoint(rule: &Rule, environment: &Environment) -> Result<String> {
    let set = rule.endpoint.clone();
    let endpoint = match set.or_else(|| environment.get("AZURE_STORAGE_ENDPOINT")) {
        Some(endpoint) => endpoint,
        None => format!("https://{}.blob.core.windows.net", account(rule, environment)?),
    };
    Ok(endpoint.trim_end_matches('/').to_owned())
}

/// Where the bucket of `name` is, for writing.
pub(crate) fn address(name: &Name, rule: &Rule, environment: &Environment) -> Result<Address> {
    let (endpoint, is_virtual) = match name.scheme {
        Scheme::S3 => s3_place(name, rule, environment),
        Scheme::Gcs => (gcs_endpoint(rule, environment), false),
        Scheme::Azure => (azure_endpoint(rule, environment)?, false),
        Scheme::Web => return Err(Error::unsupported("Nothing can be written to a web server")),
    };
    let account = match name.scheme {
        Scheme::Azure => account(rule, environment)?,
        _ => String::new(),
    };
    Ok(Address {
        endpoint,
        is_virtual,
        region: region(rule, environment),
        account,
    })
}

/// What sends requests to `url`.
pub(crate) fn client(name: &Name, url: &Url, rule: &Rule, config: &Config) -> Result<Client> {
    let host = url.host_str().unwrap_or_default().to_owned();
    let addresses = if rule.link_local {
        AddressRule::Named(host)
    } else {
        AddressRule::Public
    };
    let proxies = match &rule.proxy {
        Some(proxy) => Proxies::fixed(proxy.expose())?,
        None => Proxies::from_environment(&config.environment)?,
    };
    let bundle = (name.scheme == Scheme::S3).then(|| config.environment.get("AWS_CA_BUNDLE"));
    let file = rule.ca_file.clone().or_else(|| bundle.flatten().map(Into::into));
    let roots = file.map_or(TlsRoots::System, TlsRoots::File);
    Ok(Client::new(addresses, proxies, roots, config.tuning.connect_timeout))
}

/// Who signs requests for `name`.
pub(crate) fn provider(name: &Name, rule: &Rule, config: &Config, client: &Client) -> Result<Credentials> {
    let fixed = headers(rule.headers.clone()).map_err(|failure| Error::invalid_argument(failure.text))?;
    let provider = choose(name, rule, config, client)?;
    Ok(Credentials::new(provider, fixed))
}

fn choose(name: &Name, rule: &Rule, config: &Config, client: &Client) -> Result<Provider> {
    let environment = config.environment.clone();
    let transport = || Arc::new(client.for_credentials()) as Arc<dyn Transport>;
    if let Some(source) = config.header_source(&name.text) {
        return Ok(Provider::Headers(source));
    }
    let has_keys = name.scheme == Scheme::S3 && config.key_source(&name.text).is_some();
    if !has_keys && (rule.anonymous || is_unsigned(name.scheme, &environment)) {
        return Ok(Provider::None);
    }
    let helper = rule.credential_helper.clone();
    let bucket = name.bucket().to_owned();
    Ok(match name.scheme {
        Scheme::S3 => Provider::Aws(Aws {
            bucket,
            region: region(rule, &environment),
            environment,
            helper,
            keys: config.key_source(&name.text),
            transport: transport(),
        }),
        _ if !helper.is_empty() => Provider::Helper(helper),
        Scheme::Web => Provider::None,
        Scheme::Gcs if rule.endpoint.is_none() && emulator(&environment).is_some() => Provider::None,
        Scheme::Gcs => Provider::Gcp(Gcp {
            bucket,
            environment,
            transport: transport(),
        }),
        Scheme::Azure => Provider::Azure(Azure {
            account: account(rule, &environment)?,
            container: bucket,
            environment,
            transport: transport(),
        }),
    })
}

/// For a presigned URL: no header goes along.
pub(crate) fn presigned(source: Arc<dyn crate::hooks::UrlSource>) -> Credentials {
    Credentials::new(Provider::Presigned(source), HeaderMap::new())
}

fn is_unsigned(scheme: Scheme, environment: &Environment) -> bool {
    let name = match scheme {
        Scheme::Web => return false,
        Scheme::S3 => "AWS_SKIP_SIGNATURE",
        Scheme::Gcs => "GOOGLE_SKIP_SIGNATURE",
        Scheme::Azure => "AZURE_SKIP_SIGNATURE",
    };
    matches!(environment.get(name).as_deref(), Some("1" | "true" | "yes"))
}

fn s3_endpoint(rule: &Rule, environment: &Environment) -> Option<String> {
    let names = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"];
    let from_environment = || names.into_iter().find_map(|name| environment.get(name));
    rule.endpoint.clone().or_else(from_environment)
}

fn region(rule: &Rule, environment: &Environment) -> String {
    let names = ["AWS_REGION", "AWS_DEFAULT_REGION"];
    let from_environment = || names.into_iter().find_map(|name| environment.get(name));
    let region = rule.region.clone().or_else(from_environment);
    region.unwrap_or_else(|| "us-east-1".to_owned())
}

/// What Google's libraries call an emulator.
fn emulator(environment: &Environment) -> Option<String> {
    let host = environment
        .get("STORAGE_EMULATOR_HOST")
        .filter(|host| !host.is_empty())?;
    Some(if host.contains("://") {
        host
    } else {
        format!("http://{host}")
    })
}

fn account(rule: &Rule, environment: &Environment) -> Result<String> {
    let names = ["AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT"];
    let from_environment = || names.into_iter().find_map(|name| environment.get(name));
    rule.account.clone().or_else(from_environment).ok_or_else(|| {
        Error::invalid_argument(
            "A base in Azure needs the name of the storage account (AZURE_STORAGE_ACCOUNT, or `account` in the \
             configuration)",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn located(name: &str, rule: &Rule, variables: &[(&str, &str)]) -> String {
        let environment = Environment::of(variables.iter().copied());
        let name = Name::parse(name).expect("valid");
        locate(&name, rule, &environment).expect("valid").to_string()
    }

    #[test]
    fn each_store_is_found_as_its_own_tools_find_it() {
        let none = Rule::default();
        let region = [("AWS_REGION", "eu-central-1")];
        let minio = [("AWS_ENDPOINT_URL", "http://127.0.0.1:9000/")];
        let emulator = [("STORAGE_EMULATOR_HOST", "localhost:4443")];
        let azure = [("AZURE_STORAGE_ACCOUNT", "acc")];
        for (name, variables, expected) in [
            (
                "s3://b/a/k.raw",
                &region[..],
                "https://b.s3.eu-central-1.amazonaws.com/a/k.raw",
            ),
            ("s3://b.c/k", &region[..], "https://s3.eu-central-1.amazonaws.com/b.c/k"),
            ("s3://b/k", &minio[..], "http://127.0.0.1:9000/b/k"),
            ("gs://b/k", &[][..], "https://storage.googleapis.com/b/k"),
            ("gs://b/k", &emulator[..], "http://localhost:4443/b/k"),
            ("az://c/k", &azure[..], "https://acc.blob.core.windows.net/c/k"),
        ] {
            assert_eq!(located(name, &none, variables), expected);
        }
    }

    #[test]
    fn the_configuration_goes_before_the_environment() {
        let rule = Rule {
            endpoint: Some("https://store.example.org".into()),
            path_style: Some(false),
            ..Rule::default()
        };
        let variables = [("AWS_ENDPOINT_URL", "http://other")];
        assert_eq!(located("s3://b/k", &rule, &variables), "https://b.store.example.org/k");
    }

    #[test]
    fn keys_are_encoded_as_a_signature_expects() {
        let url = located("s3://b/a b/c+d=(1)%2B~.raw", &Rule::default(), &[]);
        assert!(url.ends_with("/a%20b/c%2Bd%3D%281%29%2B~.raw"), "{url}");
    }
}
