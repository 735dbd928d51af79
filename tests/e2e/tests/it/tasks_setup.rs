//! Shared by the tests of push tasks: a server that serves tasks, a receiver, members that push.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lianmai_test_support::children::{descendants, name_of, status};
use lianmai_test_support::media::Ffmpeg;
use lianmai_test_support::receiver::Receiver;
use lianmai_test_support::samples::flashing_file;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::server::{Member, TEST_TIMEOUT, TestServer};

/// The machine of a test may be small, but so are its tasks.
const SERVED: [(&str, &str); 2] =
    [("LIANMAI_TASKS__SERVE", "true"), ("LIANMAI_TASKS__CPU_PERCENT", "800")];

pub(crate) const RED: u32 = 0xFF_0000;
pub(crate) const BLUE: u32 = 0x00_00FF;
pub(crate) const GREEN: u32 = 0x00_8000;
pub(crate) const YELLOW: u32 = 0xFF_FF00;

/// A server that serves tasks, and the receiver.
#[derive(Debug)]
pub(crate) struct TaskSetup {
    pub(crate) server: TestServer,
    pub(crate) receiver: Receiver,
}

/// A member that publishes, and its encoder.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) member: Member,
    pub(crate) push: Ffmpeg,
}

impl TaskSetup {
    pub(crate) async fn start() -> Result<Self> {
        TaskSetup::start_with(&[]).await
    }

    pub(crate) async fn start_with(env: &[(&str, &str)]) -> Result<Self> {
        let server = TestServer::start_with(&[&SERVED[..], env].concat()).await?;
        Ok(TaskSetup { server, receiver: Receiver::start().await? })
    }

    /// Starts the next process after one that has ended.
    pub(crate) async fn start_again(&mut self) -> Result<()> {
        self.server.start_again(&SERVED).await
    }

    /// A member that pushes one colour, one tone, and beeps.
    pub(crate) async fn host(
        &self,
        uid: u64,
        (color, tone, beep): (&str, u32, u32),
    ) -> Result<Host> {
        let file = flashing_file(color, tone, beep).await?;
        let mut member = self.server.join("room", uid).await?;
        let push = Ffmpeg::push_file(&file, &member.publish().await?)?;
        Ok(Host { member, push })
    }

    /// The red and the blue host.
    pub(crate) async fn hosts(&self) -> Result<(Host, Host)> {
        let red = self.host(100, ("red", 440, 3_000)).await?;
        Ok((red, self.host(200, ("blue", 1_000, 4_500)).await?))
    }

    /// The child processes of the server, and their children.
    pub(crate) fn children(&self) -> Result<Vec<u32>> {
        Ok(descendants(self.server.process.pid()?))
    }

    /// The same, once there are this many: each member that is pulled has one.
    pub(crate) async fn all_children(&self, count: usize) -> Result<Vec<u32>> {
        let started = async {
            loop {
                let children = self.children()?;
                if children.len() == count && children.iter().all(|pid| is_ours(*pid)) {
                    return anyhow::Ok(children);
                }
                // There is no notification of their start, so the test polls.
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(TEST_TIMEOUT, started).await.with_context(|| format!("{:?}", self.children()))?
    }
}

/// A task with this layout, which pushes to the receiver's stream `key`.
pub(crate) fn task(setup: &TaskSetup, users: Value) -> Value {
    json!({
        "taskId": "cdn_1",
        "streamUrl": setup.receiver.url("key?token=s3cret"),
        "layout": {"canvas": {"width": 1280, "height": 720, "color": GREEN}, "users": users},
    })
}

/// A user that is seen and heard.
pub(crate) fn user(uid: u64, x: u32, y: u32, width: u32, height: u32) -> Value {
    json!({"uid": uid.to_string(), "x": x, "y": y, "width": width, "height": height,
        "adaption": 1, "zOrder": 0, "pushAudio": true, "pushVideo": true})
}

/// Two users side by side, user 200 at the right.
pub(crate) fn side_by_side() -> Value {
    json!([user(100, 0, 0, 640, 360), user(200, 640, 0, 640, 360)])
}

/// A cheap canvas with two users side by side.
pub(crate) fn small(setup: &TaskSetup) -> Value {
    let mut wanted = task(setup, json!([user(100, 0, 0, 320, 180), user(200, 320, 0, 320, 180)]));
    wanted["layout"]["canvas"] = json!({"width": 640, "height": 360, "color": GREEN});
    wanted
}

impl Member {
    pub(crate) async fn add_task(&mut self, task: &Value) -> Result<()> {
        self.call("addTasks", json!({"rtmpTasks": [task]})).await.map(drop)
    }

    pub(crate) async fn update_task(&mut self, task: &Value) -> Result<()> {
        self.call("updateTasks", json!({"rtmpTasks": [task]})).await.map(drop)
    }

    pub(crate) async fn delete_task(&mut self) -> Result<()> {
        self.call("deleteTasks", json!({"taskIds": ["cdn_1"]})).await.map(drop)
    }

    /// Waits until the task has this state.
    pub(crate) async fn task_is(&mut self, state: &str) -> Result<Value> {
        let told = self.hear("rtmpTasksStatus", |told| told["state"] == state).await;
        let told = told.with_context(|| format!("the task is not {state}"))?;
        let code = match state {
            "pushing" => 505,
            "failed" => 506,
            "ended" => 511,
            _ => 0,
        };
        ensure!(told["code"] == code && told["taskId"] == "cdn_1", "{told}");
        ensure!(!told.to_string().contains("s3cret"), "{told}");
        Ok(told)
    }
}

/// The programs that a task starts, by their names in the process table: at most 15 characters.
const PROGRAMS: [&str; 2] = ["lianmai-composi", "ffmpeg"];

/// Whether the process is a program of a task, and not another process that has its id now.
fn is_ours(pid: u32) -> bool {
    PROGRAMS.iter().any(|name| name_of(pid).starts_with(name))
}

/// Waits until these processes are gone, including zombies of the server while it exists.
pub(crate) async fn gone(pids: &[u32], server: Option<u32>) -> Result<()> {
    // Another process may have the id by then. The system reaps zombies without a parent.
    let is_there = |pid: &u32| {
        let is_left = |(parent, state)| state != 'Z' || Some(parent) == server;
        is_ours(*pid) && status(*pid).is_some_and(is_left)
    };
    let waiting = async {
        while pids.iter().any(is_there) {
            // There is no notification of their end, so the test polls.
            sleep(Duration::from_millis(20)).await;
        }
    };
    let left = || pids.iter().filter(|pid| is_there(pid)).map(|pid| (*pid, status(*pid)));
    timeout(TEST_TIMEOUT, waiting)
        .await
        .with_context(|| format!("still there: {:?}", left().collect::<Vec<_>>()))
}
