//! Answers that are not the whole truth, and logs that only resemble payments.

use std::sync::{Arc, Mutex};

use alloy::primitives::{Address, B256, TxHash};
use topupd::chain::BlockProof;
use topupd::chain::pool::Pool;
use topupd::chain::read::{RangeLogs, Receipt};
use topupd::chain::scripted::{ScriptedChain, ScriptedLog};
use topupd::chain::source::{CallOutcome, ChainSource, SourceError, Tag, TokenCode};
use topupd::domain::chain::Header;
use topupd::domain::chain_rules::FilterKind;
use topupd::domain::ids::{BlockRef, NamespaceName};
use topupd::domain::log_filter::LogFilter;
use topupd::domain::oracle::reading::Call;
use topupd::domain::transfer::{AddressBook, RawLog};
use topupd::store::Store;
use topupd::tasks::errors::WatchError;
use topupd::tasks::prices::market::Market;
use topupd::tasks::settle::settle;
use topupd::tasks::watch::step::Watched;
use topupd::tasks::watch::watch;

use super::support::*;

type Bend = dyn Fn(Vec<RawLog>) -> Vec<RawLog> + Send + Sync;

/// A chain whose log answers are bent, and that fails at one receipt or does not have another.
pub struct Bent<'a> {
    chain: &'a ScriptedChain,
    bend: Box<Bend>,
    deaf_to: Option<TxHash>,
    without_receipt: Option<TxHash>,
    /// Its blocks hash in a way that nobody knows.
    unproved: bool,
    /// When logs are asked for, somebody registers this address, once.
    registers: Mutex<Option<(Store, NamespaceName, Address)>>,
}

impl<'a> Bent<'a> {
    fn honest(chain: &'a ScriptedChain) -> Self {
        Self {
            chain,
            bend: Box::new(|logs| logs),
            deaf_to: None,
            without_receipt: None,
            unproved: false,
            registers: Mutex::new(None),
        }
    }

    /// Registers an address while logs are read.
    pub fn while_read(
        chain: &'a ScriptedChain,
        registers: (Store, NamespaceName, Address),
    ) -> Self {
        Self { registers: Mutex::new(Some(registers)), ..Self::honest(chain) }
    }

    async fn meanwhile(&self) {
        let registers = self.registers.lock().unwrap().take();
        if let Some((store, name, address)) = registers {
            // It may be there already, and the process may be dead.
            let _ = store.import_address(&name, address, GENESIS_MS).await;
        }
    }

    fn by(
        chain: &'a ScriptedChain,
        bend: impl Fn(Vec<RawLog>) -> Vec<RawLog> + Send + Sync + 'static,
    ) -> Self {
        Self { bend: Box::new(bend), ..Self::honest(chain) }
    }

    /// Leaves out the first log.
    fn hiding(chain: &'a ScriptedChain) -> Self {
        Self::by(chain, |logs| logs.into_iter().skip(1).collect())
    }

    /// Shows the last log once more, at another place.
    fn inventing(chain: &'a ScriptedChain) -> Self {
        Self::by(chain, |mut logs| {
            if let Some(mut log) = logs.last().cloned() {
                log.log_index += 1;
                logs.push(log);
            }
            logs
        })
    }
}

