//! Checks that the folders of a crate do not depend on each other in a cycle, so that a lower one can be understood,
//! tested and moved without the upper ones.
//!
//! In: the paths that sources name. Out: each cycle, with a place for every step of it. Absent: a parser of Rust;
//! tests, which may name anything.
//!
//! A module here is a top-level module of a crate: a folder, or a file beside `lib.rs`. In the simulator only folders
//! count: its world holds all actors, and each actor is given the world.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::Result;
use crate::process::root;
use crate::rules::all_sources;

/// Folders with the crates that are checked.
const TREES: &[&str] = &["crates", "tests/sim"];

pub(crate) fn check() -> Result {
    let mut crates: BTreeMap<PathBuf, Dependencies> = BTreeMap::new();
    for file in all_sources(TREES)? {
        let Some((crate_root, module_path)) = split(&file) else { continue };
        let text = fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
        let shown = file.strip_prefix(root()).unwrap_or(&file).display().to_string();
        crates.entry(crate_root).or_default().add(&module_path, &shown, &text);
    }
    let cycles: Vec<String> = crates.values().flat_map(Dependencies::cycles).collect();
    if cycles.is_empty() {
        println!("{} crates without a cycle", crates.len());
        return Ok(());
    }
    Err(format!("modules that depend on each other:\n{}", cycles.join("\n")))
}

/// The crate of a source file, and the path of its module. `None` for tests in files of their own.
fn split(file: &Path) -> Option<(PathBuf, Vec<String>)> {
    let text: Vec<&str> = file.iter().filter_map(|part| part.to_str()).collect();
    let at = text.iter().rposition(|part| *part == "src")?;
    let crate_root = text[..at].iter().collect();
    let mut module_path: Vec<String> =
        text[at + 1..].iter().map(|part| (*part).to_owned()).collect();
    let last = module_path.pop()?;
    let stem = last.strip_suffix(".rs")?.to_owned();
    if stem == "tests"
        || stem.ends_with("_tests")
        || module_path.first().is_some_and(|it| it == "bin")
    {
        return None;
    }
    if !(stem == "mod" || module_path.is_empty() && (stem == "lib" || stem == "main")) {
        module_path.push(stem);
    }
    let is_file = last != "mod.rs" && module_path.len() == 1;
    (!(is_file && text.contains(&"sim"))).then_some((crate_root, module_path))
}

/// Which module of a crate names which other module, and where.
#[derive(Default)]
struct Dependencies {
    modules: BTreeSet<String>,
    /// For each module: the names after `crate::`, and where each of them stands first.
    names: BTreeMap<String, BTreeMap<String, String>>,
    /// The names that the root of the crate re-exports, and the module of each.
    reexported: BTreeMap<String, String>,
}

impl Dependencies {
    fn add(&mut self, module_path: &[String], shown: &str, text: &str) {
        let code = code(text);
        let Some(module) = module_path.first() else {
            self.reexported.extend(reexported(&code));
            return;
        };
        self.modules.insert(module.clone());
        for (at, name) in paths_out(&code, module_path.len()) {
            let number = code[..at].lines().count().max(1);
            let places = self.names.entry(module.clone()).or_default();
            places.entry(name).or_insert_with(|| format!("{shown}:{number}"));
        }
    }

    /// The modules that a module names, with one place for each.
    fn dependencies(&self, module: &str) -> BTreeMap<&str, &str> {
        let names = self.names.get(module).into_iter().flatten();
        let modules = names.filter_map(|(name, place)| {
            let other =
                if self.modules.contains(name) { name } else { self.reexported.get(name)? };
            (other != module).then_some((other.as_str(), place.as_str()))
        });
        modules.collect()
    }

    /// All modules that can be reached from a module.
    fn reachable<'a>(&'a self, module: &'a str) -> BTreeSet<&'a str> {
        let (mut reachable, mut left) = (BTreeSet::new(), vec![module]);
        while let Some(module) = left.pop() {
            left.extend(
                self.dependencies(module).into_keys().filter(|other| reachable.insert(*other)),
            );
        }
        reachable
    }

    /// The sets of modules that can reach each other, with every step between them.
    fn cycles(&self) -> Vec<String> {
        let all: BTreeMap<&str, BTreeSet<&str>> =
            self.modules.iter().map(|module| (module.as_str(), self.reachable(module))).collect();
        let mut cycles = BTreeSet::new();
        for (module, reachable) in &all {
            let back =
                |other: &&&str| all.get(**other).is_some_and(|theirs| theirs.contains(module));
            let cycle: BTreeSet<&str> = reachable.iter().filter(back).copied().collect();
            if !cycle.is_empty() {
                cycles.insert(cycle);
            }
        }
        cycles.iter().map(|cycle| self.describe(cycle)).collect()
    }

    fn describe(&self, cycle: &BTreeSet<&str>) -> String {
        let mut lines = vec![cycle.iter().copied().collect::<Vec<_>>().join(", ")];
        for module in cycle {
            for (other, place) in self.dependencies(module) {
                if cycle.contains(other) {
                    lines.push(format!("  {module} names {other}: {place}"));
                }
            }
        }
        lines.join("\n")
    }
}

