//! Checks that the cores are pure.
//!
//! In: the packages of the cores. Out: a failure if a core does not build for wasm32, if tokio is in its dependency
//! tree, or if a wasm module that exports it imports anything. Absent: a complete parser of wasm.

use std::fs;

use crate::Result;
use crate::process::{cargo, output, root, run};

const TARGET: &str = "wasm32-unknown-unknown";
/// Each core: its package, and the feature of `lianmai-purity` that exports it.
const CORES: &[(&str, &str)] = &[
    ("lianmai-protocol", "protocol"),
    ("lianmai-signal-engine", "engine"),
    ("lianmai-client-sdk", "session"),
];

pub(crate) fn check() -> Result {
    for (package, feature) in CORES {
        let flags = ["-p", package, "--no-default-features", "--target", TARGET];
        run(cargo().arg("build").args(flags))?;
        let tree =
            output(cargo().arg("tree").args(flags).args(["-e", "normal", "--prefix", "none"]))?;
        if let Some(line) = tree.lines().find(|line| line.starts_with("tokio")) {
            return Err(format!("{package} depends on {line}"));
        }
        let build = ["build", "-p", "lianmai-purity", "--features", feature, "--target", TARGET];
        run(cargo().args(build))?;
        let target =
            std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), Into::into);
        let path = target.join(TARGET).join("debug/lianmai_purity.wasm");
        let module = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let Counts { imports, exports } =
            count(&module).ok_or_else(|| format!("{} is not a wasm module", path.display()))?;
        if imports != 0 {
            return Err(format!("a module of {package} has {imports} imports"));
        }
        // Memory and two globals are always exported. Without a function, the check would prove nothing.
        if exports < 4 {
            return Err(format!(
                "the module of {package} exports no function, so the check proves nothing"
            ));
        }
        println!("{package}: no tokio, no imports, {} kB of code", module.len() / 1000);
    }
    Ok(())
}

struct Counts {
    imports: u32,
    exports: u32,
}

/// Counts imports and exports. The sections 2 and 7 begin with the number of their entries. `None` if this is no
/// module.
fn count(module: &[u8]) -> Option<Counts> {
    let mut rest = module.strip_prefix(b"\0asm\x01\0\0\0")?;
    let mut counts = Counts { imports: 0, exports: 0 };
    while let [section, tail @ ..] = rest {
        let (length, tail) = leb128(tail)?;
        let (body, tail) = tail.split_at_checked(length as usize)?;
        match section {
            2 => counts.imports = leb128(body)?.0,
            7 => counts.exports = leb128(body)?.0,
            _ => {}
        }
        rest = tail;
    }
    Some(counts)
}

fn leb128(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let mut value = 0;
    for (at, byte) in bytes.iter().enumerate().take(5) {
        value |= u32::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[at + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_import_is_counted() {
        let module = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x02\x07\x01\x01a\x01b\0\0";
        assert_eq!(count(module).unwrap().imports, 1);
        assert!(count(b"not wasm").is_none());
    }
}
