//! Log lines: text on a terminal, otherwise one JSON object per line. ERROR means a bug of the server or a failure of
//! its store. Tokens, tickets and the query of a URL are never logged.

use std::io::IsTerminal;

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use crate::config::LogFormat;

/// Maximum number of lines that wait for standard error. Further lines are dropped, because a blocked log must not stop
/// a shard.
const MAX_LINES: usize = 16 * 1024;

/// Writes the waiting lines when it is dropped.
#[must_use = "lines are lost when it is dropped early"]
pub struct LogGuard(#[expect(dead_code, reason = "held for its drop")] WorkerGuard);

/// Installs the process-wide subscriber. Does nothing if there is one, so that a program can embed the server.
///
/// # Errors
/// The filter cannot be parsed.
pub fn install(format: LogFormat, filter: &str) -> Result<LogGuard, ParseError> {
    let filter = EnvFilter::try_new(filter)?;
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(MAX_LINES)
        .lossy(true)
        .thread_name("log")
        .finish(std::io::stderr());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(writer);
    let json = match format {
        LogFormat::Auto => !std::io::stderr().is_terminal(),
        LogFormat::Json => true,
        LogFormat::Text => false,
    };
    // An embedding program may have its own subscriber.
    let _ = if json { builder.json().flatten_event(true).try_init() } else { builder.try_init() };
    Ok(LogGuard(guard))
}
