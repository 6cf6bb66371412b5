//! What the documentation says of backups, done: a running installation is copied, lost, restored
//! from the older copy, started, and catches up to the same ledger.

use std::process::Command;

use super::support::*;
use crate::database::{Cell, TestDatabase};

/// What others know of the ledger: records, their deposits, the events' ids, who got how much.
async fn known(database: &TestDatabase) -> Vec<Vec<Cell>> {
    let query = "SELECT q.record_id, k.deposit_id, o.event_id, e.account, e.amount
                 FROM records q JOIN credits k ON k.journal_id = q.journal_id AND k.seq = q.seq
                 JOIN (SELECT event_id, kind, subject FROM events_new
                       UNION ALL SELECT event_id, kind, subject FROM events) o
                   ON o.kind = 'deposit.credited' AND o.subject = q.subject
                 JOIN entries e ON e.journal_id = q.journal_id AND e.seq = q.seq AND e.side = 'credit'
                 ORDER BY q.record_id";
    database.sql().await.rows(query).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_backup_catches_up_to_the_same_ledger() {
    let mut net = Net::new().await;
    net.fill_purses().await;
    let daemon = net.daemon(&Wants::default()).await;
    let store = net.store().await;
    for i in 0..10 {
        net.pay(i % 5, net.tokens.usdc, net.addresses[i % 2], 1_000_000 + i as u64).await;
    }
    net.dev.mine(3).await.unwrap();
    until_credited(&store, 10).await;
    net.pay(0, net.tokens.usdt, net.addresses[0], 77_000_000).await; // one that is under way

    let backup = TestDatabase::new(crate::ENGINE).await;
    let out = Command::new(env!("CARGO_BIN_EXE_topupd"))
        .args(["db", "backup", "--to", backup.url(), "--config"])
        .arg(net.config_path())
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert!(
        String::from_utf8_lossy(&out.stdout).contains("ledger verify: holds; 10 credits given")
    );

    for i in 0..10 {
        net.pay(i % 5, net.tokens.rtity, net.addresses[i % 2], 10u64.pow(18) + i as u64).await;
    }
    net.dev.mine(3).await.unwrap();
    until_credited(&store, 21).await;
    daemon.shutdown().await;
    store.close().await;
    let lost = std::mem::replace(&mut net.database, backup);
    assert_eq!(known(&net.database).await.len(), 10);

    let config = net.write_config(&Wants::default());
    let daemon = start(&config).await;
    let store = net.store().await;
    until_credited(&store, 21).await;
    verify(&store).await;
    daemon.shutdown().await;
    assert_eq!(known(&net.database).await, known(&lost).await);
}

/// What does not hold is no backup, be it the log alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_does_not_hold_is_not_copied() {
    let mut net = Net::new().await;
    let config = net.write_config(&Wants::default());
    net.register(&config).await;
    let hex = "00".repeat(16);
    let zero = match crate::ENGINE {
        crate::database::Engine::Sqlite => format!("X'{hex}'"),
        crate::database::Engine::Postgres => format!("'\\x{hex}'::bytea"),
    };
    let day = format!(
        "INSERT INTO account_days (account, unit, day, debit, credit)
         VALUES ('house/issued/paid', 'credits', 20000, {zero}, {zero})"
    );
    net.database.sql().await.execute(&day).await.unwrap();
    let store = net.store().await;
    verify(&store).await;
    let both = store.verify_all().await.unwrap();
    assert!(both.ledger.is_ok() && both.log.is_err(), "{both:?}");
    store.close().await;
    let backup = TestDatabase::new(crate::ENGINE).await;
    for (arguments, code) in
        [(vec!["db", "backup", "--to", backup.url()], 1), (vec!["ledger", "verify"], 3)]
    {
        let mut command = Command::new(env!("CARGO_BIN_EXE_topupd"));
        command.args(&arguments).arg("--config").arg(net.config_path());
        let out = command.output().unwrap();
        let said = [out.stdout, out.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert_eq!(out.status.code(), Some(code), "{said}");
        assert!(said.to_lowercase().contains("the log does not hold: "), "{said}");
    }
}
