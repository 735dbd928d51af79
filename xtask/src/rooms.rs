//! Checks that the folders of a crate do not depend on each other in a cycle, so that a lower one can be understood,
//! tested and moved without the upper ones.
//!
//! In: the paths that sources name. Out: each cycle, with a place for every step of it. Absent: a parser of Rust;
//! tests, which may name anything.
//!
//! A room is a top-level module of a crate: a folder, or a file beside `lib.rs`. In the simulator only folders count:
//! its world holds all actors, and each actor is given the world.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::Result;
use crate::process::root;
use crate::rules::all_sources;

/// Folders with the crates that are checked.
const TREES: &[&str] = &["crates", "tests/sim"];

pub(crate) fn check() -> Result {
    let mut crates: BTreeMap<PathBuf, Uses> = BTreeMap::new();
    for file in all_sources(TREES)? {
        let Some((home, inside)) = split(&file) else { continue };
        let text = fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
        let shown = file.strip_prefix(root()).unwrap_or(&file).display().to_string();
        crates.entry(home).or_default().add(&inside, &shown, &text);
    }
    let knots: Vec<String> = crates.values().flat_map(Uses::knots).collect();
    if knots.is_empty() {
        println!("{} crates without a circle", crates.len());
        return Ok(());
    }
    Err(format!("modules that need each other:\n{}", knots.join("\n")))
}

/// The crate of a source file, and the path of its module. `None` for tests in files of their own.
fn split(file: &Path) -> Option<(PathBuf, Vec<String>)> {
    let text: Vec<&str> = file.iter().filter_map(|part| part.to_str()).collect();
    let at = text.iter().rposition(|part| *part == "src")?;
    let home = text[..at].iter().collect();
    let mut inside: Vec<String> = text[at + 1..].iter().map(|part| (*part).to_owned()).collect();
    let last = inside.pop()?;
    let stem = last.strip_suffix(".rs")?.to_owned();
    if stem == "tests" || stem.ends_with("_tests") || inside.first().is_some_and(|it| it == "bin") {
        return None;
    }
    if !(stem == "mod" || inside.is_empty() && (stem == "lib" || stem == "main")) {
        inside.push(stem);
    }
    let is_file = last != "mod.rs" && inside.len() == 1;
    (!(is_file && text.contains(&"sim"))).then_some((home, inside))
}

/// Which room of a crate names which other room, and where.
#[derive(Default)]
struct Uses {
    rooms: BTreeSet<String>,
    /// For each room: the names after `crate::`, and where each of them stands first.
    named: BTreeMap<String, BTreeMap<String, String>>,
    /// The names that the root of the crate re-exports, and the room of each.
    given: BTreeMap<String, String>,
}

impl Uses {
    fn add(&mut self, inside: &[String], shown: &str, text: &str) {
        let code = code(text);
        let Some(room) = inside.first() else {
            self.given.extend(given(&code));
            return;
        };
        self.rooms.insert(room.clone());
        for (at, name) in named(&code, inside.len()) {
            let number = code[..at].lines().count().max(1);
            let places = self.named.entry(room.clone()).or_default();
            places.entry(name).or_insert_with(|| format!("{shown}:{number}"));
        }
    }

    /// The rooms that a room names, with one place for each.
    fn next(&self, room: &str) -> BTreeMap<&str, &str> {
        let names = self.named.get(room).into_iter().flatten();
        let rooms = names.filter_map(|(name, place)| {
            let other = if self.rooms.contains(name) { name } else { self.given.get(name)? };
            (other != room).then_some((other.as_str(), place.as_str()))
        });
        rooms.collect()
    }

    /// All rooms that can be reached from a room.
    fn reached<'a>(&'a self, room: &'a str) -> BTreeSet<&'a str> {
        let (mut reached, mut left) = (BTreeSet::new(), vec![room]);
        while let Some(room) = left.pop() {
            left.extend(self.next(room).into_keys().filter(|other| reached.insert(*other)));
        }
        reached
    }

