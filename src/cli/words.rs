//! Times, tables and cut lists, as people read them.

use crate::output;
use crate::view::At;

/// Cuts a list, of which one more than the limit was asked for; true, and said, when it is longer.
pub(super) fn cut<T>(rows: &mut Vec<T>, limit: i64) -> bool {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let is_longer = rows.len() > limit;
    rows.truncate(limit);
    if is_longer {
        output::note(&format!("there are more than these {limit}: --limit N shows more"));
    }
    is_longer
}

/// An instant as RFC 3339 in UTC.
pub(super) fn time(ms: i64) -> String {
    At(ms).to_string()
}

/// Columns, each as wide as its widest cell, two spaces apart.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|r| r.get(column)).map(|c| c.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let line: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        // What somebody else said must not look like a row of ours.
        text.push_str(&line.join("  ").trim_end().replace('\n', "\\u000a"));
        text.push('\n');
    }
    text
}
