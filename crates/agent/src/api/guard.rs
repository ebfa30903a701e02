//! Who may ask over loopback TCP.
//!
//! Any program of the host can connect, and so can any page in a browser on it. A page that has its own name resolve to
//! 127.0.0.1 (DNS rebinding) still sends that name as `Host`, so only names of this host are served; a page of another
//! origin is refused, whatever it asks; and nothing that changes anything is taken here at all.

use axum::{
    extract::Request,
    http::{HeaderMap, Method, StatusCode, header, uri::Authority},
    middleware::Next,
    response::Response,
};

use super::answers::refusal;

pub(super) async fn loopback(request: Request, next: Next) -> Response {
    match refused(request.method(), request.headers()) {
        Some(why) => refusal(StatusCode::FORBIDDEN, why),
        None => next.run(request).await,
    }
}

fn refused(method: &Method, headers: &HeaderMap) -> Option<&'static str> {
    if !one(headers, header::HOST).is_some_and(is_this_host) {
        return Some("the Host of the request is no name of this host's loopback: use 127.0.0.1, [::1] or localhost");
    }
    let foreign = |origin: &str| !origin.split_once("://").is_some_and(|(_, host)| is_this_host(host));
    if headers.contains_key(header::ORIGIN) && one(headers, header::ORIGIN).is_none_or(foreign) {
        return Some("pages of another origin may not ask this agent");
    }
    if *method != Method::GET && *method != Method::HEAD {
        return Some(
            "over TCP the agent only answers; changes are made over its Unix socket, as `metacluster leave` does",
        );
    }
    None
}

/// The value of a header that stands exactly once and is text.
fn one(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        (_, _) => None,
    }
}

/// Whether `host[:port]` names this host's loopback. The port is not looked at: a tunnel may change it.
fn is_this_host(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    if host.contains('@') {
        return false;
    }
    let name = authority.host();
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    bare.eq_ignore_ascii_case("localhost") || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(header::HeaderName, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, value.parse().expect("a value"));
        }
        headers
    }

    #[test]
    fn only_names_of_the_loopback_are_served() {
        for good in ["127.0.0.1:4390", "127.0.0.1", "localhost:4390", "LOCALHOST", "[::1]:4390", "[::1]", "127.9.9.9:1"]
        {
            assert!(is_this_host(good), "{good}");
        }
        for bad in [
            "",
            "evil.example",
            "evil.example:4390",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.1:4390",
            "[::2]",
            "0.0.0.0:4390",
            "evil@127.0.0.1",
            "127.0.0.1@evil.example",
        ] {
            assert!(!is_this_host(bad), "{bad}");
        }
    }

    #[test]
    fn a_rebound_name_a_foreign_page_and_a_change_are_refused() {
        let local = (header::HOST, "127.0.0.1:4390");
        let get = |pairs: &[_]| refused(&Method::GET, &headers(pairs));
        assert_eq!(get(std::slice::from_ref(&local)), None);
        assert_eq!(get(&[local.clone(), (header::ORIGIN, "http://127.0.0.1:4390")]), None);
        assert!(get(&[]).is_some(), "no Host");
        assert!(get(&[(header::HOST, "evil.example")]).is_some());
        assert!(get(&[local.clone(), (header::HOST, "evil.example")]).is_some(), "two Hosts");
        for origin in ["http://evil.example", "null", "", "http://127.0.0.1.evil.example"] {
            assert!(get(&[local.clone(), (header::ORIGIN, origin)]).is_some(), "{origin}");
        }
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
            assert!(refused(&method, &headers(std::slice::from_ref(&local))).is_some(), "{method}");
        }
    }
}
