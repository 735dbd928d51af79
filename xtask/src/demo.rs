//! `cargo xtask demo`: a server on its embedded defaults, a broadcaster that pushes a test picture and tone,
//! and a viewer that subscribes to it and prints what to open. All three are ordinary programs of this
//! repository; Ctrl-C ends them.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;

use crate::process::{self, Running, cargo, root, target};
use crate::{Result, tools};

const CHANNEL: &str = "demo";

pub(crate) fn execute(arguments: &[String]) -> Result {
    let (own, server_flags) = match arguments.iter().position(|argument| argument == "--") {
        Some(at) => (&arguments[..at], &arguments[at + 1..]),
        None => (arguments, &[][..]),
    };
    if let Some(unknown) = own.iter().find(|argument| *argument != "--no-media") {
        return Err(format!("no such option: {unknown}"));
    }
    let media = own.is_empty();
    if media {
        tools::media()?;
    }
    let packages = ["lianmai-signal-server", "lianmai-example-bot", "lianmai-example-watch"];
    run_build(&packages)?;

    let data = root().join("target/demo-data");
    let mut server = Command::new(program("signal-server"));
    server.arg("run").arg("--data-dir").arg(&data).args(server_flags);
    let (mut server, lines) = start(&mut server)?;
    let signal = find(&lines, "signal").ok_or("the server did not start")?;
    find(&lines, "admin").ok_or("the server did not start")?;
    if !media {
        println!("\nThe server runs. Ctrl-C ends it.");
        return server.0.wait().map(drop).map_err(|error| error.to_string());
    }

    let address = signal.split_once("ws://").map_or(signal.as_str(), |(_, rest)| rest);
    let address = address.split('/').next().unwrap_or_default();
    let url = format!("ws://{address}");
    let member = ["--server", &url, "--channel", CHANNEL];
    let mut bot = Command::new(program("bot"));
    bot.args(member).args(["--uid", "1001", "--name", "test picture"]);
    let (_bot, lines) = start(&mut bot)?;
    find(&lines, "publish").ok_or("the broadcaster did not publish")?;
    let mut watch = Command::new(program("watch"));
    watch.args(member).args(["--uid", "2001"]);
    let (_watch, lines) = start(&mut watch)?;
    let flv = find(&lines, "flv").ok_or("the viewer got no URL")?;
    drop(lines);
    let flv = flv.split_whitespace().nth(1).unwrap_or_default();
    println!(
        "\nChannel `{CHANNEL}` is on air. Look at it with one of\n  \
           ffplay '{flv}'\n  \
           ffprobe '{flv}'\n\
         join it yourself with\n  \
           cargo run -p lianmai-example-watch -- --server {url} --channel {CHANNEL}\n  \
           cargo run -p lianmai-example-quickstart -- --server {url}\n\
         and end everything with Ctrl-C."
    );
    server.0.wait().map(drop).map_err(|error| error.to_string())
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

type Lines = mpsc::Receiver<String>;

/// Starts a child whose standard output is shown and can be looked through.
fn start(command: &mut Command) -> Result<(Running, Lines)> {
    let shown = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot start {shown}: {error}"))?;
    let output = child.stdout.take().ok_or("a piped child has an output")?;
    let (sender, lines) = mpsc::channel();
    // Reads for as long as the child runs, so that it never waits for us.
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(std::result::Result::ok) {
            println!("{line}");
            let _ = sender.send(line);
        }
    });
    Ok((Running(child), lines))
}

/// Waits for a line that begins with `word`; `None` when the child ended without one.
fn find(lines: &Lines, word: &str) -> Option<String> {
    lines.iter().find(|line| line.starts_with(word))
}
