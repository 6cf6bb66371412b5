//! Namespaces, addresses, epochs and the database itself: what people register and may not change.

use alloy::primitives::{Address, address};
use topupd::chain::scripted::ScriptedChain;
use topupd::chain::source::TokenCode;
use topupd::domain::ids::Network;
use topupd::domain::pricing::{Epoch, EpochBook};
use topupd::domain::wallet::AccountXpub;
use topupd::store::{Acquired, Standing, Store, StoreError};
use topupd::tasks::errors::SettleError;
use topupd::tasks::errors::WatchError;
use topupd::tasks::prices::market::Market;
use topupd::tasks::settle::settle;
use topupd::tasks::tokens::check_tokens;
use topupd::tasks::watch::{WatchCache, watch};

use super::support::*;

#[tokio::test]
async fn derived_addresses_have_no_gap_and_one_owner_whoever_asks_at_once() {
    let house = House::new(rules(1)).await;
    let mut asking = Vec::new();
    for i in 0..24 {
        // Each from its own pool of connections, as separate processes are.
        let store = Store::open(&house.database.database(), Network::Testnet, 0).await.unwrap();
        asking.push(async move {
            store.new_address(&name(NAMESPACES[i % 3]), &xpub(), 0).await.unwrap()
        });
    }
    let made = futures_util::future::join_all(asking).await;
    let mut indexes: Vec<i64> = made.iter().map(|a| a.derivation_index.unwrap()).collect();
    indexes.sort_unstable();
    assert_eq!(indexes, (0..24).collect::<Vec<_>>());
    for row in &made {
        let index = u32::try_from(row.derivation_index.unwrap()).unwrap();
        assert_eq!(row.address, xpub().address(index).unwrap());
    }
}

#[tokio::test]
async fn a_child_that_was_imported_by_hand_is_passed_over() {
    let house = House::new(rules(1)).await;
    for index in [0, 1] {
        let child = xpub().address(index).unwrap();
        house.store.import_address(&name("bolt"), child, 0).await.unwrap();
    }
    let row = house.store.new_address(&name("acme"), &xpub(), 0).await.unwrap();
    assert_eq!(row.derivation_index, Some(2));
}

/// Of the mnemonic "test … junk": the account's key, and that of its first chain.
const JUNK: &str = "xpub6Ce9NcJvTk36xtLSrJLZqE7wtgA5deCeYs7rSQtreh4cj6ByPtrg9sD7V2FNFLPnf8heNP3FGkeV9qwfzvZNSd54JoNXVsXFYSYwHsnJxqP";
const JUNK_0: &str = "xpub6DyUKdwoLWmUJ4Tn9Bbsdtx7B5Ws18mEN19e5HT52ikE53FiUheSQXrZUNPovqfyKmw4579A1Mm3GXXKM39N64uooBfJ4tNAzFsEbodRTx4";
/// Its change chain, which no wallet shows to receive on.
const JUNK_1: &str = "xpub6DyUKdwoLWmULdVhXToyc8rVwMHsLwaGTg4etxktVXbiNkbmbtvHi4GwUZ691ucz6K2EsD88AJ8DcRXayRd5Xy7F1xVszQ1rYvrSwudXXFv";

#[tokio::test]
async fn an_accounts_key_derives_what_wallets_show_and_goes_on_as_its_first_chain() {
    let house = House::new(rules(1)).await;
    let key = |text| AccountXpub::parse(text).unwrap();
    let first = house.store.new_address(&name("acme"), &key(JUNK), 0).await.unwrap();
    assert_eq!(first.address, address!("0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"));
    let second = house.store.new_address(&name("acme"), &key(JUNK_0), 0).await.unwrap();
    assert_eq!(second.address, address!("0x70997970C51812dc3A010C7d01b50e0d17dc79C8"));
    assert_eq!(second.derivation_index, Some(1));
    // One at another place gives nothing.
    let refused = house.store.new_address(&name("acme"), &key(JUNK_1), 0).await.unwrap_err();
    assert!(matches!(&refused, StoreError::Refused(why) if why.contains("depth 4, child 1")));
    house.verify().await;
}

