//! Requests to stop. Comes in: signals, and the end of standard input. Goes out: when a server must drain, and when the
//! drain must end. Deliberately absent: how signals are received; the program does that.

use tokio::sync::watch;

/// The requests so far. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Stops(watch::Sender<Heard>);

#[derive(Clone, Copy, Debug, Default)]
struct Heard {
    signals: u32,
    input_ended: bool,
}

impl Stops {
    /// A signal arrived.
    pub fn signal(&self) {
        self.0.send_modify(|heard| heard.signals = heard.signals.saturating_add(1));
    }

    /// Standard input has ended, which is the same request as a first signal. The parent may send that signal, too, so
    /// both together are one request.
    pub fn input_ended(&self) {
        self.0.send_modify(|heard| heard.input_ended = true);
    }

    /// Completes when the server must stop.
    pub fn asked(&self) -> impl Future<Output = ()> + Send + use<> {
        self.until(|heard| heard.signals >= 1 || heard.input_ended)
    }

    /// Completes when the server must stop at once: after a second signal.
    pub fn at_once(&self) -> impl Future<Output = ()> + Send + use<> {
        self.until(|heard| heard.signals >= 2)
    }

    fn until(&self, is_it: fn(&Heard) -> bool) -> impl Future<Output = ()> + Send + use<> {
        let mut heard = self.0.subscribe();
        async move {
            if heard.wait_for(is_it).await.is_err() {
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
    fn heard(stops: &Stops) -> (bool, bool) {
        let is_ready = |asked: Option<()>| asked.is_some();
        (is_ready(stops.asked().now_or_never()), is_ready(stops.at_once().now_or_never()))
    }

    #[test]
    fn the_end_of_input_and_the_first_signal_are_one_request() {
        for input_first in [true, false] {
            let stops = Stops::default();
            assert_eq!(heard(&stops), (false, false));
            if input_first {
                stops.input_ended()
            } else {
                stops.signal()
            }
            assert_eq!(heard(&stops), (true, false));
            if input_first {
                stops.signal()
            } else {
                stops.input_ended()
            }
            assert_eq!(heard(&stops), (true, false), "input first: {input_first}");
            stops.signal();
            assert_eq!(heard(&stops), (true, true));
        }
        let signals = Stops::default();
        signals.signal();
        signals.signal();
        assert_eq!(heard(&signals), (true, true), "without an input");
    }

    #[tokio::test]
    async fn who_waits_hears_of_it() {
        let stops = Stops::default();
        let (asked, at_once) = (tokio::spawn(stops.asked()), tokio::spawn(stops.at_once()));
        stops.input_ended();
        asked.await.unwrap();
        stops.signal();
        stops.signal();
        at_once.await.unwrap();
    }
}