impl ChainSource for Bent<'_> {
    fn provider(&self) -> &str {
        self.chain.provider()
    }
    async fn chain_id(&self) -> Result<u64, SourceError> {
        self.chain.chain_id().await
    }
    fn announced(&self) -> Option<Header> {
        None
    }
    async fn latest(&self) -> Result<Header, SourceError> {
        self.chain.latest().await
    }
    async fn tagged(&self, tag: Tag) -> Result<Option<Header>, SourceError> {
        self.chain.tagged(tag).await
    }
    async fn header_at(&self, number: u64) -> Result<Option<Header>, SourceError> {
        self.chain.header_at(number).await
    }
    async fn header(&self, hash: B256) -> Result<Option<Header>, SourceError> {
        self.chain.header(hash).await
    }
    async fn logs_in_block(&self, b: BlockRef, f: &LogFilter) -> Result<Vec<RawLog>, SourceError> {
        self.meanwhile().await;
        self.chain.logs_in_block(b, f).await.map(&self.bend)
    }
    async fn logs_in_range(
        &self,
        from: u64,
        to: u64,
        f: &LogFilter,
        book: &Arc<AddressBook>,
    ) -> Result<RangeLogs, SourceError> {
        self.meanwhile().await;
        let found = self.chain.logs_in_range(from, to, f, book).await?;
        Ok(RangeLogs { logs: (self.bend)(found.logs), ..found })
    }
    async fn receipt(&self, tx: TxHash) -> Result<Option<Receipt>, SourceError> {
        if self.deaf_to == Some(tx) {
            let (provider, why) = (self.provider().to_owned(), "?".to_owned());
            return Err(SourceError::Invalid { provider, method: "receipt", why });
        }
        if self.without_receipt == Some(tx) {
            return Ok(None);
        }
        self.chain.receipt(tx).await
    }
    async fn receipts_in_block(
        &self,
        block: BlockRef,
    ) -> Result<Option<Vec<(TxHash, Receipt)>>, SourceError> {
        let mut all = self.chain.receipts_in_block(block).await?;
        all.iter_mut().for_each(|all| all.retain(|(tx, _)| self.without_receipt != Some(*tx)));
        Ok(all)
    }
    async fn proof(&self, hash: B256) -> Result<Option<BlockProof>, SourceError> {
        if self.unproved {
            let (provider, why) = (self.provider().to_owned(), "no known way".to_owned());
            return Err(SourceError::Unproved { provider, why });
        }
        self.chain.proof(hash).await
    }
    async fn call_at(&self, calls: &[(B256, Call)]) -> Result<Vec<CallOutcome>, SourceError> {
        self.chain.call_at(calls).await
    }
    async fn code(&self, contract: Address) -> Result<TokenCode, SourceError> {
        self.chain.code(contract).await
    }
}

async fn follow(house: &mut House, source: &Bent<'_>) -> Result<(), WatchError> {
    while watch(
        &house.rules,
        &Pool::admitted([source]),
        &house.store,
        &house.clock,
        &mut house.cache,
    )
    .await?
        != Watched::Idle
    {}
    Ok(())
}

fn two_payments() -> Vec<topupd::chain::scripted::ScriptedTx> {
    let to = |amount| ScriptedLog::transfer(USDC, PAYER, address(0), amount);
    vec![tx(1, vec![to(1_000_000), to(2_000_000)])]
}

#[tokio::test]
async fn a_log_that_was_left_out_is_found_by_the_receipt_before_anything_is_credited() {
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut house = House::new(rules(2)).await;
    chain.mine(two_payments());
    chain.mine(Vec::new());
    // The first transfer is hidden: the second one looks like n = 0.
    let hiding = Bent::hiding(&chain);
    follow(&mut house, &hiding).await.unwrap();
    assert_eq!(house.deposits().await.len(), 1);
    assert_eq!(house.deposits().await[0].raw, raw(2_000_000));
    // As long as it stays hidden, nothing is credited.
    settle(
        &house.rules,
        &Pool::admitted([&hiding]),
        &Market::default(),
        &house.store,
        &house.clock,
    )
    .await
    .unwrap();
    assert_eq!(house.stages().await, ["held (receipt_mismatch)"]);
    // It comes to light: both are credited, each with its own amount and place.
    house.clock.advance_ms(61_000);
    house.quiesce(&chain).await;
    let mut amounts: Vec<_> = house.deposits().await.iter().map(|d| (d.n, d.raw)).collect();
    amounts.sort();
    assert_eq!(amounts, [(0, raw(1_000_000)), (1, raw(2_000_000))]);
    assert_eq!(house.balance("acme").await, "3000");
    house.verify().await;
}

/// Two payments, and a third deposit that was never paid.
async fn with_a_phantom() -> (ScriptedChain, House) {
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut house = House::new(rules(2)).await;
    chain.mine(two_payments());
    chain.mine(Vec::new());
    let inventing = Bent::inventing(&chain);
    follow(&mut house, &inventing).await.unwrap();
    settle(
        &house.rules,
        &Pool::admitted([&inventing]),
        &Market::default(),
        &house.store,
        &house.clock,
    )
    .await
    .unwrap();
    (chain, house)
}

#[tokio::test]
async fn a_log_that_was_invented_is_held() {
    let (chain, mut house) = with_a_phantom().await;
    let held = "held (receipt_mismatch)";
    assert_eq!(house.stages().await, [held, held, held]);
    house.clock.advance_ms(61_000);
    house.quiesce(&chain).await;
    let mut stages = house.stages().await;
    stages.sort();
    // The two that were paid are credited once the answers agree; the phantom never is.
    assert_eq!(stages, ["credited", "credited", held]);
    assert_eq!(house.balance("acme").await, "3000");
    house.verify().await;
}

