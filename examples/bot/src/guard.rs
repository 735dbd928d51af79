//! Ends a program together with the process that started it. In: a command, and a standard input to which nobody
//! writes: it ends with the process that holds its other end. Out: the exit code of the command, which is killed at
//! that end. Deliberately absent: any use of the input. ffmpeg needs this guard, because it ignores the end of its
//! input.

use std::ffi::OsString;
use std::process::Stdio;
use std::{io, thread};

use anyhow::Context;
use tokio::process::Command;
use tokio::sync::oneshot;

pub(crate) async fn run(command: &[OsString]) -> anyhow::Result<()> {
    let (program, arguments) = command.split_first().context("nothing to run")?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start {}: is it installed?", program.display()))?;
    tokio::select! {
        status = child.wait() => std::process::exit(status?.code().unwrap_or(1)),
        () = input_ends(true) => Ok(child.kill().await?),
    }
}

/// Completes when standard input ends; never if `enabled` is false.
pub(crate) async fn input_ends(enabled: bool) {
    if !enabled {
        return std::future::pending().await;
    }
    let (end, ended) = oneshot::channel();
    // Reading blocks, and a blocked task would delay the end of the program.
    thread::spawn(move || {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        let _ = end.send(());
    });
    let _ = ended.await;
}
