//! `cargo xtask demo`: starts a server with default settings and its page, three hosts that push test pictures and
//! tones, and a viewer that prints the URL for a player. One host mutes, leaves and comes back from time to time. All
//! of them are ordinary programs of this repository. They end when this process ends, for whatever reason: each reads
//! a standard input that only this process keeps open.
//!
//! In: the options of `cargo xtask demo`. Out: URLs on the terminal; logs in a file. Absent: anything that only a
//! demo could do.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::thread;

use crate::process::{self, cargo, target};
use crate::{Result, page, tools};

const CHANNEL: &str = "demo";
/// Lines of the log that are shown if a program does not start.
const SHOWN_LOG_LINES: usize = 5;

/// The options of the hosts: each has another picture and tone.
const HOSTS: [&[&str]; 3] = [
    &["--uid", "1001", "--name", "Anna", "--picture", "bars", "--tone", "440"],
    &["--uid", "1002", "--name", "Bo 波", "--picture", "clock", "--tone", "554"],
    &[
        "--uid",
        "1003",
        "--name",
        "Chen 晨",
        "--picture",
        "colours",
        "--tone",
        "659",
        "--restless",
        "15",
    ],
];

/// Settings that make the server stop at once: members of a demo need no notice of its end.
const STOP_AT_ONCE: [(&str, &str); 2] =
    [("LIANMAI_DRAIN__NOTICE_MS", "0"), ("LIANMAI_DRAIN__JITTER_MS", "0")];

pub(crate) fn execute(arguments: &[String]) -> Result {
    let (own, server_flags) = match arguments.iter().position(|argument| argument == "--") {
        Some(at) => (&arguments[..at], &arguments[at + 1..]),
        None => (arguments, &[][..]),
    };
    let (mut media, mut folder, mut lan) = (true, target().join("demo"), None);
    let mut words = own.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--no-media" => media = false,
            "--dir" => folder = words.next().ok_or("--dir needs a folder")?.into(),
            "--lan" => {
                let address = words.next().and_then(|word| word.parse::<IpAddr>().ok());
                lan = Some(
                    address.ok_or("--lan needs the IP address of this machine in its network")?,
                );
            }
            unknown => return Err(format!("no such option: {unknown}")),
        }
    }
    if media {
        tools::media()?;
    }
    println!("building: the first time takes some minutes");
    page::build()?;
    let packages = [
        "lianmai-signal-server",
        "lianmai-compositor",
        "lianmai-example-bot",
        "lianmai-example-watch",
    ];
    run_build(&packages)?;

    let log = Log::create(&folder)?;
    println!("starting the server; logs go to {}", log.path.display());
    let mut server = Command::new(program("signal-server"));
    server.arg("run").arg("--data-dir").arg(folder.join("data")).args(server_flags);
    let mut settings: Vec<(&str, String)> =
        STOP_AT_ONCE.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    settings.extend(lan.map(network_settings).into_iter().flatten());
    for (name, value) in settings {
        if std::env::var_os(name).is_none() {
            server.env(name, value);
        }
    }
    let (mut server, lines) = start(&mut server, &log)?;
    // The page comes first, so that someone who opens it early sees the hosts arrive.
    let page = log.wait(&lines, "page", "the server did not start")?;
    let page = page.split_whitespace().nth(1).unwrap_or_default().to_owned();
    println!("open    {page}#channel={CHANNEL}");
    let signal = log.wait(&lines, "signal", "the server did not start")?;
    log.wait(&lines, "admin", "the server did not start")?;
    if !media {
        println!("\nThe server runs. Ctrl-C ends it.");
        return server.wait();
    }

    let address = signal.split_once("ws://").map_or(signal.as_str(), |(_, rest)| rest);
    let address = address.split('/').next().unwrap_or_default();
    let url = format!("ws://{address}");
    let member = ["--server", &url, "--channel", CHANNEL];
    let mut hosts = Vec::new();
    for own in HOSTS {
        println!("starting a broadcaster");
        let mut bot = Command::new(program("bot"));
        bot.args(member).args(own);
        let (bot, lines) = start(&mut bot, &log)?;
        log.wait(&lines, "publish", "the broadcaster did not publish")?;
        hosts.push(bot);
    }
    println!("starting a viewer");
    let mut watch = Command::new(program("watch"));
    watch.args(member).args(["--uid", "2001"]);
    let (_watch, lines) = start(&mut watch, &log)?;
    let flv = log.wait(&lines, "flv", "the viewer got no URL")?;
    drop(lines);
    let flv = flv.split_whitespace().nth(1).unwrap_or_default();
    println!(
        "\nChannel `{CHANNEL}` is on air. See and hear it in a browser, and be in it from a second tab:\n  \
           {page}#channel={CHANNEL}\n\
         look at one stream with one of\n  \
           ffplay '{flv}'\n  \
           ffprobe '{flv}'\n\
         join with a program:\n  \
           cargo run -p lianmai-example-watch -- --server {url} --channel {CHANNEL}\n  \
           cargo run -p lianmai-example-quickstart -- --server {url}\n\
         and end everything with Ctrl-C."
    );
    server.wait()
}

