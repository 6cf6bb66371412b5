//! Real nodes behind providers that lie, lag, limit and fail: what is credited stays right, and what
//! was paid is credited. Each test is a line of the table in docs/providers.md.

use std::time::Duration;

use alloy::primitives::{Address, U64, U256};
use topupd::clock::{Clock, SystemClock};
use topupd::daemon::Daemon;
use topupd::domain::ids::ChainId;
use topupd::store::{ChainFinding, DepositRow, Store};

use super::ganache::Ganache;
use super::proxy::{Fault, Invention, LOGS_BY_HASH, LOGS_BY_RANGE, Lie, Proxy};
use super::support::*;
use crate::database::TestDatabase;

const CHAIN: ChainId = ChainId(31_337);

/// A chain, and so many providers in front of it.
pub(super) struct Scene {
    pub(super) net: Net,
    pub(super) proxies: Vec<Proxy>,
    pub(super) wants: Wants,
    daemon: Option<Daemon>,
    pub(super) store: Store,
}

impl Scene {
    pub(super) async fn new(providers: usize) -> Self {
        let mut net = Net::new().await;
        net.fill_purses().await;
        net.dev.automine(false).await.unwrap();
        let mut proxies = Vec::new();
        for _ in 0..providers {
            proxies.push(Proxy::to(&net.dev.http).await.unwrap());
        }
        let wants = wants(&proxies);
        let config = net.write_config(&wants);
        net.register(&config).await;
        let store = net.store().await;
        Self { net, proxies, wants, daemon: None, store }
    }

    pub(super) async fn start(&mut self) {
        self.daemon = Some(self.net.daemon(&self.wants).await);
        let tip: U64 = self.net.dev.rpc.ask("eth_blockNumber", ()).await.unwrap();
        until("caught up", async || {
            let at = self.store.cursor(CHAIN).await.unwrap().map(|(block, _)| block.number);
            if at == Some(tip.to()) { Ok(()) } else { Err(at) }
        })
        .await;
    }

    pub(super) async fn stop(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.shutdown().await;
        }
    }

    /// Pays one dollar from a sender to `acme`.
    pub(super) async fn pay(&self, sender: usize) {
        let (usdc, to) = (self.net.tokens.usdc, self.net.addresses[0]);
        self.net.pay(sender, usdc, to, 1_000_000).await;
    }

    pub(super) async fn mine(&self, blocks: u64) {
        for _ in 0..blocks {
            self.net.dev.mine(1).await.unwrap();
        }
    }

    /// How a provider stands.
    pub(super) fn state(&self, provider: usize) -> String {
        let pools = self.daemon.as_ref().unwrap().pools();
        pools[0].standings(SystemClock.now_ms())[provider].state.clone()
    }

    pub(super) async fn findings(&self, kind: &str) -> Vec<ChainFinding> {
        let mut all = self.store.findings(1_000).await.unwrap();
        all.retain(|f| f.kind == kind);
        all
    }

    pub(super) async fn until_stage(&self, stages: &[&str]) -> Vec<DepositRow> {
        until(&format!("{stages:?}"), async || {
            let mut found: Vec<_> =
                deposits(&self.store).await.iter().map(|d| d.stage.to_string()).collect();
            found.sort();
            if found == stages { Ok(()) } else { Err(found) }
        })
        .await;
        deposits(&self.store).await
    }

    /// Nothing was credited twice or to nobody, and nothing was left out.
    pub(super) async fn ends_with(mut self, credits: &str) {
        verify(&self.store).await;
        assert_eq!(balance(&self.store, "acme").await, credits);
        assert_eq!(self.store.scan_gap(CHAIN).await.unwrap(), None);
        self.stop().await;
    }
}

