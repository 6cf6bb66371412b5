//! A chain that is taken out of the configuration while payments on it are under way.

use topupd::store::ChainFinding;

use super::binary::{text, topupd};
use super::start::run;
use super::support::*;

/// The same configuration for another chain, which nobody can be asked about now.
fn without_the_chain(net: &Net, wants: &Wants) {
    let text = net.config_text(&Wants { ws: None, ..wants.clone() });
    let text = text
        .replace("[chains.local]\nchain_id = 31337", "[chains.other]\nchain_id = 31338")
        .replace(net.dev.http.as_str(), "http://127.0.0.1:1");
    std::fs::write(net.config_path(), text).unwrap();
}

async fn standing(net: &Net) -> Option<ChainFinding> {
    let store = net.store().await;
    let all = store.findings(100).await.unwrap();
    store.close().await;
    all.into_iter().find(|f| f.kind == "chain_not_configured" && f.state != "gone")
}

#[tokio::test(flavor = "multi_thread")]
async fn is_said_by_run_check_and_status_until_it_is_back() {
    let mut net = Net::new().await;
    let wants = Wants { confirmations: 3, ..Wants::default() };
    let daemon = net.daemon(&wants).await;
    net.pay(0, net.tokens.usdc, net.addresses[0], 12_500_000).await;
    {
        let store = net.store().await;
        until("seen", async || if deposits(&store).await.len() == 1 { Ok(()) } else { Err(()) })
            .await;
        store.close().await;
    }
    daemon.shutdown().await;
    let said =
        "eip155:31337 is not in the configuration, but 1 of its payments and 0 of its backfills";
    for command in ["check", "status"] {
        let out = text(&topupd(&net, &[command]).stdout);
        assert!(!out.contains("WARNING"), "{command}: {out}");
    }
    without_the_chain(&net, &wants);
    for command in ["check", "status"] {
        let out = text(&topupd(&net, &[command]).stdout);
        assert!(out.contains("WARNING") && out.contains(said), "{command}: {out}");
    }
    let listed = text(&topupd(&net, &["deposits", "list"]).stdout);
    assert!(listed.contains("its chain to be configured again"), "{listed}");
    let log = net.dir.path().join("run.log");
    // Started twice: the same finding, and the warning each time.
    let mut ids = Vec::new();
    for _ in 0..2 {
        let mut daemon = run(&net, &log);
        until("said", async || {
            let log = std::fs::read_to_string(&log).unwrap();
            if log.contains(said) { Ok(()) } else { Err(log) }
        })
        .await;
        daemon.kill();
        let found = standing(&net).await.unwrap();
        assert_eq!((found.severity.as_str(), found.subject.as_str()), ("error", "eip155:31337"));
        ids.push(found.id);
    }
    assert_eq!(ids[0], ids[1]);

    let config = net.write_config(&wants);
    let daemon = start(&config).await;
    assert_eq!(standing(&net).await, None);
    net.dev.mine(3).await.unwrap();
    let store = net.store().await;
    until_credited(&store, 1).await;
    daemon.shutdown().await;
    store.close().await;
    // Nothing is under way any more: it may be left.
    without_the_chain(&net, &wants);
    let out = text(&topupd(&net, &["status"]).stdout);
    assert!(!out.contains("WARNING"), "{out}");
}

/// Old blocks that are not read yet may have payments too.
#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_is_under_way_too() {
    let mut net = Net::new().await;
    let wants = Wants { confirmations: 1, ..Wants::default() };
    let config = net.write_config(&wants);
    net.register(&config).await;
    let store = net.store().await;
    let chain = topupd::domain::ids::ChainId(31_337);
    store.request_rescan(chain, 1, 2, 0).await.unwrap();
    let left = store.left_chains(&[]).await.unwrap();
    assert_eq!((left.len(), left[0].payments, left[0].backfills), (1, 0, 1));
    assert_eq!(store.left_chains(&[chain]).await.unwrap(), []);
    // Closed by the next start that finds nothing of it.
    store.note_left_chains(&left, 1).await.unwrap();
    assert!(standing(&net).await.is_some());
    let daemon = start(&config).await;
    assert_eq!(standing(&net).await, None);
    daemon.shutdown().await;
}
