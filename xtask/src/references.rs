//! Checks that everything the sources cite exists: rule ids in `docs/protocol.md`, and decision records in
//! `docs/adr`.
//!
//! In: every text of the repository. Out: each line that cites something else, or in another form. Texts outside the
//! repository must not be cited, because readers do not have them; public standards are allowed.

use std::collections::BTreeSet;
use std::fs;

use crate::Result;
use crate::process::{output, root};
use crate::rules::{defined, is_id};

/// Files that are not texts of this repository, or that contain such citations on purpose.
const SKIPPED: &[&str] =
    &["Cargo.lock", "LICENSE", "tests/fuzz/corpus/", "xtask/src/references.rs"];

/// Texts whose sections may be cited, because everyone has them.
const PUBLIC: &[&str] = &["docs/protocol.md", "RFC ", "RTMP 1.0"];

/// Packets of the RTMP handshake, whose names look like ids.
const PACKETS: &[&str] = &["C0", "C1", "C2"];

pub(crate) fn check() -> Result {
    let document = fs::read_to_string(root().join("docs/protocol.md"))
        .map_err(|error| format!("docs/protocol.md: {error}"))?;
    let citable = Citable { rules: defined(&document), decisions: decision_records()? };
    let files = output(
        std::process::Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(root()),
    )?;
    let mut problems = Vec::new();
    for file in files.split('\0').filter(|file| !file.is_empty()) {
        // The hashes in a lock file can look like ids.
        let is_lock = file.ends_with("package-lock.json");
        if is_lock || SKIPPED.iter().any(|skipped| file.starts_with(skipped)) {
            continue;
        }
        // Binary files and deleted files cite nothing.
        let Ok(text) = fs::read_to_string(root().join(file)) else { continue };
        for (number, line) in (1..).zip(text.lines()) {
            problems.extend(
                citable.problems(line).into_iter().map(|why| format!("{file}:{number}: {why}")),
            );
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(format!(
        "{} references to rules or records that do not exist:\n{}",
        problems.len(),
        problems.join("\n")
    ))
}

/// What may be cited.
struct Citable {
    rules: BTreeSet<String>,
    /// Numbers of the decision records, for example `0007`.
    decisions: BTreeSet<String>,
}

fn decision_records() -> Result<BTreeSet<String>> {
    let entries = fs::read_dir(root().join("docs/adr")).map_err(|e| format!("docs/adr: {e}"))?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    Ok(names.filter_map(|name| Some(name.split_once('-')?.0.to_owned())).collect())
}

impl Citable {
    fn problems(&self, line: &str) -> Vec<String> {
        let groups: BTreeSet<&str> =
            self.rules.iter().filter_map(|id| Some(id.split_once('-')?.0)).collect();
        let mut problems = Vec::new();
        let words: Vec<&str> = words(line).collect();
        for (at, word) in words.iter().enumerate() {
            let next = words.get(at + 1).copied().unwrap_or_default();
            let group = word.split_once('-').map(|(group, _)| group);
            if is_id(word)
                && !self.rules.contains(*word)
                && group.is_some_and(|it| groups.contains(it))
            {
                problems.push(format!("docs/protocol.md has no rule `{word}`"));
            }
            if *word == "ADR"
                && next.starts_with(|c: char| c.is_ascii_digit())
                && !self.decisions.contains(next)
            {
                problems.push(format!("docs/adr has no record `{next}`"));
            }
            if is_foreign_id(word) && !PACKETS.contains(word) && !line.contains(&format!("%{word}"))
            {
                problems.push(format!("`{word}` cites a text outside the repository"));
            }
        }
        // A section sign needs the name of a public text on the same line.
        if line.contains('§') && !PUBLIC.iter().any(|name| line.contains(name)) {
            problems.push("`§` without the name of a public text".to_owned());
        }
        for word in ["contract rule", "Contract rule", "DESIGN"] {
            if line.contains(word) {
                problems.push(format!(
                    "`{word}`: cite a rule of docs/protocol.md or an ADR, or write it out"
                ));
            }
        }
        problems
    }
}

/// Splits a line into words. Hyphens belong to words.
fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').filter(|word| !word.is_empty())
}

/// Whether a word is a letter and a number, for example `B14`: the id of a foreign text.
fn is_foreign_id(word: &str) -> bool {
    let mut chars = word.chars();
    let number = chars.clone().skip(1);
    chars.next().is_some_and(|letter| ('A'..='D').contains(&letter))
        && (2..=3).contains(&word.len())
        && number.clone().all(|c| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(line: &str) -> usize {
        let citable = Citable {
            rules: BTreeSet::from(["JOI-1".to_owned()]),
            decisions: BTreeSet::from(["0007".to_owned()]),
        };
        citable.problems(line).len()
    }

    #[test]
    fn valid_citations_are_accepted() {
        for line in [
            "/// As JOI-1 says.",
            "(JOI-1, ADR 0007)",
            "docs/adr/0007-name.md",
            "Rules and tests; the rule is simple.",
            "let x = call(A, B1x);",
            "SHA-1, UTF-8",
            "as RFC 6455 §7.4 has it",
            "C0, C1 and C2",
            "what is `%C3%A9` in a URL",
        ] {
            assert_eq!(problems(line), 0, "{line}");
        }
    }

    #[test]
    fn invalid_citations_are_found() {
        for line in [
            "JOI-2",
            "ADR 0008",
            "ADR 7",
            "contract rule",
            "rule B14",
            "Rules A8",
            "decision D15",
            "DESIGN",
            "a takeover (B7), so",
            "(C21)",
            "B7: a lost answer",
            "section §5",
        ] {
            assert_eq!(problems(line), 1, "{line}");
        }
    }
}
