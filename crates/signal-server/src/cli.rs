//! The command line. Comes in: arguments. Goes out: what to run, or the output of a small tool.
//! Deliberately absent: the server, see `main.rs`.

mod admin;
mod remote;
mod table;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, Parser, Subcommand};
use lianmai_protocol::{Appkey, ChannelName, UserId, WallTime};

use crate::api::messages;
use crate::auth::{TokenSpec, gen_jwt};
use crate::config::{AppMode, Config, ConfigProblem, ConfigProblems, DEFAULT_TOML};

/// Exit code for a configuration or arguments that cannot be used.
const UNUSABLE: u8 = 2;

/// Signaling server for live rooms.
#[derive(Debug, Parser)]
#[command(name = "signal-server", version, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server. Without configuration: one app `demo` for this machine only.
    Run(RunArgs),
    /// Report all problems of a configuration, or print `ok` and warnings.
    CheckConfig {
        /// Configuration file.
        #[arg(long, value_name = "FILE", env = "LIANMAI_CONFIG")]
        config: Option<PathBuf>,
        /// Treat warnings as problems.
        #[arg(long)]
        strict: bool,
    },
    /// Print the default configuration with comments.
    GenConfig,
    /// Print a JWT, signed with the app's first key.
    GenToken(GenTokenArgs),
    /// List, show, make and close the channels of a running server.
    Channels(admin::ChannelsArgs),
    /// List the members of a channel.
    Members(admin::MembersArgs),
    /// Kick a user out of a channel.
    Kick(admin::KickArgs),
    /// List and lift bans.
    Bans(admin::BansArgs),
    /// List, make and revoke keys of the API.
    Keys(admin::KeysArgs),
    /// Show the events of an app.
    Events(admin::EventsArgs),
    /// Show the history of a channel.
    History(admin::HistoryArgs),
    /// Print the document of the API (OpenAPI).
    GenOpenapi,
    /// Print the document of the messages of members, and of webhooks (AsyncAPI).
    GenAsyncapi,
    /// Print the JSON Schema of all messages.
    GenSchema,
}

/// Arguments of `run`. They override the environment, which overrides the file.
#[derive(Args, Clone, Debug, Default)]
pub struct RunArgs {
    /// Configuration file; see `gen-config`.
    #[arg(long, value_name = "FILE", env = "LIANMAI_CONFIG")]
    pub config: Option<PathBuf>,
    /// IP:PORT of the public listener (WebSocket, HTTP-FLV).
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
    /// IP:PORT of the admin listener.
    #[arg(long, value_name = "ADDR")]
    pub admin_listen: Option<String>,
    /// IP:PORT of the RTMP listener.
    #[arg(long, value_name = "ADDR")]
    pub rtmp_listen: Option<String>,
    /// Directory of secrets and the store.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// Host in push and pull URLs.
    #[arg(long, value_name = "HOST")]
    pub public_host: Option<String>,
    /// Drain when standard input ends, as after a first signal: for a program that starts the server and must not leave
    /// it running, however the program itself ends.
    #[arg(long)]
    pub stop_with_stdin: bool,
    /// Do not start if the configuration has warnings. Without this, they are logged.
    #[arg(long)]
    pub strict: bool,
}

impl RunArgs {
    /// Reads the configuration with the environment of this process.
    ///
    /// # Errors
    /// All problems at once.
    pub fn load(&self) -> Result<Config, ConfigProblems> {
        let flags: Vec<(&str, String)> = [
            ("server.listen", &self.listen),
            ("server.admin_listen", &self.admin_listen),
            ("server.rtmp_listen", &self.rtmp_listen),
            ("server.data_dir", &self.data_dir),
            ("server.public_host", &self.public_host),
        ]
        .into_iter()
        .filter_map(|(path, value)| Some((path, value.clone()?)))
        .collect();
        let config = Config::load(self.config.as_deref(), environment(), &flags)?;
        if self.strict { config.strict() } else { Ok(config) }
    }
}

/// Arguments of `gen-token`.
#[derive(Args, Clone, Debug)]
pub struct GenTokenArgs {
    /// The app.
    #[arg(long)]
    pub appkey: Appkey,
    /// The only channel that the token is for.
    #[arg(long, value_name = "NAME")]
    pub channel: ChannelName,
    /// The only user that it is for.
    #[arg(long)]
    pub uid: UserId,
    /// Validity in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    pub ttl_s: u64,
    /// Configuration file with the app's keys.
    #[arg(long, value_name = "FILE", env = "LIANMAI_CONFIG")]
    pub config: Option<PathBuf>,
}

