//! `cargo xtask wasm`: builds the npm package, from the Rust source to a packed tarball.
//!
//! In: the source tree. Out: `target/npm/lianmai` and the tarball beside it; the size of each entry; a failure if the
//! entry for phones is too large. Absent: the JavaScript build, which is `build.mjs`.
//!
//! ```text
//!   cargo (profile wasm) -> lianmai-xtask-wasm: bindings -> binaryen: the MVP -> build.mjs: JavaScript -> npm pack
//! ```

use std::env;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::process::{cargo, exclusive, output, root, run, target};
use crate::{Result, tools};

/// Largest sizes of the entry for WeChat, bytes: its JavaScript (gzip), and both files together (brotli).
const MAX_SCRIPT_GZIP: usize = 10_000;
const MAX_TOGETHER_BROTLI: usize = 65_000;

/// Options that replace the instructions of the compiled library which old phones lack.
const LOWER: &[&str] = &[
    "--enable-mutable-globals",
    "--enable-bulk-memory",
    "--enable-bulk-memory-opt",
    "--enable-sign-ext",
    "--enable-nontrapping-float-to-int",
    "--llvm-memory-copy-fill-lowering",
    "--llvm-nontrapping-fptoint-lowering",
    "--signext-lowering",
];

/// Options that reduce the size. Never add `--traps-never-happen`: it may remove checks on hostile input.
/// Measurements decided which other options are here (ADR 0028).
const SHRINK: &[&str] = &[
    "--mvp-features",
    "--enable-mutable-globals",
    "--flatten",
    "--rereloop",
    "-Os",
    "-Os",
    "-aimfs=0",
    "-fimfs=0",
    "-ocimfs=1",
    "--skip-pass=local-cse",
    "--skip-pass=memory-packing",
    "--skip-pass=simplify-locals",
    "--strip-producers",
];

/// The folder of the JavaScript sources.
pub(crate) fn javascript() -> PathBuf {
    root().join("crates/wasm-bindings/js")
}

pub(crate) fn execute() -> Result {
    package().map(drop)
}

/// Builds the tarball, once in each run of this program.
pub(crate) fn package() -> Result<PathBuf> {
    package_under(&exclusive()?)
}

/// As [`package`], for a caller that holds the lock already.
pub(crate) fn package_under(_lock: &File) -> Result<PathBuf> {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    if let Some(tarball) = MADE.get() {
        return Ok(tarball.clone());
    }
    let tarball = make()?;
    Ok(MADE.get_or_init(|| tarball).clone())
}

fn make() -> Result<PathBuf> {
    tools::wasm_target()?;
    tools::javascript(&javascript())?;
    let module = module()?;
    let package = target().join("npm/lianmai");
    let mut build = Command::new("node");
    build.current_dir(javascript()).arg("build.mjs");
    build.arg("--wasm").arg(&module).arg("--out").arg(&package);
    let table = output(&mut build)?;
    print!("{table}");
    let mut pack = Command::new("npm");
    pack.args(["pack", "--silent", "--pack-destination"]).arg(target().join("npm")).arg(&package);
    let tarball = target().join("npm").join(output(&mut pack)?.trim());
    println!("{}", tarball.display());
    budget(&table)?;
    Ok(tarball)
}

/// Runs a script of `tests/packaging` with the tarball and a server.
pub(crate) fn packaging(script: &[&str], tarball: &Path, binaries: &Path) -> Result {
    let mut node = Command::new("node");
    node.current_dir(root().join("tests/packaging")).args(script);
    node.env("LIANMAI_TARBALL", tarball);
    run(node.env("LIANMAI_SERVER", binaries.join("signal-server")))
}