#[tokio::test]
async fn another_key_becomes_the_one_in_use_only_when_that_is_said() {
    let house = House::new(rules(1)).await;
    let junk = AccountXpub::parse(JUNK).unwrap();
    // The first key needs no word, and is no new one afterwards.
    house.store.new_address_of(&name("acme"), &xpub(), false, 0).await.unwrap();
    let again = house.store.new_address_of(&name("acme"), &xpub(), true, 0).await.unwrap_err();
    assert!(again.to_string().contains("leave it out"), "{again}");
    let refused = house.store.new_address_of(&name("acme"), &junk, false, 0).await.unwrap_err();
    for part in [
        "another key",
        "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266",
        "0x9858EfFD232B4033E47d90003D41EC34EcaEda94",
        "with the old key only",
        "--new-wallet",
    ] {
        assert!(refused.to_string().contains(part), "{part} in {refused}");
    }
    let before = house.store.addresses(None, i64::MAX).await.unwrap().len();
    let row = house.store.new_address_of(&name("acme"), &junk, true, 0).await.unwrap();
    assert_eq!(row.derivation_index, Some(0));
    // From now on it is the key in use, and the way back needs the word too; it goes on where it was.
    assert_eq!(house.store.known_key(&junk).await.unwrap().standing, Standing::InUse);
    let back = house.store.new_address_of(&name("acme"), &xpub(), false, 0).await.unwrap_err();
    assert!(back.to_string().contains("its address 1 is"), "{back}");
    let row = house.store.new_address_of(&name("acme"), &xpub(), true, 0).await.unwrap();
    assert_eq!(row.derivation_index, Some(1));
    assert_eq!(house.store.addresses(None, i64::MAX).await.unwrap().len(), before + 2);
    house.verify().await;
}

#[tokio::test]
async fn a_key_of_another_depth_that_gave_addresses_before_goes_on_as_it_began() {
    // An account's own children, and those of a change chain, as older versions derived them.
    for old in [JUNK, JUNK_1] {
        let house = House::new(rules(1)).await;
        let key = AccountXpub::parse(old).unwrap();
        house.store.new_address(&name("acme"), &xpub(), 0).await.unwrap();
        let mut sql = house.database.sql().await;
        sql.execute(&format!("UPDATE wallets SET account_xpub = '{old}', next_index = 1"))
            .await
            .unwrap();
        drop(sql);
        let row = house.store.new_address(&name("acme"), &key, 0).await.unwrap();
        assert_eq!((row.address, row.derivation_index), (key.address(1).unwrap(), Some(1)));
        let known = house.store.known_key(&key).await.unwrap();
        assert!(!known.is_documented && known.standing == Standing::InUse);
        // The key of its first chain is another one.
        let chain = AccountXpub::parse(JUNK_0).unwrap();
        let refused = house.store.new_address(&name("acme"), &chain, 0).await.unwrap_err();
        assert!(refused.to_string().contains("--new-wallet"), "{refused}");
    }
}

#[tokio::test]
async fn an_address_belongs_to_one_namespace_for_ever() {
    let house = House::new(rules(1)).await;
    let again = house.store.import_address(&name("bolt"), address(0), 0).await.unwrap_err();
    assert!(again.to_string().contains("registered already"), "{again}");
    let unknown = house.store.import_address(&name("nobody"), address(50), 0).await.unwrap_err();
    assert!(unknown.to_string().contains("no namespace is called nobody"), "{unknown}");
}

fn with(mut epochs: Vec<Epoch>, id: &str, starts_at_ms: i64) -> EpochBook {
    let mut more = epochs[0].clone();
    more.id = id.into();
    more.starts_at_ms = starts_at_ms;
    epochs.push(more);
    EpochBook::new(epochs).unwrap()
}

