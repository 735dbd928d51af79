//! Checks the table `tasks`. Comes in: the table as written. Goes out: how push tasks are carried out, and reports of
//! problems. Deliberately absent: whether the programs exist, which the server checks when it starts.

use std::path::PathBuf;

use lianmai_signal_engine::TaskPolicy;

use super::HOUR_MS;
use super::raw::RawTasks;
use super::validate::{Check, MIB};

/// How push tasks are carried out on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TasksConfig {
    /// Whether push tasks are served; `None`: if the programs for them are found.
    pub serve: Option<bool>,
    /// The compositor program; next to the server's own program when absent.
    pub compositor: Option<PathBuf>,
    /// The ffmpeg program.
    pub ffmpeg: PathBuf,
    /// Processor time for all tasks together, in hundredths of a core.
    pub cpu_percent: usize,
    /// Memory for all tasks together, in bytes.
    pub memory_bytes: usize,
    /// When tasks run and how often they are retried.
    pub policy: TaskPolicy,
    /// Whether tasks may push to addresses that are not public.
    pub private_push: bool,
    /// Whether tasks may fetch images from such addresses.
    pub private_images: bool,
    /// PEM file with further certificate authorities for `rtmps` and `https`.
    pub ca: Option<PathBuf>,
}

impl TasksConfig {
    /// The defaults. `is_local` says whether only this machine can use the server.
    pub(super) fn new(is_local: bool) -> Self {
        TasksConfig {
            serve: None,
            compositor: None,
            ffmpeg: PathBuf::from("ffmpeg"),
            cpu_percent: default_cpu_percent(),
            memory_bytes: 2048 * MIB,
            policy: TaskPolicy::default(),
            private_push: is_local,
            private_images: is_local,
            ca: None,
        }
    }
}

/// Half of this machine, but at least one core.
fn default_cpu_percent() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (cores * 50).max(100)
}

pub(super) fn tasks(check: &mut Check, raw: RawTasks, is_local: bool) -> TasksConfig {
    let d = TasksConfig::new(is_local);
    for (key, path) in [("tasks.compositor", &raw.compositor), ("tasks.ca", &raw.ca)] {
        if let Some(path) = path
            && let Err(error) = std::fs::File::open(path)
        {
            check.problem(key, format!("`{}` cannot be read: {error}", path.display()));
        }
    }
    let policy = TaskPolicy {
        idle_ms: check.number("tasks.idle_ms", raw.idle_ms, d.policy.idle_ms, 1_000..=24 * HOUR_MS),
        max_retries: check.number(
            "tasks.max_retries",
            raw.max_retries,
            d.policy.max_retries,
            0..=1_000_000,
        ),
        ..d.policy
    };
    TasksConfig {
        serve: raw.serve,
        compositor: raw.compositor,
        ffmpeg: raw.ffmpeg.unwrap_or(d.ffmpeg),
        cpu_percent: check.number("tasks.cpu_percent", raw.cpu_percent, d.cpu_percent, 1..=100_000),
        memory_bytes: check.number(
            "tasks.memory_bytes",
            raw.memory_bytes,
            d.memory_bytes,
            64 * MIB..=1024 * 1024 * MIB,
        ),
        policy,
        private_push: raw.private_push.unwrap_or(d.private_push),
        private_images: raw.private_images.unwrap_or(d.private_images),
        ca: raw.ca,
    }
}
