//! The committed scenarios, each run by the real binary; a chain that is saved and begun from; `trigger`; and
//! what is said of a scenario that does not hold.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use super::binary::{refused, text};
use super::support::*;
use crate::database::{Engine, TestDatabase};

fn scenario(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("anvil-fixtures/scenarios").join(name)
}

/// Runs a scenario on the engine that the tests are for.
async fn run(file: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_topupd"));
    command.args(["devnet", "run"]).arg(file).args(more).stdin(Stdio::null());
    let database = (crate::ENGINE == Engine::Postgres).then(|| TestDatabase::new(crate::ENGINE));
    let database = match database {
        Some(database) => Some(database.await),
        None => None,
    };
    if let Some(database) = &database {
        command.args(["--database", database.url()]);
    }
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

async fn holds(name: &str) {
    let out = run(&scenario(name), &[]).await;
    let said = text(&out.stdout);
    assert_eq!(out.status.code(), Some(0), "{said}{}", text(&out.stderr));
    assert!(said.contains("steps hold; the ledger holds"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_payment() {
    holds("first-payment.toml").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reorg_before_the_credit() {
    holds("reorg-before-credit.toml").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deep_reorg_after_the_credit() {
    holds("reorg-after-credit.toml").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tge_with_a_stale_feed() {
    holds("tge-stale-feed.toml").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lying_provider() {
    holds("lying-provider.toml").await;
}

/// No file of the folder is without a test above.
#[test]
fn every_committed_scenario_is_run() {
    let mut found: Vec<String> = std::fs::read_dir(scenario(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    found.sort();
    let run = [
        "first-payment.toml",
        "lying-provider.toml",
        "reorg-after-credit.toml",
        "reorg-before-credit.toml",
        "tge-stale-feed.toml",
    ];
    assert_eq!(found, run);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_is_saved_and_begun_from_and_what_does_not_hold_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let saved = dir.path().join("saved.json");
    let saves = file(
        "saves.toml",
        &format!(
            r#"
name = "saves"
[[step]]
pay = {{ as = "one", to = "acme", token = "USDC", amount = "7" }}
[[step]]
mine = 4
[[step]]
wait = {{ stage = {{ one = "credited" }} }}
[[step]]
advance = "3d"
[[step]]
save = "{}"
"#,
            saved.display()
        ),
    );
    let out = run(&saves, &[]).await;
    assert!(out.status.success(), "{}{}", text(&out.stdout), text(&out.stderr));
    // The daemon of the new one reads the saved chain from its first block: the same address is paid there.
    let goes_on = file(
        "goes-on.toml",
        r#"
name = "goes on"
[chain]
state = "saved.json"
[[step]]
wait = { balance = { acme = "7000" } }
[[step]]
pay = { as = "two", to = "acme", token = "USDC", amount = "1" }
[[step]]
mine = 4
[[step]]
wait = { stage = { two = "credited" }, balance = { acme = "8000" } }
[[step]]
assert = { balance = { acme = "9" } }
"#,
    );
    let out = run(&goes_on, &[]).await;
    assert_eq!(out.status.code(), Some(1));
    let said = text(&out.stdout);
    assert!(said.contains("4/5  wait until two is credited, acme has 8000  ok"), "{said}");
    assert!(said.contains("5/5  acme has 9  FAILED"), "{said}");
    assert!(said.contains("acme has 8000 credits, not 9"), "{said}");
    let error = text(&out.stderr);
    assert!(error.contains("step 5 of 5 does not hold"), "{error}");

    let broken = file("broken.toml", "name = \"x\"\n[[step]]\ndance = 1\n");
    let (code, error) = refused(&run(&broken, &[]).await);
    assert_eq!(code, 2);
    assert!(error.contains("broken.toml") && error.contains("dance"), "{error}");
    let none = file("none.toml", "name = \"x\"\nstep = []\n[chain]\nstate = \"broken.toml\"\n");
    let out = run(&none, &[]).await;
    assert_eq!(out.status.code(), Some(2), "{}", text(&out.stdout));
    assert!(text(&out.stderr).contains("is no saved chain"), "{}", text(&out.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_event_can_be_triggered_and_is_told() {
    let mut net = Net::new().await;
    let config = net.write_config(&Wants::default());
    net.register(&config).await;
    net.dev.automine(false).await.unwrap();
    let _daemon = daemon(&net, "a", |_| {});
    let trigger = |arguments: &[&str]| {
        let out = super::binary::topupd(&net, &[&["trigger"], arguments].concat());
        let error = text(&out.stderr);
        assert!(out.status.success(), "{arguments:?}: {}{error}", text(&out.stdout));
        let kinds = |text: String| -> Vec<String> {
            let event = |line: &str| {
                let event: Value = serde_json::from_str(line).unwrap();
                assert!(event["told_at"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
                event["kind"].as_str().unwrap().to_owned()
            };
            text.lines().map(event).collect()
        };
        kinds(text(&out.stdout))
    };
    let seen = trigger(&["deposit.seen", "--json"]);
    assert_eq!(seen, ["deposit.seen"]);
    let credited = trigger(&["deposit.credited", "--token", "USDT", "--amount", "2.5", "--json"]);
    assert_eq!(credited, ["deposit.seen", "deposit.confirmed", "deposit.credited"]);
    let held = trigger(&["deposit.held", "--namespace", "bolt", "--json"]);
    assert_eq!(held.last().unwrap(), "deposit.held", "{held:?}");
    let reversed = trigger(&["deposit.reversed", "--json"]);
    assert_eq!(reversed.last().unwrap(), "deposit.reversed", "{reversed:?}");
    let finding = trigger(&["finding.opened", "--json"]);
    assert_eq!(finding.last().unwrap(), "finding.opened", "{finding:?}");

    let out = super::binary::topupd(&net, &["trigger", "deposit.corrected"]);
    let error = text(&out.stderr);
    assert_eq!((out.status.code(), error.contains("two people")), (Some(2), true), "{error}");
    let (code, error) =
        refused(&super::binary::topupd(&net, &["trigger", "deposit.seen", "--token", "GOLD"]));
    assert_eq!((code, error.contains("USDT, USDC, RTITY")), (2, true), "{error}");
    let store = net.store().await;
    verify(&store).await;
}
