//! Who a request comes from: not from a web page that a friend happens to look at.
//!
//! A browser lets any page send simple requests to any address, and a page whose name is made to point to this machine may even read the
//! answers. Browsers say which page asks (`Origin`) and which name it asked for (`Host`), and pages cannot change that. So a request of a
//! page is taken only if the page is the server's own, and a server that listens on a loopback address answers to loopback names alone.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::problem::Problem;

/// Refuses requests of strangers. `bound` is the address that the server listens on.
pub async fn check(State(bound): State<SocketAddr>, request: Request, next: Next) -> Response {
    // HTTP/2 has the name in the place of the path.
    let host = request.uri().authority().cloned().or_else(|| authority(request.headers(), header::HOST));
    match refusal(bound, host.as_ref(), request.headers().get(header::ORIGIN).map(|origin| origin.as_bytes())) {
        None => next.run(request).await,
        Some(detail) => Problem::stranger(detail).into_response(),
    }
}

fn authority(headers: &HeaderMap, name: header::HeaderName) -> Option<Authority> {
    Authority::try_from(headers.get(name)?.as_bytes()).ok()
}

/// Why a request for this host, of a page of this origin, is refused; none if it is not.
fn refusal(bound: SocketAddr, host: Option<&Authority>, origin: Option<&[u8]>) -> Option<String> {
    if bound.ip().is_loopback() && !host.is_some_and(|host| is_loopback(host.host())) {
        let host = host.map_or("", Authority::as_str);
        return Some(format!("the server listens on {bound} and does not answer to the name \"{host}\"; ask for \"{bound}\""));
    }
    let origin = origin?;
    let own = host.is_some_and(|host| origin.strip_prefix(b"http://").is_some_and(|page| page == host.as_str().as_bytes()));
    (!own).then(|| format!("pages of {} may not send requests to this server", String::from_utf8_lossy(origin)))
}

fn is_loopback(host: &str) -> bool {
    let address = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_taken(bound: &str, host: &str, origin: Option<&str>) -> bool {
        let host = Authority::try_from(host).ok();
        refusal(bound.parse().expect("an address"), host.as_ref(), origin.map(str::as_bytes)).is_none()
    }

    /// On a loopback address only loopback names are answered; elsewhere the server cannot know its names.
    #[test]
    fn names_are_checked() {
        for good in ["localhost:8081", "LOCALHOST", "127.0.0.1:8081", "127.9.9.9", "[::1]:8081"] {
            assert!(is_taken("127.0.0.1:8081", good, None), "{good}");
        }
        for bad in ["evil.example:8081", "localhost.evil.example", "127.0.0.1.evil.example", "192.168.0.1:8081", ""] {
            assert!(!is_taken("127.0.0.1:8081", bad, None), "{bad}");
            assert!(!is_taken("[::1]:8081", bad, None), "{bad}");
        }
        assert!(is_taken("0.0.0.0:8081", "weir.friends.example", None));
    }

    /// Pages of other sites are refused wherever the server listens; its own are not.
    #[test]
    fn pages_are_checked() {
        for bound in ["127.0.0.1:8081", "0.0.0.0:8081"] {
            assert!(is_taken(bound, "localhost:8081", Some("http://localhost:8081")));
            for bad in ["http://evil.example", "http://localhost:3000", "https://localhost:8081", "null", ""] {
                assert!(!is_taken(bound, "localhost:8081", Some(bad)), "{bad}");
            }
        }
    }
}