#[tokio::test]
async fn epochs_are_appended_and_never_changed() {
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut house = House::new(rules(1)).await;
    let paid = chain.mine(vec![pay(1, USDC, 0, 1_000_000)]);
    house.quiesce(&chain).await;
    let one = epochs().all().to_vec();

    let mut changed = one.clone();
    changed[0].accept.remove("RTITY");
    changed[0].accept.get_mut("USDT").unwrap().minimum = Some("2".parse().unwrap());
    changed[0].starts_at_ms -= 1_000;
    let changed = EpochBook::new(changed).unwrap();
    let error = house.store.sync_epochs(&changed, 0).await.unwrap_err();
    assert!(matches!(error, StoreError::EpochChanged { .. }), "{error}");
    let asked = house.store.check_epochs(&changed).await.unwrap_err();
    assert_eq!(asked.to_string(), error.to_string());
    for part in [
        r#"epoch "one""#,
        r#"accept.USDT.minimum was "1" and is "2""#,
        r#"accept.RTITY was {"credits_per_token":"50.5","dust":"ignore","minimum":null,"valuation":"fixed"} and is nothing"#,
        "starts_at was 2023-11-14T22:13:20Z and is 2023-11-14T22:13:19Z",
    ] {
        assert!(asked.to_string().contains(part), "{part} in {asked}");
    }
    assert!(!asked.to_string().contains("USDC"), "{asked}");
    // A new one may not cover what was decided without it…
    for start in [GENESIS_MS + 1, paid.time_ms] {
        let error = house.store.sync_epochs(&with(one.clone(), "two", start), 0).await.unwrap_err();
        assert!(error.to_string().contains("must start later"), "{error}");
    }
    // …but may start after it, and also before everything.
    let later = with(one.clone(), "two", paid.time_ms + 1);
    assert_eq!(house.store.check_epochs(&later).await.unwrap(), 1);
    house.store.sync_epochs(&later, 0).await.unwrap();
    let earlier = with(later.all().to_vec(), "zero", 0);
    house.store.sync_epochs(&earlier, 0).await.unwrap();
    let error = house.store.sync_epochs(&later, 0).await.unwrap_err();
    assert!(error.to_string().contains("missing in the configuration"), "{error}");
    house.verify().await;
}

