//! The document of the API in the repository. Comes in: the server, which makes it of the types that it serves. Goes out:
//! `docs/api/openapi.json`. A test of the server looks whether it is the one.

use std::fs;
use std::process::Command;

use crate::Result;
use crate::process::{output, root};

pub fn execute() -> Result {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["run", "-q", "-p", "lianmai-signal-server", "--", "gen-openapi"]);
    let text = output(cargo.current_dir(root()))?;
    let file = root().join("docs/api/openapi.json");
    fs::create_dir_all(root().join("docs/api")).map_err(|error| error.to_string())?;
    fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display()))?;
    println!("{}", file.display());
    Ok(())
}
