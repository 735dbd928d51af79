//! File descriptors: each connection needs one. Comes in: the limit of the process. Goes out: the number of connections
//! for each listener, so that a listener can still accept and refuse further connections, and the admin API still
//! answers.

use std::io;

use rlimit::Resource;
use tracing::warn;

use super::accept::MAX_REFUSALS;
use crate::config::Config;
use crate::tasks;

/// Descriptors for the runtime, the listeners and files.
const OWN_DESCRIPTORS: usize = 32;
/// Descriptors for a run of a push task: two pipes, the process, and one in reserve while it starts.
const DESCRIPTORS_PER_RUN: usize = 4;
/// Maximum number of connections of the admin listener.
const MAX_ADMIN_CONNECTIONS: usize = 64;

/// Maximum number of connections of each listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ConnectionCounts {
    public: usize,
    rtmp: usize,
    admin: usize,
}

/// Raises the limit of this process as far as the system allows. The program should call it, because it applies to the
/// whole process.
///
/// # Errors
/// The system refuses the change.
pub fn raise_limit() -> io::Result<()> {
    rlimit::increase_nofile_limit(rlimit::INFINITY).map(drop)
}

/// Lowers the connection limits of a configuration to what the limit of open files allows, and logs that. Returns the
/// limit of the admin listener.
pub(crate) fn fit(config: &mut Config) -> usize {
    let wanted = ConnectionCounts {
        public: config.max_connections,
        rtmp: config.relay.max_connections,
        admin: MAX_ADMIN_CONNECTIONS,
    };
    let limit = match Resource::NOFILE.get() {
        Ok((limit, _)) => usize::try_from(limit).unwrap_or(usize::MAX),
        Err(error) => {
            warn!(%error, "the limit of open files is not known");
            return wanted.admin;
        }
    };
    let fitting = divide(for_connections(limit, config), wanted);
    if fitting != wanted {
        warn!(
            limit,
            max_connections = fitting.public,
            relay_max_connections = fitting.rtmp,
            "the limit of open files allows fewer connections than configured; raise it, or lower \
             limits.max_connections and relay.max_connections"
        );
    }
    let per_address = &mut config.max_connections_per_address;
    *per_address = fit_per_address(*per_address, config.max_connections, fitting.public);
    let per_address = &mut config.relay.max_connections_per_address;
    *per_address = fit_per_address(*per_address, config.relay.max_connections, fitting.rtmp);
    config.max_connections = fitting.public;
    config.relay.max_connections = fitting.rtmp;
    fitting.admin
}

/// The descriptors left for connections of the listeners. Forwards may take a sixteenth of the limit, and runs of push
/// tasks a quarter.
fn for_connections(limit: usize, config: &Config) -> usize {
    let has_forwards = config.apps.iter().any(|app| !app.forwards.is_empty());
    let forwards = if has_forwards { limit / 16 } else { 0 };
    let tasks = match config.tasks.serve {
        Some(true) => tasks::max_runs(&config.tasks).saturating_mul(DESCRIPTORS_PER_RUN),
        _ => 0,
    };
    limit - forwards - tasks.min(limit / 4)
}

/// The limit for one address when the listener has only `fitting` connections: at most an eighth, unless it was no
/// limit.
fn fit_per_address(per_address: usize, wanted: usize, fitting: usize) -> usize {
    if per_address < wanted { per_address.min((fitting / 8).max(1)) } else { per_address }
}

/// Divides descriptors. When there are too few, the admin listener gets at most an eighth, and RTMP a quarter of the
/// rest.
fn divide(limit: usize, wanted: ConnectionCounts) -> ConnectionCounts {
    let rest = limit.saturating_sub(OWN_DESCRIPTORS + 2 * MAX_REFUSALS);
    let admin = wanted.admin.min(rest / 8).max(1);
    let rest = rest.saturating_sub(admin);
    // RTMP also gets what the public listener does not need.
    let rtmp = wanted.rtmp.min((rest / 4).max(rest.saturating_sub(wanted.public))).max(1);
    let public = wanted.public.min(rest.saturating_sub(rtmp)).max(1);
    ConnectionCounts { public, rtmp, admin }
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: how descriptors are divided.

    use super::*;

    #[test]
    fn fitting_limits_are_unchanged() {
        let wanted = ConnectionCounts { public: 50_000, rtmp: 4096, admin: 64 };
        let enough = 50_000 + 4096 + 64 + OWN_DESCRIPTORS + 2 * MAX_REFUSALS;
        for limit in [enough, 1 << 20, usize::MAX] {
            assert_eq!(divide(limit, wanted), wanted, "{limit}");
        }
        let less = divide(enough - 1, wanted);
        assert_eq!(less, ConnectionCounts { public: 49_999, ..wanted });
    }

    #[test]
    fn tasks_and_forwards_are_reserved_first() {
        let mut config = Config::load(None, std::iter::empty(), &[]).unwrap();
        let left = |config: &Config| for_connections(1600, config);
        config.tasks.serve = Some(false);
        assert_eq!(left(&config), 1600);
        config.tasks.serve = Some(true);
        (config.tasks.cpu_percent, config.tasks.memory_bytes) = (100_000, 1400 << 20);
        assert_eq!(left(&config), 1600 - 10 * DESCRIPTORS_PER_RUN, "tasks are bounded by memory");
        config.tasks.cpu_percent = 20;
        assert_eq!(
            left(&config),
            1600 - 5 * DESCRIPTORS_PER_RUN,
            "tasks are bounded by the processor"
        );
        (config.tasks.cpu_percent, config.tasks.memory_bytes) = (100_000, 1 << 40);
        assert_eq!(left(&config), 1200, "most descriptors are for connections");
    }

    #[test]
    fn the_limit_per_address_stays_a_fraction() {
        assert_eq!(fit_per_address(256, 4096, 4096), 256);
        assert_eq!(fit_per_address(256, 4096, 220), 27);
        assert_eq!(fit_per_address(256, 4096, 1), 1);
        assert_eq!(
            fit_per_address(4096, 4096, 220),
            4096,
            "behind a proxy the limit is not reduced"
        );
    }

    #[test]
    fn every_listener_gets_some_and_the_sum_fits() {
        let wanted = ConnectionCounts { public: 50_000, rtmp: 4096, admin: 64 };
        for limit in [80, 128, 256, 1024, 4096, 20_000] {
            let ConnectionCounts { public, rtmp, admin } = divide(limit, wanted);
            assert!(public + rtmp + admin + OWN_DESCRIPTORS + 2 * MAX_REFUSALS <= limit, "{limit}");
            assert!(public > rtmp && rtmp > 0 && admin > 0, "{limit}: {public} {rtmp} {admin}");
        }
        let few = ConnectionCounts { public: 10, rtmp: 500, admin: 64 };
        assert_eq!(divide(1024, few), few, "RTMP gets what the public listener leaves");
        assert_eq!(divide(0, wanted), ConnectionCounts { public: 1, rtmp: 1, admin: 1 });
    }
}
