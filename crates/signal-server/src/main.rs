//! The binary: reads the command line, starts the server, waits for a signal. Exit codes: 0 stopped in
//! time, 1 could not start, 2 the configuration has problems, 3 stopped before everything had ended, or because
//! a part of it had failed.

use std::process::ExitCode;

use lianmai_signal_server::cli::{self, Command};
use lianmai_signal_server::{Server, raise_descriptor_limit, telemetry};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    let cli = cli::parse();
    match cli.command {
        Command::Run(run) => serve(&run),
        other => cli::execute(&other),
    }
}

#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "addresses and start errors are for the caller"
)]
fn serve(run: &cli::Run) -> ExitCode {
    let config = match run.load() {
        Ok(config) => config,
        Err(problems) => {
            eprintln!("{problems}");
            return ExitCode::from(2);
        }
    };
    let _log = match telemetry::install(config.log_format, &config.log_filter) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("log.filter: {error}");
            return ExitCode::from(2);
        }
    };
    if let Err(error) = raise_descriptor_limit() {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    let scheme = if config.tls.is_some() { "wss" } else { "ws" };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("cannot start: {error}");
            return ExitCode::from(1);
        }
    };
    runtime.block_on(async {
        let (mut terminate, mut interrupt) =
            match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
                (Ok(terminate), Ok(interrupt)) => (terminate, interrupt),
                (Err(error), _) | (_, Err(error)) => {
                    eprintln!("cannot listen for signals: {error}");
                    return ExitCode::from(1);
                }
            };
        let server = match Server::bind(config).await {
            Ok(server) => server,
            Err(error) => {
                eprintln!("{error}");
                return ExitCode::from(1);
            }
        };
        let addresses = server.addresses();
        println!("signal  {scheme}://{}/v1/signal", addresses.public);
        println!("rtmp    rtmp://{}/live", addresses.rtmp);
        println!(
            "admin   http://{}  (token in {})",
            addresses.admin,
            server.admin_token_file().display()
        );
        let stop = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        if server.run(stop).await { ExitCode::SUCCESS } else { ExitCode::from(3) }
    })
}
