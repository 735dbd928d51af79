//! The process: orders come in as lines, reports go out as lines, and one run executes the orders.
//!
//! In: standard input. Out: standard output, and the exit code. Deliberately absent: the run itself. The end of
//! standard input ends the run, so the run does not outlive the parent process.

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use lianmai_media_plane::upstream::UpstreamOptions;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::mpsc;

use crate::child::{self, Tools};
use crate::message::{Failure, Job, MAX_LINE, Order, Policy, Report, VERSION};
use crate::run::{RunEnvironment, run};

/// Maximum number of orders, and of reports, that wait.
const MAX_WAITING: usize = 64;

/// Runs the compositor process until its run has ended.
#[must_use]
pub fn process() -> ExitCode {
    // The run goes on even if the system cannot limit its memory.
    let _ = child::limit_resources();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let Ok(runtime) = runtime else { return ExitCode::FAILURE };
    let served = runtime.block_on(serve(tokio::io::stdin(), tokio::io::stdout()));
    // Does not wait for a pending read of standard input.
    runtime.shutdown_background();
    if served.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Executes the orders on `input`, and returns when the run has ended.
///
/// # Errors
/// The first line is not a valid start order, or reports cannot be written.
pub async fn serve<I, O>(input: I, output: O) -> io::Result<()>
where
    I: AsyncRead + Send + Unpin + 'static,
    O: AsyncWrite + Send + Unpin + 'static,
{
    let mut lines = Lines { input: BufReader::new(input), line: Vec::new() };
    let (said, reports) = mpsc::channel(MAX_WAITING);
    let writer = tokio::spawn(write(reports, output));
    let (number, job, environment) = match start(&mut lines).await {
        Ok(start) => start,
        Err((number, detail)) => {
            let failure = Failure::Internal;
            let _ = said.send(Report::Failed { run: number, failure, detail }).await;
            drop(said);
            writer.await??;
            return Err(io::ErrorKind::InvalidInput.into());
        }
    };
    let (orders, queue) = mpsc::channel(MAX_WAITING);
    let reader = tokio::spawn(async move {
        while let Some(line) = lines.next().await {
            let order = match serde_json::from_slice(line) {
                Ok(order) => order,
                // An order of a later version, or garbage.
                Err(_) => continue,
            };
            if orders.send(order).await.is_err() {
                return;
            }
        }
    });
    run(number, job, environment, queue, said).await;
    reader.abort();
    writer.await?
}

async fn start<I: AsyncRead + Unpin>(
    lines: &mut Lines<I>,
) -> Result<(u64, Job, RunEnvironment), (u64, String)> {
    let line = lines.next().await.ok_or((0, "nothing was ordered".to_owned()))?;
    // The error of serde is dropped: it may quote the text, which contains secrets.
    let order =
        serde_json::from_slice(line).map_err(|_| (0, "the order is malformed".to_owned()))?;
    let Order::Start { v, run, job, policy } = order else {
        return Err((0, "the first order is no start".to_owned()));
    };
    if v != VERSION {
        return Err((run, format!("version {v} is not served")));
    }
    job.check().map_err(|error| (run, error.to_string()))?;
    let environment = environment(policy).map_err(|error| (run, error))?;
    Ok((run, *job, environment))
}

fn environment(policy: Policy) -> Result<RunEnvironment, String> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(path) = &policy.authorities {
        let failed = |error: &dyn std::fmt::Display| format!("authorities: {error}");
        let all = CertificateDer::pem_file_iter(Path::new(path)).map_err(|error| failed(&error))?;
        for certificate in all {
            let certificate = certificate.map_err(|error| failed(&error))?;
            roots.add(certificate).map_err(|error| failed(&error))?;
        }
    }
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let options = UpstreamOptions::new(Arc::new(tls));
    Ok(RunEnvironment {
        tools: policy.ffmpeg.map_or_else(Tools::default, |ffmpeg| Tools { ffmpeg: ffmpeg.into() }),
        upstream: UpstreamOptions { own: policy.own, public_only: !policy.private_push, ..options },
        private_images: policy.private_images,
    })
}

async fn write<O: AsyncWrite + Unpin>(
    mut reports: mpsc::Receiver<Report>,
    mut output: O,
) -> io::Result<()> {
    while let Some(report) = reports.recv().await {
        let mut line = serde_json::to_vec(&report).map_err(io::Error::other)?;
        line.push(b'\n');
        output.write_all(&line).await?;
        output.flush().await?;
    }
    Ok(())
}

/// Lines of bounded length. A longer line ends the input.
struct Lines<I> {
    input: BufReader<I>,
    line: Vec<u8>,
}

impl<I: AsyncRead + Unpin> Lines<I> {
    async fn next(&mut self) -> Option<&[u8]> {
        self.line.clear();
        let mut bounded = (&mut self.input).take(MAX_LINE as u64);
        let count = bounded.read_until(b'\n', &mut self.line).await.ok()?;
        (count > 0 && self.line.ends_with(b"\n")).then_some(&self.line)
    }
}
