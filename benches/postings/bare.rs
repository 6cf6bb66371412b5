//! The yardsticks: the rows that the store has written, written again with nothing around them.
//!
//! The database that the store has filled is copied, its credits (and then its deposits) are set
//! aside and deleted, and the same rows go in again in commits of the same size.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, Row};
use topupd::devnet::Postgres;

use crate::{SCAN, per_second};

pub struct Bare {
    /// Credits a second, for each size of a commit.
    pub credits: Vec<f64>,
    /// Deposits a second.
    pub deposits: f64,
}

/// Tables of a credit, in the order in which they are written.
const LEDGER: [&str; 6] = ["records", "entries", "lots", "credits", "unlogged", "events_new"];
/// Which of their rows belong to a credit.
const OF_CREDITS: &str = "(journal_id, seq) IN (SELECT journal_id, seq FROM credits)";

/// The rows of a table that belong to credits, and their order: that in which they were written.
fn of_credits(table: &str) -> (String, &'static str) {
    match table {
        "events_new" => ("kind = 'deposit.credited'".to_owned(), "position"),
        "unlogged" => (OF_CREDITS.to_owned(), "position"),
        "lots" => {
            (OF_CREDITS.replace("(journal_id, seq) IN", "(journal_id, lot_seq) IN"), WRITTEN_LOT)
        }
        "entries" => (OF_CREDITS.to_owned(), WRITTEN_LEG),
        _ => (OF_CREDITS.to_owned(), WRITTEN),
    }
}
const WRITTEN: &str =
    "(SELECT u.position FROM unlogged u WHERE u.journal_id = t.journal_id AND u.seq = t.seq)";
const WRITTEN_LEG: &str =
    "(SELECT u.position FROM unlogged u WHERE u.journal_id = t.journal_id AND u.seq = t.seq), leg";
const WRITTEN_LOT: &str =
    "(SELECT u.position FROM unlogged u WHERE u.journal_id = t.journal_id AND u.seq = t.lot_seq)";