/// Builds `lianmai.wasm` and the glue code that declares its imports. Returns the folder with both.
fn module() -> Result<PathBuf> {
    let directory = target().join("wasm");
    // Panics must not contain paths of this machine, and the module needs only a small stack.
    let home = env::var_os("CARGO_HOME").map_or_else(default_home, PathBuf::from);
    let flags = format!(
        "-C target-cpu=mvp -C target-feature=+bulk-memory -C link-arg=-zstack-size=65536 \
         --remap-path-prefix={}=cargo --remap-path-prefix={}=lianmai",
        home.display(),
        root().display()
    );
    let mut compile = cargo();
    compile.env("RUSTFLAGS", flags).env_remove("CARGO_ENCODED_RUSTFLAGS");
    compile.args(["build", "-p", "lianmai-wasm-bindings", "--profile", "wasm"]);
    compile.args(["--target", "wasm32-unknown-unknown", "--target-dir"]).arg(&directory);
    run(&mut compile)?;
    let compiled = directory.join("wasm32-unknown-unknown/wasm/lianmai_wasm_bindings.wasm");
    let out = directory.join("out");
    let bindings = |arguments: &[&Path]| {
        let mut bindings = cargo();
        bindings.args(["run", "-q", "-p", "lianmai-xtask-wasm", "--"]).args(arguments);
        run(&mut bindings)
    };
    let (bound, lowered, small) =
        (out.join("bound.wasm"), out.join("lowered.wasm"), out.join("lianmai.wasm"));
    let binaryen = javascript().join("node_modules/binaryen/package.json");
    let own = env::current_exe().map_err(|error| error.to_string())?;
    let binder = root().join("xtask/wasm/src/main.rs");
    if !is_newer(&small, &[&compiled, &binaryen, &own, &binder]) {
        bindings(&[&compiled, &out])?;
        optimize(&bound, LOWER, &lowered)?;
        optimize(&lowered, SHRINK, &small)?;
    }
    bindings(&[Path::new("check"), &small])?;
    Ok(out)
}

/// Whether a file was made after all files that it is made of.
fn is_newer(made: &Path, of: &[&Path]) -> bool {
    let changed = |path: &Path| path.metadata().and_then(|file| file.modified()).ok();
    let Some(made) = changed(made) else { return false };
    of.iter().all(|path| changed(path).is_some_and(|changed| changed < made))
}

fn default_home() -> PathBuf {
    PathBuf::from(env::var_os("HOME").unwrap_or_default()).join(".cargo")
}

fn optimize(from: &Path, passes: &[&str], to: &Path) -> Result {
    let mut optimize = Command::new("node");
    optimize.arg(javascript().join("node_modules/binaryen/bin/wasm-opt"));
    run(optimize.arg(from).args(passes).arg("-o").arg(to))
}

/// Checks the sizes in the table that the build prints.
fn budget(table: &str) -> Result {
    let weight = |entry: &str, column: usize| -> Result<usize> {
        let line = table.lines().find_map(|line| line.strip_prefix(entry));
        let number = line.and_then(|line| line.split_whitespace().nth(column)?.parse().ok());
        number.ok_or_else(|| format!("build.mjs prints no size for `{entry}`"))
    };
    let script = weight("wechat JavaScript", 1)?;
    let together = weight("wechat together", 2)?;
    if script > MAX_SCRIPT_GZIP || together > MAX_TOGETHER_BROTLI {
        return Err(format!(
            "the entry for WeChat is over its budget: JavaScript {script} of {MAX_SCRIPT_GZIP} \
             bytes (gzip), together {together} of {MAX_TOGETHER_BROTLI} (brotli)"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn an_output_older_than_an_input_is_rebuilt() {
        let path =
            |name| env::temp_dir().join(format!("lianmai-xtask-{}-{name}", std::process::id()));
        let (part, made) = (path("part"), path("made"));
        let write = |path: &Path, second| {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
            File::create(path).unwrap().set_modified(time).unwrap();
        };
        write(&part, 1);
        assert!(!is_newer(&made, &[&part]), "the output is missing");
        write(&made, 2);
        assert!(is_newer(&made, &[&part]));
        write(&part, 2);
        assert!(!is_newer(&made, &[&part]), "equal times");
        std::fs::remove_file(&part).unwrap();
        assert!(!is_newer(&made, &[&part]), "an input is missing");
        std::fs::remove_file(&made).unwrap();
    }

    #[test]
    fn a_package_over_its_budget_fails() {
        let table = |script: usize, together: usize| {
            format!("wechat JavaScript 1 {script} 1\nwechat together 1 1 {together}\n")
        };
        assert!(budget(&table(MAX_SCRIPT_GZIP, MAX_TOGETHER_BROTLI)).is_ok());
        assert!(budget(&table(MAX_SCRIPT_GZIP + 1, 1)).is_err());
        assert!(budget(&table(1, MAX_TOGETHER_BROTLI + 1)).is_err());
        assert!(budget("").is_err());
    }
}
