//! What is configured, against what is stored and what is on the chain: account keys, imported addresses,
//! epochs, and what is perhaps not meant.

use super::binary::{edit, refused, text, topupd};
use super::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn the_key_and_what_is_imported_are_looked_at() {
    let net = Net::new().await;
    net.write_config(&Wants::default());
    topupd(&net, &["migrate"]);
    topupd(&net, &["namespace", "add", "acme"]);
    let imported = |address: &str| topupd(&net, &["address", "import", "acme", address]);
    // What can never be somebody's is refused.
    for (address, what) in [
        (net.tokens.usdc.to_string().as_str(), "is the token USDC of local"),
        ("0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48", "is the token USDC of Ethereum"),
        ("0x0000000000000000000000000000000000000002", "precompiled"),
        ("0x000000000000000000000000000000000000dEaD", "burn address"),
        ("0x0000000000000000000000000000000000000000", "zero address"),
    ] {
        let (code, error) = refused(&imported(address));
        assert!(code == 2 && error.contains(what), "{what}: {error}");
    }
    // A contract is taken, and warned of; a person's account is not.
    let contract = net.dev.deploy_token("A wallet", "W", 0).await.unwrap();
    let taken = imported(&contract.to_string());
    assert!(taken.status.success() && text(&taken.stderr).contains("the address is a contract"));
    let taken = imported(&net.dev.accounts[3].to_string());
    assert!(taken.status.success() && !text(&taken.stderr).contains("contract"));
    edit(&net, net.dev.http.as_str(), "http://127.0.0.1:1");
    let taken = imported(&net.dev.accounts[4].to_string());
    assert!(taken.status.success(), "{}", text(&taken.stderr));
    assert!(text(&taken.stderr).contains("no provider said in time"), "{}", text(&taken.stderr));
    net.write_config(&Wants::default());

    // The key of the same account, as wallets export it, is the same key.
    let account = "xpub6DCoCpSuQZB2jawqnGMEPS63ePKWkwWPH4TU45Q7LPXWuNd8TMtVxRrgjtEshuqpK3mdhaWHPFsBngh5GFZaM6si3yZdUsT8ddYM3PwnATt";
    let new = |more: &[&str]| topupd(&net, &[&["address", "new", "acme"], more].concat());
    let first = text(&new(&[]).stdout);
    assert_eq!(first.trim(), "0x9858EfFD232B4033E47d90003D41EC34EcaEda94");
    edit(&net, XPUB, account);
    let second = text(&new(&[]).stdout);
    assert_eq!(second.trim(), "0x6Fac4D18c912343BF86fa7049364Dd4E424Ab9C0");
    // Another one needs a word.
    edit(&net, account, JUNK);
    let (code, error) = refused(&new(&[]));
    assert!(code == 2 && error.contains("is another key"), "{error}");
    let said = text(&topupd(&net, &["address", "new", "acme", "--new-wallet"]).stdout);
    assert_eq!(said.trim(), "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266");
    // One at no documented place is refused by all that would use it.
    edit(&net, JUNK, JUNK_MASTER);
    for command in [&["run"][..], &["address", "new", "acme"]] {
        let (code, error) = refused(&topupd(&net, command));
        assert!(code == 2 && error.contains("depth 0, child 0"), "{command:?}: {error}");
    }
}

/// The account's key of the mnemonic "test … junk", and its master key.
const JUNK: &str = "xpub6Ce9NcJvTk36xtLSrJLZqE7wtgA5deCeYs7rSQtreh4cj6ByPtrg9sD7V2FNFLPnf8heNP3FGkeV9qwfzvZNSd54JoNXVsXFYSYwHsnJxqP";
const JUNK_MASTER: &str = "xpub661MyMwAqRbcGCHqYL6cunEAC4sjobr4oEsADYNVSpvM1oCFfV98EVtMuHVmKomD5EWqhYwUPCkQdrti7hUGbmxaoTGLSkzhtBmR5tk9Jtu";

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_once_used_cannot_be_changed() {
    let mut net = Net::new().await;
    let daemon = net.daemon(&Wants::default()).await;
    daemon.shutdown().await;
    edit(&net, "credits_per_usd = \"1000\"", "credits_per_usd = \"2000\"");
    let (code, error) = refused(&topupd(&net, &["run"]));
    assert_eq!(code, 2);
    assert!(error.contains("epoch \"one\"") && error.contains("append-only"), "{error}");
    // `check` finds the same, and names the key.
    let check = topupd(&net, &["check"]);
    assert_eq!(check.status.code(), Some(2));
    let said = r#"accept.USDT.credits_per_usd was "1000" and is "2000""#;
    assert!(error.contains(said) && text(&check.stdout).contains(said), "{error}");
    // And another key than the one in use, which is no reason to stop crediting.
    net.write_config(&Wants::default());
    edit(&net, XPUB, JUNK);
    let check = topupd(&net, &["check"]);
    assert_eq!(check.status.code(), Some(3), "{}", text(&check.stdout));
    assert!(text(&check.stdout).contains("WARNING  database: wallet.account_xpub is another key"));
    let log = net.dir.path().join("run.log");
    let mut run = super::start::run(&net, &log);
    until("said", async || {
        let said = std::fs::read_to_string(&log).unwrap();
        if said.contains("is another key") && said.contains("started") { Ok(()) } else { Err(said) }
    })
    .await;
    run.kill();
    edit(&net, JUNK, JUNK_MASTER);
    let check = topupd(&net, &["check"]);
    assert_eq!(check.status.code(), Some(2), "{}", text(&check.stdout));
    assert!(
        text(&check.stdout).contains("WRONG  database: wallet.account_xpub is the key at depth 0")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn check_and_run_warn_of_what_is_perhaps_not_meant() {
    let net = Net::new().await;
    net.write_config(&Wants::default());
    edit(&net, "credits_per_usd = \"1000\"", "credits_per_usd = \"1000\", dust = \"accumulate\"");
    edit(
        &net,
        "{ confirmations = 3 }",
        "{ up_to_usd = \"1\", confirmations = 4 }, { confirmations = 3 }",
    );
    let check = topupd(&net, &["check"]);
    assert!(check.status.success(), "{}", text(&check.stderr));
    let log = net.dir.path().join("run.log");
    let mut run = super::start::run(&net, &log);
    until("started", async || {
        let said = std::fs::read_to_string(&log).unwrap();
        if said.contains("accept.USDT.dust: ") { Ok(()) } else { Err(said) }
    })
    .await;
    run.kill();
    let said = std::fs::read_to_string(&log).unwrap();
    for (key, what) in [
        ("epochs.one.accept.USDT.dust", "does nothing without a minimum"),
        ("chains.local.finality", "more value waits for less"),
    ] {
        assert!(text(&check.stdout).contains(&format!("{key} WARNING = ")), "{key}");
        assert!(text(&check.stdout).contains(what), "{what}");
        assert!(said.contains(key) && said.contains(what), "{what} in {said}");
    }
}
