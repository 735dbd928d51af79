//! Merges the sources. Comes in: a TOML file, environment variables, flags; later ones win. Goes out: the configuration
//! as written, and each key that does not fit. Deliberately absent: the meaning of values.
//!
//! A key that does not fit is reported and removed, and the rest is read again. So one run reports all of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde_path_to_error::Segment;
use toml::{Table, Value};

use super::raw::RawConfig;
use super::validate::{self, Check};
use super::warnings;
use super::{Config, ConfigProblem, ConfigProblems};

/// Environment variables with this prefix and `__` in their name are configuration keys.
const ENV_PREFIX: &str = "LIANMAI_";

impl Config {
    /// Reads and checks the configuration. `env` are all environment variables: those named `LIANMAI_TABLE__KEY` set
    /// `table.key`, and secrets may refer to others. `flags` are pairs of a path, such as `server.listen`, and a value.
    /// Values are TOML, or plain text if they are no valid TOML.
    ///
    /// # Errors
    /// All [`ConfigProblem`]s at once.
    pub fn load(
        file: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
        flags: &[(&str, String)],
    ) -> Result<Config, ConfigProblems> {
        let env: BTreeMap<String, String> = env.collect();
        let mut table = match file.map(read).transpose() {
            Ok(table) => table.unwrap_or_default(),
            Err(problem) => return Err(ConfigProblems(vec![problem])),
        };
        let mut check = Check {
            env: &env,
            problems: Vec::new(),
            warnings: Vec::new(),
            removed: Removed::default(),
        };
        if let Some(file) = file {
            warnings::config_file(&mut check, file, &table);
        }
        let from_env = env.iter().filter_map(|(name, value)| {
            let path = env_path(name)?;
            Some((path, value.as_str()))
        });
        let from_flags = flags.iter().map(|(path, value)| ((*path).to_owned(), value.as_str()));
        let mut texts = BTreeMap::new();
        for (path, text) in from_env.chain(from_flags) {
            match insert(&mut table, &path, value_of(text)) {
                Ok(()) => {
                    texts.insert(path, text.to_owned());
                }
                Err(problem) => check.problems.push(problem),
            }
        }
        let (raw, removed) = fit(table, &texts, &mut check.problems);
        check.removed = removed;
        validate::config(raw, check)
    }
}

fn read(file: &Path) -> Result<Table, ConfigProblem> {
    let path = file.display().to_string();
    let text = std::fs::read_to_string(file).map_err(|error| ConfigProblem {
        path: path.clone(),
        text: format!("cannot be read: {error}"),
    })?;
    text.parse::<Table>().map_err(|error| {
        // Not its `Display`, which quotes the line: that may hold a secret.
        let (line, column) = position(&text, error.span().map_or(0, |span| span.start));
        ConfigProblem {
            path,
            text: format!("line {line}, column {column}: {}", error.message().trim()),
        }
    })
}

/// Line and column of a byte offset, both from 1.
fn position(text: &str, at: usize) -> (usize, usize) {
    let before = &text.as_bytes()[..at.min(text.len())];
    let line_start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    (before.iter().filter(|&&byte| byte == b'\n').count() + 1, before.len() - line_start + 1)
}

/// `LIANMAI_SESSION__GRACE_MS` is `session.grace_ms`. Names without `__` are ignored, because container platforms set
/// some, such as `LIANMAI_PORT`. `LIANMAI_APPS` holds a whole array.
fn env_path(name: &str) -> Option<String> {
    let key = name.strip_prefix(ENV_PREFIX)?;
    (key == "APPS" || key.contains("__")).then(|| key.to_ascii_lowercase().replace("__", "."))
}

/// A text as TOML value, or as string.
fn value_of(text: &str) -> Value {
    format!("value = {text}")
        .parse::<Table>()
        .ok()
        .filter(|table| table.len() == 1)
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| Value::String(text.to_owned()))
}

fn insert(table: &mut Table, path: &str, value: Value) -> Result<(), ConfigProblem> {
    let (tables, key) = path.rsplit_once('.').unwrap_or(("", path));
    let mut at = table;
    for name in tables.split('.').filter(|_| !tables.is_empty()) {
        let entry = at.entry(name).or_insert_with(|| Value::Table(Table::new()));
        at = entry.as_table_mut().ok_or_else(|| ConfigProblem {
            path: path.to_owned(),
            text: format!("`{name}` is no table, so the environment cannot set a key of it"),
        })?;
    }
    at.insert(key.to_owned(), value);
    Ok(())
}

