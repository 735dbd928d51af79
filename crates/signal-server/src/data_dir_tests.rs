//! Proves no rule of the protocol: the data directory.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;

use super::*;

/// A path that is removed with the test.
struct Temp(PathBuf);

impl Temp {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("lianmai-data-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        Temp(path)
    }

    fn chmod(&self, name: &str, mode: u32) {
        fs::set_permissions(self.0.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn mode(&self, name: &str) -> u32 {
        fs::metadata(self.0.join(name)).unwrap().mode() & 0o7777
    }

    fn error(&self) -> DataDirError {
        DataDir::open(&self.0).expect_err("must be refused")
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const FILES: [&str; 4] = ["admin.token", "url.key", "ticket.key", "deployment.id"];

#[test]
fn missing_files_are_created_and_kept() {
    let temp = Temp::new("made");
    let nested = temp.0.join("a/b");
    let dir = DataDir::open(&nested).unwrap();
    assert_eq!(temp.mode("a/b"), 0o700);
    let names: BTreeSet<_> =
        fs::read_dir(&nested).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, FILES.iter().map(Into::into).collect(), "no temporary file is left");
    for name in FILES {
        assert_eq!(temp.mode(&format!("a/b/{name}")), 0o600, "{name}");
    }
    assert_eq!(URL_SAFE_NO_PAD.decode(dir.admin_token().expose()).unwrap().len(), 32);
    assert_ne!(dir.url_key(), &[0; 32]);
    assert!(dir.deployment_id().starts_with("dep-"));
    assert_eq!(fs::read_to_string(dir.admin_token_path()).unwrap(), dir.admin_token().expose());

    let again = DataDir::open(&nested).unwrap();
    assert_eq!(again.admin_token(), dir.admin_token());
    assert_eq!(again.url_key(), dir.url_key());
    assert_eq!(again.ticket_key(), dir.ticket_key());
    assert_eq!(again.deployment_id(), dir.deployment_id());

    let other = DataDir::open(&temp.0.join("other")).unwrap();
    assert_ne!(other.admin_token(), dir.admin_token());
    assert_ne!(other.url_key(), dir.url_key());
    assert_ne!(other.ticket_key(), dir.ticket_key());
    assert_ne!(other.deployment_id(), dir.deployment_id());
}

#[test]
fn the_operators_token_is_used() {
    let temp = Temp::new("own");
    DataDir::open(&temp.0).unwrap();
    let own = "x".repeat(40);
    fs::write(temp.0.join("admin.token"), format!("{own}\n")).unwrap();
    assert_eq!(DataDir::open(&temp.0).unwrap().admin_token().expose(), own);
}

/// A user that can write there could choose the secrets.
#[test]
fn files_accessible_to_others_are_refused() {
    let temp = Temp::new("modes");
    DataDir::open(&temp.0).unwrap();
    for mode in [0o720, 0o702, 0o777] {
        temp.chmod("", mode);
        let error = temp.error();
        assert!(matches!(error.problem, DataDirProblem::Writable(m) if m == mode), "{error}");
        assert_eq!(error.path, temp.0);
    }
    temp.chmod("", 0o755);
    DataDir::open(&temp.0).unwrap();
    for name in FILES {
        for mode in [0o640, 0o604, 0o620, 0o602] {
            temp.chmod(name, mode);
            let error = temp.error();
            assert!(matches!(error.problem, DataDirProblem::Open(m) if m == mode), "{error}");
            assert_eq!(error.path, temp.0.join(name));
        }
        temp.chmod(name, 0o400);
        DataDir::open(&temp.0).unwrap();
        temp.chmod(name, 0o600);
    }
}

#[test]
fn damaged_files_are_refused_and_never_replaced() {
    for (name, contents) in [
        ("admin.token", &["", "short", "a token that is long enough but has spaces in it"][..]),
        ("url.key", &["", "31 bytes, which is one too few."]),
        ("ticket.key", &["", "33 bytes, which are one too many."]),
        ("deployment.id", &["", "two words"]),
    ] {
        let temp = Temp::new(name);
        DataDir::open(&temp.0).unwrap();
        for content in contents {
            fs::write(temp.0.join(name), content).unwrap();
            let error = temp.error();
            assert!(matches!(error.problem, DataDirProblem::Content(_)), "{error}");
            assert!(error.to_string().contains(name), "{error}");
            assert!(content.is_empty() || !error.to_string().contains(content), "{error}");
            assert_eq!(fs::read_to_string(temp.0.join(name)).unwrap(), *content);
        }
    }
}

/// RST-3: two processes on one directory would overwrite each other's data.
#[test]
fn rst_3_a_directory_belongs_to_one_process() {
    let temp = Temp::new("lock");
    let first = DirLock::take(&temp.0).unwrap();
    assert_eq!(temp.mode("lianmai.lock"), 0o600);
    let error = DirLock::take(&temp.0).unwrap_err();
    assert!(matches!(error.problem, DataDirProblem::InUse), "{error}");
    assert_eq!(error.path, temp.0);
    drop(first);
    DirLock::take(&temp.0).unwrap();
}

#[test]
fn a_file_is_refused_as_a_directory() {
    let temp = Temp::new("file");
    fs::create_dir(&temp.0).unwrap();
    let path = temp.0.join("file");
    fs::write(&path, "").unwrap();
    let error = DataDir::open(&path).unwrap_err();
    assert!(matches!(error.problem, DataDirProblem::NotADirectory), "{error}");
    let error = DataDir::open(&path.join("below")).unwrap_err();
    assert!(matches!(error.problem, DataDirProblem::Io(_)), "{error}");
}

#[test]
fn debug_shows_no_secret() {
    let temp = Temp::new("debug");
    let dir = DataDir::open(&temp.0).unwrap();
    let shown = format!("{dir:?}");
    assert!(shown.contains(dir.deployment_id()));
    assert!(!shown.contains(dir.admin_token().expose()) && !shown.contains("url_key"), "{shown}");
}
