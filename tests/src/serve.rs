//! HTTP servers of imitations.

use std::net::TcpListener;
use std::thread;

use axum::Router;

/// Serves for as long as the process lives; a test's world ends with it.
///
/// # Panics
/// When the listener is not bound.
pub(crate) fn serve(listener: TcpListener, router: Router) {
    listener.set_nonblocking(true).expect("a listener can be told so");
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("it listens");
            axum::serve(listener, router).await.expect("it serves");
        });
    });
}
