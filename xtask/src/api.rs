//! The documents of the API in the repository. Comes in: the server, which makes them of the types that it serves. Goes out:
//! `docs/api`; with `check`, what tools from npm and PyPI say of it, and whether the clients that they make of it work. A test
//! of the server looks whether the documents are the ones.

use std::fs;
use std::process::Command;

use crate::process::{cargo, output, root, run, target};
use crate::{Result, tools};

/// What the server prints, and the file that has it.
const DOCUMENTS: [(&str, &str); 3] = [
    ("gen-openapi", "openapi.json"),
    ("gen-asyncapi", "asyncapi.json"),
    ("gen-schema", "schema.json"),
];

pub(crate) fn execute(arguments: &[String]) -> Result {
    match arguments {
        [] => write(),
        [check] if check == "check" => check_all(),
        _ => Err("`cargo xtask api` or `cargo xtask api check`".to_owned()),
    }
}

fn write() -> Result {
    let folder = root().join("docs/api");
    fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    for (command, name) in DOCUMENTS {
        let arguments = ["run", "-q", "-p", "lianmai-signal-server", "--", command];
        let text = output(cargo().args(arguments))?;
        let file = folder.join(name);
        fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display()))?;
        println!("{}", file.display());
    }
    Ok(())
}

/// Judged from outside, and used.
pub(crate) fn check_all() -> Result {
    let folder = root().join("tests/api");
    tools::tests()?;
    tools::javascript(&folder)?;
    let made = target().join("api");
    let python = made.join("python");
    tools::python(&folder.join("requirements.txt"), &python)?;
    for script in ["documents", "generate", "compile"] {
        run(Command::new("npm").current_dir(&folder).args(["run", "--silent", script]))?;
    }
    let mut client = Command::new(python.join("bin/openapi-python-client"));
    client.args(["generate", "--meta", "none", "--overwrite", "--path"]);
    client.arg(root().join("docs/api/openapi.json")).arg("--config");
    client.arg(folder.join("openapi-python-client.yml")).arg("--output-path");
    run(client.arg(made.join("lianmai_client")))?;
    // One after the other: each has a server of its own, and Schemathesis keeps it busy.
    let stories = ["test", "-p", "lianmai-e2e", "--", "--ignored", "--test-threads", "1"];
    run(cargo().args(stories).arg("generated::").env("LIANMAI_API_TOOLS", made))
}
