//! What operators see and decide: scans, findings, rescan, and a chain that stands still.

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use topupd::domain::ids::ChainId;
use topupd::store::Store;

use super::proxy::{Fault, LOGS_BY_RANGE, Proxy};
use super::support::*;

const CHAIN: ChainId = ChainId(31_337);

fn command(net: &Net, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_topupd"));
    command.args(args).arg("--config").arg(net.config_path()).stdin(Stdio::null());
    command
}

fn topupd(net: &Net, args: &[&str]) -> Output {
    command(net, args).output().unwrap()
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr.clone()).unwrap()
}

async fn caught_up(net: &Net, store: &Store) {
    let tip: alloy::primitives::U64 = net.dev.rpc.ask("eth_blockNumber", ()).await.unwrap();
    until("caught up", async || {
        let at = store.cursor(CHAIN).await.unwrap().map(|(block, _)| block.number);
        if at == Some(tip.to()) { Ok(()) } else { Err(at) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rescan_goes_on_after_a_kill_and_changes_nothing_that_is_known() {
    let mut net = Net::new().await;
    net.fill_purses().await;
    let proxy = Proxy::to(&net.dev.http).await.unwrap();
    let (http, max) = (proxy.http(), 5);
    let wants = Wants {
        providers: Some(format!(r#"{{ name = "slow", http = "{http}", max_range = {max} }}"#)),
        more: "reorg_window = 8".into(),
        ..Wants::default()
    };
    let daemon = net.daemon(&wants).await;
    let store = net.store().await;
    net.pay(0, net.tokens.usdc, net.addresses[0], 1_000_000).await;
    net.dev.mine(120).await.unwrap();
    caught_up(&net, &store).await;
    until_credited(&store, 1).await;
    daemon.shutdown().await;

    for (args, expected) in [
        (&["--from", "9", "--to", "3"][..], "--from 9 is above --to 3"),
        (&["--from", "0", "--to", "999999"], "is not scanned yet"),
    ] {
        let all = [&["rescan", "--chain", "local"], args].concat();
        assert!(refused(&topupd(&net, &all)).contains(expected), "{expected}");
    }
    let unknown = refused(&topupd(&net, &["rescan", "--chain", "x", "--from", "0", "--to", "1"]));
    assert!(unknown.contains("the configuration has: local"), "{unknown}");

    // No daemon runs: the command reads by itself, and is killed on the way.
    // So slow that it is far from its end when it is killed.
    let slow = proxy.set(Fault::Delay(Duration::from_secs(1)).on(LOGS_BY_RANGE));
    let rescan = ["rescan", "--chain", "local", "--from", "0", "--to", "100"];
    let mut child = Running(
        command(&net, &rescan).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap(),
    );
    until("under way", async || {
        let next = store.backfills(CHAIN).await.unwrap().iter().map(|b| b.next).max();
        if next > Some(10) { Ok(()) } else { Err(next) }
    })
    .await;
    child.kill();
    slow.lift();
    let next = store.open_backfills(CHAIN).await.unwrap()[0].next;
    assert!((10..100).contains(&next), "{next}");
    let before = proxy.requests(LOGS_BY_RANGE);
    let out = said(&topupd(&net, &rescan));
    assert!(out.contains("blocks 0 to 100 read again") && out.contains("0 deposits new"), "{out}");
    assert!(proxy.requests(LOGS_BY_RANGE) - before < 100 / max, "it began anew");

    let scans = said(&topupd(&net, &["scans", "--chain", "local"]));
    assert!(scans.contains("no gap") && scans.contains("rescan: blocks 0 to 100"), "{scans}");
    let json: serde_json::Value =
        serde_json::from_str(&said(&topupd(&net, &["scans", "--json"]))).unwrap();
    assert_eq!(json["chains"][0]["scans"][0]["provider"], "slow");
    assert!(said(&topupd(&net, &["findings"])).contains("nothing was found"));
    verify(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_deeper_than_the_window_halts_the_chain_until_somebody_decides() {
    let mut net = Net::new().await;
    net.fill_purses().await;
    net.dev.automine(false).await.unwrap();
    let proxy = Proxy::to(&net.dev.http).await.unwrap();
    let http = proxy.http();
    let wants = Wants {
        providers: Some(format!(r#"{{ name = "only", http = "{http}" }}"#)),
        more: "reorg_window = 8".into(),
        ..Wants::default()
    };
    let daemon = net.daemon(&wants).await;
    let store = net.store().await;
    caught_up(&net, &store).await;
    let twin = net.dev.twin().await.unwrap();
    twin.automine(false).await.unwrap();
    let number: alloy::primitives::U64 = twin.rpc.ask("eth_blockNumber", ()).await.unwrap();
    let common: u64 = number.to();
    let not_yet = refused(&topupd(&net, &["chain", "resume", "local", "--keep"]));
    assert!(not_yet.contains("does not stand still"), "{not_yet}");

    net.pay(0, net.tokens.usdc, net.addresses[0], 1_000_000).await;
    net.dev.mine(20).await.unwrap();
    until_credited(&store, 1).await;
    caught_up(&net, &store).await;
    twin.mine(25).await.unwrap();
    proxy.switch_to(&twin.http);
    until("halted", async || {
        let halt = store.halt_of(CHAIN).await.unwrap();
        if halt.is_some() { Ok(()) } else { Err(halt) }
    })
    .await;
    let status = topupd(&net, &["status"]);
    assert_eq!(status.status.code(), Some(3));
    let status = String::from_utf8(status.stdout).unwrap();
    assert!(status.contains("HALTED  local: only shows a fork below block"), "{status}");
    assert_eq!(balance(&store, "acme").await, "1000");

    // The chain did fork: without the payment. The running daemon takes it up from there.
    let back = common.to_string();
    let out = said(&topupd(&net, &["chain", "resume", "local", "--rewind-to", &back]));
    assert!(out.contains("goes on from block"), "{out}");
    until("reversed", async || {
        let stages: Vec<_> = deposits(&store).await.iter().map(|d| d.stage.to_string()).collect();
        if stages == ["reversed"] { Ok(()) } else { Err(stages) }
    })
    .await;
    assert_eq!(balance(&store, "acme").await, "0");
    assert_eq!(store.scan_gap(CHAIN).await.unwrap(), None);
    verify(&store).await;
    daemon.shutdown().await;
}

/// Two of three read each block. One that was away is checked again before it is asked again, also by a
/// command.
#[tokio::test(flavor = "multi_thread")]
async fn a_rescan_admits_a_provider_that_is_back() {
    let mut net = Net::new().await;
    let mut proxies = Vec::new();
    for _ in 0..3 {
        proxies.push(Proxy::to(&net.dev.http).await.unwrap());
    }
    let listed: Vec<String> = ["ann", "bob", "cyd"]
        .iter()
        .zip(&proxies)
        .map(|(name, p)| format!(r#"{{ name = "{name}", http = "{}", max_range = 5 }}"#, p.http()))
        .collect();
    let wants = Wants {
        providers: Some(listed.join(", ")),
        more: "reorg_window = 8".into(),
        ..Wants::default()
    };
    let daemon = net.daemon(&wants).await;
    let store = net.store().await;
    net.dev.mine(520).await.unwrap();
    caught_up(&net, &store).await;
    daemon.shutdown().await;

    let away = proxies[0].set(Fault::Drop.on(LOGS_BY_RANGE));
    let slow = Fault::Delay(Duration::from_millis(200));
    let slow = [1, 2].map(|i: usize| proxies[i].set(slow.on(LOGS_BY_RANGE)));
    let rescan = ["rescan", "--chain", "local", "--from", "0", "--to", "500"];
    let mut child =
        command(&net, &rescan).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // So often, and it is away; and then it is all that the third has beside it.
    until("away", async || if away.hits() >= 3 { Ok(()) } else { Err(away.hits()) }).await;
    assert_eq!(child.try_wait().unwrap(), None);
    let checks = proxies[0].requests("eth_chainId");
    away.lift();
    slow.iter().for_each(super::proxy::Injected::lift);
    proxies[1].set(Fault::Drop.on(LOGS_BY_RANGE));
    let out = said(&child.wait_with_output().unwrap());
    assert!(out.contains("blocks 0 to 500 read again"), "{out}");
    assert!(proxies[0].requests("eth_chainId") > checks, "it was checked");
}
