//! Where a redirect may lead, and what goes along (R7).

use http::header::{ACCEPT_ENCODING, HeaderMap, HeaderName, IF_MATCH, IF_UNMODIFIED_SINCE, LOCATION, RANGE};
use url::{Host, Url};

use crate::name::shown;
use crate::open_options::Redirects;
use crate::transport::{Failure, FailureKind, Request, Response};

/// curl follows 50, browsers 20. A storage needs one or two.
const HOPS: usize = 8;

/// What may be sent to a host that the user has not named. Everything else may be a credential.
const HARMLESS: [HeaderName; 4] = [RANGE, IF_MATCH, IF_UNMODIFIED_SINCE, ACCEPT_ENCODING];

/// The way of one request.
pub(crate) struct Hops {
    seen: Vec<Url>,
    /// Whether one of them led to another host.
    pub(crate) has_left_host: bool,
}

impl Hops {
    pub(crate) fn new(start: &Url) -> Self {
        Self {
            seen: vec![start.clone()],
            has_left_host: false,
        }
    }

    /// The request that `answer`, a redirect, asks for.
    pub(crate) fn follow(
        &mut self,
        request: Request,
        answer: &Response,
        redirects: &Redirects,
    ) -> Result<Request, Failure> {
        let from = request.url.clone();
        let location = answer.headers.get(LOCATION).and_then(|value| value.to_str().ok());
        let to = location.and_then(|location| from.join(location).ok());
        let Some(mut to) = to else {
            return Err(refused(format!(
                "the server redirects (status {}) without saying where to",
                answer.status.as_u16()
            )));
        };
        to.set_fragment(None);
        self.check(&from, &to)?;
        let leaves = !is_same_host(&from, &to);
        if leaves && !redirects.allows(&to) {
            return Err(refused(format!(
                "a redirect leads to {}, which no trusted prefix covers (--trust, trust=)",
                shown(&to)
            )));
        }
        self.has_left_host |= leaves;
        self.seen.push(to.clone());
        Ok(keep_harmless(request, to))
    }

    fn check(&self, from: &Url, to: &Url) -> Result<(), Failure> {
        let target = shown(to);
        if !matches!(to.scheme(), "http" | "https") {
            return Err(refused(format!("a redirect leads to {}://", to.scheme())));
        }
        if from.scheme() == "https" && to.scheme() == "http" {
            return Err(refused(format!(
                "a redirect leads from https to {target}, where data can be changed"
            )));
        }
        if !to.username().is_empty() || to.password().is_some() {
            return Err(refused(format!("a redirect to {target} has credentials in its URL")));
        }
        if is_loopback(to) && !is_loopback(from) {
            return Err(refused(format!("a redirect leads into this machine ({target})")));
        }
        if self.seen.contains(to) {
            return Err(refused(format!("the redirects are a loop ({target})")));
        }
        if self.seen.len() > HOPS {
            return Err(refused(format!("more than {HOPS} redirects, the last to {target}")));
        }
        Ok(())
    }
}

/// Whether credentials for `a` may go to `b`.
pub(crate) fn is_same_host(a: &Url, b: &Url) -> bool {
    a.scheme() == b.scheme() && a.host() == b.host() && a.port_or_known_default() == b.port_or_known_default()
}

/// `request`, sent to `to` instead.
pub(crate) fn keep_harmless(mut request: Request, to: Url) -> Request {
    if !is_same_host(&request.url, &to) {
        request.headers = harmless(&request.headers);
    }
    request.url = to;
    request
}

fn harmless(headers: &HeaderMap) -> HeaderMap {
    let kept = HARMLESS
        .iter()
        .filter_map(|name| Some((name.clone(), headers.get(name)?.clone())));
    kept.collect()
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => {
            address.is_loopback() || address.to_ipv4_mapped().is_some_and(|v4| v4.is_loopback())
        }
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    }
}

fn refused(text: String) -> Failure {
    Failure::new(FailureKind::Refused, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(from: &str, to: &str) -> Result<(), Failure> {
        let url = |text| Url::parse(text).expect("valid");
        Hops::new(&url(from)).check(&url(from), &url(to))
    }

    #[test]
    fn no_redirect_leads_from_outside_into_this_machine() {
        for to in [
            "http://127.0.0.1/",
            "http://127.8.0.1:81/",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://localhost/",
        ] {
            assert!(check("http://example.org/", to).is_err(), "{to}");
            assert!(check("http://localhost:8080/", to).is_ok(), "{to}");
        }
        assert!(check("http://example.org/", "https://example.net/").is_ok());
    }

    #[test]
    fn a_host_is_a_scheme_a_name_and_a_port() {
        let is_same = |a, b| is_same_host(&Url::parse(a).expect("valid"), &Url::parse(b).expect("valid"));
        assert!(is_same("https://a.org/x", "https://A.org:443/y?z"));
        assert!(!is_same("https://a.org/", "https://a.org:444/"));
        assert!(!is_same("http://a.org/", "https://a.org/"));
        assert!(!is_same("https://a.org/", "https://b.a.org/"));
    }
}