/// The original indices, sorted, of the elements that were removed from the array at a path.
#[derive(Debug, Default)]
pub(super) struct Removed(BTreeMap<String, Vec<usize>>);

impl Removed {
    /// The index in the source of the element that is now at `index`.
    pub(super) fn original(&self, array: &str, index: usize) -> usize {
        let gone = self.0.get(array).map_or(&[][..], Vec::as_slice);
        gone.iter().fold(index, |index, &gone| if gone <= index { index + 1 } else { index })
    }

    fn add(&mut self, array: String, index: usize) {
        let original = self.original(&array, index);
        let gone = self.0.entry(array).or_default();
        gone.insert(gone.partition_point(|&other| other < original), original);
    }
}

/// One step into a TOML tree.
#[derive(Clone, Debug, PartialEq, Eq)]
enum PathStep {
    Key(String),
    Index(usize),
}

/// Converts the tree into the raw structs. Values that do not fit go to `problems`.
fn fit(
    mut table: Table,
    texts: &BTreeMap<String, String>,
    problems: &mut Vec<ConfigProblem>,
) -> (RawConfig, Removed) {
    let mut texts = texts.clone();
    let mut removed = Removed::default();
    loop {
        let error = match serde_path_to_error::deserialize(Value::Table(table.clone())) {
            Ok(raw) => return (raw, removed),
            Err(error) => error,
        };
        let message = error.inner().message().trim().to_owned();
        let mut steps: Vec<PathStep> = error
            .path()
            .iter()
            .filter_map(|segment| match segment {
                Segment::Map { key } => Some(PathStep::Key(key.clone())),
                Segment::Seq { index } => Some(PathStep::Index(*index)),
                Segment::Enum { .. } | Segment::Unknown => None,
            })
            .collect();
        if let Some(key) = unknown_field(&message)
            && steps.last() != Some(&PathStep::Key(key.to_owned()))
        {
            steps.push(PathStep::Key(key.to_owned()));
        }
        let path = display(&steps, &removed);
        if let Some(text) = texts.remove(&path)
            && let Some(value) = find(&mut table, &steps)
            && !value.is_str()
        {
            // The text was parsed as another type, but a string is expected.
            *value = Value::String(text);
            continue;
        }
        problems.push(ConfigProblem { path, text: without_value(&message, &steps) });
        if !remove(&mut table, &steps) {
            return (RawConfig::default(), removed);
        }
        if let Some((PathStep::Index(index), array)) = steps.split_last() {
            removed.add(display(array, &removed), *index);
        }
    }
}

/// The unknown key in serde's message.
fn unknown_field(message: &str) -> Option<&str> {
    message.strip_prefix("unknown field `")?.split('`').next()
}

/// Removes quoted values from a message of serde: values of apps may be secrets.
fn without_value(message: &str, steps: &[PathStep]) -> String {
    let secret = steps.first() == Some(&PathStep::Key("apps".to_owned()));
    match message.rsplit_once(", expected ") {
        Some((_, expected)) if secret && message.starts_with("invalid ") => {
            format!("expected {expected}")
        }
        _ => message.to_owned(),
    }
}

fn display(steps: &[PathStep], removed: &Removed) -> String {
    let mut path = String::new();
    for (i, step) in steps.iter().enumerate() {
        match step {
            PathStep::Key(key) => {
                if i > 0 {
                    path.push('.');
                }
                path.push_str(key);
            }
            PathStep::Index(index) => {
                let index = removed.original(&path, *index);
                let _ = write!(path, "[{index}]");
            }
        }
    }
    path
}

fn find<'a>(table: &'a mut Table, steps: &[PathStep]) -> Option<&'a mut Value> {
    let (PathStep::Key(first), rest) = steps.split_first()? else { return None };
    rest.iter().try_fold(table.get_mut(first)?, |value, step| match step {
        PathStep::Key(key) => value.get_mut(key.as_str()),
        PathStep::Index(index) => value.get_mut(*index),
    })
}

fn remove(table: &mut Table, steps: &[PathStep]) -> bool {
    match steps.split_last() {
        None => false,
        Some((PathStep::Key(key), [])) => table.remove(key).is_some(),
        Some((last, parent)) => match (last, find(table, parent)) {
            (PathStep::Key(key), Some(Value::Table(table))) => table.remove(key).is_some(),
            (PathStep::Index(index), Some(Value::Array(array))) if *index < array.len() => {
                array.remove(*index);
                true
            }
            _ => false,
        },
    }
}
