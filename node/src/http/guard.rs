//! Who may talk to a node that knows no tokens: programs of this machine, not web pages.
//!
//! The node listens on loopback, but a browser on this machine would carry the requests of any
//! page there. Invariant: a request passes only if the host it names is this machine (so that no
//! DNS name can be rebound to it), and if it comes from no page of another site.

use axum::extract::Request;
use axum::http::{HeaderMap, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::problem::{Kind, Problem};

/// Lets a request pass, or refuses it.
pub(super) async fn guard(request: Request, next: Next) -> Response {
    match check(request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

fn check(uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    let mut hosts = Vec::new();
    hosts.extend(uri.authority().map(|authority| authority.as_str().as_bytes()));
    hosts.extend(headers.get_all(header::HOST).iter().map(|value| value.as_bytes()));
    if hosts.is_empty() {
        return Err(forbidden_host("the request names no host".to_owned()));
    }
    if let Some(host) = hosts.iter().find(|host| !is_loopback(host)) {
        return Err(forbidden_host(format!("the host is `{}`", String::from_utf8_lossy(host))));
    }
    let origins = headers.get_all(header::ORIGIN).iter().map(|value| value.as_bytes());
    for origin in origins {
        let schemes: [&[u8]; 2] = [b"http://", b"https://"];
        let host = schemes.iter().find_map(|scheme| origin.strip_prefix(*scheme));
        if !host.is_some_and(is_loopback) {
            let detail = format!("the origin is `{}`", String::from_utf8_lossy(origin));
            return Err(Problem::new(Kind::ForbiddenOrigin, detail));
        }
    }
    Ok(())
}

fn forbidden_host(detail: String) -> Problem {
    Problem::new(Kind::ForbiddenHost, detail)
        .hint("reach the node as 127.0.0.1, [::1] or localhost, from its own machine")
}

/// Whether `authority`, a host with or without a port, is this machine.
fn is_loopback(authority: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(authority) else { return false };
    let names = ["localhost", "127.0.0.1", "[::1]"];
    names.iter().any(|name| {
        let Some((host, port)) = text.split_at_checked(name.len()) else { return false };
        let digits = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
        host.eq_ignore_ascii_case(name)
            && (port.is_empty() || port.strip_prefix(':').is_some_and(digits))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(host: &str, origin: Option<&str>) -> Result<(), Problem> {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().expect("a value"));
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().expect("a value"));
        }
        check(&Uri::from_static("/v1/status"), &headers)
    }

    #[test]
    fn only_names_of_this_machine_pass() {
        for host in ["localhost", "LOCALHOST:7420", "127.0.0.1:1", "[::1]", "[::1]:7420"] {
            assert!(checked(host, None).is_ok(), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example:7420",
            "localhost:7420@evil.example",
            "::1",
            "10.0.0.1",
        ] {
            assert!(checked(host, None).is_err(), "{host}");
        }
        assert!(check(&Uri::from_static("/"), &HeaderMap::new()).is_err(), "no host at all");
    }

    #[test]
    fn pages_of_other_sites_are_refused_also_when_they_name_this_machine() {
        assert!(checked("127.0.0.1:7420", Some("http://localhost:3000")).is_ok());
        for origin in ["https://evil.example", "null", "http://localhost.evil.example", "file://"] {
            assert!(checked("127.0.0.1:7420", Some(origin)).is_err(), "{origin}");
        }
    }
}
