//! What conversions owe, what purchases settle of it, and that the ledger with all of it holds, also
//! by the script for auditors.

use alloy::primitives::{Address, B256, U256};
use topupd::domain::journal::{JournalId, RecordId, TreasurySettlement};
use topupd::domain::money::{Nanodollars, RawAmount};
use topupd::store::{SettledPart, TreasurySettled};

use super::feeds::*;
use super::support::*;
use crate::database::Engine;

const TOKEN: u128 = 1_000_000_000_000_000_000;

fn big(amount: u128) -> RawAmount {
    RawAmount(U256::from(amount))
}

/// So many RTITY bought for so many USDC.
pub fn bought(id: u64, paid: u128, tokens: u128) -> TreasurySettlement {
    TreasurySettlement {
        obligation_journal: JournalId::HOUSE,
        obligation_seq: 0,
        obligation_record_id: RecordId(B256::ZERO),
        obligation_usd_nano: Nanodollars::ZERO,
        asset: "USDC".into(),
        into_asset: "RTITY".into(),
        tokens: RawAmount::ZERO,
        chain_id: CHAIN,
        tx_hash: tx_hash(1_000 + id),
        block_hash: B256::repeat_byte(0xb0),
        block_number: 99,
        block_time_ms: TGE_MS + 1_000_000,
        treasury: Address::repeat_byte(0x7e),
        providers: vec!["scripted".into()],
        purchase_paid: big(paid),
        purchase_decimals: 6,
        purchase_tokens: big(tokens),
        settled_tokens: RawAmount::ZERO,
    }
}

/// Every kind of record that moves something: payments at par, in tokens and converted, one of them undone, and
/// purchases at a loss, at a profit and at just what was owed.
pub async fn every_kind() -> Fair {
    let mut fair = Fair::before_tge(market_rules(1, market(), 3)).await;
    fair.all_say("0.0211");
    fair.say(USDC_FEED, "0.9987");
    fair.mine(vec![pay(1, USDC, 0, 5 * DOLLAR), pay(2, RTITY, 1, 7 * TOKEN)]).await;
    mine_empty(&fair.chain, 3);
    for id in 3..7 {
        let to = usize::try_from(id).unwrap() % 3;
        fair.mine(vec![pay(id, USDC, to, 10 * DOLLAR + u128::from(id))]).await;
    }
    fair.mine(vec![pay(8, RTITY, 1, 3 * TOKEN)]).await;
    fair.mine(vec![pay(9, USDC, 2, 10 * DOLLAR)]).await;
    fair.chain.rewind(1);
    mine_empty(&fair.chain, 3);
    fair.rest().await;
    assert_eq!(fair.house.sql("SELECT COUNT(*) FROM entries WHERE leg = 0").await, [[9]]);
    let owed = fair.house.store.obligations(false).await.unwrap();
    for part in [
        bought(0, 9 * DOLLAR, 400 * TOKEN),
        bought(1, 20 * DOLLAR, 600 * TOKEN),
        // What is left of the third, for what it was owed for.
        bought(2, 10 * DOLLAR, owed[2].tokens.0.to::<u128>()),
    ] {
        let settled = fair.house.store.settle_treasury(&part).await.unwrap();
        assert!(!settled.records.is_empty());
    }
    fair.house.verify().await;
    fair
}

async fn settle(fair: &Fair, whole: &TreasurySettlement) -> TreasurySettled {
    fair.house.store.settle_treasury(whole).await.unwrap()
}

/// Of each part: the number of the credit in its journal, whole tokens, what they were owed for, what was paid.
fn parts(settled: &TreasurySettled) -> Vec<(i64, u128, i64, i64)> {
    let part = |p: &SettledPart| {
        let tokens = p.cause.settled_tokens.0.to::<u128>() / TOKEN;
        (p.cause.obligation_seq, tokens, p.did.owed_usd_nano.0, p.did.paid_usd_nano.0)
    };
    settled.parts.iter().map(part).collect()
}

#[tokio::test]
async fn purchases_settle_the_oldest_first_and_none_twice() {
    let mut fair = Fair::new(market_rules(1, fixed(), 3)).await;
    for id in 1..=3 {
        fair.mine(vec![pay(id, USDC, 0, 10 * DOLLAR)]).await; // 500 RTITY each
    }
    let dollar = 1_000_000_000i64;
    // 600 for 13 dollars: all of the first, a fifth of the second.
    let first = settle(&fair, &bought(1, 13 * DOLLAR, 600 * TOKEN)).await;
    let paid = |tokens: i64| 13 * dollar * tokens / 600;
    let at = fair.house.sql("SELECT MIN(seq) FROM obligations").await[0][0];
    // Parts are rounded so that all of them are the whole.
    let expected =
        [(at, 500, 10 * dollar, paid(500)), (at + 1, 100, 2 * dollar, 13 * dollar - paid(500))];
    assert_eq!(parts(&first), expected);
    assert_eq!((first.records.len(), first.left), (2, RawAmount::ZERO));
    // The same again is the same.
    let again = settle(&fair, &bought(1, 13 * DOLLAR, 600 * TOKEN)).await;
    assert_eq!((parts(&again), again.records), (expected.to_vec(), vec![]));
    let other = fair.house.store.settle_treasury(&bought(1, 12 * DOLLAR, 600 * TOKEN)).await;
    assert!(other.is_err());
    // The rest, and more than that; what comes in later is settled by what was left.
    let second = settle(&fair, &bought(2, 20 * DOLLAR, 1_000 * TOKEN)).await;
    assert_eq!(
        parts(&second),
        [(at + 1, 400, 8 * dollar, 8 * dollar), (at + 2, 500, 10 * dollar, 10 * dollar)]
    );
    assert_eq!(second.left, big(100 * TOKEN));
    assert_eq!(fair.house.store.obligations(false).await.unwrap(), []);
    fair.mine(vec![pay(9, USDC, 1, DOLLAR)]).await;
    let third = settle(&fair, &bought(2, 20 * DOLLAR, 1_000 * TOKEN)).await;
    let last = fair.house.sql("SELECT MAX(seq) FROM obligations WHERE journal_id = 2").await[0][0];
    assert_eq!(parts(&third)[2..], [(last, 50, dollar, dollar)]);
    assert_eq!(third.left, big(50 * TOKEN));
    fair.house.verify().await;
    // Balances of namespaces are none of the treasury's business.
    assert_eq!(fair.house.balance("acme").await, "75750");
}

