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
