//! Checks that rules and tests name each other: a test proves each rule of `docs/protocol.md`, and each test states
//! what it proves.
//!
//! In: the document and the sources. Out: every line that is wrong. Absent: a parser of Rust. The statements stand on
//! lines of their own:
//!
//! ```text
//! /// Proves JOI-3, LIV-2.                    above a test
//! //! Proves JOI-3, LIV-2.                    in the head of a file: for its tests that state nothing themselves
//! //! Proves no rule of the protocol: parser. in either place, for tests of something else
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::process::root;
use crate::{Result, references};

/// Folders with the tests of the product.
const TREES: &[&str] = &["crates", "tests"];
/// Folders with files that are built or found, not written.
const SKIPPED: &[&str] = &["target", "corpus", "artifacts", "node_modules"];
const NO_RULE: &str = "no rule of the protocol: ";

pub(crate) fn check() -> Result {
    let read = |path: &Path| {
        fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
    };
    let document = read(&root().join("docs/protocol.md"))?;
    let mut tests = Tests::default();
    for file in all_sources(TREES)? {
        let name = file.strip_prefix(root()).unwrap_or(&file).display().to_string();
        tests.scan(&name, &read(&file)?);
    }
    let rules = defined(&document);
    let complaints = tests.complaints(&rules);
    if !complaints.is_empty() {
        return Err(format!("rules and tests do not match:\n{}", complaints.join("\n")));
    }
    println!("{} rules, {} tests, {} of them name a rule", rules.len(), tests.all, tests.of_rules);
    references::check()
}

/// All Rust files below these folders, sorted.
pub(crate) fn all_sources(trees: &[&str]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for tree in trees {
        sources(&root().join(tree), &mut files)?;
    }
    files.sort();
    Ok(files)
}

fn sources(folder: &Path, files: &mut Vec<PathBuf>) -> Result {
    let failed = |error| format!("{}: {error}", folder.display());
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() {
            if SKIPPED.iter().all(|name| !path.ends_with(name)) {
                sources(&path, files)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

/// The rule ids in a document: those at the beginning of a table row, as in `| [JOI-3] | …`.
pub(crate) fn defined(document: &str) -> BTreeSet<String> {
    let row = |line: &str| {
        let (id, _) = line.strip_prefix("| [")?.split_once("] |")?;
        is_id(id).then(|| id.to_owned())
    };
    document.lines().filter_map(row).collect()
}

pub(crate) fn is_id(text: &str) -> bool {
    text.split_once('-').is_some_and(|(group, number)| {
        group.len() == 3
            && group.bytes().all(|byte| byte.is_ascii_uppercase())
            && number.parse::<u8>().is_ok_and(|value| value.to_string() == number)
    })
}

/// The rules that the `Proves …` lines of one place name. `None` without such a line; empty if it names no rule.
type Proof = Option<BTreeSet<String>>;

#[derive(Default)]
struct Tests {
    all: usize,
    of_rules: usize,
    proved: BTreeSet<String>,
    wrong: Vec<String>,
}

impl Tests {
    fn scan(&mut self, file: &str, text: &str) {
        let (mut head, mut own): (Proof, Proof) = (None, None);
        let mut is_test = false;
        for (number, line) in (1..).zip(text.lines().map(str::trim)) {
            let mut note = |proof: &mut Proof, said: &str| {
                if let Some(list) = said.trim_start().strip_prefix("Proves ")
                    && let Err(why) = add(proof, list)
                {
                    self.wrong.push(format!("{file}:{number}: {why}"));
                }
            };
            if let Some(said) = line.strip_prefix("//!") {
                note(&mut head, said);
            } else if let Some(said) = line.strip_prefix("///") {
                note(&mut own, said);
            } else if line.starts_with("#[") {
                is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
            } else {
                if is_test {
                    self.test(&format!("{file}:{number}: {line}"), own.as_ref().or(head.as_ref()));
                }
                (own, is_test) = (None, false);
            }
        }
    }

    fn test(&mut self, place: &str, proof: Option<&BTreeSet<String>>) {
        self.all += 1;
        match proof {
            None => self.wrong.push(format!("{place} does not state what it proves")),
            Some(ids) => {
                self.of_rules += usize::from(!ids.is_empty());
                self.proved.extend(ids.iter().cloned());
            }
        }
    }

    fn complaints(&self, rules: &BTreeSet<String>) -> Vec<String> {
        let unproved = rules.difference(&self.proved).map(|id| format!("{id}: no test proves it"));
        let unknown = self
            .proved
            .difference(rules)
            .map(|id| format!("{id}: docs/protocol.md has no such rule"));
        self.wrong.iter().cloned().chain(unproved).chain(unknown).collect()
    }
}

fn add(proof: &mut Proof, list: &str) -> Result {
    let ids = proof.get_or_insert_default();
    if list.strip_prefix(NO_RULE).is_some_and(|what| !what.trim().is_empty()) {
        return Ok(());
    }
    let list = list.strip_suffix('.').ok_or("`Proves` and ids end with a full stop")?;
    for id in list.split(", ") {
        if !is_id(id) {
            return Err(format!("`{id}` is not a rule id"));
        }
        ids.insert(id.to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(source: &str) -> Vec<String> {
        let mut tests = Tests::default();
        tests.scan("a.rs", source);
        tests.complaints(&defined("| [JOI-1] | Text. |\n| [JOI-2] | As JOI-1. |\n| `join` | |\n"))
    }

    #[test]
    fn a_rule_without_a_test_is_found() {
        let one = "/// Proves JOI-1.\n#[test]\nfn a() {}\n";
        assert_eq!(complaints(one), ["JOI-2: no test proves it"]);
        let both = "/// Why.\n/// Proves JOI-1, JOI-2.\n#[test]\nfn a() {}\n";
        assert!(complaints(both).is_empty());
    }

    #[test]
    fn a_comment_proves_nothing_without_a_test() {
        let source = "//! Proves JOI-1.\n/// Proves JOI-2.\nfn a() {}\n";
        assert_eq!(complaints(source), ["JOI-1: no test proves it", "JOI-2: no test proves it"]);
    }

    #[test]
    fn a_test_or_its_file_states_what_it_proves() {
        let silent =
            "/// Proves JOI-1, JOI-2.\n#[test]\nfn a() {}\n\n#[tokio::test]\nasync fn b() {}\n";
        assert_eq!(complaints(silent), ["a.rs:6: async fn b() {} does not state what it proves"]);
        assert!(complaints(&format!("//! Proves JOI-2.\n{silent}")).is_empty());
        assert!(
            complaints(&format!("//! Proves no rule of the protocol: a.\n{silent}")).is_empty()
        );
        // The statement of a test replaces that of its file.
        let own = "//! Proves JOI-2.\n/// Proves JOI-1.\n#[test]\nfn a() {}\n";
        assert_eq!(complaints(own), ["JOI-2: no test proves it"]);
    }

    #[test]
    fn unknown_and_malformed_ids_are_refused() {
        let all = "/// Proves JOI-1, JOI-2, JOI-3.\n#[test]\nfn a() {}\n";
        assert_eq!(complaints(all), ["JOI-3: docs/protocol.md has no such rule"]);
        for wrong in ["JOI-1, JOI-2", "JOI-1 JOI-2.", "JOI-01.", "no rule of the protocol: ", "it."]
        {
            let source = format!("/// Proves {wrong}\n#[test]\nfn a() {{}}\n");
            assert!(complaints(&source)[0].starts_with("a.rs:1: "), "{wrong}");
        }
    }
}
