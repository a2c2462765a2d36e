//! The HTTP server: a router over closures that the program gives it.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::metrics::{self, Metric};

/// What the pages show.
pub struct Pages {
    /// Why the server cannot go on, if it cannot.
    pub failure: Box<dyn Fn() -> Option<String> + Send + Sync>,
    /// Why the server does not do all its work at this moment, if it does not.
    pub hindrance: Box<dyn Fn() -> Option<String> + Send + Sync>,
    pub metrics: Box<dyn Fn() -> Vec<Metric> + Send + Sync>,
    /// Shown at `/`.
    pub welcome: String,
}

/// Serves a listener until the token is cancelled.
///
/// # Errors
/// The socket fails.
pub async fn serve(listener: TcpListener, pages: Pages, stop: CancellationToken) -> std::io::Result<()> {
    let router = Router::new()
        .route("/", get(welcome))
        .route("/healthz", get(health))
        .route("/ready", get(ready))
        .route("/metrics", get(print_metrics))
        .fallback(|| async { (StatusCode::NOT_FOUND, "there is no such page\n") })
        .with_state(Arc::new(pages));
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
}

async fn welcome(State(pages): State<Arc<Pages>>) -> String {
    pages.welcome.clone()
}

async fn health(State(pages): State<Arc<Pages>>) -> (StatusCode, String) {
    told((pages.failure)())
}

/// The listener opens when recovery is over: from then on the server is ready unless it is hindered.
async fn ready(State(pages): State<Arc<Pages>>) -> (StatusCode, String) {
    told((pages.failure)().or_else(|| (pages.hindrance)()))
}

fn told(reason: Option<String>) -> (StatusCode, String) {
    match reason {
        None => (StatusCode::OK, "ok\n".to_string()),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

async fn print_metrics(State(pages): State<Arc<Pages>>) -> impl IntoResponse {
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (kind, metrics::print(&(pages.metrics)()))
}
