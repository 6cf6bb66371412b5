//! SIGKILL at random, many times in a row on one database, while payments flow. `KILLS=50` says how many.

use std::process::{Command, Stdio};
use std::time::Duration;

use alloy::primitives::TxHash;

use super::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn killed_again_and_again_every_payment_is_credited_exactly_once() {
    let mut net = Net::new().await;
    net.fill_purses().await;
    // On PostgreSQL a daemon waits for the lease of the one that was killed before it.
    let wants = Wants { confirmations: 2, lease_ms: 500, ..Wants::default() };
    let config = net.write_config(&wants);
    net.register(&config).await;
    let mut random = fastrand::Rng::with_seed(0x7095);
    let mut paid: Vec<(TxHash, u64)> = Vec::new();
    let run = || {
        let child = Command::new(env!("CARGO_BIN_EXE_topupd"))
            .args(["run", "--config"])
            .arg(net.config_path())
            .env("RUST_LOG", "error")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Running(child.unwrap())
    };
    let kills = std::env::var("KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(15);
    let mut progress: Vec<usize> = Vec::new();
    // How long a daemon may live. On a busy machine it takes longer to start; it must get to work
    // in some of its lives, whatever the machine, or the kills would prove nothing.
    let mut life_ms = 350;
    for _ in 0..kills {
        let mut daemon = run();
        // Payments go on while it starts, works, and is killed.
        let life = Duration::from_millis(random.u64(20..life_ms));
        let born = std::time::Instant::now();
        while born.elapsed() < life {
            let tokens = [
                (net.tokens.usdc, 1_000),
                (net.tokens.usdt, 1_000),
                (net.tokens.rtity, 10u64.pow(12)),
            ];
            let (token, unit) = tokens[random.usize(0..3)];
            let amount = random.u64(1..1_000_000) * unit;
            let sender = random.usize(0..net.dev.accounts.len());
            let to = net.addresses[random.usize(0..2)];
            paid.push((net.pay(sender, token, to, amount).await, amount));
            tokio::time::sleep(Duration::from_millis(random.u64(0..25))).await;
        }
        daemon.kill();
        let store = net.store().await;
        verify(&store).await; // at every moment, not only at the end
        let now = credited(&store).await;
        let worked = progress.last().is_none_or(|before| now > *before);
        life_ms = if worked { (life_ms * 4 / 5).max(200) } else { (life_ms * 3 / 2).min(60_000) };
        progress.push(now);
        store.close().await;
    }
    // The kills came while it was working, not only while it was starting.
    let advanced = progress.windows(2).filter(|w| w[1] > w[0]).count();
    println!("{} payments; credited after each kill: {progress:?}", paid.len());
    println!("{advanced} of {kills} came after it had worked");

    net.dev.mine(3).await.unwrap();
    let mut daemon = run();
    let store = net.store().await;
    until_credited(&store, paid.len()).await;
    daemon.kill();
    verify(&store).await;
    let deposits = deposits(&store).await;
    assert_eq!(deposits.len(), paid.len());
    for (tx, amount) in &paid {
        let of_tx: Vec<_> = deposits.iter().filter(|d| d.tx_hash == *tx).collect();
        assert_eq!(of_tx.len(), 1, "{tx}");
        assert_eq!(of_tx[0].raw.0, alloy::primitives::U256::from(*amount));
    }
    let verdict = Command::new(env!("CARGO_BIN_EXE_topupd"))
        .args(["ledger", "verify", "--config"])
        .arg(net.config_path())
        .output()
        .unwrap();
    assert!(verdict.status.success());
    let text = String::from_utf8(verdict.stdout).unwrap();
    assert!(text.contains(&format!("{} credits given", paid.len())), "{text}");
}
