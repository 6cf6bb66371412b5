//! The clock of testers: `topupd clock advance`, with real daemons and a real local chain.

use serde_json::Value;
use topupd::clock::{Clock, SystemClock};

use super::binary::{refused, text, topupd};
use super::json::spoken;
use super::proxy::{Fault, Proxy};
use super::support::*;
use crate::database::Engine;

const DAY_S: i64 = 86_400;

fn seconds(value: &Value) -> i64 {
    value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_second()
}

/// The configuration, with a second epoch that begins tomorrow and gives twice as much.
fn tomorrow_twice(net: &Net) {
    let now = jiff::Timestamp::from_millisecond(SystemClock.now_ms()).unwrap();
    let tomorrow = now + jiff::SignedDuration::from_hours(24);
    let text = std::fs::read_to_string(net.config_path()).unwrap();
    let more = format!(
        "[[epochs]]\nid = \"two\"\nstarts_at = \"{tomorrow:.0}\"\nphase = \"testnet\"\n[epochs.accept]\nUSDC = {{ valuation = \"par\", credits_per_usd = \"2000\" }}\n"
    );
    std::fs::write(net.config_path(), text + &more).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn time_moves_for_daemons_chain_and_ledger_at_once() {
    let mut net = Net::new().await;
    net.fill_purses().await;
    let config = net.write_config(&Wants { lease_ms: 5_000, ..Wants::default() });
    net.register(&config).await;
    tomorrow_twice(&net);
    let daemons = if crate::ENGINE == Engine::Postgres { 2 } else { 1 };
    let _daemons: Vec<Running> =
        (0..daemons).map(|n| daemon(&net, &format!("daemon-{n}"), |_| {})).collect();
    let store = net.store().await;
    net.pay(1, net.tokens.usdc, net.addresses[0], 1_000_000).await;
    net.dev.mine(3).await.unwrap();
    until_credited(&store, 1).await;
    assert_eq!(balance(&store, "acme").await, "1000");

    let before = spoken(&net, &["clock"]);
    assert_eq!(before["ahead_seconds"], 0);
    let moved = spoken(&net, &["clock", "advance", "2d"]);
    assert_eq!(moved["ahead_seconds"], 2 * DAY_S);
    assert!(seconds(&moved["time_at"]) >= seconds(&before["time_at"]) + 2 * DAY_S, "{moved}");
    // The chain is where the database is, and time goes on from there.
    let tip = seconds(&moved["chains"][0]["latest_block_at"]);
    assert!(tip >= seconds(&before["time_at"]) + 2 * DAY_S, "{moved}");
    assert!(tip <= seconds(&moved["time_at"]), "{moved}");

    // A payment of now is of the day after tomorrow: by the epoch that is in force then.
    net.pay(2, net.tokens.usdc, net.addresses[0], 1_000_000).await;
    net.dev.mine(3).await.unwrap();
    until_credited(&store, 2).await;
    assert_eq!(balance(&store, "acme").await, "3000");
    let history = spoken(&net, &["ledger", "history", "acme"]);
    let times: Vec<i64> = history["records"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|record| record["kind"] == "deposit_credited")
        .map(|record| seconds(&record["recorded_at"]))
        .collect();
    let [older, newer] = times[..] else { panic!("{history}") };
    assert!(newer - older >= 2 * DAY_S, "{history}");
    let epochs = spoken(&net, &["epochs", "list"]);
    let in_force = |id: &str| {
        let all = epochs["epochs"].as_array().unwrap();
        all.iter().find(|e| e["epoch"] == id).unwrap()["in_force"].clone()
    };
    assert_eq!((in_force("one"), in_force("two")), (false.into(), true.into()));

    // Nobody takes it for a fault: the same daemons hold their leases, and nothing is to be looked at.
    let status = spoken(&net, &["status"]);
    let roles: Vec<&str> = status["daemons"]
        .as_array()
        .unwrap()
        .iter()
        .map(|daemon| daemon["does"].as_str().unwrap())
        .collect();
    assert_eq!(roles.len(), daemons);
    assert!(roles.contains(&"working") && !roles.contains(&"gone"), "{status}");
    let findings = topupd(&net, &["findings"]);
    assert_eq!(findings.status.code(), Some(0), "{}", text(&findings.stdout));
    for n in 0..daemons {
        let log = std::fs::read_to_string(net.dir.path().join(format!("daemon-{n}.log"))).unwrap();
        assert!(!log.contains("clock jumped") && !log.contains("clock differs"), "{log}");
    }
    assert!(topupd(&net, &["ledger", "verify"]).status.success());

    // Again, and without a step; the words for people.
    let again = spoken(&net, &["clock", "advance", "1h30m"]);
    assert_eq!(again["ahead_seconds"], 2 * DAY_S + 5_400);
    let still = spoken(&net, &["clock", "advance", "0s"]);
    assert_eq!(still["ahead_seconds"], again["ahead_seconds"]);
    let shown = text(&topupd(&net, &["clock"]).stdout);
    assert!(shown.contains("ahead of the clock of the database"), "{shown}");
    assert!(shown.contains("anvil/"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_moved_is_refused_and_nothing_is_moved() {
    let mut net = Net::new().await;
    let proxy = Proxy::to(&net.dev.http).await.unwrap();
    let providers = format!(r#"{{ name = "local", http = "{}" }}"#, proxy.http());
    let wants = Wants { providers: Some(providers), ..Wants::default() };
    let config = net.write_config(&wants);
    net.register(&config).await;
    let tip = net.dev.time_ms().await.unwrap();

    let lie = proxy.set(Fault::Says(r#""Geth/v1.16.1""#).on("web3_clientVersion"));
    let (code, error) = refused(&topupd(&net, &["clock", "advance", "2d"]));
    assert_eq!(code, 2);
    for words in ["chain local", "provider local is Geth/v1.16.1", "nothing was moved"] {
        assert!(error.contains(words), "{words}: {error}");
    }
    lie.lift();
    let away = proxy.set(Fault::Html(502).on("web3_clientVersion"));
    let (code, error) = refused(&topupd(&net, &["clock", "advance", "2d"]));
    assert_eq!(code, 1);
    assert!(error.contains("nothing was moved"), "{error}");
    away.lift();
    for (length, why) in
        [("-1d", "never goes back"), ("soon", "90s, 36h or 2d"), ("9000y", "90s, 36h or 2d")]
    {
        let out = topupd(&net, &["clock", "advance", length]);
        let error = text(&out.stderr);
        assert_eq!((out.status.code(), error.contains(why)), (Some(2), true), "{length}: {error}");
    }
    let (code, error) = refused(&topupd(&net, &["clock", "advance", "40000d"]));
    assert_eq!((code, error.contains("hundred years")), (2, true), "{error}");
    // Nothing of it moved anything.
    let clock = spoken(&net, &["clock"]);
    assert_eq!(clock["ahead_seconds"], 0);
    assert_eq!(net.dev.time_ms().await.unwrap(), tip);

    // The database has moved, and the chain does not follow: it says how to go on, and doing so finishes it.
    let stuck = proxy.set(Fault::Error(-32_000, "not now").on("evm_setNextBlockTimestamp"));
    let (code, error) = refused(&topupd(&net, &["clock", "advance", "2d"]));
    assert_eq!((code, error.contains("Advance by 0s")), (1, true), "{error}");
    stuck.lift();
    let clock = spoken(&net, &["clock", "advance", "0s"]);
    assert_eq!(clock["ahead_seconds"], 2 * DAY_S);
    assert!(net.dev.time_ms().await.unwrap() >= tip + 2 * DAY_S * 1_000 - 60_000);
}
