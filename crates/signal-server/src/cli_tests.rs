//! Proves no rule of the protocol: the command line.

use std::os::unix::fs::PermissionsExt as _;

use clap::CommandFactory;

use super::*;
use crate::auth::Authenticator;
use lianmai_protocol::message::session::Join;

const APPS: &str = "[[apps]]\nappkey = \"live\"\n[[apps.jwt]]\nkid = \"first\"\n\
    secret = \"8a7035ecb6819f36cf0e57c0c973d15a\"\n[[apps.jwt]]\nkid = \"second\"\n\
    secret = \"ce286494254cf4dbe49995a178e347b1\"\n[[apps]]\nappkey = \"local\"\nmode = \"debug\"\n";

/// A file that is removed with the test.
struct TempFile(PathBuf);

impl TempFile {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("lianmai-cli-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&path, mode).unwrap();
        TempFile(path)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn command(args: &[&str]) -> Command {
    Cli::try_parse_from([&["signal-server"], args].concat()).unwrap().command
}

/// Exit code, output, errors.
fn run(args: &[&str]) -> (ExitCode, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = write(&command(args), &mut out, &mut err);
    (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

#[test]
fn the_url_of_a_server_has_no_path() {
    let key = TempFile::new("key", "k");
    for server in ["http://127.0.0.1:1/prefix", "http://127.0.0.1:1/?a=1"] {
        let args = ["channels", "--server", server, "--key-file", key.0.to_str().unwrap()];
        let (_, out, err) = run(&args);
        assert!(out.is_empty() && err.contains("is no URL of a server"), "{server}: {err}");
    }
}

#[test]
fn a_change_without_an_answer_may_have_taken_effect() {
    let unanswered = |method| remote::unanswered("http://a", &method);
    assert_eq!(unanswered(http::Method::GET), "http://a does not answer");
    assert!(unanswered(http::Method::DELETE).contains("took effect"));
}

#[test]
fn all_rules_of_a_channel_are_shown() {
    let shown = serde_json::json!({
        "channelName": "room",
        "policy": {"duplicate": "rejectNew", "creatorModerates": true, "maxMembers": 10_000,
            "maxBroadcasters": 2_000, "dissolveOnCreatorLeave": true, "keepEmpty": true},
        "attributes": {"title": "T"},
    });
    let rows = admin::field_rows(&shown);
    let mut fields: Vec<&str> = rows.iter().map(|row| row["field"].as_str().unwrap()).collect();
    fields.sort_unstable();
    let expected = [
        "attributes.title",
        "channelName",
        "policy.creatorModerates",
        "policy.dissolveOnCreatorLeave",
        "policy.duplicate",
        "policy.keepEmpty",
        "policy.maxBroadcasters",
        "policy.maxMembers",
    ];
    assert_eq!(fields, expected);
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn flags_of_run_override_the_file() {
    let file = TempFile::new(
        "run",
        "[server]\nlisten = \"127.0.0.1:1\"\nadmin_listen = \"127.0.0.1:2\"\n",
    );
    let path = file.0.to_str().unwrap();
    let args = [
        "run",
        "--config",
        path,
        "--listen",
        "127.0.0.1:0",
        "--rtmp-listen",
        "127.0.0.1:4",
        "--data-dir",
        "5",
        "--public-host",
        "live.example",
    ];
    let Command::Run(run) = command(&args) else { panic!() };
    let config = run.load().unwrap();
    assert_eq!(config.listen.port(), 0);
    assert_eq!(config.admin_listen.port(), 2);
    assert_eq!(config.rtmp_listen.port(), 4);
    assert_eq!(config.data_dir, PathBuf::from("5"));
    assert_eq!(config.public_host.as_deref(), Some("live.example"));
    let Command::Run(run) = command(&["run", "--admin-listen", "nowhere"]) else { panic!() };
    assert_eq!(run.load().unwrap_err().0[0].path, "server.admin_listen");
}

#[test]
fn check_config_names_every_problem() {
    let good = TempFile::new("good", APPS);
    let ok = (ExitCode::SUCCESS, "ok\n".to_owned(), String::new());
    assert_eq!(run(&["check-config", "--config", good.0.to_str().unwrap()]), ok);
    let bad = TempFile::new("bad", "[limits]\nmembers = 0\n[server]\nshards = 0\n");
    let (code, out, err) = run(&["check-config", "--config", bad.0.to_str().unwrap()]);
    assert_eq!((code, out.as_str()), (ExitCode::from(2), ""));
    assert_eq!(err.lines().count(), 2, "{err}");
    assert!(err.contains("limits.members: ") && err.contains("server.shards: "), "{err}");
}

#[test]
fn warnings_are_printed_and_fail_strict_mode() {
    let text = format!("{APPS}[server]\ntrusted_proxies = [\"0.0.0.0/0\"]\n");
    let file = TempFile::new("unwise", &text);
    let path = file.0.to_str().unwrap();
    let (code, out, err) = run(&["check-config", "--config", path]);
    assert_eq!((code, out.as_str()), (ExitCode::SUCCESS, "ok\n"));
    assert!(err.starts_with("warning: server.trusted_proxies[0]: "), "{err}");
    let (code, out, err) = run(&["check-config", "--config", path, "--strict"]);
    assert_eq!((code, out.as_str()), (ExitCode::from(2), ""));
    assert!(err.starts_with("server.trusted_proxies[0]: "), "{err}");
    for (args, starts) in [(&["run"][..], true), (&["run", "--strict"], false)] {
        let Command::Run(run) = command(&[args, &["--config", path]].concat()) else { panic!() };
        assert_eq!(run.load().is_ok(), starts, "{args:?}");
    }
    let good = TempFile::new("wise", APPS);
    let (code, out, err) = run(&["check-config", "--strict", "--config", good.0.to_str().unwrap()]);
    assert_eq!((code, out.as_str(), err.as_str()), (ExitCode::SUCCESS, "ok\n", ""));
}

#[test]
fn check_config_accepts_the_output_of_gen_config() {
    let (code, out, _) = run(&["gen-config"]);
    assert_eq!((code, out.as_str()), (ExitCode::SUCCESS, DEFAULT_TOML));
    let file = TempFile::new("gen", &out);
    assert_eq!(run(&["check-config", "--config", file.0.to_str().unwrap()]).0, ExitCode::SUCCESS);
}

#[test]
fn the_server_accepts_the_output_of_gen_token() {
    let file = TempFile::new("token", APPS);
    let path = file.0.to_str().unwrap();
    let (code, token, err) = run(&[
        "gen-token",
        "--appkey",
        "live",
        "--channel",
        "room",
        "--uid",
        "7",
        "--config",
        path,
    ]);
    assert_eq!((code, err.as_str()), (ExitCode::SUCCESS, ""));
    let config = Config::load(Some(&file.0), std::iter::empty(), &[]).unwrap();
    let join = Join {
        appkey: "live".parse().unwrap(),
        channel_name: "room".parse().unwrap(),
        uid: Some(UserId(7)),
        token: Some(token.trim_end().to_owned()),
        role: None,
        join_id: None,
        continues: None,
        name: None,
        attributes: Default::default(),
    };
    let grant = Authenticator::new(&config.apps).verify_join(&join).unwrap();
    assert_eq!(grant.uid, Some(UserId(7)));
    assert_eq!(grant.channel, Some(join.channel_name.clone()));
    let (issued, expires) = (grant.issued_at.unwrap(), grant.expires.unwrap());
    assert_eq!(expires.0 - issued.0, 3_600_000);
    assert_eq!(
        jsonwebtoken::decode_header(token.trim_end()).unwrap().kid.as_deref(),
        Some("first")
    );

    for (args, says) in [
        (["gone", "3600"], "there is no app `gone`"),
        (["local", "3600"], "debug mode"),
        (["live", "0"], "seconds"),
        (["live", "604801"], "seconds"),
    ] {
        let [app, ttl] = args;
        let args = [
            "gen-token",
            "--appkey",
            app,
            "--channel",
            "room",
            "--uid",
            "7",
            "--ttl-s",
            ttl,
            "--config",
            path,
        ];
        let (code, out, err) = run(&args);
        assert_eq!((code, out.as_str()), (ExitCode::from(2), ""), "{args:?}");
        assert!(err.contains(says), "{err}");
    }
}

#[test]
fn wrong_arguments_are_refused() {
    for args in [
        &[][..],
        &["walk"],
        &["run", "--liten", "127.0.0.1:1"],
        &["gen-token", "--appkey", "live", "--channel", "room", "--uid", "07"],
        &["gen-token", "--appkey", "live", "--channel", "a/b", "--uid", "7"],
        &["gen-token", "--appkey", "live", "--uid", "7"],
    ] {
        assert!(Cli::try_parse_from([&["signal-server"], args].concat()).is_err(), "{args:?}");
    }
}
