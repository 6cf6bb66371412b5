//! What was registered in the seconds that are lost: addresses, namespaces, epochs, credits.

use std::collections::BTreeSet;

use alloy::primitives::address;

use super::*;

/// An address that nobody derives.
const FOREIGN: Address = address!("0x5a0b54d5dc17e0aadc383d2db43b0a0d3e029c4c");

#[tokio::test(flavor = "multi_thread")]
async fn who_is_paid_is_never_another_than_whose_address_it_is() {
    let mut scene = Scene::new().await;
    let _daemon = scene.daemon("a");
    scene.cut().await;
    scene.said(&["namespace", "add", "lostns"]);
    scene.said(&["address", "import", "lostns", &FOREIGN.to_string()]);
    scene.followed().await;
    scene.remembered().await;
    let paid = scene.net.pay(0, scene.net.tokens.usdc, FOREIGN, 7).await;

    let _dead = scene.pair.fail_over().await;
    // Not stuck, and said.
    scene.followed().await;
    let found = scene.noticed_by("a", 1).await;
    assert_eq!(found["severity"], "error");
    let detail = &found["detail"];
    let lost = &detail["lost_addresses"];
    assert_eq!(
        (lost[0]["address"].clone(), lost.as_array().unwrap().len()),
        (FOREIGN.to_string().into(), 1)
    );
    assert_eq!(detail["from"]["newest_namespace"]["namespace"], "lostns");
    assert_ne!(detail["from"]["server"], detail["to"]["server"]);

    // Another customer comes. An address is derived when an operator has looked, and not before.
    scene.said(&["namespace", "add", "newns"]);
    let why = scene.refused(&["address", "new", "newns"]);
    assert!(why.contains("went back") && why.contains("findings explain"), "{why}");
    scene.explain();
    let new = scene.derived("newns");
    let other = scene.net.pay(1, scene.net.tokens.usdc, new, 11).await;
    scene.net.dev.mine(3).await.unwrap();
    let store = scene.net.store().await;
    until_credited(&store, 1).await;
    let rows = deposits(&store).await;
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!((rows[0].tx_hash, rows[0].namespace.as_str()), (other, "newns"));

    // What is lost is registered again, and what was paid to it is found.
    scene.said(&["namespace", "add", "lostns"]);
    scene.said(&["address", "import", "lostns", &FOREIGN.to_string()]);
    scene.net.dev.mine(3).await.unwrap();
    until_credited(&store, 2).await;
    let rows = deposits(&store).await;
    let of = |tx| rows.iter().find(|d| d.tx_hash == tx).map(|d| d.namespace.as_str());
    assert_eq!((of(paid), of(other)), (Some("lostns"), Some("newns")));
    verify(&store).await;
    // No number was given twice.
    let mut sql = Sql::connect(scene.net.database.url()).await;
    let lost_id = lost[0]["id"].as_i64().unwrap();
    let ids = sql.ints("SELECT address_id FROM addresses ORDER BY address_id").await.concat();
    assert!(!ids.contains(&lost_id), "{ids:?}");
    assert!(ids.iter().filter(|id| **id > lost_id).count() == 2, "{ids:?}");
    let lost_namespace = detail["from"]["newest_namespace"]["id"].as_i64().unwrap();
    let ids = sql.ints("SELECT namespace_id FROM namespaces").await.concat();
    assert!(!ids.contains(&lost_namespace), "{ids:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_is_given_to_one_customer_only() {
    let mut scene = Scene::new().await;
    let _daemon = scene.daemon("a");
    scene.cut().await;
    let first = scene.derived("acme");
    scene.followed().await;
    scene.remembered().await;
    let paid = scene.net.pay(0, scene.net.tokens.usdc, first, 5).await;
    let _dead = scene.pair.fail_over().await;
    let found = scene.noticed_by("a", 1).await;
    let lost = &found["detail"]["lost_addresses"][0];
    assert_eq!((&lost["address"], &lost["namespace"]), (&first.to_string().into(), &"acme".into()));
    assert!(found["detail"]["remembered_at"].is_string(), "{found}");
    // To nobody else, not by a slip either.
    let why = scene.refused(&["address", "import", "bolt", &first.to_string()]);
    assert!(why.contains("given out to acme"), "{why}");
    let file = scene.net.dir.path().join("addresses.csv");
    std::fs::write(&file, format!("bolt,{first}\n")).unwrap();
    let why = scene.refused(&["address", "import", "--file", file.to_str().unwrap()]);
    assert!(why.contains("given out to acme"), "{why}");
    // It is registered again, as what it was: money may be taken from it.
    scene.said(&["address", "import", "acme", &first.to_string()]);
    let mut sql = Sql::connect(scene.net.database.url()).await;
    let derived = "SELECT derivation_index FROM addresses WHERE origin = 'derived'
                   ORDER BY address_id DESC LIMIT 1";
    assert_eq!(sql.ints(derived).await, [[2]]);
    scene.explain();
    let second = scene.derived("bolt");
    assert_ne!(first, second);
    let other = scene.net.pay(0, scene.net.tokens.usdc, second, 6).await;
    let store = scene.net.store().await;
    scene.net.dev.mine(3).await.unwrap();
    until_credited(&store, 2).await;
    let rows = deposits(&store).await;
    let of = |tx| rows.iter().find(|d| d.tx_hash == tx).map(|d| d.namespace.as_str());
    assert_eq!((of(paid), of(other)), (Some("acme"), Some("bolt")));
    verify(&store).await;
}

/// What is given out in the last moment, no daemon has seen: a thousand at once, and nobody registers them again.
#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_remembers_is_not_given_out_again_either() {
    let mut scene = Scene::new().await;
    scene.pair.shared().await;
    scene.pair.cut().await;
    let many = |scene: &Scene, namespace: &str| -> BTreeSet<String> {
        let said = scene.said(&["address", "new", namespace, "--count", "1000"]);
        said.split_whitespace().filter(|word| word.starts_with("0x")).map(str::to_owned).collect()
    };
    let first = many(&scene, "acme");
    let _dead = scene.pair.fail_over().await;
    scene.refused(&["address", "new", "bolt"]);
    let found = scene.went_back().remove(0);
    assert!(found["detail"].get("remembered_at").is_some_and(Value::is_null), "{found}");
    scene.explain();
    let second = many(&scene, "bolt");
    assert_eq!((first.len(), second.len()), (1_000, 1_000));
    assert!(first.is_disjoint(&second));
}