/// A loop of prepared statements on one connection, with the same pragmas.
pub async fn sqlite(path: &Path, batches: &[usize], ones: usize, many: usize) -> Bare {
    let copy = path.with_extension("bare");
    std::fs::copy(path, &copy).unwrap();
    let mut sql = SqliteConnectOptions::new()
        .filename(&copy)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .connect()
        .await
        .unwrap();
    let run = async |sql: &mut sqlx::SqliteConnection, text: &str| {
        sqlx::raw_sql(AssertSqlSafe(text.to_owned())).execute(sql).await.unwrap();
    };
    run(&mut sql, "PRAGMA foreign_keys = OFF").await;
    let triggers = sqlx::query("SELECT name FROM sqlite_master WHERE type = 'trigger'");
    for row in triggers.fetch_all(&mut sql).await.unwrap() {
        run(&mut sql, &format!("DROP TRIGGER {}", row.get::<String, _>(0))).await;
    }
    let seen: Vec<_> = sqlx::query("SELECT * FROM sightings ORDER BY block_number, log_index")
        .fetch_all(&mut sql)
        .await
        .unwrap();
    let owners: Vec<_> = sqlx::query(
        "SELECT d.* FROM deposits d JOIN sightings s ON s.deposit_id = d.deposit_id
         ORDER BY s.block_number, s.log_index",
    )
    .fetch_all(&mut sql)
    .await
    .unwrap();
    run(&mut sql, "CREATE INDEX by_place ON unlogged (journal_id, seq)").await;
    let mut rows = Vec::new();
    for table in LEDGER {
        let (which, by) = of_credits(table);
        let text = format!("SELECT t.* FROM {table} t WHERE {which} ORDER BY {by}");
        rows.push(sqlx::query(AssertSqlSafe(text)).fetch_all(&mut sql).await.unwrap());
    }
    run(&mut sql, "DROP INDEX by_place").await;
    for table in LEDGER.iter().filter(|table| **table != "credits") {
        run(&mut sql, &format!("DELETE FROM {table} WHERE {}", of_credits(table).0)).await;
    }
    run(&mut sql, "DELETE FROM credits").await;
    run(&mut sql, "UPDATE deposits SET stage = 'priced', record_seq = NULL").await;
    run(&mut sql, "VACUUM; PRAGMA foreign_keys = ON").await;

    let (mut credits, mut seq) = (Vec::new(), 0);
    for batch in batches {
        let count = if *batch == 1 { ones } else { many };
        let began = Instant::now();
        for _ in 0..count / batch {
            run(&mut sql, "BEGIN IMMEDIATE").await;
            for _ in 0..*batch {
                insert_sqlite(&mut sql, "records", &rows[0][seq]).await;
                insert_sqlite(&mut sql, "entries", &rows[1][2 * seq]).await;
                insert_sqlite(&mut sql, "entries", &rows[1][2 * seq + 1]).await;
                insert_sqlite(&mut sql, "lots", &rows[2][seq]).await;
                insert_sqlite(&mut sql, "credits", &rows[3][seq]).await;
                insert_sqlite(&mut sql, "unlogged", &rows[4][seq]).await;
                insert_sqlite(&mut sql, "events_new", &rows[5][seq]).await;
                sqlx::query(
                    "UPDATE deposits SET stage = 'credited', record_seq = $2 WHERE deposit_id = $1",
                )
                .bind(rows[3][seq].get::<Vec<u8>, _>("deposit_id"))
                .bind(rows[3][seq].get::<i64, _>("seq"))
                .execute(&mut sql)
                .await
                .unwrap();
                sqlx::query(
                    "UPDATE journals SET posted_nano = posted_nano + 1, seal = $2 WHERE journal_id = $1",
                )
                .bind(rows[0][seq].get::<i64, _>("journal_id"))
                .bind(rows[0][seq].get::<Vec<u8>, _>("seal"))
                .execute(&mut sql)
                .await
                .unwrap();
                seq += 1;
            }
            run(&mut sql, "COMMIT").await;
        }
        credits.push(per_second(count, began.elapsed()));
    }

    run(&mut sql, "PRAGMA foreign_keys = OFF").await;
    for table in LEDGER.iter().chain(&["prices", "confirmations", "sightings", "deposits"]) {
        run(&mut sql, &format!("DELETE FROM {table}")).await;
    }
    run(&mut sql, "VACUUM").await;
    let began = Instant::now();
    for (owners, seen) in owners.chunks(SCAN).zip(seen.chunks(SCAN)) {
        run(&mut sql, "BEGIN IMMEDIATE").await;
        for (owner, seen) in owners.iter().zip(seen) {
            insert_sqlite(&mut sql, "deposits", owner).await;
            insert_sqlite(&mut sql, "sightings", seen).await;
        }
        run(&mut sql, "COMMIT").await;
    }
    let deposits = per_second(owners.len(), began.elapsed());
    sql.close().await.unwrap();
    Bare { credits, deposits }
}

async fn insert_sqlite(
    sql: &mut sqlx::SqliteConnection,
    table: &str,
    row: &sqlx::sqlite::SqliteRow,
) {
    use sqlx::{Column, TypeInfo, ValueRef};
    let marks: Vec<String> = (1..=row.len()).map(|i| format!("${i}")).collect();
    let text = format!("INSERT INTO {table} VALUES ({})", marks.join(", "));
    let mut query = sqlx::query(AssertSqlSafe(text));
    for column in row.columns() {
        let value = row.try_get_raw(column.ordinal()).unwrap();
        let (null, kind) = (value.is_null(), value.type_info().name().to_owned());
        query = match kind.as_str() {
            _ if null => query.bind(None::<i64>),
            "INTEGER" => query.bind(row.get::<i64, _>(column.ordinal())),
            "TEXT" => query.bind(row.get::<String, _>(column.ordinal())),
            _ => query.bind(row.get::<Vec<u8>, _>(column.ordinal())),
        };
    }
    query.execute(sql).await.unwrap();
}

pub async fn create(server: &Postgres, name: &str, template: &str) {
    let mut admin = PgConnection::connect(&server.url("postgres")).await.unwrap();
    let text = format!("CREATE DATABASE {name} TEMPLATE {template}");
    sqlx::query(AssertSqlSafe(text)).execute(&mut admin).await.unwrap();
}

