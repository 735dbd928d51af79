//! Proves no rule of the protocol: a module uses only the modules below it, so there is no cycle between them.

use std::fs;
use std::path::{Path, PathBuf};

/// The top-level modules from the lowest layer up, as in `ARCHITECTURE.md`.
const LAYERS: [&str; 21] = [
    "clock", "route", "config", "data_dir", "auth", "signing", "media", "executor", "notes",
    "records", "socket", "shard", "relay", "tasks", "hooks", "ops", "api", "listen", "server",
    "cli", "main",
];

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            found.push(path);
        }
    }
}

/// What a file uses from `crate::`, without tests and comments.
fn used(text: &str) -> Vec<String> {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let code: Vec<&str> =
        code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = code.join("\n");
    let word = |text: &str| -> String {
        text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let mut modules = Vec::new();
    for rest in code.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            Some(list) => modules.extend(list.split('}').next().unwrap().split(',').map(word)),
            None => modules.push(word(rest)),
        }
    }
    modules
}

#[test]
fn a_module_uses_only_modules_below_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    files(&root, &mut all);
    let mut seen = 0;
    for file in all {
        let path = file.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
        let module = path.split('/').next().unwrap().trim_end_matches(".rs");
        if path.contains("tests") || module == "lib" {
            continue;
        }
        let layer_of = |name: &str| LAYERS.iter().position(|module| *module == name);
        let own = layer_of(module).unwrap_or_else(|| panic!("{path} is in no module of the list"));
        for name in used(&fs::read_to_string(&file).unwrap()) {
            if let Some(other) = layer_of(&name) {
                assert!(other <= own, "{path} uses {name}, which is above it");
                seen += 1;
            }
        }
    }
    assert!(seen > 100, "only {seen} uses were found");
}
