//! Requests over the network: the way is found, the address looked at, TLS verified, the answer bounded.

mod dns;
mod well_known;

use std::{path::PathBuf, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use hickory_resolver::{ResolverBuilder, TokioResolver, proto::rr::RData};
use http::{HeaderValue, Request, Response, header};
use reqwest::{Client, ClientBuilder, redirect::Policy};
use ruma::OwnedServerName;

use self::{
    dns::{Forbidden, PublicNames},
    well_known::WellKnowns,
};
use crate::{
    BoxFuture, Outgoing, RemoteServers, Unreachable,
    address::is_public,
    discovery::{self, Lookups, Route, Srv},
};

/// How long a connection that nobody uses is kept.
const IDLE: Duration = Duration::from_mins(1);
/// How many such are kept for a server.
const IDLE_PER_HOST: usize = 4;

/// How other servers are reached.
#[derive(Clone, Debug)]
pub struct NetworkOptions {
    /// PEM files with certificates trusted beside those of the operating system.
    pub extra_ca_certificates: Vec<PathBuf>,
    /// Addresses may be connected to that are not on the public Internet.
    pub allow_private_addresses: bool,
    /// The largest `.well-known` document, in bytes.
    pub well_known_max_bytes: usize,
    /// The `User-Agent` header.
    pub user_agent: String,
}

/// Why the network can't be used.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// A file with certificates can't be read.
    #[error("{file}: {error}")]
    Certificates {
        /// The file.
        file: String,
        /// What is wrong.
        error: String,
    },
    /// The operating system doesn't say how names are looked up.
    #[error("names can't be looked up: {0}")]
    Resolver(String),
    /// TLS can't be set up.
    #[error("requests can't be made: {0}")]
    Client(#[from] reqwest::Error),
}

/// The servers out there.
#[derive(Debug)]
pub struct NetworkServers {
    /// For hosts that are connected to under their own names.
    direct: Client,
    /// For hosts that an SRV record leads elsewhere. A pool of its own: under one host and port the two need not lead to one place.
    led: Client,
    names: Arc<PublicNames>,
    well_knowns: WellKnowns,
    allow_private: bool,
}

impl NetworkServers {
    /// Makes ready; sends nothing.
    ///
    /// # Errors
    /// See [`NetworkError`].
    pub fn open(options: &NetworkOptions) -> Result<Self, NetworkError> {
        // The one provider that is built in. Somebody may have installed it before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let resolver = TokioResolver::builder_tokio().and_then(ResolverBuilder::build);
        let resolver = Arc::new(resolver.map_err(|error| NetworkError::Resolver(error.to_string()))?);
        let allow_private = options.allow_private_addresses;
        let names = Arc::new(PublicNames::new(resolver.clone(), allow_private));
        let led_names = Arc::new(PublicNames::new(resolver, allow_private));
        let certificates = certificates(&options.extra_ca_certificates)?;
        let client = |names: &Arc<PublicNames>, redirects: fn(bool) -> Policy| {
            let make = || {
                ClientBuilder::new()
                    .user_agent(&options.user_agent)
                    .https_only(true)
                    .no_proxy()
                    .referer(false)
                    .redirect(redirects(allow_private))
                    .pool_idle_timeout(IDLE)
                    .pool_max_idle_per_host(IDLE_PER_HOST)
                    .dns_resolver(names.clone())
            };
            // Where the operating system trusts nobody, merging fails; what the configuration names is then all.
            let whole = make().tls_certs_merge(certificates.clone()).build();
            whole.or_else(|_| make().tls_certs_only(certificates.clone()).build())
        };
        let well_known = client(&names, well_known::redirects)?;
        Ok(Self {
            direct: client(&names, |_| Policy::none())?,
            led: client(&led_names, |_| Policy::none())?,
            names: led_names,
            well_knowns: WellKnowns::new(well_known, options.well_known_max_bytes),
            allow_private,
        })
    }

    async fn exchange(&self, outgoing: Outgoing) -> Result<Response<Bytes>, Unreachable> {
        let Outgoing { destination, request, answer_max_bytes, .. } = outgoing;
        let route = discovery::route(&destination, self).await;
        // Addresses are not looked up, so they don't pass the filter of names.
        if route.literal().is_some_and(|address| !self.allow_private && !is_public(address)) {
            return Err(Unreachable::ForbiddenAddress);
        }
        let client = match &route.target {
            Some(target) => {
                self.names.lead(&route.host, target);
                &self.led
            }
            None => &self.direct,
        };
        let response = client.execute(located(request, &route)?).await.map_err(|error| unreachable(&error))?;
        bounded(response, answer_max_bytes).await
    }
}

/// The request with the URL that leads to the server.
fn located(request: Request<Bytes>, route: &Route) -> Result<reqwest::Request, Unreachable> {
    let bad = |error: String| Unreachable::Unresolved(error);
    let (mut parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let uri = format!("https://{}:{}{path}", route.host, route.port);
    parts.uri = uri.parse().map_err(|error: http::uri::InvalidUri| bad(error.to_string()))?;
    let host = HeaderValue::try_from(&route.host_header).map_err(|error| bad(error.to_string()))?;
    parts.headers.insert(header::HOST, host);
    reqwest::Request::try_from(Request::from_parts(parts, body)).map_err(|error| bad(error.to_string()))
}

/// The answer, if it isn't larger than that.
async fn bounded(mut response: reqwest::Response, max_bytes: usize) -> Result<Response<Bytes>, Unreachable> {
    let length = response.content_length().unwrap_or(0);
    if usize::try_from(length).map_or(true, |length| length > max_bytes) {
        return Err(Unreachable::TooLarge(max_bytes));
    }
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| unreachable(&error))? {
        if body.len() + chunk.len() > max_bytes {
            return Err(Unreachable::TooLarge(max_bytes));
        }
        body.extend_from_slice(&chunk);
    }
    let mut answer = Response::new(body.freeze());
    *answer.status_mut() = response.status();
    *answer.headers_mut() = std::mem::take(response.headers_mut());
    Ok(answer)
}

fn unreachable(error: &reqwest::Error) -> Unreachable {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    let mut last = error.to_string();
    while let Some(error) = cause {
        if error.is::<Forbidden>() {
            return Unreachable::ForbiddenAddress;
        }
        last = error.to_string();
        cause = error.source();
    }
    Unreachable::Connection(last)
}

fn certificates(files: &[PathBuf]) -> Result<Vec<reqwest::Certificate>, NetworkError> {
    let mut all = Vec::new();
    for file in files {
        let failed = |error: String| NetworkError::Certificates { file: file.display().to_string(), error };
        let pem = std::fs::read(file).map_err(|error| failed(error.to_string()))?;
        let some = reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| failed(error.to_string()))?;
        if some.is_empty() {
            return Err(failed("there is no certificate in it".to_owned()));
        }
        all.extend(some);
    }
    Ok(all)
}

impl Lookups for NetworkServers {
    async fn well_known(&self, host: &str) -> Option<OwnedServerName> {
        self.well_knowns.get(host).await
    }

    async fn srv(&self, name: &str) -> Vec<Srv> {
        let Ok(found) = self.names.resolver().srv_lookup(name).await else { return Vec::new() };
        let records = found.answers().iter().filter_map(|record| match &record.data {
            RData::SRV(srv) => {
                Some(Srv { priority: srv.priority, weight: srv.weight, port: srv.port, target: srv.target.to_utf8() })
            }
            _ => None,
        });
        records.collect()
    }
}

impl RemoteServers for NetworkServers {
    fn send(&self, outgoing: Outgoing) -> BoxFuture<'_, Result<Response<Bytes>, Unreachable>> {
        let timeout = outgoing.timeout;
        Box::pin(async move {
            tokio::time::timeout(timeout, self.exchange(outgoing)).await.unwrap_or(Err(Unreachable::TimedOut))
        })
    }
}
