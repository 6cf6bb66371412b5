//! Failovers at random moments while payments come in and addresses are given out.

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;

/// How many; FAILOVERS says otherwise (20 take four minutes on an idle machine).
const TIMES: usize = 4;

#[tokio::test(flavor = "multi_thread")]
async fn failovers_at_random_moments() {
    let mut scene = Scene::new().await;
    let mut daemons = [scene.daemon("a"), scene.daemon("b")];
    let payer = Payer::start(&scene.net, 31);
    let mut random = fastrand::Rng::with_seed(32);
    let times = std::env::var("FAILOVERS").ok().and_then(|n| n.parse().ok()).unwrap_or(TIMES);
    // What customers were told, whatever the database knows of it later.
    let mut told: BTreeMap<Address, &str> = BTreeMap::new();
    let mut lost = 0;
    for time in 0..times {
        scene.pair.shared().await;
        let is_cut = random.bool();
        if is_cut {
            scene.pair.cut().await;
        }
        for name in ["acme", "bolt"] {
            if random.bool() {
                let address = derived(&scene, name).await;
                assert_eq!(told.insert(address, name), None, "{address} was given out before");
            }
        }
        tokio::time::sleep(Duration::from_millis(random.u64(0..1_500))).await;
        drop(scene.pair.fail_over().await);
        // The new one stands alone for a while.
        tokio::time::sleep(Duration::from_millis(random.u64(0..1_000))).await;
        scene.goes_on().await;
        // Said by who was there; the other one may have seen nothing that is missing. What was said of
        // an earlier time may be lost itself.
        let timeline = format!("/{:08X}/", time + 2);
        let to = |f: &Value, side: &str| f["detail"][side]["server"].as_str().unwrap().to_owned();
        let mut found = Vec::new();
        until("noticed", async || {
            found = scene.went_back();
            found.retain(|f| to(f, "to").contains(&timeline));
            if found.is_empty() { Err((scene.log("a"), scene.log("b"))) } else { Ok(()) }
        })
        .await;
        for found in &found {
            let records = |side: &str| found["detail"][side]["records"].as_i64().unwrap_or(0);
            lost += (records("from") - records("to")).max(0);
        }
        // An operator looks: what is lost is registered again.
        for (address, name) in &told {
            let store = scene.net.store().await;
            match store.owner_of(*address).await.unwrap() {
                Some(owner) => assert_eq!(owner.to_string(), *name),
                None => drop(scene.said(&["address", "import", name, &address.to_string()])),
            }
        }
        scene.explain();
        verify(&scene.net.store().await).await;
        scene.pair.follow().await;
    }
    let paid = payer.stop().await;
    println!(
        "{times} failovers, {} payments, {} addresses given out, {lost} records found to be lost, by one daemon or both",
        paid.len(),
        told.len()
    );
    scene.all_credited(&paid).await;
    for (daemon, name) in daemons.iter_mut().zip(["a", "b"]) {
        assert!(daemon.0.try_wait().unwrap().is_none(), "{name} did not stay up");
        assert!(!scene.log(name).contains("panicked"), "{}", scene.log(name));
    }
}

/// A new address. The second daemon may have noticed late what the first one has been explained already.
async fn derived(scene: &Scene, namespace: &str) -> Address {
    let mut made = None;
    until("derived", async || {
        scene.explain();
        let output = topupd(&scene.net, &["address", "new", namespace]);
        made = text(&output.stdout).trim().parse().ok();
        if made.is_some() { Ok(()) } else { Err(text(&output.stderr)) }
    })
    .await;
    made.unwrap()
}
