//! An answer as CSV (RFC 4180): the same names and values as in JSON, for spreadsheets.
//!
//! An answer that is a list has a row for each entry. Anything else has one row. What an entry holds inside is
//! named by its path, `cause.amount`; a list inside is written as JSON. Nothing is computed or left out of a row.

use std::io;

use serde_json::{Map, Value};

type Row = Vec<(String, String)>;

/// The answer.
///
/// # Errors
/// When it cannot be written.
pub(super) fn csv(value: &Value) -> io::Result<String> {
    let rows: Vec<Row> = entries(value).iter().map(|entry| row(entry)).collect();
    let mut names: Vec<&String> = Vec::new();
    for (name, _) in rows.iter().flatten() {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    // No entry says which names there are.
    if names.is_empty() {
        return Ok(String::new());
    }
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(&names)?;
    for row in &rows {
        let cell = |name: &&String| {
            let found = row.iter().find(|(known, _)| known == *name);
            found.map_or("", |(_, cell)| cell.as_str())
        };
        writer.write_record(names.iter().map(cell))?;
    }
    let bytes = writer.into_inner().map_err(|e| io::Error::other(e.to_string()))?;
    String::from_utf8(bytes).map_err(io::Error::other)
}

/// The entries of the one list that the answer has, or the answer itself.
fn entries(value: &Value) -> Vec<&Value> {
    let Value::Object(fields) = value else {
        return value.as_array().map_or_else(|| vec![value], |all| all.iter().collect());
    };
    let is_list = |value: &&Value| match value {
        Value::Array(all) => all.iter().all(Value::is_object),
        _ => false,
    };
    let mut lists = fields.values().filter(is_list);
    match (lists.next(), lists.next()) {
        (Some(Value::Array(all)), None) => all.iter().collect(),
        _ => vec![value],
    }
}

fn row(entry: &Value) -> Row {
    let mut row = Row::new();
    match entry {
        Value::Object(fields) => flatten("", fields, &mut row),
        other => row.push(("value".to_owned(), cell(other))),
    }
    row
}

fn flatten(path: &str, fields: &Map<String, Value>, row: &mut Row) {
    for (name, value) in fields {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match value {
            Value::Object(inner) => flatten(&path, inner, row),
            other => row.push((path, cell(other))),
        }
    }
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        // A spreadsheet takes what begins so for a formula, whoever wrote it.
        Value::String(text) if text.starts_with(['=', '+', '@', '\t', '\r']) => format!("'{text}"),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_list_has_a_row_for_each_entry_and_anything_else_has_one() {
        for (value, expected) in [
            (
                json!({ "truncated": false, "all": [
                    { "a": "1", "in": { "b": true, "c": [1, 2] } }, { "a": "x, \"y\"", "d": null },
                ] }),
                "a,in.b,in.c,d\n1,true,\"[1,2]\",\n\"x, \"\"y\"\"\",,,\n",
            ),
            (json!({ "a": 1, "b": { "c": "=1+1" } }), "a,b.c\n1,'=1+1\n"),
            // Which of two is the list, nobody can say.
            (json!({ "a": [{ "x": 1 }], "b": [] }), "a,b\n\"[{\"\"x\"\":1}]\",[]\n"),
            (json!([{ "x": "-1" }]), "x\n-1\n"),
            (json!({ "all": [], "truncated": false }), ""),
        ] {
            assert_eq!(csv(&value).unwrap(), expected);
        }
    }
}
