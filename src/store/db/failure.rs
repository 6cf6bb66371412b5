//! What the database did not do: the statement in two words, and why. Whoever calls adds nothing to it.

use sqlx::Error;

/// A statement that failed, or a transaction that could not begin or end.
#[derive(Debug)]
pub(in crate::store) struct DbError {
    /// What was being done, such as `read deposits`.
    pub(in crate::store) doing: String,
    /// What the library says.
    pub(in crate::store) source: Error,
}

/// What the database answers.
pub(in crate::store) type DbResult<T> = Result<T, DbError>;

impl DbError {
    /// For `map_err` of a statement: named by its verb and its first table.
    pub(super) fn at(sql: &str) -> impl FnOnce(Error) -> Self {
        move |source| Self { doing: named(sql), source }
    }

    /// For `map_err` of what is no statement.
    pub(in crate::store) fn doing(doing: &'static str) -> impl FnOnce(Error) -> Self {
        move |source| Self { doing: doing.into(), source }
    }
}

/// `write addresses`, of `INSERT INTO addresses …`. One that writes is called by what it writes, wherever it reads.
fn named(sql: &str) -> String {
    let words: Vec<&str> = sql.split_whitespace().collect();
    let name = |word: &str| {
        let is_part = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
        let name: String = word.chars().take_while(is_part).collect();
        (!name.is_empty()).then_some(name)
    };
    let after = |begin: &[&str]| {
        let at = words.windows(begin.len()).position(|some| some == begin)?;
        words.get(at.checked_add(begin.len())?).and_then(|word| name(word))
    };
    let writes = [(&["INSERT", "INTO"][..], "write"), (&["DELETE", "FROM"][..], "delete from")];
    for (begin, verb) in writes {
        if let Some(table) = after(begin) {
            return format!("{verb} {table}");
        }
    }
    if let Some(table) = after(&["UPDATE"]) {
        return format!("change {table}");
    }
    let read = words
        .iter()
        .zip(words.iter().skip(1))
        .find_map(|(from, table)| (*from == "FROM").then(|| name(table)).flatten());
    read.map_or_else(|| "do as it was told".to_owned(), |table| format!("read {table}"))
}

#[cfg(test)]
mod tests {
    use super::named;

    #[test]
    fn a_statement_is_named_by_what_it_writes_or_reads_first() {
        for (sql, name) in [
            ("SELECT a FROM deposits d JOIN x ON 1 = 1", "read deposits"),
            ("SELECT a FROM (SELECT b\n   FROM blocks) AS c", "read blocks"),
            ("INSERT INTO addresses (a)\n SELECT b FROM wallets", "write addresses"),
            ("INSERT INTO leases (a) VALUES (1) ON CONFLICT DO UPDATE SET a = 1", "write leases"),
            ("WITH l AS (SELECT 1 FROM x) UPDATE wallets SET a = 1", "change wallets"),
            ("DELETE FROM quotes WHERE a = 1", "delete from quotes"),
            ("PRAGMA wal_checkpoint(PASSIVE)", "do as it was told"),
        ] {
            assert_eq!(named(sql), name, "{sql}");
        }
    }
}
