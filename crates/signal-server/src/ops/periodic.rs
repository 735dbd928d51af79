//! Periodic tasks beside the listeners. Comes in: the clock, SIGHUP. Goes out: a reloaded certificate, a warning.
//! Deliberately absent: anything that a peer waits for.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::interval;
use tracing::{info, warn};

use crate::socket::tls::TlsReloader;

/// Interval of checks of the certificate files.
const TLS_CHECK: Duration = Duration::from_secs(10);
/// Interval of the warning about debug mode beyond loopback.
const DEBUG_WARNING: Duration = Duration::from_secs(60);

/// Reloads the certificate when its files change, and at each SIGHUP.
pub(crate) async fn reload_tls(tls: Arc<TlsReloader>) {
    let mut ticks = interval(TLS_CHECK);
    let mut hangup = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).ok();
    loop {
        let hung_up = async {
            match &mut hangup {
                Some(hangup) => hangup.recv().await,
                None => None,
            }
        };
        let reloaded = tokio::select! {
            _ = ticks.tick() => tls.reload_if_changed(),
            Some(()) = hung_up => tls.reload().map(|()| true),
        };
        match reloaded {
            Ok(true) => info!("certificate reloaded"),
            Ok(false) => {}
            Err(error) => warn!(%error, "certificate not reloaded; the old one stays"),
        }
    }
}

/// Warns about debug mode beyond loopback, again and again.
pub(crate) async fn warn_of_debug() {
    let mut ticks = interval(DEBUG_WARNING);
    loop {
        ticks.tick().await;
        warn!("debug mode is open to debug.allow_from: anybody there can join as anybody");
    }
}
