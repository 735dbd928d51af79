//! A client whose own timers hardly run, as a hidden tab of a browser, over a real socket: it sends nothing but what a
//! WebSocket answers by itself.

use anyhow::{Result, bail, ensure};
use lianmai_e2e_support::raw_ws::{PONG, RawWs, Received};
use lianmai_e2e_support::{ServerProcess, TempDir};