/// Whoever shows the logs could otherwise choose who is asked about, and hide that we paid ourselves.
#[tokio::test]
async fn a_payer_that_the_receipt_does_not_name_is_not_credited() {
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut house = House::new(rules(2)).await;
    chain.mine(two_payments());
    chain.mine(Vec::new());
    let renaming = Bent::by(&chain, |mut logs| {
        logs.iter_mut().take(1).for_each(|log| log.topics[1] = B256::left_padding_from(&[7; 20]));
        logs
    });
    follow(&mut house, &renaming).await.unwrap();
    house.quiesce(&chain).await;
    let mut stages = house.stages().await;
    stages.sort();
    assert_eq!(stages, ["credited", "held (receipt_mismatch)"]);
    assert_eq!(house.balance("acme").await, "2000");
    house.verify().await;
}

#[tokio::test]
async fn an_answer_that_changes_later_moves_nothing_that_a_receipt_has_settled() {
    let (chain, mut house) = with_a_phantom().await;
    house.clock.advance_ms(61_000);
    house.quiesce(&chain).await;
    assert_eq!(house.balance("acme").await, "3000");
    // The phantom is looked at again; this time the first transfer is hidden, so that the second
    // would be counted as n = 0.
    let hiding = Bent::hiding(&chain);
    house.clock.advance_ms(61_000);
    settle(
        &house.rules,
        &Pool::admitted([&hiding]),
        &Market::default(),
        &house.store,
        &house.clock,
    )
    .await
    .unwrap();
    house.verify().await;
    assert_eq!(house.balance("acme").await, "3000");
}

#[tokio::test]
async fn answers_that_contradict_themselves_are_not_used() {
    for range in [false, true] {
        let chain = ScriptedChain::new(GENESIS_MS);
        let mut house = House::new(rules(2)).await;
        house.rules.window = if range { 2 } else { 64 };
        chain.mine(two_payments());
        mine_empty(&chain, 6);
        let twice = Bent::by(&chain, |logs| logs.iter().chain(logs.first()).cloned().collect());
        let error = follow(&mut house, &twice).await.unwrap_err();
        assert!(matches!(error, WatchError::Source(SourceError::Invalid { .. })), "{error}");
        let foreign = Bent::by(&chain, |mut logs| {
            logs.iter_mut().for_each(|l| l.block_hash = B256::ZERO);
            logs
        });
        assert!(follow(&mut house, &foreign).await.is_err());
        assert!(house.deposits().await.is_empty());
        house.quiesce(&chain).await;
        assert_eq!(house.balance("acme").await, "3000");
    }
}

#[tokio::test]
async fn unlisted_tokens_are_recorded_up_to_a_quota_a_day() {
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut rules = rules(1);
    rules.filter = FilterKind::Recipients;
    rules.unlisted_per_day = 5;
    let mut house = House::new(rules).await;
    for i in 0..20 {
        chain.mine(vec![pay(i, UNLISTED, 0, 1), pay(100 + i, USDC, 0, 1_000_000)]);
    }
    house.quiesce(&chain).await;
    let stages = house.stages().await;
    let count = |wanted: &str| stages.iter().filter(|s| *s == wanted).count();
    assert_eq!((count("ignored (unlisted_token)"), count("credited")), (5, 20));
    assert_eq!(house.sql("SELECT recorded, dropped FROM unlisted_quota").await, [[5, 15]]);
    // The next day has its own.
    house.clock.advance_ms(86_400_000);
    chain.mine(vec![pay(50, UNLISTED, 0, 1)]);
    house.quiesce(&chain).await;
    assert_eq!(house.deposits().await.len(), 26);
}

#[tokio::test]
async fn asked_by_token_an_unlisted_one_in_the_same_transaction_is_recorded_from_the_receipt() {
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut house = House::new(rules(1)).await;
    let to = |token| ScriptedLog::transfer(token, PAYER, address(0), 1_000_000);
    chain.mine(vec![tx(1, vec![to(UNLISTED), to(USDC)])]);
    house.quiesce(&chain).await;
    let mut stages = house.stages().await;
    stages.sort();
    assert_eq!(stages, ["credited", "ignored (unlisted_token)"]);
}