fn wants(proxies: &[Proxy]) -> Wants {
    let providers: Vec<String> = ["ann", "bob", "cyd"]
        .iter()
        .zip(proxies)
        .map(|(name, proxy)| {
            let (http, ws) = (proxy.http(), proxy.ws());
            format!(r#"{{ name = "{name}", http = "{http}", ws = "{ws}", timeout_ms = 2000 }}"#)
        })
        .collect();
    Wants {
        providers: Some(providers.join(", ")),
        more: "reorg_window = 8\nlag_max = 3".into(),
        ..Wants::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_says_no_logs_is_contradicted_by_the_bloom_filter_and_another() {
    let mut scene = Scene::new(2).await;
    let lie = scene.proxies[0].set(Fault::Logs(Lie::Empty).on(LOGS_BY_HASH));
    scene.start().await;
    scene.pay(0).await;
    scene.mine(4).await;
    until_credited(&scene.store, 1).await;
    assert!(lie.hits() > 0);
    scene.ends_with("1000").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_left_out_of_a_block_is_found_by_the_second_pass() {
    let mut scene = Scene::new(2).await;
    scene.start().await;
    let lie = scene.proxies[0].set(Fault::Logs(Lie::LastMissing).on(LOGS_BY_HASH));
    scene.pay(0).await;
    scene.pay(1).await; // this one is hidden, however often one asks
    scene.mine(1).await;
    scene.until_stage(&["pending"]).await;
    scene.mine(15).await; // the window passes
    until_credited(&scene.store, 2).await;
    assert!(lie.hits() > 0);
    let found = scene.findings("log_was_hidden").await;
    assert!(found.iter().any(|f| f.detail.to_string().contains("bob")), "{found:?}");
    scene.ends_with("2000").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_left_out_in_catch_up_are_found_too() {
    let mut scene = Scene::new(2).await;
    for sender in 0..4 {
        scene.pay(sender).await;
        scene.mine(5).await;
    }
    scene.mine(30).await;
    let lie = scene.proxies[0].set(Fault::Logs(Lie::Empty).on(LOGS_BY_RANGE));
    scene.start().await;
    until_credited(&scene.store, 4).await;
    assert!(lie.hits() > 0);
    scene.ends_with("4000").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invented_payment_is_held_with_both_answers_and_never_credited() {
    let mut scene = Scene::new(2).await;
    let to = scene.net.addresses[0];
    let invention = || Invention { to: Some(to), amount: Some(U256::from(9_000_000)), tx: None };
    // A liar that keeps to its story: logs and receipts say the same.
    scene.proxies[0].set(Fault::Logs(Lie::Invented(invention())));
    scene.proxies[0].set(Fault::Receipt(Lie::Invented(invention())));
    scene.start().await;
    // A real payment, to somebody else, gives the liar something to copy.
    scene.net.pay(0, scene.net.tokens.usdc, Address::repeat_byte(7), 5).await;
    scene.mine(6).await;
    // One in each block that it showed alone.
    until("all held", async || {
        let found = deposits(&scene.store).await;
        let held = |d: &&DepositRow| d.stage.to_string() == "held (providers_disagree)";
        let all = !found.is_empty() && found.iter().filter(held).count() == found.len();
        if all { Ok(()) } else { Err(found) }
    })
    .await;
    let held = deposits(&scene.store).await;
    assert!(held.iter().all(|d| d.raw.0 == U256::from(9_000_000)));
    let findings = scene.findings("providers_disagree").await;
    let detail = findings[0].detail.to_string();
    assert!(detail.contains("ann") && detail.contains("bob"), "{detail}");
    scene.mine(20).await;
    // Real money still arrives, though the liar is asked first.
    scene.proxies[0].heal();
    scene.pay(1).await;
    scene.mine(4).await;
    until_credited(&scene.store, 1).await;
    scene.ends_with("1000").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_amount_is_overruled_by_two() {
    let mut scene = Scene::new(3).await;
    let amount = || Lie::Amount(U256::from(77_000_000));
    scene.proxies[0].set(Fault::Logs(amount()));
    scene.proxies[0].set(Fault::Receipt(amount()));
    scene.start().await;
    scene.pay(0).await;
    scene.mine(5).await;
    until_credited(&scene.store, 1).await;
    scene.ends_with("1000").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn duplicate_and_shifted_logs_change_nothing() {
    let mut scene = Scene::new(3).await;
    scene.proxies[0].set(Fault::Logs(Lie::LastTwice));
    scene.start().await;
    scene.pay(0).await;
    scene.mine(4).await;
    until_credited(&scene.store, 1).await;
    scene.proxies[0].heal();
    scene.proxies[0].set(Fault::Logs(Lie::Shifted(3)));
    scene.pay(1).await;
    scene.mine(5).await;
    until_credited(&scene.store, 2).await;
    scene.ends_with("2000").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_way_a_provider_fails_the_next_one_is_asked() {
    let mut scene = Scene::new(3).await;
    scene.start().await;
    let mut paid = 0;
    for fault in [
        Fault::TooMany { retry_after: 1 },
        Fault::Error(-32_005, "daily request count exceeded, request rate limited"),
        Fault::Error(-32_000, "header not found"),
        Fault::Html(502),
        Fault::Truncated,
        Fault::Drop,
        Fault::Delay(Duration::from_secs(3)),
        Fault::Huge(40 * 1024 * 1024),
    ] {
        let said = format!("{fault:?}");
        let injected = scene.proxies[0].set(fault);
        paid += 1;
        scene.pay(paid % 5).await;
        scene.mine(4).await;
        until_credited(&scene.store, paid).await;
        assert!(injected.hits() > 0, "{said}");
        scene.proxies[0].heal();
        until("ann works again", async || match scene.state(0) {
            state if state == "ok" => Ok(()),
            state => Err(state),
        })
        .await;
    }
    scene.ends_with("8000").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_behind_is_set_aside_and_taken_back() {
    let mut scene = Scene::new(3).await;
    scene.mine(20).await;
    scene.start().await;
    scene.proxies[0].set(Fault::Behind(10));
    until("ann set aside", async || {
        let state = scene.state(0);
        if state.starts_with("behind") { Ok(()) } else { Err(state) }
    })
    .await;
    scene.pay(0).await;
    scene.mine(4).await;
    until_credited(&scene.store, 1).await;
    scene.proxies[0].heal();
    until("ann taken back", async || {
        let state = scene.state(0);
        if state == "ok" { Ok(()) } else { Err(state) }
    })
    .await;
    scene.ends_with("1000").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_on_another_fork_is_outvoted() {
    let mut scene = Scene::new(3).await;
    scene.mine(3).await;
    scene.start().await;
    scene.pay(0).await;
    scene.mine(4).await;
    until_credited(&scene.store, 1).await;
    // A real node with the same past and another present: without the payment to come.
    let twin = scene.net.dev.twin().await.unwrap();
    twin.automine(false).await.unwrap();
    scene.proxies[0].switch_to(&twin.http);
    scene.pay(1).await;
    for _ in 0..6 {
        twin.mine(1).await.unwrap();
        scene.mine(1).await;
    }
    until_credited(&scene.store, 2).await;
    until("ann outvoted", async || {
        let state = scene.state(0);
        if state.contains("another fork") { Ok(()) } else { Err(state) }
    })
    .await;
    scene.ends_with("2000").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_contradict_each_other_credit_nothing_until_they_agree() {
    let mut scene = Scene::new(2).await;
    scene.mine(3).await;
    scene.start().await;
    scene.pay(0).await;
    scene.mine(4).await;
    until_credited(&scene.store, 1).await;
    let twin = scene.net.dev.twin().await.unwrap();
    twin.automine(false).await.unwrap();
    scene.proxies[0].switch_to(&twin.http);
    scene.pay(1).await;
    for _ in 0..6 {
        twin.mine(1).await.unwrap();
        scene.mine(1).await;
    }
    until("contested", async || {
        let found = scene.findings("fork_contested").await.len();
        if found == 1 { Ok(()) } else { Err(found) }
    })
    .await;
    assert_eq!(balance(&scene.store, "acme").await, "1000");
    scene.proxies[0].switch_to(&scene.net.dev.http);
    scene.mine(3).await;
    until_credited(&scene.store, 2).await;
    scene.ends_with("2000").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_on_another_chain_is_never_asked() {
    let mut scene = Scene::new(3).await;
    // Silent at the start, and another chain when it comes back.
    scene.proxies[0].set(Fault::Drop);
    scene.start().await;
    assert_ne!(scene.state(0), "ok");
    scene.proxies[0].heal();
    scene.proxies[0].set(Fault::WrongChain(1));
    scene.pay(0).await;
    scene.mine(4).await;
    until_credited(&scene.store, 1).await;
    assert_eq!(scene.proxies[0].requests("eth_getLogs"), 0);
    scene.ends_with("1000").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_without_any_provider_slows_no_other_chain() {
    let mut scene = Scene::new(2).await;
    let dead = r#"
[chains.dead]
preset = "sepolia"
providers = [
  { name = "one", http = "http://127.0.0.1:1", timeout_ms = 1000 },
  { name = "two", http = "http://127.0.0.1:2", timeout_ms = 1000 },
]
"#;
    let path = scene.net.config_path();
    let text = format!("{}{dead}", scene.net.config_text(&scene.wants));
    std::fs::write(&path, text).unwrap();
    scene.daemon = Some(start(&topupd::config::Config::load(&path, []).unwrap()).await);
    scene.pay(0).await;
    scene.mine(4).await;
    until_credited(&scene.store, 1).await;
    let pools = scene.daemon.as_ref().unwrap().pools();
    let standings: Vec<_> = pools.iter().flat_map(|pool| pool.standings(0)).collect();
    let ok = standings.iter().filter(|s| s.state == "ok").count();
    assert_eq!((ok, standings.len()), (2, 4), "{standings:?}");
    scene.ends_with("1000").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn websocket_messages_are_hints_whatever_they_say() {
    let mut scene = Scene::new(2).await;
    scene.start().await;
    until("subscribed", async || {
        let heads = scene.proxies[0].subscriptions("newHeads");
        if heads > 0 { Ok(()) } else { Err(heads) }
    })
    .await;
    scene.pay(0).await;
    scene.mine(4).await;
    until_credited(&scene.store, 1).await;
    // An old head, announced again; then silence on an open connection.
    scene.proxies[0].announce_head(1).await.unwrap();
    scene.proxies[0].freeze_websockets();
    scene.proxies[1].freeze_websockets();
    scene.pay(1).await;
    scene.mine(4).await;
    until_credited(&scene.store, 2).await;
    scene.proxies[0].close_websockets();
    scene.pay(2).await;
    scene.mine(4).await;
    until_credited(&scene.store, 3).await;
    scene.ends_with("3000").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reorg_deeper_than_the_policy_is_reversed_and_credited_again() {
    let mut scene = Scene::new(2).await;
    scene.start().await;
    scene.pay(0).await;
    scene.pay(1).await;
    scene.mine(4).await;
    until_credited(&scene.store, 2).await;
    let before = deposits(&scene.store).await;
    // Five blocks are replaced; one of the two payments is mined again, two blocks later.
    let raw = scene.net.raw(before[0].tx_hash).await;
    scene.net.dev.reorg(4, &[(raw, 2)]).await.unwrap();
    scene.mine(6).await;
    let after = scene.until_stage(&["credited", "reversed"]).await;
    let mut ids = [before[0].id, before[1].id];
    let mut same = [after[0].id, after[1].id];
    ids.sort_by_key(|id| id.0);
    same.sort_by_key(|id| id.0);
    assert_eq!(ids, same, "a deposit keeps its id");
    assert_eq!(scene.findings("credit_reversed").await.len(), 2);
    scene.ends_with("1000").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_are_proved_against_the_block_hash() {
    let mut scene = Scene::new(2).await;
    scene.wants.verify = Some("receipts-root");
    let to = scene.net.addresses[0];
    let invention = || Invention { to: Some(to), amount: Some(U256::from(9_000_000)), tx: None };
    scene.start().await;
    // Both invent the same: what they say of the receipts does not hash to the block.
    for proxy in &scene.proxies {
        proxy.set(Fault::Logs(Lie::Invented(invention())));
        proxy.set(Fault::Receipt(Lie::Invented(invention())).on("eth_getTransactionReceipt"));
    }
    scene.pay(0).await;
    scene.mine(6).await;
    until_credited(&scene.store, 1).await;
    let detail = deposits(&scene.store).await;
    assert!(detail.iter().any(|d| d.stage.to_string() == "held (receipt_mismatch)"), "{detail:?}");
    scene.ends_with("1000").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn money_that_came_before_its_address_or_token_was_registered_is_found() {
    let mut scene = Scene::new(2).await;
    let late = Address::repeat_byte(0x1a);
    let (usdc, usdt) = (scene.net.tokens.usdc, scene.net.tokens.usdt);
    let config = scene.net.config_text(&scene.wants);
    let without = config.lines().filter(|l| !l.contains(r#"symbol = "USDT""#));
    let without: String = without.map(|l| format!("{l}\n")).collect();
    let path = scene.net.config_path();
    std::fs::write(&path, without).unwrap();
    let daemon = start(&topupd::config::Config::load(&path, []).unwrap()).await;
    scene.net.pay(0, usdc, late, 1_000_000).await;
    scene.net.pay(1, usdt, scene.net.addresses[0], 2_000_000).await;
    scene.mine(15).await;
    scene.pay(2).await;
    scene.mine(4).await;
    until_credited(&scene.store, 1).await;
    // The address, while the daemon runs; the token, at its next start. The provider that is asked
    // first shows nothing of old blocks: they are read from two.
    let lie = scene.proxies[0].set(Fault::Logs(Lie::Empty).on(LOGS_BY_RANGE));
    scene.store.import_address(&"acme".parse().unwrap(), late, 0).await.unwrap();
    until_credited(&scene.store, 2).await;
    daemon.shutdown().await;
    scene.start().await;
    until_credited(&scene.store, 3).await;
    assert!(lie.hits() > 0);
    scene.ends_with("4000").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_providers_of_another_kind_of_node() {
    let database = TestDatabase::new(crate::ENGINE).await;
    let mut net = Net::over(Ganache::start().await, database).await;
    let proxies =
        [Proxy::to(&net.dev.http).await.unwrap(), Proxy::to(&net.dev.http).await.unwrap()];
    // It answers [] for a block that it does not know, and says nothing of times in its logs.
    proxies[0].set(Fault::Logs(Lie::LastMissing));
    let daemon = net.daemon(&wants(&proxies)).await;
    let store = net.store().await;
    net.pay(0, net.tokens.usdc, net.addresses[0], 1_000_000).await;
    net.dev.mine(20).await.unwrap();
    until_credited(&store, 1).await;
    verify(&store).await;
    daemon.shutdown().await;
}