#[tokio::test]
async fn money_that_came_before_the_first_epoch_is_held_until_there_is_one() {
    let chain = ScriptedChain::new(GENESIS_MS - 3_600_000);
    let mut house = House::new(rules(1)).await;
    chain.mine(vec![pay(1, USDC, 0, 1_000_000)]);
    house.quiesce(&chain).await;
    assert_eq!(house.stages().await, ["held (no_epoch)"]);
    let book = with(epochs().all().to_vec(), "before", 0);
    house.store.sync_epochs(&book, 0).await.unwrap();
    house.rules.epochs = std::sync::Arc::new(book);
    house.quiesce(&chain).await;
    assert_eq!(house.balance("acme").await, "1000");
    house.verify().await;
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused_and_left_as_it_is() {
    let database = TestDatabase::new(crate::ENGINE).await;
    let store = Store::open(&database.database(), Network::Testnet, 0).await.unwrap();
    store.close().await;
    let mut sql = database.sql().await;
    sql.execute("INSERT INTO _sqlx_migrations SELECT 99, description, installed_on, success, checksum, execution_time FROM _sqlx_migrations WHERE version = 1")
        .await
        .unwrap();
    for _ in 0..2 {
        let error = Store::open(&database.database(), Network::Testnet, 0).await.unwrap_err();
        assert!(matches!(error, StoreError::Newer { found: 99, .. }), "{error}");
    }
}

#[tokio::test]
async fn reading_does_not_create_a_database() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", dir.path().join("mistyped.db").display());
    let error = Store::open_existing(&url.parse().unwrap(), Network::Testnet).await.unwrap_err();
    assert!(error.to_string().contains("there is no such file"), "{error}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn one_daemon_a_file() {
    if crate::ENGINE == Engine::Postgres {
        // There is no such lock: each task has its lease, as tests/several shows.
        let house = House::new(rules(1)).await;
        assert!(house.store.lock_for_daemon().unwrap().is_none());
        return;
    }
    let house = House::new(rules(1)).await;
    let lock = house.store.lock_for_daemon().unwrap();
    assert!(lock.is_some());
    let other = Store::open(&house.database.database(), Network::Testnet, 0).await.unwrap();
    assert!(matches!(other.lock_for_daemon(), Err(StoreError::Locked { .. })));
    drop(lock);
    assert!(other.lock_for_daemon().is_ok());
}

#[tokio::test]
async fn an_old_holder_of_the_lease_writes_nothing() {
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut house = House::new(rules(1)).await;
    chain.mine(vec![pay(1, USDC, 0, 1_000_000)]);
    house.watch(&chain).await.unwrap();
    let old = house.store.clone();
    house.store = old.holding(seize(&old).await);

    // Everything that the old one decides from here on is refused, whichever commit it is.
    let fenced = |error: &StoreError| matches!(error, StoreError::Fenced { .. });
    let settled = settle(&house.rules, &only(&chain), &Market::default(), &old, &house.clock).await;
    assert!(matches!(&settled, Err(SettleError::Store(e)) if fenced(e)), "{settled:?}");
    chain.mine(vec![pay(2, USDC, 0, 1_000_000)]);
    let mut cache = WatchCache::new(&house.rules);
    let watched = watch(&house.rules, &only(&chain), &old, &house.clock, &mut cache).await;
    assert!(matches!(&watched, Err(WatchError::Store(e)) if fenced(e)), "{watched:?}");
    assert_eq!(house.stages().await, ["pending"]);

    // Priced by the new holder, it is not credited by the old one either.
    house.settle(&chain).await;
    house.quiesce(&chain).await;
    let credited = house.deposits().await;
    assert_eq!(house.stages().await, ["credited", "credited"]);
    let refused = house.credit_by(&old, credited[0].id).await;
    assert!(refused.as_ref().is_err_and(fenced), "{refused:?}");
    assert!(!old.renew(old.lease(), std::time::Duration::from_secs(9)).await.unwrap());
    house.verify().await;
}

#[tokio::test]
async fn a_lease_is_taken_when_it_has_run_out_and_not_before() {
    use std::time::Duration;
    let house = House::new(rules(1)).await;
    let (store, minute) = (&house.store, Duration::from_secs(60));
    let ours = |a: Acquired| match a {
        Acquired::Ours(lease) => lease,
        taken => panic!("{taken:?}"),
    };
    let a = ours(store.acquire("t", "a", minute, false).await.unwrap());
    let taken = store.acquire("t", "b", minute, false).await.unwrap();
    let Acquired::Taken { holder, remaining } = taken else { panic!("{taken:?}") };
    assert!(holder == "a" && !remaining.is_zero() && remaining <= minute);
    assert!(store.renew(&a, minute).await.unwrap());
    // Given back, it is free at once; the token tells the two apart.
    store.release(&a).await.unwrap();
    let b = ours(store.acquire("t", "b", minute, false).await.unwrap());
    assert_eq!(b.token, a.token + 1);
    assert!(!store.renew(&a, minute).await.unwrap());
    store.release(&a).await.unwrap(); // the old holder's, and so nothing
    assert!(matches!(
        store.acquire("t", "c", minute, false).await.unwrap(),
        Acquired::Taken { .. }
    ));
    // By itself, when its time is over.
    assert!(store.renew(&b, Duration::ZERO).await.unwrap());
    let c = ours(store.acquire("t", "c", minute, false).await.unwrap());
    assert_eq!(c.token, b.token + 1);
    // Another task is another lease.
    assert_eq!(ours(store.acquire("u", "a", minute, false).await.unwrap()).task, "u");
}

#[tokio::test]
async fn a_daemon_that_lacks_a_registered_epoch_decides_nothing() {
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut house = House::new(rules(1)).await;
    chain.mine(vec![pay(1, USDC, 0, 1_000_000)]);
    house.watch(&chain).await.unwrap();
    let later = with(epochs().all().to_vec(), "two", GENESIS_MS + 3_600_000);
    house.store.sync_epochs(&later, 0).await.unwrap();
    // It neither prices what it has seen, nor judges what comes: what it does not accept, another
    // epoch may.
    let error = settle(&house.rules, &only(&chain), &Market::default(), &house.store, &house.clock)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("has 2 epochs"), "{error}");
    chain.mine(vec![pay(2, USDC, 0, 1_000_000)]);
    let error = house.watch(&chain).await.unwrap_err();
    assert!(error.to_string().contains("has 2 epochs"), "{error}");
    assert_eq!(house.stages().await, ["confirmed"]);
    house.rules.epochs = std::sync::Arc::new(later);
    house.quiesce(&chain).await;
    assert_eq!(house.stages().await, ["credited", "credited"]);
}

