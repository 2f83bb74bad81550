//! Where a request comes from, if a proxy stands before this server: what trusted proxies have
//! written down, from the nearest on, up to the first address that is not one of theirs. What
//! stands before that a client may have written itself.

use std::net::IpAddr;

use axum::http::HeaderMap;

use crate::config::Network;

/// The client's address; the connection's own, where the headers cannot be read.
pub(super) fn client_address(
    proxies: &[Network],
    peer: Option<IpAddr>,
    headers: &HeaderMap,
) -> Option<IpAddr> {
    let peer = peer?;
    let is_proxy = |address: IpAddr| proxies.iter().any(|network| network.has(address));
    if !is_proxy(peer) {
        return Some(peer);
    }
    let written = match (values(headers, "forwarded"), values(headers, "x-forwarded-for")) {
        (Some(forwarded), None) => forwarded.iter().map(|hop| of_forwarded(hop)).collect(),
        (None, Some(addresses)) => addresses.iter().map(|hop| of_hop(hop)).collect(),
        // If both are present, the client may have written either of them.
        _ => Vec::new(),
    };
    let mut nearest = peer;
    for address in written.into_iter().rev() {
        let Some(address) = address else { break };
        nearest = address;
        if !is_proxy(address) {
            break;
        }
    }
    Some(nearest)
}

/// The parts of a list, over all headers of that name; `None`: there is none.
fn values(headers: &HeaderMap, name: &str) -> Option<Vec<String>> {
    let mut found = headers.get_all(name).iter().peekable();
    found.peek()?;
    let lines = found.map(|line| line.to_str().unwrap_or_default());
    Some(lines.flat_map(|line| line.split(',')).map(|hop| hop.trim().to_owned()).collect())
}

/// `for="[2001:db8::1]:4711";proto=https`
fn of_forwarded(hop: &str) -> Option<IpAddr> {
    let pairs = hop.split(';').filter_map(|pair| pair.split_once('='));
    let mut addresses = pairs.filter(|(name, _)| name.trim().eq_ignore_ascii_case("for"));
    let (_, address) = addresses.next()?;
    of_hop(address.trim().trim_matches('"'))
}

/// With or without a port.
fn of_hop(hop: &str) -> Option<IpAddr> {
    let bare = hop.parse().ok();
    let with_port = || hop.parse::<std::net::SocketAddr>().ok().map(|address| address.ip());
    let in_brackets = || hop.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    bare.or_else(with_port).or_else(in_brackets).map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(peer: &str, headers: &[(&'static str, &str)]) -> String {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let proxies = ["10.0.0.0/8".parse().unwrap(), "::1".parse().unwrap()];
        client_address(&proxies, peer.parse().ok(), &map).unwrap().to_string()
    }

    #[test]
    fn the_nearest_address_that_is_no_proxy_counts() {
        let xff = |value| [("x-forwarded-for", value)];
        assert_eq!(of("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(of("10.0.0.1", &xff("1.2.3.4")), "1.2.3.4");
        assert_eq!(of("10.0.0.1", &xff("6.6.6.6, 1.2.3.4, 10.0.0.2")), "1.2.3.4");
        assert_eq!(of("::1", &xff("[2001:db8::1]:80")), "2001:db8::1");
        let lines = [("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "1.2.3.4")];
        assert_eq!(of("10.0.0.1", &lines), "1.2.3.4");
        let forwarded = [("forwarded", "for=6.6.6.6, proto=https;For=\"[2001:db8::1]:4711\"")];
        assert_eq!(of("10.0.0.1", &forwarded), "2001:db8::1");
    }

    #[test]
    fn what_a_client_can_have_written_does_not_count() {
        let xff = |value| [("x-forwarded-for", value)];
        assert_eq!(of("1.2.3.4", &xff("6.6.6.6")), "1.2.3.4");
        assert_eq!(of("10.0.0.1", &xff("6.6.6.6, unknown")), "10.0.0.1");
        assert_eq!(of("10.0.0.1", &xff("6.6.6.6, unknown, 10.0.0.2")), "10.0.0.2");
        assert_eq!(of("10.0.0.1", &xff("")), "10.0.0.1");
        let both = [("x-forwarded-for", "6.6.6.6"), ("forwarded", "for=7.7.7.7")];
        assert_eq!(of("10.0.0.1", &both), "10.0.0.1");
        assert_eq!(of("10.0.0.1", &[("x-real-ip", "6.6.6.6")]), "10.0.0.1");
        assert_eq!(of("10.0.0.1", &[("forwarded", "by=6.6.6.6")]), "10.0.0.1");
    }
}
