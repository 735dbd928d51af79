//! The child processes of a process, as the kernel reports them. In: process ids. Out: their relations, their programs,
//! and their use of resources. Deliberately absent: ending them.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::sleep;

use crate::process::{cpu_s, rss_kib};

/// The parent and the state of a process; `None` if it does not exist.
#[must_use]
pub fn status(pid: u32) -> Option<(u32, char)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?.chars().next()?;
    Some((fields.next()?.parse().ok()?, state))
}

/// The name of a process's program, truncated to 15 characters.
#[must_use]
pub fn name_of(pid: u32) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/comm"));
    text.unwrap_or_default().trim().to_owned()
}

/// Whether a process is an ffmpeg that encodes video.
#[must_use]
pub fn is_encoder(pid: u32) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).contains("libx264")
}

/// All descendants of a process.
#[must_use]
pub fn descendants(pid: u32) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let all = entries.filter_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        Some((pid, status(pid)?.0))
    });
    let all: Vec<(u32, u32)> = all.collect();
    let mut found = vec![pid];
    let mut at = 0;
    while at < found.len() {
        let parent = found[at];
        found.extend(all.iter().filter(|(_, of)| *of == parent).map(|(child, _)| *child));
        at += 1;
    }
    found.split_off(1)
}

/// The resources that processes use.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Processor time in percent of a core.
    pub cpu: f64,
    /// Resident memory (RSS) in KiB; shared memory counts for each process.
    pub rss_kib: u64,
    /// Proportional memory (PSS) in KiB; shared memory counts once.
    pub pss_kib: u64,
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Usage) {
        self.cpu += other.cpu;
        self.rss_kib += other.rss_kib;
        self.pss_kib += other.pss_kib;
    }
}

impl Usage {
    /// Measures each of these processes over `window`.
    ///
    /// # Errors
    /// One of the processes has ended.
    pub async fn of(pids: &[u32], window: Duration) -> Result<Vec<Usage>> {
        let used = || pids.iter().map(|pid| cpu_s(*pid)).collect::<Result<Vec<_>>>();
        let (begin, before) = (std::time::Instant::now(), used()?);
        sleep(window).await;
        let (after, elapsed) = (used()?, begin.elapsed().as_secs_f64());
        let all = pids.iter().zip(before.iter().zip(after));
        all.map(|(pid, (before, after))| {
            let cpu = (after - before) / elapsed * 100.0;
            Ok(Usage { cpu, rss_kib: rss_kib(*pid)?, pss_kib: pss_kib(*pid)? })
        })
        .collect()
    }
}

fn pss_kib(pid: u32) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).context("no Pss")?;
    Ok(line.split_whitespace().next().context("empty Pss")?.parse()?)
}
