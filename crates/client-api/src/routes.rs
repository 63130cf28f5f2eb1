//! The routes: every path of the table in [`crate::endpoints`], built or not, so that a wrong method is 405 and an unbuilt path 404.

use std::collections::{BTreeMap, BTreeSet};

use axum::{
    Router,
    handler::Handler,
    routing::{MethodFilter, MethodRouter, on},
};
use http::Method;

use crate::{Api, endpoints, error::ApiError};

/// Collects handlers by path and method.
#[derive(Default)]
pub(crate) struct Routes {
    paths: BTreeMap<String, MethodRouter<Api>>,
    built: BTreeSet<(String, String)>,
}

impl Routes {
    /// Serves a method of a path. Argument names of the path are of no meaning.
    pub(crate) fn add<H, T>(&mut self, method: Method, path: &str, handler: H) -> &mut Self
    where
        H: Handler<T, Api>,
        T: 'static,
    {
        let path = numbered(path);
        let new = self.built.insert((method.to_string(), path.clone()));
        assert!(new, "{method} {path} is served twice");
        let filter = MethodFilter::try_from(method).expect("a standard method");
        let routes = self.paths.remove(&path).unwrap_or_default();
        self.paths.insert(path, routes.on(filter, handler));
        self
    }

    /// Whether a row of the table has a handler.
    #[cfg(test)]
    pub(crate) fn is_built(&self, method: &str, path: &str) -> bool {
        self.built.contains(&(method.to_owned(), numbered(path)))
    }

    /// The router: what was added, and a 404 for every other row of the table.
    pub(crate) fn finish(mut self) -> Router<Api> {
        for (method, path) in endpoints::all() {
            let path = numbered(path);
            if self.built.contains(&(method.to_owned(), path.clone())) {
                continue;
            }
            let filter = MethodFilter::try_from(Method::from_bytes(method.as_bytes()).expect("a method"))
                .expect("a standard method");
            let routes = self.paths.remove(&path).unwrap_or_default();
            self.paths.insert(path, routes.merge(on(filter, unbuilt)));
        }
        let mut router = Router::new();
        for (path, methods) in self.paths {
            router = router.route(&path, methods.fallback(wrong_method));
        }
        router.fallback(unbuilt)
    }
}

async fn unbuilt() -> ApiError {
    ApiError::unrecognized()
}

async fn wrong_method() -> ApiError {
    ApiError::method_not_allowed()
}

/// The path with its arguments numbered instead of named (the router wants one name in one place) and without a slash at its end.
fn numbered(path: &str) -> String {
    let mut count = 0;
    let parts = path.trim_end_matches('/').split('/').map(|part| {
        if part.starts_with('{') {
            count += 1;
            format!("{{a{count}}}")
        } else {
            part.to_owned()
        }
    });
    parts.collect::<Vec<_>>().join("/")
}

/// The path and query that a request is routed by: no slash at the end, and `r0` read as `v3`, which kept all its endpoints.
pub(crate) fn normal_path(path_and_query: &str) -> String {
    let (path, query) =
        path_and_query.split_once('?').map_or((path_and_query, None), |(path, query)| (path, Some(query)));
    let trimmed = path.trim_end_matches('/');
    let trimmed = if trimmed.is_empty() { "/" } else { trimmed };
    let path = match trimmed.strip_prefix("/_matrix/client/r0/") {
        Some(rest) => format!("/_matrix/client/v3/{rest}"),
        None => trimmed.to_owned(),
    };
    query.map_or_else(|| path.clone(), |query| format!("{path}?{query}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_normalised() {
        assert_eq!(normal_path("/_matrix/client/r0/sync?a=/b/"), "/_matrix/client/v3/sync?a=/b/");
        assert_eq!(normal_path("/_matrix/client/v3/pushrules/"), "/_matrix/client/v3/pushrules");
        assert_eq!(normal_path("/"), "/");
        assert_eq!(numbered("/a/{x}/b/{y}"), "/a/{a1}/b/{a2}");
    }
}