/// Parses the arguments of this process; ends it if they are invalid or ask for help.
#[must_use]
pub fn parse() -> Cli {
    Cli::parse()
}

/// Carries out a command other than [`Command::Run`]. The exit code is 2 for input that cannot be used.
#[must_use]
pub fn execute(command: &Command) -> ExitCode {
    write(command, &mut io::stdout().lock(), &mut io::stderr().lock())
}

/// Results go to `out`, problems to `err`.
fn write(command: &Command, out: &mut impl Write, err: &mut impl Write) -> ExitCode {
    let result = match command {
        Command::Channels(args) => Some(args.run()),
        Command::Members(args) => Some(args.run()),
        Command::Kick(args) => Some(args.run()),
        Command::Bans(args) => Some(args.run()),
        Command::Keys(args) => Some(args.run()),
        Command::Events(args) => Some(args.run()),
        Command::History(args) => Some(args.run()),
        _ => None,
    };
    let output = match result {
        None => local_output(command),
        Some(Ok(text)) => Ok((text, Vec::new())),
        // The arguments are valid, but the server refused or did not answer.
        Some(Err(problem)) => {
            let _ = writeln!(err, "{problem}");
            return ExitCode::FAILURE;
        }
    };
    let (result, written) = match output {
        Ok((text, warnings)) => {
            let warned =
                warnings.iter().try_for_each(|warning| writeln!(err, "warning: {warning}"));
            let written = warned.and_then(|()| out.write_all(text.as_bytes()));
            (ExitCode::SUCCESS, written.and_then(|()| out.flush()))
        }
        Err(problems) => (ExitCode::from(UNUSABLE), writeln!(err, "{problems}")),
    };
    match written {
        // A reader that closes the pipe early is no failure.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        _ => result,
    }
}

/// The output, and warnings.
fn local_output(command: &Command) -> Result<(String, Vec<ConfigProblem>), String> {
    let alone = |text: String| (text, Vec::new());
    match command {
        Command::Run(_) => Err("`run` has no output".to_owned()),
        Command::CheckConfig { config, strict } => {
            let config = load(config.as_deref())?;
            let config = if *strict { config.strict() } else { Ok(config) };
            let config = config.map_err(|problems| problems.to_string())?;
            Ok(("ok\n".to_owned(), config.warnings))
        }
        Command::GenConfig => Ok(alone(DEFAULT_TOML.to_owned())),
        Command::GenToken(args) => {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let now = WallTime(u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
            let token = gen_token(&load(args.config.as_deref())?, args, now)?;
            Ok(alone(token + "\n"))
        }
        Command::GenOpenapi => Ok(alone(crate::api::docs::text())),
        Command::GenAsyncapi => Ok(alone(messages::text(&messages::asyncapi()))),
        Command::GenSchema => Ok(alone(messages::text(&messages::schema()))),
        Command::Channels(_)
        | Command::Members(_)
        | Command::Kick(_)
        | Command::Bans(_)
        | Command::Keys(_)
        | Command::Events(_)
        | Command::History(_) => Err("a server is asked for that".to_owned()),
    }
}

fn load(file: Option<&Path>) -> Result<Config, String> {
    Config::load(file, environment(), &[]).map_err(|problems| problems.to_string())
}

/// Environment variables that are text.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

fn gen_token(config: &Config, args: &GenTokenArgs, now: WallTime) -> Result<String, String> {
    let appkey = &args.appkey;
    let app = config
        .apps
        .iter()
        .find(|app| app.appkey == *appkey)
        .ok_or_else(|| format!("there is no app `{appkey}` in the configuration"))?;
    let AppMode::Safe(keys) = &app.mode else {
        return Err(format!("app `{appkey}` is in debug mode and takes no tokens"));
    };
    let key = keys.jwt.first().ok_or_else(|| format!("app `{appkey}` has no JWT key"))?;
    let spec = TokenSpec {
        appkey: appkey.clone(),
        channel: Some(args.channel.clone()),
        uid: Some(args.uid),
        rights: None,
        issued_at: now,
        ttl_s: args.ttl_s,
        not_before: None,
    };
    gen_jwt(key, &spec).map_err(|error| error.to_string())
}

#[cfg(test)]
#[path = "cli_tests.rs"]
mod tests;
