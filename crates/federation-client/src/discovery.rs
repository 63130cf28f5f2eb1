//! From a server's name to where it is reached (server-server API, "Resolving server names"). The steps are here; what they look up comes from
//! outside.

use std::net::IpAddr;

use ruma::{OwnedServerName, ServerName};

/// Where servers are reached that say nothing else.
const DEFAULT_PORT: u16 = 8448;

/// How a server is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// The name or address that its certificate must be for.
    pub(crate) host: String,
    /// The `Host` header.
    pub(crate) host_header: String,
    /// The port.
    pub(crate) port: u16,
    /// The name whose addresses are connected to, where an SRV record says another than `host`.
    pub(crate) target: Option<String>,
}

/// An SRV record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Srv {
    pub(crate) priority: u16,
    pub(crate) weight: u16,
    pub(crate) port: u16,
    pub(crate) target: String,
}

/// What is looked up on the way.
pub(crate) trait Lookups: Sync {
    /// The `m.server` of a host's `.well-known`, if there is a valid one.
    fn well_known(&self, host: &str) -> impl Future<Output = Option<OwnedServerName>> + Send;
    /// The SRV records of a name; none if there are none.
    fn srv(&self, name: &str) -> impl Future<Output = Vec<Srv>> + Send;
}

/// Finds the way to a server.
pub(crate) async fn route(server: &ServerName, lookups: &impl Lookups) -> Route {
    if let Some(route) = literal_or_port(server) {
        return route;
    }
    let delegated = lookups.well_known(server.host()).await;
    let server = delegated.as_deref().unwrap_or(server);
    if let Some(route) = literal_or_port(server) {
        return route;
    }
    let host = server.host();
    for service in ["_matrix-fed", "_matrix"] {
        let records = lookups.srv(&format!("{service}._tcp.{host}.")).await;
        // The lowest priority first, of those the heaviest. "." says that there is no such service.
        let best = records.into_iter().filter(|srv| !srv.target.trim_end_matches('.').is_empty());
        if let Some(srv) = best.min_by_key(|srv| (srv.priority, std::cmp::Reverse(srv.weight))) {
            let target = Some(srv.target.trim_end_matches('.').to_owned());
            return Route { host: host.to_owned(), host_header: host.to_owned(), port: srv.port, target };
        }
    }
    Route { host: host.to_owned(), host_header: host.to_owned(), port: DEFAULT_PORT, target: None }
}

/// The way to a server whose name is an address, or has a port: there is nothing to look up.
fn literal_or_port(server: &ServerName) -> Option<Route> {
    let port = server.port();
    (server.is_ip_literal() || port.is_some()).then(|| Route {
        host: server.host().to_owned(),
        host_header: server.as_str().to_owned(),
        port: port.unwrap_or(DEFAULT_PORT),
        target: None,
    })
}

impl Route {
    /// The address, if the host is one.
    pub(crate) fn literal(&self) -> Option<IpAddr> {
        self.host.trim_start_matches('[').trim_end_matches(']').parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Default)]
    struct Known {
        well_known: BTreeMap<&'static str, &'static str>,
        srv: BTreeMap<&'static str, Vec<Srv>>,
    }

    impl Lookups for Known {
        async fn well_known(&self, host: &str) -> Option<OwnedServerName> {
            self.well_known.get(host).map(|name| OwnedServerName::try_from(*name).expect("a name"))
        }
        async fn srv(&self, name: &str) -> Vec<Srv> {
            self.srv.get(name).cloned().unwrap_or_default()
        }
    }

    fn srv(priority: u16, weight: u16, port: u16, target: &str) -> Srv {
        Srv { priority, weight, port, target: target.to_owned() }
    }

    async fn found(server: &str, known: &Known) -> (String, String, u16, Option<String>) {
        let server = OwnedServerName::try_from(server).expect("a name");
        let Route { host, host_header, port, target } = route(&server, known).await;
        (host, host_header, port, target)
    }

    fn way(host: &str, host_header: &str, port: u16, target: Option<&str>) -> (String, String, u16, Option<String>) {
        (host.to_owned(), host_header.to_owned(), port, target.map(str::to_owned))
    }

    #[tokio::test]
    async fn each_step_of_the_specification_leads_where_it_says() {
        let mut known = Known::default();
        known.well_known.insert("wk-ip.test", "9.9.9.9");
        known.well_known.insert("wk-port.test", "b.test:1234");
        known.well_known.insert("wk-srv.test", "c.test");
        known.well_known.insert("wk.test", "d.test");
        known.srv.insert("_matrix-fed._tcp.c.test.", vec![srv(2, 9, 1, "z."), srv(1, 1, 2, "y."), srv(1, 5, 3, "x.")]);
        known.srv.insert("_matrix._tcp.old.test.", vec![srv(0, 0, 7, "w.")]);
        known.srv.insert("_matrix-fed._tcp.none.test.", vec![srv(0, 0, 0, ".")]);

        assert_eq!(found("1.2.3.4", &known).await, way("1.2.3.4", "1.2.3.4", 8448, None));
        assert_eq!(found("[1::2]:99", &known).await, way("[1::2]", "[1::2]:99", 99, None));
        assert_eq!(found("a.test:99", &known).await, way("a.test", "a.test:99", 99, None));
        assert_eq!(found("wk-ip.test", &known).await, way("9.9.9.9", "9.9.9.9", 8448, None));
        assert_eq!(found("wk-port.test", &known).await, way("b.test", "b.test:1234", 1234, None));
        assert_eq!(found("wk-srv.test", &known).await, way("c.test", "c.test", 3, Some("x")));
        assert_eq!(found("wk.test", &known).await, way("d.test", "d.test", 8448, None));
        assert_eq!(found("old.test", &known).await, way("old.test", "old.test", 7, Some("w")));
        assert_eq!(found("none.test", &known).await, way("none.test", "none.test", 8448, None));
        assert_eq!(found("plain.test", &known).await, way("plain.test", "plain.test", 8448, None));
    }
}