#[tokio::test]
async fn a_batch_that_posts_nothing_leaves_no_trace_in_the_ledger() {
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut house = House::new(rules(1)).await;
    chain.mine(vec![pay(1, USDC, 0, 1_000_000)]);
    house.watch(&chain).await.unwrap();
    // Decided to be credited, and not priced (any more) when it comes to that.
    let id = house.deposits().await[0].id;
    assert_eq!(house.credit_by(&house.store, id).await.unwrap().posted, []);
    house.verify().await;
    let moved = "SELECT COUNT(*) FROM records WHERE kind NOT IN ('namespace_opened', 'addresses_bound', 'epoch_added',
                                                                 'xpub_registered')";
    assert_eq!(house.sql(moved).await, [[0]]);
    assert_eq!(house.sql("SELECT COUNT(*) FROM entries").await, [[0]]);
}

#[tokio::test]
async fn a_token_whose_contract_changes_is_reported_once_until_it_is_as_before() {
    let chain = ScriptedChain::new(GENESIS_MS);
    let house = House::new(rules(1)).await;
    let tokens = [USDC, USDT, RTITY];
    assert_eq!(house.store.sync_tokens(CHAIN, &tokens, 0).await.unwrap().len(), 3);
    assert_eq!(house.store.sync_tokens(CHAIN, &tokens, 0).await.unwrap().len(), 0);
    let (rules, pool) = (&house.rules, only(&chain));
    let check = async || check_tokens(rules, &pool, &house.store, &house.clock).await.unwrap();
    assert_eq!(check().await, 0, "pinned");
    let day = 86_400_000;
    house.clock.advance_ms(day);
    assert_eq!(check().await, 0, "as it was");
    let other = TokenCode {
        hash: tx_hash(1),
        implementation: Address::repeat_byte(9),
        flags: vec!["paused"],
    };
    chain.set_code(other.clone());
    assert_eq!(check().await, 0, "once a day");
    house.clock.advance_ms(day);
    assert_eq!(check().await, 3);
    house.clock.advance_ms(day);
    assert_eq!(check().await, 0, "said once");
    let mut kinds: Vec<_> =
        house.store.findings(100).await.unwrap().into_iter().map(|f| f.kind).collect();
    kinds.sort();
    assert_eq!(kinds, [["token_changed"; 3], ["token_stopped"; 3]].concat());
    // Its issuer resumes it: that is over, and the change stays for a person to look at.
    chain.set_code(TokenCode { flags: Vec::new(), ..other });
    house.clock.advance_ms(day);
    assert_eq!(check().await, 0);
    let mut left = house.store.findings(100).await.unwrap();
    left.retain(|f| f.state == "open");
    assert!(left.len() == 3 && left.iter().all(|f| f.kind == "token_changed"), "{left:?}");
}