/// The columns of a table of [`LEDGER`] that are written.
fn columns(table: &str) -> &'static str {
    match table {
        "records" => {
            "journal_id, seq, record_id, kind, subject, cause, cause_hash, outcome, effective_at_ms, recorded_at_ms,
             operator, key_id, prev, seal"
        }
        "entries" => "journal_id, seq, leg, account, unit, side, amount",
        "lots" => {
            "journal_id, lot_seq, kind, priority, scope, amount_nano, remaining_nano, effective_at_ms, expires_at_ms,
             consideration_asset, consideration_raw, consideration_decimals, consideration_usd_nano"
        }
        "credits" => "journal_id, seq, deposit_id, block_hash, log_index, reversed_by",
        "unlogged" => "journal_id, seq",
        _ => "event_id, kind, namespace_id, chain_id, subject, payload, at_ms",
    }
}

/// The statements of a credit, as pgbench runs them. The rows lie ready in tables of the server, so
/// that nothing is sent or parsed but the statements themselves.
fn script(batch: usize) -> String {
    let now = format!("client = :client_id AND at > :was AND at <= :was + {batch}");
    let inserts: Vec<String> = LEDGER
        .map(|table| {
            let columns = columns(table).replace('\n', " ");
            format!("INSERT INTO {table} ({columns}) SELECT {columns} FROM s_{table} WHERE {now};")
        })
        .to_vec();
    format!(
        "BEGIN;
SELECT token FROM leases WHERE task = 'eip155:' || (:client_id + 1) FOR UPDATE;
SELECT n AS was FROM s_done WHERE client = :client_id \\gset
SELECT journal_id FROM journals WHERE journal_id IN (SELECT journal_id FROM s_credits WHERE {now}) ORDER BY journal_id FOR NO KEY UPDATE;
{}
UPDATE deposits d SET stage = 'credited', record_seq = p.seq FROM s_credits p WHERE p.{} AND d.deposit_id = p.deposit_id;
UPDATE journals SET posted_nano = posted_nano + 1 WHERE journal_id IN (SELECT journal_id FROM s_credits WHERE {now});
UPDATE s_done SET n = n + {batch} WHERE client = :client_id;
COMMIT;
",
        inserts.join("\n"),
        now.replace("at >", "p.at >").replace("at <=", "p.at <="),
    )
}

/// The rows of credits, set aside: each with its writer, and its place among that one's credits.
fn set_aside() -> Vec<String> {
    let mut all = vec![
        "CREATE TABLE s_of AS
           SELECT k.journal_id AS j, k.seq AS q, d.deposit_id AS d, d.chain_id - 1 AS client,
                  row_number() OVER (PARTITION BY d.chain_id ORDER BY u.position) AS at
           FROM credits k JOIN deposits d ON d.deposit_id = k.deposit_id
           JOIN unlogged u ON u.journal_id = k.journal_id AND u.seq = k.seq"
            .to_owned(),
        "CREATE TABLE s_done AS SELECT DISTINCT client, CAST(0 AS BIGINT) AS n FROM s_of"
            .to_owned(),
    ];
    for table in LEDGER {
        let on = match table {
            "lots" => "t.journal_id = o.j AND t.lot_seq = o.q",
            "events_new" => {
                "t.kind = 'deposit.credited' AND t.subject = '0x' || encode(o.d, 'hex')"
            }
            _ => "t.journal_id = o.j AND t.seq = o.q",
        };
        all.push(format!(
            "CREATE TABLE s_{table} AS SELECT o.client, o.at, t.* FROM s_of o JOIN {table} t ON {on}"
        ));
        all.push(format!("CREATE INDEX ON s_{table} (client, at)"));
    }
    for table in LEDGER.iter().filter(|table| **table != "credits") {
        all.push(format!("DELETE FROM {table} WHERE {}", of_credits(table).0));
    }
    all.push("DELETE FROM credits".to_owned());
    all
}

