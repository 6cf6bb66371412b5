//! Statements over many rows look each of them up: none reads the whole of a table once for each few rows,
//! as the planner of SQLite does where it is free to choose the order of a join.
//!
//! Statements that are put together of several texts are not seen here.

use std::path::Path;

use sqlx::{AssertSqlSafe, Connection, Row, SqliteConnection};

use super::{Value, bulk};

/// As many rows as one statement has at most.
const ROWS: usize = super::CHUNKS[0];

/// The texts of the files in a folder and in its folders, in the order of their names; but of `db`, which knows no
/// table.
fn sources(dir: &str) -> Vec<String> {
    let (mut folders, mut files) = (vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(dir)], vec![]);
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
            match path.is_dir() {
                true if path.ends_with("store/db") => {}
                true => folders.push(path),
                false => files.push(path),
            }
        }
    }
    files.sort();
    files.into_iter().map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

/// The statements over many rows, as SQLite gets them.
fn statements() -> Vec<String> {
    // A quote within a text ends none.
    let files = sources("src/store");
    let texts: Vec<_> = files.iter().map(|t| t.replace("\\\"", "\u{1}")).collect();
    let is_one = |text: &&str| {
        let begins = ["SELECT ", "WITH ", "UPDATE ", "DELETE "].iter().any(|s| text.starts_with(s));
        let whole = !text.contains("{table}") && !text.trim_end().ends_with("AND");
        begins && whole && ["{rows}", "{each}", "{keys}"].iter().any(|p| text.contains(p))
    };
    let found = texts.iter().flat_map(|text| text.split('"')).map(str::trim_start).filter(is_one);
    found
        .map(|text| {
            let columns = (1..=9).rfind(|n| text.contains(&format!("r.column{n}"))).unwrap_or(1);
            let row = || (0..columns).map(|_| Value::Int(Some(0))).collect();
            let rows = (0..ROWS).map(|_| row()).collect();
            let queries = bulk(&text.replace('\u{1}', "\""), rows);
            let [query] = queries.as_slice() else {
                panic!("{} statements: {text}", queries.len())
            };
            query.sql.as_str().to_owned()
        })
        .collect()
}

async fn plan(db: &mut SqliteConnection, sql: &str) -> Vec<String> {
    let rows = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}")));
    let rows = rows.fetch_all(db).await.unwrap_or_else(|e| panic!("{e}: {sql}"));
    rows.iter().map(|row| row.get("detail")).collect()
}

/// Reads all of a table, unless it is made of the rows.
fn reads_all(step: &str, sql: &str) -> bool {
    let Some(of) = step.strip_prefix("SCAN ") else { return false };
    let name = of.split(' ').next().unwrap_or_default();
    let made_of_them = sql.contains(&format!("WITH {name} AS MATERIALIZED"));
    let is_them =
        ["-ROW VALUES CLAUSE", " CONSTANT ROWS"].iter().any(|s| of == format!("{ROWS}{s}"));
    !is_them && !made_of_them
}

#[tokio::test]
async fn statements_over_many_rows_read_no_whole_table() {
    let mut db = SqliteConnection::connect("sqlite::memory:").await.unwrap();
    for text in sources("migrations/sqlite") {
        sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut db).await.unwrap();
    }
    let statements = statements();
    assert!(statements.len() >= 25, "only {} were found", statements.len());
    let mut bad = Vec::new();
    for sql in &statements {
        let steps = plan(&mut db, sql).await;
        if steps.iter().any(|step| reads_all(step, sql)) {
            bad.push(format!("{}\n{}", sql.replace(",(?", ""), steps.join("\n")));
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n\n"));

    // Left to itself, the planner does it; should a later one not do so, this can go.
    let values = vec!["(?,?)"; ROWS].join(",");
    let free = format!(
        "SELECT d.stage FROM (VALUES {values}) AS r
         JOIN deposits d ON d.chain_id = r.column1 AND d.tx_hash = r.column2"
    );
    assert!(plan(&mut db, &free).await.iter().any(|step| reads_all(step, &free)));
}
