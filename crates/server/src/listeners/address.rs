//! Whose request it is: the peer of the socket, or whom a trusted proxy names.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use ipnet::IpNet;

const X_FORWARDED_FOR: &str = "x-forwarded-for";

/// The client's address. `X-Forwarded-For` grows to the right, so the last entry that is not itself a trusted proxy is the client; what
/// stands left of it was sent by the client and proves nothing.
pub(super) fn client_address(peer: SocketAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let peer = peer.ip().to_canonical();
    let is_trusted = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
    if !is_trusted(&peer) {
        return peer;
    }
    let mut client = peer;
    for value in headers.get_all(X_FORWARDED_FOR).iter().rev() {
        for entry in value.to_str().unwrap_or_default().rsplit(',') {
            let Some(address) = parse(entry.trim()) else { return client };
            client = address;
            if !is_trusted(&address) {
                return client;
            }
        }
    }
    client
}

/// An address with or without a port.
fn parse(entry: &str) -> Option<IpAddr> {
    let address = entry.parse().or_else(|_| entry.parse::<SocketAddr>().map(|socket| socket.ip()));
    address.ok().map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(peer: &str, forwarded: &[&'static str]) -> String {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append(X_FORWARDED_FOR, http::HeaderValue::from_static(value));
        }
        let trusted = ["10.0.0.0/8".parse().expect("network"), "::1/128".parse().expect("network")];
        client_address(format!("{peer}:1").parse().expect("address"), &headers, &trusted).to_string()
    }

    #[test]
    fn the_header_is_believed_from_trusted_proxies_only() {
        assert_eq!(address("192.0.2.1", &["198.51.100.7"]), "192.0.2.1");
        assert_eq!(address("10.1.2.3", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(address("[::1]", &["[2001:db8::1]:80"]), "2001:db8::1");
        assert_eq!(address("10.1.2.3", &[]), "10.1.2.3");
        assert_eq!(address("[::ffff:10.1.2.3]", &["198.51.100.7"]), "198.51.100.7");
    }

    #[test]
    fn what_the_client_wrote_itself_is_ignored() {
        assert_eq!(address("10.1.2.3", &["203.0.113.9, 198.51.100.7, 10.0.0.2"]), "198.51.100.7");
        assert_eq!(address("10.1.2.3", &["203.0.113.9", "198.51.100.7"]), "198.51.100.7");
        assert_eq!(address("10.1.2.3", &["203.0.113.9, rubbish"]), "10.1.2.3");
    }
}
