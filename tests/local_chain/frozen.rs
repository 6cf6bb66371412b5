//! Addresses that an issuer has frozen, by the real binary, with contracts that do as Tether's and
//! Circle's do.

use topupd::devnet::{TestUSDC, TestUSDT};

use super::binary::{text, topupd};
use super::proxy::Proxy;
use super::start::run;
use super::support::*;

/// Lets a new round begin, and waits until what is open is as wanted.
async fn until_open(net: &Net, wanted: &[String]) {
    let store = net.store().await;
    let mut sql = net.database.sql().await;
    until("found", async || {
        let _ = sql.execute("UPDATE cursors SET frozen_to = 0, frozen_at_ms = 0").await;
        let mut open: Vec<String> = store
            .findings(100)
            .await
            .unwrap()
            .into_iter()
            .filter(|f| f.kind == "address_frozen" && f.state == "open")
            .map(|f| f.subject)
            .collect();
        open.sort();
        if open == wanted { Ok(()) } else { Err(open) }
    })
    .await;
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_an_issuer_has_frozen_is_found_and_taken_back() {
    let mut net = Net::new().await;
    net.fill_purses().await;
    let proxy = Proxy::to(&net.dev.http).await.unwrap();
    let providers = format!(
        r#"{{ name = "one", http = "{}" }}, {{ name = "two", http = "{}" }}"#,
        net.dev.http,
        proxy.http()
    );
    let wants = Wants { confirmations: 1, providers: Some(providers), ..Wants::default() };
    let config = net.write_config(&wants);
    net.register(&config).await;
    let mut daemon = run(&net, &net.dir.path().join("run.log"));
    let (usdt, usdc) = (net.tokens.usdt, net.tokens.usdc);
    let (acme, bolt) = (net.addresses[0], net.addresses[1]);
    net.pay(1, usdt, acme, 1_000_000).await;
    net.pay(2, usdc, bolt, 1_000_000).await;
    net.dev.mine(2).await.unwrap();
    let store = net.store().await;
    until_credited(&store, 2).await;
    let look = topupd(&net, &["findings"]);
    assert_eq!(look.status.code(), Some(0), "{}", text(&look.stdout));

    net.dev.transact(usdt, TestUSDT::addBlackListCall { user: acme }).await.unwrap();
    net.dev.transact(usdc, TestUSDC::blacklistCall { account: bolt }).await.unwrap();
    net.dev.mine(2).await.unwrap();
    until_followed(&net, &store).await;
    let mut wanted = vec![format!("{acme} by token {usdt}"), format!("{bolt} by token {usdc}")];
    wanted.sort();
    until_open(&net, &wanted).await;
    let look = topupd(&net, &["findings"]);
    let out = text(&look.stdout);
    assert_eq!(look.status.code(), Some(3), "{out}");
    for part in ["error", "address_frozen: ", "\"namespace\":\"acme\"", "isBlackListed(address)"] {
        assert!(out.contains(part), "{part} in {out}");
    }
    assert!(out.contains("\"symbol\":\"USDC\"") && out.contains("isBlacklisted(address)"), "{out}");
    assert!(!out.contains("RTITY"), "it has no such function: {out}");

    // Tether's token still lets money in, which is credited; Circle's does not.
    net.pay(4, usdc, bolt, 2_000_000).await;
    net.pay(3, usdt, acme, 2_000_000).await;
    net.dev.mine(2).await.unwrap();
    until_credited(&store, 3).await;
    assert_eq!(deposits(&store).await.len(), 3);

    net.dev.transact(usdt, TestUSDT::removeBlackListCall { user: acme }).await.unwrap();
    net.dev.mine(2).await.unwrap();
    until_open(&net, &[format!("{bolt} by token {usdc}")]).await;
    net.dev.transact(usdc, TestUSDC::unBlacklistCall { account: bolt }).await.unwrap();
    net.dev.mine(2).await.unwrap();
    until_open(&net, &[]).await;
    let look = topupd(&net, &["findings"]);
    assert_eq!(look.status.code(), Some(0), "{}", text(&look.stdout));
    let all = text(&topupd(&net, &["findings", "--all"]).stdout);
    assert!(all.matches("    gone ").count() >= 2, "{all}");
    verify(&store).await;
    daemon.kill();
}