/// Settings that open a demo to the network of this address of the machine. Everyone in that network may do
/// everything in the demo.
fn network_settings(address: IpAddr) -> [(&'static str, String); 5] {
    let range = match address {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            format!("{}/24", Ipv4Addr::new(a, b, c, 0))
        }
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            format!("{}/64", Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    };
    let listen = |port| SocketAddr::new(address, port).to_string();
    [
        ("LIANMAI_SERVER__LISTEN", listen(8600)),
        ("LIANMAI_SERVER__RTMP_LISTEN", listen(1935)),
        ("LIANMAI_SERVER__HOSTS", format!("[\"{address}\"]")),
        ("LIANMAI_SERVER__PUBLIC_HOST", address.to_string()),
        ("LIANMAI_DEBUG__ALLOW_FROM", format!("[\"{range}\"]")),
    ]
}

fn run_build(packages: &[&str]) -> Result {
    let mut build = cargo();
    build.arg("build");
    for package in packages {
        build.args(["-p", package]);
    }
    process::run(&mut build)
}

fn program(name: &str) -> PathBuf {
    target().join("debug").join(name)
}

/// The log file of all programs.
struct Log {
    path: PathBuf,
    file: File,
}

impl Log {
    /// Creates the file, or empties that of an earlier demo.
    fn create(folder: &Path) -> Result<Log> {
        let path = folder.join("log");
        // Several programs write to the file, so each write appends.
        let open = |path: &Path| {
            fs::create_dir_all(folder)?;
            let file = File::options().create(true).append(true).open(path)?;
            file.set_len(0)?;
            Ok(file)
        };
        let file = open(&path);
        let file = file.map_err(|error: io::Error| format!("{}: {error}", path.display()))?;
        Ok(Log { path, file })
    }

    /// Waits for a line that begins with `word`. If the program ends first, the error shows the end of the log.
    fn wait(&self, lines: &Lines, word: &str, problem: &str) -> Result<String> {
        let found = lines.iter().find(|line| line.starts_with(word));
        found.ok_or_else(|| {
            let text = fs::read_to_string(&self.path).unwrap_or_default();
            let lines: Vec<_> = text.lines().collect();
            let last = &lines[lines.len().saturating_sub(SHOWN_LOG_LINES)..];
            format!("{problem}; the end of {}:\n{}", self.path.display(), last.join("\n"))
        })
    }
}

type Lines = mpsc::Receiver<String>;

/// A child process that ends when this process ends or when this is dropped.
struct ChildProcess {
    child: Child,
    /// The child's standard input. Dropping it ends the child; if this process is killed, the system closes it. It is
    /// taken out of `child`, because waiting for the child would close it.
    stdin: Option<ChildStdin>,
}

impl ChildProcess {
    fn wait(&mut self) -> Result {
        self.child.wait().map(drop).map_err(|error| error.to_string())
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}

/// Starts a child. Its standard output is printed and can be searched for lines.
fn start(command: &mut Command, log: &Log) -> Result<(ChildProcess, Lines)> {
    let shown = command.get_program().to_string_lossy().into_owned();
    let problem = |error| format!("cannot start {shown}: {error}");
    let mut child = command
        .arg("--stop-with-stdin")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log.file.try_clone().map_err(problem)?)
        .spawn()
        .map_err(problem)?;
    let stdin = child.stdin.take();
    let output = child.stdout.take().ok_or("the child process has no stdout")?;
    let (sender, lines) = mpsc::channel();
    // Reads as long as the child runs, so that the child never blocks on a full pipe.
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(std::result::Result::ok) {
            println!("{line}");
            let _ = sender.send(line);
        }
    });
    Ok((ChildProcess { child, stdin }, lines))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_is_opened_to_one_network() {
        for (address, listen, range) in [
            ("192.168.1.77", "192.168.1.77:8600", "[\"192.168.1.0/24\"]"),
            ("2001:db8:1:2:3::4", "[2001:db8:1:2:3::4]:8600", "[\"2001:db8:1:2::/64\"]"),
        ] {
            let settings = network_settings(address.parse().unwrap());
            let of = |name| &settings.iter().find(|(key, _)| *key == name).unwrap().1;
            assert_eq!(of("LIANMAI_SERVER__LISTEN"), listen);
            assert_eq!(of("LIANMAI_SERVER__PUBLIC_HOST"), address);
            assert_eq!(of("LIANMAI_DEBUG__ALLOW_FROM"), range);
        }
    }
}