/// The source without comments and without code that is built only for tests. Line numbers stay the same.
fn code(text: &str) -> String {
    let lines: Vec<&str> =
        text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
    let text = lines.join("\n");
    let mut code = String::new();
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once("#[cfg(test)]") {
        code.push_str(before);
        let (mut depth, mut end) = (0, after.len());
        for (at, c) in after.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if depth == 0 && (c == ';' || c == '}') {
                end = at + 1;
                break;
            }
        }
        let (removed, kept) = after.split_at(end);
        code.extend(removed.chars().filter(|c| *c == '\n'));
        rest = kept;
    }
    code + rest
}

/// The names after `crate::`, or after as many `super::` as lead out of the module, and where they stand.
fn paths_out(code: &str, depth: usize) -> Vec<(usize, String)> {
    let out = "super::".repeat(depth);
    let mut names = Vec::new();
    for start in ["crate::", out.as_str()] {
        for (at, _) in code.match_indices(start) {
            let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
            if !code[..at].ends_with(is_part) {
                let paths = paths(&code[at + start.len()..]);
                names.extend(paths.iter().map(|path| (at, name(path).to_owned())));
            }
        }
    }
    names
}

/// The names that the root of a crate re-exports from its modules, as in `pub use module::{A, b::C}`.
fn reexported(code: &str) -> BTreeMap<String, String> {
    let mut reexported = BTreeMap::new();
    for (at, _) in code.match_indices("use ") {
        let path = code[at + 4..].trim_start_matches("crate::").trim_start_matches("self::");
        let module = name(path);
        let path = path.split(';').next().unwrap_or_default();
        let leaves = path.split(['{', '}', ',']).filter_map(|part| part.rsplit("::").next());
        for leaf in leaves.map(|leaf| leaf.rsplit(" as ").next().unwrap_or(leaf).trim()) {
            reexported.insert(leaf.to_owned(), module.to_owned());
        }
    }
    reexported
}

/// The path that follows, or each path in the braces that follow.
fn paths(rest: &str) -> Vec<&str> {
    let Some(list) = rest.strip_prefix('{') else { return vec![rest] };
    let (mut depth, mut paths, mut start) = (0, Vec::new(), 0);
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                paths.push(&list[start..at]);
                return paths;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                paths.push(&list[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    paths
}

/// The first segment of a path.
fn name(path: &str) -> &str {
    let path = path.trim_start();
    let end = path.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(path.len());
    &path[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dependencies_of(files: &[(&str, &str)]) -> Dependencies {
        let mut dependencies = Dependencies::default();
        for (file, text) in files {
            let (_, module_path) = split(Path::new(&format!("crates/a/src/{file}"))).unwrap();
            dependencies.add(&module_path, file, text);
        }
        dependencies
    }

    #[test]
    fn a_cycle_is_found_with_its_places() {
        let files = [
            ("low.rs", "use crate::mid::Thing;\n"),
            ("mid/mod.rs", "mod part;\n"),
            ("mid/part.rs", "\nlet x = super::super::high::make();\n"),
            ("high.rs", "use crate::{\n    low::{Low, Lower},\n    Other,\n};\n"),
            ("above.rs", "use crate::high::High;\n"),
        ];
        let cycles = dependencies_of(&files).cycles();
        let steps = "\n  high names low: high.rs:1\n  low names mid: low.rs:1\n  mid names high: mid/part.rs:2";
        assert_eq!(cycles, [format!("high, low, mid{steps}")]);
    }

    #[test]
    fn a_re_exported_name_belongs_to_its_module() {
        let files = [
            ("lib.rs", "mod a;\nmod b;\npub use crate::a::{A, part::C as D};\npub use b::B;\n"),
            ("a.rs", "use crate::B;\n"),
            ("b.rs", "use crate::{D, E};\n"),
        ];
        assert_eq!(
            dependencies_of(&files).cycles(),
            ["a, b\n  a names b: a.rs:1\n  b names a: b.rs:1"]
        );
    }

    #[test]
    fn layers_are_not_a_cycle() {
        let tests = "#[cfg(test)]\nfn test() {\n    if x { crate::high::y() }\n}\n";
        let low = format!(
            "// crate::high is above\n#[cfg(test)]\nuse crate::high::High;\n{tests}fn low() {{}}\n"
        );
        let files = [
            ("low.rs", low.as_str()),
            ("mid/mod.rs", "use super::low::Low;\n"),
            ("mid/part.rs", "use super::Mid;\nuse crate::low::{a, b};\n"),
            ("high.rs", "use crate::{low::Low, mid::{A, B}};\npub(crate) use crate::mid::C;\n"),
            ("lib.rs", "pub use crate::high::High;\n"),
        ];
        assert!(dependencies_of(&files).cycles().is_empty());
    }

    #[test]
    fn test_files_are_skipped() {
        assert!(split(Path::new("crates/a/src/b/tests.rs")).is_none());
        assert!(split(Path::new("crates/a/src/b_tests.rs")).is_none());
        assert!(split(Path::new("crates/a/tests/it/main.rs")).is_none());
    }
}
