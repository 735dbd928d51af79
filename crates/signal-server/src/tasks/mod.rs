//! Carries out push tasks on this machine. Comes in: orders of the engines, streams of the relay by pull URLs. Goes
//! out: a process for each run that composes and pushes (`crates/compositor`), and its reports. Deliberately absent:
//! when a run begins, its content, and whether it is retried: the engine decides that.
//!
//! ```text
//!   shard --Order--> LocalExecutor --OrderQueue--> child.rs == pipes == lianmai-compositor == ffmpegs
//!     ^------------- Input::Task ---------------'
//!   shard --Question::Admit--> capacity.rs (how much there is, and whose share), address.rs (where it leads)
//! ```

mod address;
mod capacity;
mod child;
mod cost;
mod job;
mod local;
mod order_queue;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lianmai_compositor::message;
use lianmai_media_plane::LogLimiter;
use tracing::{info, warn};

use self::address::PushTargets;
use self::capacity::TaskCapacity;
use self::cost::Cost;
use self::local::ExecutorParts;
use crate::config::{Config, TasksConfig};
use crate::media::Providers;
use crate::shard::Shards;

#[cfg(test)]
pub(crate) use capacity::CapacityStats;
pub(crate) use local::{LocalExecutor, TaskStats};

/// The compositor program, next to the server's own program.
const COMPOSITOR: &str = "lianmai-compositor";

/// The programs that carry out tasks.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    compositor: PathBuf,
    ffmpeg: PathBuf,
}

/// A required program is missing.
#[derive(Debug, thiserror::Error)]
#[error("push tasks cannot be carried out: there is no program `{0}`")]
pub struct MissingProgram(pub String);

/// Finds the programs that carry out tasks; `None`: no tasks are served.
///
/// # Errors
/// Tasks must be served, but a program is missing.
pub(crate) fn find(config: &TasksConfig) -> Result<Option<Programs>, MissingProgram> {
    if config.serve == Some(false) {
        return Ok(None);
    }
    match programs(config) {
        Ok(programs) => {
            info!(compositor = %programs.compositor.display(), ffmpeg = %programs.ffmpeg.display(),
                "push tasks are served");
            Ok(Some(programs))
        }
        Err(missing) if config.serve == Some(true) => Err(missing),
        Err(MissingProgram(program)) => {
            info!(program, "push tasks are not served: there is no such program");
            Ok(None)
        }
    }
}

fn programs(config: &TasksConfig) -> Result<Programs, MissingProgram> {
    let compositor = match &config.compositor {
        Some(path) => path.clone(),
        None => beside(COMPOSITOR).unwrap_or_else(|| PathBuf::from(COMPOSITOR)),
    };
    let found =
        |path: &Path| located(path).ok_or_else(|| MissingProgram(path.display().to_string()));
    Ok(Programs { compositor: found(&compositor)?, ffmpeg: found(&config.ffmpeg)? })
}

/// A program in the folder of this one.
fn beside(name: &str) -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?;
    Some(own.parent()?.join(name)).filter(|path| path.is_file())
}

/// The path of a program: as given if it contains a folder, otherwise in a folder of `PATH`.
fn located(program: &Path) -> Option<PathBuf> {
    if program.components().count() > 1 {
        // Absolute, because a child may have another working directory.
        return std::path::absolute(program).ok().filter(|path| path.is_file());
    }
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// The resources of this machine that tasks may use.
fn total(config: &TasksConfig) -> Cost {
    Cost { cpu: config.cpu_percent * 10, memory: config.memory_bytes }
}

/// Maximum number of concurrent runs.
pub(crate) fn max_runs(config: &TasksConfig) -> usize {
    total(config).max_tasks()
}

/// An executor on this machine. `own` are the listeners of this server.
pub(crate) fn executor(
    programs: Programs,
    config: &Config,
    own: &[SocketAddr],
    providers: Providers,
    shards: Shards,
    lines: LogLimiter,
) -> Arc<LocalExecutor> {
    let tasks = &config.tasks;
    if tasks.private_push && !config.has_debug_app() {
        warn!(
            "tasks.private_push is set: clients with the right `tasks` can push into this network"
        );
    }
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let policy = message::Policy {
        ffmpeg: Some(text(&programs.ffmpeg)),
        own: own.to_vec(),
        private_images: tasks.private_images,
        private_push: tasks.private_push,
        authorities: tasks.ca.as_deref().map(text),
    };
    let names = config.public_host.iter().flat_map(|host| {
        let rtmp = config.public_rtmp_port.unwrap_or(config.rtmp_listen.port());
        let rtmps = config.rtmps_listen.map(|listen| listen.port());
        let rtmps = config.public_rtmps_port.or(rtmps);
        [Some(rtmp), rtmps].into_iter().flatten().map(|port| (host.clone(), port))
    });
    let push_targets = PushTargets::new(own.to_vec(), names.collect(), tasks.private_push);
    let capacity = TaskCapacity::new(total(tasks), config.apps.len());
    let program = programs.compositor;
    Arc::new(LocalExecutor::new(ExecutorParts {
        program,
        policy,
        push_targets,
        capacity,
        providers,
        shards,
        lines,
    }))
}

/// The spec of a task with this layout.
#[cfg(test)]
fn spec_of(layout: &str) -> lianmai_signal_engine::task::Spec {
    let text = format!(
        r#"{{"taskId": "a", "streamUrl": "RTMP://push.example/live/key", "layout": {layout}}}"#
    );
    let task = serde_json::from_str(&text).unwrap();
    lianmai_signal_engine::task::Draft::of_wire(&task).unwrap().spec
}
