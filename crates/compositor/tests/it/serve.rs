//! Proves no rule of the protocol: the program, its lines, and what is left of it.

use std::process::Stdio;
use std::time::Duration;

use lianmai_compositor::message::{Failure, Order, Report, VERSION};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{sleep, timeout};

const TEST_TIMEOUT: Duration = Duration::from_secs(60);

struct Program {
    child: Child,
    orders: ChildStdin,
    reports: Lines<BufReader<ChildStdout>>,
}

impl Program {
    fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_lianmai-compositor"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let orders = child.stdin.take().unwrap();
        let reports = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, orders, reports }
    }

    async fn say(&mut self, line: &str) {
        // A process that has ended reads no more.
        let _ = self.orders.write_all(line.as_bytes()).await;
        let _ = self.orders.write_all(b"\n").await;
    }

    async fn report(&mut self) -> Option<Report> {
        let line = timeout(TEST_TIMEOUT, self.reports.next_line()).await.unwrap().unwrap()?;
        Some(serde_json::from_str(&line).unwrap())
    }

    async fn exit(mut self) -> std::process::ExitStatus {
        timeout(TEST_TIMEOUT, self.child.wait()).await.unwrap().unwrap()
    }

    /// The ids of its child processes.
    fn children(&self) -> Vec<u32> {
        let own = self.child.id().unwrap();
        let mut children = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            if status(pid).is_some_and(|(parent, _)| parent == own) {
                children.push(pid);
            }
        }
        children
    }
}

/// The parent and the state of a process.
fn status(pid: u32) -> Option<(u32, char)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?.chars().next()?;
    Some((fields.next()?.parse().ok()?, state))
}

/// A start order. Nobody listens at port 9, and nothing is pushed without a lease anyway.
fn start() -> String {
    let job = r#"{"push":"rtmp://127.0.0.1:9/live/a","scene":{
        "canvas":{"width":320,"height":180},"fps":15,"videoKbps":300,
        "sound":{"kbps":64,"sampleRate":48000,"channels":2}}}"#;
    format!(r#"{{"v":{VERSION},"type":"start","run":3,"job":{job}}}"#).replace('\n', " ")
}

#[tokio::test]
async fn it_answers_and_stops_when_told() {
    let mut program = Program::start();
    program.say(&start()).await;
    assert_eq!(program.report().await, Some(Report::Accepted { v: VERSION, run: 3, ask: 1 }));
    program.say("this is no order").await;
    program.say(r#"{"type":"later","run":3}"#).await;
    program.say(&serde_json::to_string(&Order::Stop { run: 4 }).unwrap()).await;
    program.say(&serde_json::to_string(&Order::Stop { run: 3 }).unwrap()).await;
    while let Some(report) = program.report().await {
        if report == (Report::Stopped { run: 3 }) {
            break;
        }
    }
    assert!(program.exit().await.success());
}

#[tokio::test]
async fn an_invalid_start_is_reported_and_fails() {
    for line in [
        "{}".to_owned(),
        start().replace(r#""v":1"#, r#""v":2"#),
        start().replace(r#""fps":15"#, r#""fps":0"#),
        format!("{}{}", " ".repeat(300 << 10), start()),
    ] {
        let mut program = Program::start();
        program.say(&line).await;
        let report = program.report().await;
        let is_internal =
            |report: &Report| matches!(report, Report::Failed { failure: Failure::Internal, .. });
        assert!(report.as_ref().is_some_and(is_internal), "{report:?}");
        assert!(!program.exit().await.success());
    }
}

#[tokio::test]
async fn it_ends_with_its_parent_and_its_children_with_it() {
    for is_killed in [false, true] {
        let mut program = Program::start();
        program.say(&start()).await;
        program.report().await;
        let encoder = timeout(TEST_TIMEOUT, async {
            loop {
                if let [encoder] = program.children()[..] {
                    return encoder;
                }
                sleep(Duration::from_millis(20)).await;
            }
        });
        let encoder = encoder.await.unwrap();
        if is_killed {
            program.child.start_kill().unwrap();
        } else {
            drop(program.orders);
            while program.reports.next_line().await.unwrap().is_some() {}
        }
        timeout(TEST_TIMEOUT, program.child.wait()).await.unwrap().unwrap();
        // An orphaned process may stay a zombie until it is reaped.
        let gone = async {
            while status(encoder).is_some_and(|(_, state)| state != 'Z') {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(TEST_TIMEOUT, gone).await.expect("the encoder ends");
    }
}
