//! Which proxy a request goes through.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fvd::{Error, Result};
use percent_encoding::percent_decode_str;
use url::Url;

use crate::config::Environment;
use crate::name::shown;
use crate::secret::Secret;

/// A proxy that is reached by HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proxy {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// The value of `Proxy-Authorization`.
    pub(crate) authorization: Option<Secret>,
}

impl Proxy {
    fn parse(text: &str) -> Result<Self> {
        let text = if text.contains("://") {
            text.to_owned()
        } else {
            format!("http://{text}")
        };
        let url =
            Url::parse(&text).map_err(|error| Error::invalid_argument(format!("The proxy is no URL: {error}")))?;
        let host = url.host_str().unwrap_or_default();
        if url.scheme() != "http" || host.is_empty() {
            return Err(Error::unsupported(format!(
                "fvd does not know how to use the proxy {} (known: http://HOST:PORT)",
                shown(&url)
            )));
        }
        Ok(Self {
            host: host.to_owned(),
            port: url.port().unwrap_or(80),
            authorization: authorization(&url),
        })
    }
}

fn authorization(url: &Url) -> Option<Secret> {
    if url.username().is_empty() {
        return None;
    }
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let pair = format!(
        "{}:{}",
        decoded(url.username()),
        decoded(url.password().unwrap_or_default())
    );
    Some(Secret::new(format!("Basic {}", STANDARD.encode(pair))))
}

/// The proxies of a store.
#[derive(Clone, Debug, Default)]
pub(crate) struct Proxies {
    http: Option<Proxy>,
    https: Option<Proxy>,
    /// `NO_PROXY`, lower case.
    exceptions: Vec<String>,
}

impl Proxies {
    /// The same proxy for everything. An empty text means none.
    pub(crate) fn fixed(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let proxy = Some(Proxy::parse(text)?);
        Ok(Self {
            http: proxy.clone(),
            https: proxy,
            exceptions: Vec::new(),
        })
    }

    /// As `curl` reads the environment: small letters first, and `HTTP_PROXY` not at all, because a web server
    /// may have made that variable from a header of a request.
    pub(crate) fn from_environment(environment: &Environment) -> Result<Self> {
        let find = |names: [&str; 4]| {
            let mut values = names.into_iter().filter_map(|name| environment.get(name));
            let value = values.find(|value| !value.is_empty());
            value.as_deref().map(Proxy::parse).transpose()
        };
        let exceptions = environment.get("no_proxy").or_else(|| environment.get("NO_PROXY"));
        let exceptions = exceptions.unwrap_or_default().to_ascii_lowercase();
        Ok(Self {
            http: find(["http_proxy", "all_proxy", "ALL_PROXY", ""])?,
            https: find(["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"])?,
            exceptions: exceptions.split([',', ' ']).map(str::to_owned).collect(),
        })
    }

    /// The proxy for a request to this host.
    pub(crate) fn find(&self, is_https: bool, host: &str) -> Option<&Proxy> {
        let proxy = if is_https { &self.https } else { &self.http };
        proxy.as_ref().filter(|_| !self.is_exception(host))
    }

    fn is_exception(&self, host: &str) -> bool {
        let host = host.trim_matches(['[', ']']).to_ascii_lowercase();
        self.exceptions.iter().any(|entry| {
            let entry = entry.trim_start_matches("*.").trim_start_matches('.');
            let is_below = || host.strip_suffix(entry).is_some_and(|rest| rest.ends_with('.'));
            entry == "*" || (!entry.is_empty() && (host == entry || is_below()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_is_read_as_curl_reads_it() {
        let environment = Environment::of([
            ("HTTP_PROXY", "http://evil:1"),
            ("HTTPS_PROXY", "http://user:p%40ss@proxy:3128"),
            ("NO_PROXY", "localhost,.example.org, 10.0.0.1"),
        ]);
        let proxies = Proxies::from_environment(&environment).expect("valid");
        assert_eq!(proxies.find(false, "a.net"), None);
        let proxy = proxies.find(true, "a.net").expect("one");
        assert_eq!((proxy.host.as_str(), proxy.port), ("proxy", 3128));
        let expected = format!("Basic {}", STANDARD.encode("user:p@ss"));
        assert_eq!(
            proxy.authorization.as_ref().map(Secret::expose),
            Some(expected.as_str())
        );
        for host in ["localhost", "example.org", "a.EXAMPLE.org", "10.0.0.1"] {
            assert_eq!(proxies.find(true, host), None, "{host}");
        }
        assert!(proxies.find(true, "notexample.org").is_some());
    }

    #[test]
    fn no_error_about_a_proxy_shows_its_password() {
        for text in ["socks5://u:hunter2@h:1", "https://u:hunter2@h", "http://u:hunter2@"] {
            let error = Proxies::fixed(text).expect_err("refused");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}