pub async fn postgres(
    server: &Postgres,
    name: &str,
    writers: usize,
    batches: &[usize],
    ones: usize,
    many: usize,
) -> Bare {
    let bare = format!("{name}_bare");
    create(server, &bare, name).await;
    let mut sql = PgConnection::connect(&server.url(&bare)).await.unwrap();
    let mut setup = vec!["SET session_replication_role = replica".to_owned()];
    for table in ["deposits", "sightings"] {
        setup.push(format!("CREATE TABLE s_{table} AS SELECT * FROM {table}"));
        setup.push(format!("CREATE INDEX ON s_{table} (block_number)"));
    }
    setup.extend(set_aside());
    setup.push("UPDATE deposits SET stage = 'priced', record_seq = NULL".to_owned());
    for statement in setup.into_iter().chain(["VACUUM FULL ANALYZE".into(), "CHECKPOINT".into()]) {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut sql).await.unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    let program = Some(server.bin("pgbench")).filter(|p| p.is_file()).unwrap_or("pgbench".into());
    let mut credits = Vec::new();
    for batch in batches {
        let file = dir.path().join(format!("{batch}.sql"));
        std::fs::write(&file, script(*batch)).unwrap();
        let count = if *batch == 1 { ones } else { many } / batch / writers;
        let out = Command::new(&program)
            .args(["--no-vacuum", "--protocol=prepared", "--random-seed=1", "-f"])
            .arg(&file)
            .args(["-c", &writers.to_string(), "-j", "2", "-t", &count.to_string()])
            .arg(server.url(&bare))
            .output()
            .unwrap_or_else(|e| panic!("{}: {e}; install postgresql-contrib", program.display()));
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let tps =
            text.lines().find_map(|l| l.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
        let tps: f64 =
            tps.unwrap_or_else(|| panic!("{text}\n{}", String::from_utf8_lossy(&out.stderr)));
        credits.push(tps * *batch as f64);
    }

    // Deposits and their sightings, a thousand a commit, from one connection.
    let count: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM s_deposits").fetch_one(&mut sql).await.unwrap();
    for statement in [
        "SET session_replication_role = replica",
        "DELETE FROM entries",
        "DELETE FROM lots",
        "DELETE FROM credits",
        "DELETE FROM prices",
        "DELETE FROM confirmations",
        "DELETE FROM sightings",
        "DELETE FROM deposits",
        "CREATE TABLE n_deposits AS SELECT row_number() OVER (ORDER BY chain_id, block_number, log_index) AS at, * FROM s_deposits",
        "CREATE TABLE n_sightings AS SELECT row_number() OVER (ORDER BY chain_id, block_number, log_index) AS at, * FROM s_sightings",
        "ALTER TABLE n_deposits ADD PRIMARY KEY (at)",
        "ALTER TABLE n_sightings ADD PRIMARY KEY (at)",
        "UPDATE n_deposits SET stage = 'pending', record_seq = NULL",
        "VACUUM FULL ANALYZE",
        "CHECKPOINT",
        "SET session_replication_role = origin",
    ] {
        sqlx::raw_sql(statement).execute(&mut sql).await.unwrap();
    }
    let columns = |table: &str| {
        format!(
            "SELECT string_agg(quote_ident(column_name), ', ' ORDER BY ordinal_position)
         FROM information_schema.columns WHERE table_name = '{table}' AND table_schema = 'public'"
        )
    };
    let mut inserts = Vec::new();
    for table in ["deposits", "sightings"] {
        let names: String =
            sqlx::query_scalar(AssertSqlSafe(columns(table))).fetch_one(&mut sql).await.unwrap();
        inserts.push(format!("INSERT INTO {table} ({names}) SELECT {names} FROM n_{table} WHERE at > $1 AND at <= $1 + {SCAN}"));
    }
    let began = Instant::now();
    for from in (0..count).step_by(SCAN) {
        let mut tx = sql.begin().await.unwrap();
        for insert in &inserts {
            sqlx::query(AssertSqlSafe(insert.clone())).bind(from).execute(&mut *tx).await.unwrap();
        }
        tx.commit().await.unwrap();
    }
    let deposits = per_second(count as usize, began.elapsed());
    Bare { credits, deposits }
}
