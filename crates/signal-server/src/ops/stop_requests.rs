//! Requests to stop. Comes in: signals, and the end of standard input. Goes out: when a server must drain, and when the
//! drain must end. Deliberately absent: how signals are received; the program does that.

use tokio::sync::watch;

/// The requests so far. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct StopRequests(watch::Sender<Received>);

#[derive(Clone, Copy, Debug, Default)]
struct Received {
    signals: u32,
    input_ended: bool,
}

impl StopRequests {
    /// A signal arrived.
    pub fn signal(&self) {
        self.0.send_modify(|received| received.signals = received.signals.saturating_add(1));
    }

    /// Standard input has ended, which is the same request as a first signal. The parent may send that signal, too, so
    /// both together are one request.
    pub fn input_ended(&self) {
        self.0.send_modify(|received| received.input_ended = true);
    }

    /// Completes when the server must stop.
    pub fn requested(&self) -> impl Future<Output = ()> + Send + use<> {
        self.until(|received| received.signals >= 1 || received.input_ended)
    }

    /// Completes when the server must stop at once: after a second signal.
    pub fn at_once(&self) -> impl Future<Output = ()> + Send + use<> {
        self.until(|received| received.signals >= 2)
    }

    fn until(&self, is_met: fn(&Received) -> bool) -> impl Future<Output = ()> + Send + use<> {
        let mut received = self.0.subscribe();
        async move {
            if received.wait_for(is_met).await.is_err() {
                // No request can come any more.
                std::future::pending().await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: what counts as a request to stop.

    use futures_util::FutureExt;

    use super::*;

    /// Whether a stop is requested, and whether a stop at once.
    fn received(requests: &StopRequests) -> (bool, bool) {
        let is_ready = |requested: Option<()>| requested.is_some();
        (is_ready(requests.requested().now_or_never()), is_ready(requests.at_once().now_or_never()))
    }

    #[test]
    fn end_of_input_and_the_first_signal_count_as_one_request() {
        for input_first in [true, false] {
            let requests = StopRequests::default();
            assert_eq!(received(&requests), (false, false));
            if input_first {
                requests.input_ended()
            } else {
                requests.signal()
            }
            assert_eq!(received(&requests), (true, false));
            if input_first {
                requests.signal()
            } else {
                requests.input_ended()
            }
            assert_eq!(received(&requests), (true, false), "input first: {input_first}");
            requests.signal();
            assert_eq!(received(&requests), (true, true));
        }
        let signals = StopRequests::default();
        signals.signal();
        signals.signal();
        assert_eq!(received(&signals), (true, true), "without an input");
    }

    #[tokio::test]
    async fn waiters_are_notified() {
        let requests = StopRequests::default();
        let (asked, at_once) =
            (tokio::spawn(requests.requested()), tokio::spawn(requests.at_once()));
        requests.input_ended();
        asked.await.unwrap();
        requests.signal();
        requests.signal();
        at_once.await.unwrap();
    }
}
