//! What the program itself answers: `/health` and `/metrics`; and the last resort, the answer to a request whose handler panicked.

use std::{any::Any, time::Duration};

use axum::{
    Json, Router,
    extract::{Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use http::{Method, StatusCode, header};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use primitives::SharedClock;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use tracing::error;

/// How often the exporter folds its histograms; without it they would grow between scrapes.
const UPKEEP: Duration = Duration::from_secs(5);

/// Starts to record metrics in this process. Can be done once.
///
/// # Errors
/// A recorder that is there already.
pub fn start_metrics() -> anyhow::Result<PrometheusHandle> {
    // Seconds; fine enough to see a delayed event that is late and a commit that is slow.
    let buckets = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];
    Ok(PrometheusBuilder::new().set_buckets(&buckets)?.install_recorder()?)
}

/// Folds the histograms until told to stop.
pub async fn keep_metrics(metrics: PrometheusHandle, clock: SharedClock, stop: CancellationToken) {
    while stop.run_until_cancelled(clock.sleep(UPKEEP)).await.is_some() {
        metrics.run_upkeep();
    }
}

/// The routes of this page. `/metrics` only with a recorder.
pub fn router(metrics: Option<PrometheusHandle>) -> Router {
    let open = Router::new().route("/health", get(async || "OK"));
    let Some(metrics) = metrics else { return open };
    let text = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
    open.route("/metrics", get(async move || (text, metrics.render())))
}

/// The whole router behind the last resort: a handler that panics answers 500 and the server goes on.
pub fn survive_panics(router: Router) -> Router {
    router.layer(CatchPanicLayer::custom(panicked))
}

/// The router with each request's duration recorded, by method and status. A long poll counts with all its waiting.
pub fn measure(router: Router, clock: SharedClock) -> Router {
    let record = async |State(clock): State<SharedClock>, request: Request, next: Next| {
        let (method, start) = (method_label(request.method()), clock.monotonic());
        let response = next.run(request).await;
        let labels = [("method", method.to_owned()), ("status", response.status().as_u16().to_string())];
        let duration = clock.monotonic().saturating_sub(start);
        metrics::histogram!("sundial_http_request_duration_seconds", &labels).record(duration.as_secs_f64());
        response
    };
    router.layer(middleware::from_fn_with_state(clock, record))
}

/// The names of methods are the client's to choose; the labels of a metric must be few.
fn method_label(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "PUT" => "PUT",
        "POST" => "POST",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

// The layer hands over the box itself.
#[expect(clippy::needless_pass_by_value)]
fn panicked(cause: Box<dyn Any + Send + 'static>) -> Response {
    let text = cause.downcast_ref::<String>().map(String::as_str).or_else(|| cause.downcast_ref::<&str>().copied());
    error!(cause = text.unwrap_or("unknown"), "a request handler panicked");
    let body = json!({ "errcode": "M_UNKNOWN", "error": "Internal server error" });
    (StatusCode::INTERNAL_SERVER_ERROR, [(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*")], Json(body)).into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::Request;
    use tower::ServiceExt;

    use super::*;

    async fn get_path(router: &Router, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).header("origin", "https://app.example").body(Body::empty()).expect("request");
        let response = router.clone().oneshot(request).await.expect("infallible");
        let status = response.status();
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.expect("body");
        (status, String::from_utf8(body.to_vec()).expect("text"))
    }

    #[tokio::test]
    async fn health_is_answered_and_metrics_only_when_they_are_recorded() {
        let router = router(None);
        assert_eq!(get_path(&router, "/health").await, (StatusCode::OK, "OK".to_owned()));
        assert_eq!(get_path(&router, "/metrics").await.0, StatusCode::NOT_FOUND);
    }

    #[tokio::test]
    async fn metrics_are_rendered_when_they_are_recorded() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || metrics::counter!("sundial_test_total").increment(3));
        let (status, body) = get_path(&router(Some(handle)), "/metrics").await;
        assert_eq!(status, StatusCode::OK);
        assert!(body.contains("sundial_test_total 3"), "{body}");
    }

    #[tokio::test]
    async fn requests_are_measured_under_few_labels() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        let _recording = metrics::set_default_local_recorder(&recorder);
        let router = measure(router(None), primitives::SystemClock::shared());
        let request = Request::builder().method("SURPRISE").uri("/health").body(Body::empty()).expect("request");
        router.oneshot(request).await.expect("infallible");
        let text = handle.render();
        assert!(
            text.contains(r#"sundial_http_request_duration_seconds_count{method="other",status="405"} 1"#),
            "{text}"
        );
    }

    #[tokio::test]
    async fn a_panic_is_an_answer_and_the_next_request_works() {
        async fn broken() -> StatusCode {
            panic!("on purpose")
        }
        let router = survive_panics(router(None).route("/broken", get(broken)));
        let (status, body) = get_path(&router, "/broken").await;
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(body.contains("M_UNKNOWN"));
        assert_eq!(get_path(&router, "/health").await.0, StatusCode::OK);
    }
}
