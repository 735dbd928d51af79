//! The binary: reads the command line, starts the server and waits for signals. The first signal drains, the second one
//! ends the drain. With the option for it, the end of standard input drains, too. Exit codes: 0 everything was handed
//! over, 1 could not start, 2 the configuration has problems, 3 stopped before everything was handed over, or a part of
//! the server had failed.

use std::io;
use std::process::ExitCode;

use lianmai_signal_server::cli::{self, Command};
use lianmai_signal_server::ops::logs;
use lianmai_signal_server::ops::stop_requests::StopRequests;
use lianmai_signal_server::{Server, raise_descriptor_limit};
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
fn serve(run: &cli::RunArgs) -> ExitCode {
    let config = match run.load() {
        Ok(config) => config,
        Err(problems) => {
            eprintln!("{problems}");
            return ExitCode::from(2);
        }
    };
    let _log = match logs::install(config.log_format, &config.log_filter) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("log.filter: {error}");
            return ExitCode::from(2);
        }
    };
    if let Err(error) = raise_descriptor_limit() {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    let tls = if config.tls.is_some() { "s" } else { "" };
    let admin_tls = if config.admin_tls { "s" } else { "" };
    let has_page = config.page;
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
        if has_page {
            println!("page    http{tls}://{}/", addresses.public);
        }
        println!("signal  ws{tls}://{}/v1/signal", addresses.public);
        println!("rtmp    rtmp://{}/live", addresses.rtmp);
        if let Some(rtmps) = addresses.rtmps {
            println!("rtmps   rtmps://{rtmps}/live");
        }
        println!(
            "admin   http{admin_tls}://{}  (token in {})",
            addresses.admin,
            server.admin_token_file().display()
        );
        let requests = StopRequests::default();
        if run.stop_with_stdin {
            let requests = requests.clone();
            // Reading blocks. A blocking task would delay the end of the runtime, so this is a thread.
            std::thread::spawn(move || {
                let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
                requests.input_ended();
            });
        }
        let (asked, at_once) = (requests.requested(), requests.at_once());
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                requests.signal();
            }
        });
        let handed_over = server.run_until(asked, at_once).await;
        if handed_over { ExitCode::SUCCESS } else { ExitCode::from(3) }
    })
}