#[tokio::test]
async fn what_was_reversed_owes_nothing_unless_it_was_settled() {
    let mut fair = Fair::new(market_rules(1, fixed(), 3)).await;
    fair.mine(vec![pay(1, USDC, 0, 10 * DOLLAR)]).await;
    fair.mine(vec![pay(2, USDC, 1, 10 * DOLLAR)]).await;
    settle(&fair, &bought(1, 10 * DOLLAR, 500 * TOKEN)).await;
    fair.chain.rewind(2);
    mine_empty(&fair.chain, 5);
    fair.rest().await;
    assert_eq!(fair.house.stages().await, ["reversed", "reversed"]);
    assert_eq!(fair.house.store.obligations(false).await.unwrap(), []);
    let settled = settle(&fair, &bought(2, 10 * DOLLAR, 500 * TOKEN)).await;
    assert_eq!((parts(&settled), settled.left), (vec![], big(500 * TOKEN)));
    fair.house.verify().await;
}

#[tokio::test]
async fn the_script_for_auditors_says_what_ledger_verify_says() {
    if crate::ENGINE != Engine::Sqlite {
        return; // it reads files
    }
    let fair = every_kind().await;
    let verified = fair.house.store.verify().await.unwrap().unwrap();
    fair.house.store.close().await;
    let (code, said) = script(&fair.house.database.path());
    let holds = format!("holds: {} records in {} journals, ", verified.records, verified.journals);
    assert!(code == Some(0) && said.starts_with(&holds), "{said}");

    for change in [
        "UPDATE conversions SET body = replace(body, '0.9987', '0.9988') WHERE the_last",
        "DELETE FROM conversions WHERE the_last",
        "UPDATE prices SET credits_nano = credits_nano + 1 WHERE the_last",
        "UPDATE obligations SET tokens = raw_amount WHERE journal_id = 1",
        "UPDATE obligations SET token_decimals = 17 WHERE journal_id = 1",
        "UPDATE obligations SET effective_at_ms = effective_at_ms + 1 WHERE journal_id = 1",
        "UPDATE obligations SET settled_usd_nano = settled_usd_nano + 1 WHERE journal_id = 1",
        "DELETE FROM obligations WHERE journal_id = 2",
        "UPDATE settlements SET tokens = (SELECT paid FROM purchases LIMIT 1)",
        "UPDATE settlements SET credit_seq = 900 + seq",
        "DELETE FROM settlements WHERE seq = (SELECT MAX(seq) FROM settlements)",
        "UPDATE purchases SET paid = tokens",
        "UPDATE purchases SET decimals = 7",
        "UPDATE lots SET remaining_nano = remaining_nano - 1 WHERE remaining_nano > 0",
        "UPDATE lots SET consideration_usd_nano = 7 WHERE consideration_usd_nano IS NOT NULL",
        "DELETE FROM lot_moves",
        "UPDATE credits SET reversed_by = NULL WHERE reversed_by IS NOT NULL",
        "UPDATE journals SET posted_nano = posted_nano + 1 WHERE journal_id = 1",
        "UPDATE journals SET salt = seal WHERE journal_id = 2",
        "UPDATE addresses SET namespace_id = 2 WHERE address_id = 1",
        "UPDATE epochs SET body = replace(body, '1000', '1001')",
        "UPDATE entries SET unit = 'usd' WHERE unit = 'credits'",
        "UPDATE records SET recorded_at_ms = recorded_at_ms - 1 WHERE seq = 2",
        "UPDATE records SET operator = 'eve' WHERE journal_id = 1 AND seq = 2",
        "DELETE FROM records WHERE journal_id = 1 AND seq = 3",
        "UPDATE deposits SET stage = 'pending' WHERE stage = 'credited'",
        "UPDATE sightings SET sender = recipient WHERE deposit_id IN (SELECT deposit_id FROM credits)",
    ] {
        let last = "deposit_id = (SELECT max(deposit_id) FROM conversions)";
        let change = change.replace("the_last", last);
        let copy = fair.house.database.copy().await;
        let mut sql = copy.sql().await;
        sql.drop_guards().await;
        assert!(sql.execute(&change).await.unwrap() > 0, "{change}");
        drop(sql);
        let (code, said) = script(&copy.path());
        assert_eq!(code, Some(1), "not noticed: {change}: {said}");
    }
}
