//! One random story on both engines: every table holds the same rows in the end.

use proptest::prelude::*;
use topupd::chain::scripted::ScriptedChain;
use topupd::domain::finality::Verify;
use topupd::store::Store;

use crate::database::{Cell, Engine, Sql};
use crate::house::correcting::with_two_epochs;
use crate::house::interleavings::{CONFIRMATIONS, Step, play, step};
use crate::house::support::*;

/// Who does the work, and when, is another matter on each engine; and a SQLite file is stamped before it gets its
/// name, by its own clock.
const LEFT_OUT: [&str; 5] = ["leases", "daemons", "database_server", "installation", "log_state"];
/// Their numbers say nothing: PostgreSQL leaves out those of what was not committed.
const ONLY_ORDERED: [&str; 2] = ["unlogged", "events_new"];

/// All rows of a table, in the order of its key.
pub async fn rows(sql: &mut Sql, table: &str) -> Vec<Vec<Cell>> {
    let (columns, key) = (sql.columns(table).await.join(", "), sql.key(table).await.join(", "));
    sql.rows(&format!("SELECT {columns} FROM {table} ORDER BY {key}")).await
}

/// The same story, but for failures: of requests under way at once, which one fails depends on how
/// fast each engine answers between them, and so would the order of the credits. All requests of one
/// task fail. And nobody dies.
fn all_or_none(steps: &[Step]) -> Vec<Step> {
    let mut story = Vec::new();
    for step in steps {
        let ends = matches!(step, Step::Watch | Step::Settle | Step::Register { during: true, .. });
        story.push(match step {
            Step::Fail { .. } => Step::Fail { requests: u32::MAX },
            // PostgreSQL leaves out the numbers of scan records that were not committed.
            Step::Register { during, .. } => Step::Register { during: *during, dies_after: None },
            step => step.clone(),
        });
        if ends {
            story.push(Step::Fail { requests: 0 });
        }
    }
    story
}

async fn told(engine: Engine, steps: &[Step]) -> House {
    let chain = ScriptedChain::new(GENESIS_MS);
    chain.seal_blocks();
    let mut rules = with_two_epochs(CONFIRMATIONS);
    rules.verify = Verify::ReceiptsRoot;
    let mut house = House::on(engine, rules).await;
    house.store.new_address(&name("bolt"), &xpub(), GENESIS_MS).await.unwrap();
    play(&mut house, &chain, &all_or_none(steps)).await;
    house
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(12),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn both_engines_hold_the_same_after_the_same_story(
        steps in prop::collection::vec(step(), 10..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let sqlite = told(Engine::Sqlite, &steps).await;
            let postgres = told(Engine::Postgres, &steps).await;
            let (mut ours, mut theirs) = (sqlite.database.sql().await, postgres.database.sql().await);
            for table in Store::tables().filter(|table| !LEFT_OUT.contains(table)) {
                let columns = ours.columns(table).await;
                assert_eq!(columns, theirs.columns(table).await, "{table}");
                let (ours, theirs) = (rows(&mut ours, table).await, rows(&mut theirs, table).await);
                assert_eq!(ours.len(), theirs.len(), "{table}");
                for (mut ours, mut theirs) in ours.into_iter().zip(theirs) {
                    if ONLY_ORDERED.contains(&table) {
                        (ours[0], theirs[0]) = (Cell::Null, Cell::Null);
                    }
                    assert_eq!(ours, theirs, "{table} ({})", columns.join(", "));
                }
            }
        });
    }
}