/// No daemon runs that remembers anything.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_alone_sees_that_the_server_is_another_one() {
    let mut scene = Scene::new().await;
    scene.pair.shared().await;
    scene.pair.cut().await;
    let first = scene.derived("acme");
    let _dead = scene.pair.fail_over().await;
    let why = scene.refused(&["address", "new", "bolt"]);
    assert!(why.contains("on another server") && why.contains("findings explain"), "{why}");
    scene.said(&["address", "import", "acme", &first.to_string()]);
    scene.explain();
    // The index that was lost is known again by its address.
    assert_ne!(scene.derived("bolt"), first);
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_credits_are_made_again_once_and_it_is_said() {
    let mut scene = Scene::new().await;
    let _daemons = [scene.daemon("a"), scene.daemon("b")];
    let mut paid = Vec::new();
    for amount in 1..=3 {
        let tx = scene.net.pay(0, scene.net.tokens.usdc, scene.net.addresses[0], amount).await;
        paid.push((tx, amount));
    }
    scene.all_credited(&paid).await;
    scene.cut().await;
    for amount in 4..=10 {
        let tx = scene.net.pay(0, scene.net.tokens.usdt, scene.net.addresses[1], amount).await;
        paid.push((tx, amount));
    }
    scene.all_credited(&paid).await;
    scene.remembered().await;
    let _dead = scene.pair.fail_over().await;
    scene.all_credited(&paid).await;
    let mut lost = 0;
    for name in ["a", "b"] {
        let found = scene.noticed_by(name, 1).await;
        let records = |side: &str| found["detail"][side]["records"].as_i64().unwrap();
        lost = lost.max(records("from") - records("to"));
    }
    assert_eq!(lost, 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_that_is_lost_is_registered_again() {
    let mut scene = Scene::new().await;
    let a = scene.daemon("a");
    scene.cut().await;
    // It comes with a new configuration.
    drop(a);
    let path = scene.net.config_path();
    let config = std::fs::read_to_string(&path).unwrap();
    let epoch = config.split_once("[[epochs]]").unwrap().1;
    let later = epoch.replace("\"one\"", "\"two\"").replace("2020-01-01", "2099-01-01");
    std::fs::write(&path, format!("{config}\n[[epochs]]{later}")).unwrap();
    let _a = scene.daemon("a");
    scene.followed().await;
    let _dead = scene.pair.fail_over().await;
    scene.followed().await;
    let tx = scene.net.pay(0, scene.net.tokens.usdc, scene.net.addresses[0], 9).await;
    scene.all_credited(&[(tx, 9)]).await;
    let mut sql = Sql::connect(scene.net.database.url()).await;
    assert_eq!(sql.ints("SELECT COUNT(*) FROM epochs").await, [[2]]);
    assert!(!scene.log("a").contains("leaves the chain"), "{}", scene.log("a"));
}

/// Nobody remembers anything: the daemons are stopped, as one does who restores.
#[tokio::test(flavor = "multi_thread")]
async fn a_dump_is_loaded_into_the_same_server() {
    let scene = Scene::new().await;
    let server = &scene.pair.primary;
    let dump = |program: &str, more: &[&str]| {
        let mut command = std::process::Command::new(server.bin(program));
        command.args(more).arg(server.url(scene.database()));
        command
    };
    if !server.bin("pg_dump").exists() {
        println!("without pg_dump: not tried here");
        return;
    }
    let out = dump("pg_dump", &["--no-owner", "-d"]).output().unwrap();
    assert!(out.status.success(), "{}", text(&out.stderr));
    let first = scene.derived("acme");
    let mut sql = Sql::connect(&server.url("postgres")).await;
    let name = scene.database();
    sql.execute(&format!("DROP DATABASE {name} WITH (FORCE)")).await.unwrap();
    sql.execute(&format!("CREATE DATABASE {name}")).await.unwrap();
    let file = scene.net.dir.path().join("dump.sql");
    std::fs::write(&file, &out.stdout).unwrap();
    let load = dump("psql", &["-q", "-v", "ON_ERROR_STOP=1", "-f", file.to_str().unwrap(), "-d"]);
    let out = { load }.output().unwrap();
    assert!(out.status.success(), "{}", text(&out.stderr));
    let why = scene.refused(&["address", "new", "bolt"]);
    assert!(why.contains("went back"), "{why}");
    scene.said(&["address", "import", "acme", &first.to_string()]);
    scene.explain();
    assert_ne!(scene.derived("bolt"), first);
}

/// A snapshot of a disk shows nothing of it: a person says so.
#[tokio::test(flavor = "multi_thread")]
async fn who_puts_a_snapshot_back_says_so() {
    let scene = Scene::new().await;
    scene.said(&["db", "restored"]);
    let why = scene.refused(&["address", "new", "acme"]);
    assert!(why.contains("findings explain"), "{why}");
    scene.explain();
    scene.derived("acme");
}