#[tokio::test]
async fn one_unreadable_receipt_stops_its_own_deposit_and_no_other() {
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut house = House::new(rules(1)).await;
    chain.mine((1..=5).map(|i| pay(i, USDC, 0, 1_000_000)).collect());
    while house.watch(&chain).await.unwrap() != Watched::Idle {}
    let deaf = Bent { deaf_to: Some(tx_hash(2)), ..Bent::honest(&chain) };
    let done = settle(
        &house.rules,
        &Pool::admitted([&deaf]),
        &Market::default(),
        &house.store,
        &house.clock,
    )
    .await;
    assert!(done.is_err(), "and it is said");
    assert_eq!(house.balance("acme").await, "4000");
    house.quiesce(&chain).await;
    assert_eq!(house.balance("acme").await, "5000");
}

#[tokio::test]
async fn a_receipt_that_stays_away_holds_its_deposit_and_is_asked_for_once_a_minute() {
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut house = House::new(rules(1)).await;
    chain.mine(vec![pay(1, USDC, 0, 1_000_000), pay(2, USDC, 1, 1_000_000)]);
    while house.watch(&chain).await.unwrap() != Watched::Idle {}
    let pruned = Bent { without_receipt: Some(tx_hash(1)), ..Bent::honest(&chain) };
    let settled = async |house: &House, source: &Bent<'_>| {
        settle(
            &house.rules,
            &Pool::admitted([source]),
            &Market::default(),
            &house.store,
            &house.clock,
        )
        .await
        .unwrap();
        house.stages().await
    };
    assert_eq!(settled(&house, &pruned).await, ["pending", "credited"]);
    house.clock.advance_ms(300_001);
    assert_eq!(settled(&house, &pruned).await, ["held (receipt_missing)", "credited"]);
    // It rests, and then it is asked for again.
    assert_eq!(settled(&house, &Bent::honest(&chain)).await[0], "held (receipt_missing)");
    house.clock.advance_ms(60_001);
    assert_eq!(settled(&house, &Bent::honest(&chain)).await, ["credited", "credited"]);
    house.verify().await;
}

#[tokio::test]
async fn a_token_taken_out_of_the_configuration_holds_its_own_deposits_and_no_others() {
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut house = House::new(rules(3)).await;
    let to = |token| ScriptedLog::transfer(token, PAYER, address(0), 2_000_000);
    chain.mine(vec![tx(1, vec![to(USDC), to(USDT)]), pay(2, USDT, 0, 1_000_000)]);
    house.quiesce(&chain).await;
    let all = house.rules.tokens.clone();
    house.rules.tokens.retain(|t| t.address != USDC);
    mine_empty(&chain, 3);
    house.quiesce(&chain).await;
    let mut stages = house.stages().await;
    stages.sort();
    assert_eq!(stages, ["credited", "credited", "held (no_token)"]);
    house.rules.tokens = all;
    house.quiesce(&chain).await;
    assert_eq!(house.balance("acme").await, "5000");
    house.verify().await;
}

#[tokio::test]
async fn a_block_that_cannot_be_proved_holds_its_payments_with_the_reason_and_is_asked_for_again() {
    let chain = ScriptedChain::new(GENESIS_MS);
    chain.seal_blocks();
    let mut rules = rules(2);
    rules.verify = topupd::domain::finality::Verify::ReceiptsRoot;
    let mut house = House::new(rules).await;
    chain.mine(vec![pay(1, USDC, 0, 1_000_000)]);
    mine_empty(&chain, 3);
    let mut source = Bent { unproved: true, ..Bent::honest(&chain) };
    follow(&mut house, &source).await.unwrap();
    let settled = async |house: &House, source: &Bent<'_>| {
        let (rules, store, clock) = (&house.rules, &house.store, &house.clock);
        settle(rules, &Pool::admitted([source]), &Market::default(), store, clock).await.unwrap();
        house.stages().await
    };
    // Not at once: another provider, or this one a minute later, may show it otherwise.
    assert_eq!(settled(&house, &source).await, ["pending"]);
    house.clock.advance_ms(301_000);
    assert_eq!(settled(&house, &source).await, ["held (unproved)"]);
    source.unproved = false;
    house.clock.advance_ms(topupd::store::HELD_REST_MS + 1);
    assert_eq!(settled(&house, &source).await, ["credited"]);
}