    /// The sets of rooms that can reach each other, with every step between them.
    fn knots(&self) -> Vec<String> {
        let all: BTreeMap<&str, BTreeSet<&str>> =
            self.rooms.iter().map(|room| (room.as_str(), self.reached(room))).collect();
        let mut knots = BTreeSet::new();
        for (room, reached) in &all {
            let back = |other: &&&str| all.get(**other).is_some_and(|theirs| theirs.contains(room));
            let knot: BTreeSet<&str> = reached.iter().filter(back).copied().collect();
            if !knot.is_empty() {
                knots.insert(knot);
            }
        }
        knots.iter().map(|knot| self.told(knot)).collect()
    }

    fn told(&self, knot: &BTreeSet<&str>) -> String {
        let mut lines = vec![knot.iter().copied().collect::<Vec<_>>().join(", ")];
        for room in knot {
            for (other, place) in self.next(room) {
                if knot.contains(other) {
                    lines.push(format!("  {room} names {other}: {place}"));
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
        let (gone, kept) = after.split_at(end);
        code.extend(gone.chars().filter(|c| *c == '\n'));
        rest = kept;
    }
    code + rest
}

/// The names after `crate::`, or after as many `super::` as lead out of the room, and where they stand.
fn named(code: &str, depth: usize) -> Vec<(usize, String)> {
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

/// The names that the root of a crate re-exports from its rooms, as in `pub use room::{A, b::C}`.
fn given(code: &str) -> BTreeMap<String, String> {
    let mut given = BTreeMap::new();
    for (at, _) in code.match_indices("use ") {
        let path = code[at + 4..].trim_start_matches("crate::").trim_start_matches("self::");
        let room = name(path);
        let path = path.split(';').next().unwrap_or_default();
        let leaves = path.split(['{', '}', ',']).filter_map(|part| part.rsplit("::").next());
        for leaf in leaves.map(|leaf| leaf.rsplit(" as ").next().unwrap_or(leaf).trim()) {
            given.insert(leaf.to_owned(), room.to_owned());
        }
    }
    given
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

    fn uses(files: &[(&str, &str)]) -> Uses {
        let mut uses = Uses::default();
        for (file, text) in files {
            let (_, inside) = split(Path::new(&format!("crates/a/src/{file}"))).unwrap();
            uses.add(&inside, file, text);
        }
        uses
    }

    #[test]
    fn a_circle_is_found_with_its_places() {
        let files = [
            ("low.rs", "use crate::mid::Thing;\n"),
            ("mid/mod.rs", "mod part;\n"),
            ("mid/part.rs", "\nlet x = super::super::high::make();\n"),
            ("high.rs", "use crate::{\n    low::{Low, Lower},\n    Other,\n};\n"),
            ("above.rs", "use crate::high::High;\n"),
        ];
        let knots = uses(&files).knots();
        let steps = "\n  high names low: high.rs:1\n  low names mid: low.rs:1\n  mid names high: mid/part.rs:2";
        assert_eq!(knots, [format!("high, low, mid{steps}")]);
    }

    #[test]
    fn what_the_root_gives_out_is_of_its_room() {
        let files = [
            ("lib.rs", "mod a;\nmod b;\npub use crate::a::{A, part::C as D};\npub use b::B;\n"),
            ("a.rs", "use crate::B;\n"),
            ("b.rs", "use crate::{D, E};\n"),
        ];
        assert_eq!(uses(&files).knots(), ["a, b\n  a names b: a.rs:1\n  b names a: b.rs:1"]);
    }

    #[test]
    fn layers_are_no_circle() {
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
        assert!(uses(&files).knots().is_empty());
    }

    #[test]
    fn tests_in_files_of_their_own_are_left_out() {
        assert!(split(Path::new("crates/a/src/b/tests.rs")).is_none());
        assert!(split(Path::new("crates/a/src/b_tests.rs")).is_none());
        assert!(split(Path::new("crates/a/tests/it/main.rs")).is_none());
    }
}
