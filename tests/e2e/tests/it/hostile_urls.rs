//! Media URLs that were tampered with, are used for another purpose, or are used twice.

use anyhow::{Context, Result, ensure};
use lianmai_test_support::arrivals;

use crate::hostile::{HostileFixture, Row, custom, run_topic};
use crate::hostile_media::{connect, handshake, request, talk};

/// The stream name with its query, in the form that RTMP needs.
pub(crate) fn stream_of(url: &str) -> Result<String> {
    Ok(url.rsplit_once('/').context("no path")?.1.to_owned())
}

/// Replaces the character at `at` by another one of the alphabet.
fn changed(text: &str, at: usize) -> String {
    let mut bytes = text.as_bytes().to_vec();
    bytes[at] = if bytes[at] == b'b' { b'c' } else { b'b' };
    String::from_utf8_lossy(&bytes).into_owned()
}

/// An RTMP request with a changed stream name.
fn tampered(
    name: &'static str,
    method: &'static str,
    change: fn(&HostileFixture) -> Result<String>,
    expect: &[&'static str],
) -> Row {
    let count = expect.len() + 3;
    custom(
        name,
        move |fixture| async move {
            let heard = talk(
                &fixture.server,
                &[handshake(), connect("live")].concat(),
                &request(method, &change(&fixture)?),
                count,
            )
            .await?;
            ensure!(heard.len() >= 3, "{heard:?}");
            Ok(heard[3..].to_vec())
        },
        expect,
    )
}

/// The status and the code of an FLV request.
async fn flv(url: &str) -> Result<String> {
    let mut answer = arrivals::get(url).await?;
    ensure!(answer.status != 200, "{url} is served");
    let body: serde_json::Value = serde_json::from_str(&answer.text().await?)?;
    Ok(format!("{} {}", answer.status, body["name"].as_str().context("no name")?))
}

fn urls() -> Vec<Row> {
    let denied = |code| ["NetStream.Publish.Denied", code];
    let failed = |code| ["NetStream.Play.Failed", code];
    vec![
        tampered(
            "second publisher",
            "publish",
            |fixture| stream_of(&fixture.bystanders.urls.push),
            &["NetStream.Publish.BadName"],
        ),
        tampered(
            "push URL without its query",
            "publish",
            |fixture| {
                let name = stream_of(&fixture.bystanders.urls.push)?;
                Ok(name.split('?').next().unwrap_or_default().to_owned())
            },
            &denied("denied badUrl"),
        ),
        tampered(
            "push URL, signature changed",
            "publish",
            |fixture| {
                let name = stream_of(&fixture.bystanders.urls.push)?;
                Ok(changed(&name, name.len() - 5))
            },
            &denied("denied badSignature"),
        ),
        tampered(
            "push URL, later end",
            "publish",
            |fixture| {
                let name = stream_of(&fixture.bystanders.urls.push)?;
                let at = name.find("t=").context("no t")? + 2;
                Ok(name[..at].to_owned() + "9" + &name[at + 1..])
            },
            &denied("denied badSignature"),
        ),
        tampered(
            "push URL, another stream",
            "publish",
            |fixture| {
                let name = stream_of(&fixture.bystanders.urls.push)?;
                Ok(changed(&name, 12))
            },
            &denied("denied badSignature"),
        ),
        tampered(
            "push URL, token twice",
            "publish",
            |fixture| {
                let name = stream_of(&fixture.bystanders.urls.push)?;
                let token = name.split('?').nth(1).context("no query")?;
                Ok(format!("{name}&{token}"))
            },
            &denied("denied badUrl"),
        ),
        tampered(
            "push URL to play",
            "play",
            |fixture| stream_of(&fixture.bystanders.urls.push),
            &failed("denied badUrl"),
        ),
        tampered(
            "pull URL to publish",
            "publish",
            |fixture| stream_of(&fixture.bystanders.urls.pull_rtmp),
            &denied("denied badUrl"),
        ),
        tampered(
            "pull URL, signature changed",
            "play",
            |fixture| {
                let name = stream_of(&fixture.bystanders.urls.pull_rtmp)?;
                Ok(changed(&name, name.len() - 5))
            },
            &failed("denied badSignature"),
        ),
        tampered(
            "pull URL, another viewer",
            "play",
            |fixture| {
                let name = stream_of(&fixture.bystanders.urls.pull_rtmp)?;
                let at = name.find("v=").context("no v")? + 6;
                Ok(changed(&name, at))
            },
            &failed("denied badSignature"),
        ),
        custom(
            "FLV, signature changed",
            |fixture| async move {
                let url = &fixture.bystanders.urls.pull_flv;
                Ok(vec![flv(&changed(url, url.len() - 5)).await?])
            },
            &["403 badSignature"],
        ),
        custom(
            "FLV without its query",
            |fixture| async move {
                let url = &fixture.bystanders.urls.pull_flv;
                Ok(vec![flv(url.split('?').next().unwrap_or_default()).await?])
            },
            &["403 badUrl"],
        ),
        custom(
            "FLV by the push URL",
            |fixture| async move {
                let (push, pull) =
                    (stream_of(&fixture.bystanders.urls.push)?, &fixture.bystanders.urls.pull_flv);
                let base = pull.rsplit_once('/').context("no path")?.0;
                Ok(vec![flv(&format!("{base}/{}", push.replace('?', ".flv?"))).await?])
            },
            &["403 badUrl"],
        ),
        custom(
            "FLV, each byte changed once",
            |fixture| async move {
                let url = &fixture.bystanders.urls.pull_flv;
                let path = url.match_indices('/').nth(2).context("no path")?.0;
                for at in path + 1..url.len() {
                    flv(&changed(url, at)).await?;
                }
                Ok(vec![])
            },
            &[],
        )
        .once(),
    ]
}

/// Proves URL-8.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_changed_url_is_served() -> Result<()> {
    println!("{}", run_topic("media URLs", &urls()).await?);
    Ok(())
}
