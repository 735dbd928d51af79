//! Tables for people. Comes in: columns, and JSON objects. Goes out: text in columns. Text of members is escaped, so
//! that no name can move the cursor of a terminal.

use serde_json::Value;

/// Maximum number of characters of a cell.
const MAX_CELL: usize = 64;

/// A column: its title, and the JSON pointer of its value in each row, such as `/a/b`.
pub(super) type Column = (&'static str, &'static str);

/// Rows in columns, with titles.
pub(super) fn table(columns: &[Column], rows: &[Value]) -> String {
    let mut lines = vec![columns.iter().map(|(title, _)| (*title).to_owned()).collect::<Vec<_>>()];
    for row in rows {
        let cells = columns.iter().map(|(_, at)| cell(row.pointer(at).unwrap_or(&Value::Null)));
        lines.push(cells.collect());
    }
    let width = |column: usize| {
        lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let mut text = String::new();
    for line in lines {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

fn cell(value: &Value) -> String {
    let text = match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.escape_debug().to_string(),
        Value::Array(values) if values.is_empty() => "-".to_owned(),
        Value::Array(values) => values.iter().map(cell).collect::<Vec<_>>().join(","),
        Value::Object(object) => {
            let pairs =
                object.iter().map(|(key, value)| format!("{}={}", key.escape_debug(), cell(value)));
            pairs.collect::<Vec<_>>().join(" ")
        }
        other => other.to_string(),
    };
    if text.chars().count() <= MAX_CELL {
        return text;
    }
    text.chars().take(MAX_CELL - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: how tables look.

    use serde_json::json;

    use super::*;

    #[test]
    fn columns_fit_their_content_and_control_characters_are_escaped() {
        let rows = [
            json!({"uid": "7", "name": "\u{1b}[2J", "kinds": ["audio", "video"], "at": {"x": 1}}),
            json!({"uid": "12345", "kinds": [], "name": "x".repeat(100)}),
        ];
        let text = table(
            &[("UID", "/uid"), ("KINDS", "/kinds"), ("X", "/at/x"), ("NAME", "/name")],
            &rows,
        );
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "UID    KINDS        X  NAME");
        assert_eq!(lines[1], "7      audio,video  1  \\u{1b}[2J");
        assert!(lines[2].starts_with("12345  -            -  xxx") && lines[2].ends_with('…'));
    }
}
