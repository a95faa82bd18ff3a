//! Connections: so many at a time, each within limits of time, and all ended before the server ends.

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

/// Connections at a time. Others wait until one ends.
const CONNECTIONS: usize = 128;

/// How long a connection may take to send the head of a request, or may be idle between two.
const HEAD_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a connection may last: a client that does not read its answer must not keep it for ever.
const LIFETIME: Duration = Duration::from_secs(600);

/// How long requests under way may take after the server was asked to stop.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// A pause after a connection that could not be accepted, as when there are too many open files.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// Answers requests by `routes` until `stopped`.
pub(super) async fn serve(listener: TcpListener, routes: Router, stopped: impl Future<Output = ()>) {
    let (connections, graceful) = (Arc::new(Semaphore::new(CONNECTIONS)), GracefulShutdown::new());
    let mut stopped = pin!(stopped);
    loop {
        let accepted = async {
            let permit = connections.clone().acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            accepted = accepted => accepted,
            () = &mut stopped => break,
        };
        let Ok((stream, _)) = accepted else {
            sleep(AFTER_FAILURE).await;
            continue;
        };
        let mut builder = http1::Builder::new();
        // A client that has sent all it has may close its half before it reads the answer.
        builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).half_close(true);
        let service = TowerToHyperService::new(routes.clone());
        let connection = graceful.watch(builder.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            let _permit = permit;
            match timeout(LIFETIME, connection).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!("a connection ended: {error}"),
                Err(_) => tracing::debug!("a connection was closed after {} s", LIFETIME.as_secs()),
            }
        });
    }
    if timeout(LAST_WORDS, graceful.shutdown()).await.is_err() {
        tracing::debug!("a connection was still open after {} s", LAST_WORDS.as_secs());
    }
}
