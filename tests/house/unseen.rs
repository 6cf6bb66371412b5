//! A part of the table of `attempts`: payments that are not credited, the feed, what was read of the chain, and what
//! only the chain can show; and that the chain, asked again, shows it.

use alloy::primitives::B256;
use topupd::domain::chain::Header;

use super::attempts::{Attempt, Named, hand, sql};
use super::feeds::*;
use super::forger::Forger;
use super::support::*;
use Named::{Nothing, Verify};

const NO_RECORD: &str =
    "what is not credited has no record; `topupd rescan` over its block reads the transfer again";

pub const UNSEEN: &[Attempt] = &[
    hand(
        "a credit undone: its block said to be orphaned, another one invented, a reversal with all rows, sealed",
        |f| Box::pin(f.undo()),
        Nothing(
            "`topupd chain resume CHAIN --rewind-to BLOCK`, a block before, reads the chain again, and the payment is credited again",
        ),
    ),
    hand(
        "what is owed said to be settled: a purchase invented, its record with all rows, sealed",
        |f| Box::pin(f.settle()),
        Nothing(
            "`topupd treasury settle --chain CHAIN --tx HASH` reads the purchase again, and refuses",
        ),
    ),
    sql(
        "a pending payment's amount changed",
        &[
            "UPDATE deposits SET raw_amount = (SELECT tokens FROM purchases LIMIT 1) WHERE stage = 'pending'",
        ],
        Nothing("its receipt is read before it is credited, and holds it as `receipt_mismatch`"),
    ),
    sql(
        "a pending payment given to another namespace",
        &["UPDATE deposits SET namespace_id = 3 - namespace_id WHERE stage = 'pending'"],
        Verify("deposits"),
    ),
    sql(
        "the same, with an address of that namespace",
        &[
            "UPDATE deposits SET namespace_id = 3 - namespace_id WHERE stage = 'pending'",
            "UPDATE deposits SET address_id = (SELECT MIN(a.address_id) FROM addresses a WHERE a.namespace_id = deposits.namespace_id), recipient = (SELECT a.address FROM addresses a WHERE a.address_id = (SELECT MIN(o.address_id) FROM addresses o WHERE o.namespace_id = deposits.namespace_id)) WHERE stage = 'pending'",
        ],
        Verify("deposits"),
    ),
    sql(
        "a pending payment deleted",
        &["DELETE FROM deposits WHERE stage = 'pending'"],
        Verify("deposits"),
    ),
    sql(
        "a pending payment deleted, and what was seen of it",
        &[
            "DELETE FROM sightings WHERE deposit_id IN (SELECT deposit_id FROM deposits WHERE stage = 'pending')",
            "DELETE FROM deposits WHERE stage = 'pending'",
        ],
        Nothing(NO_RECORD),
    ),
    sql(
        "the block of a payment whose credit was undone changed",
        &["UPDATE deposits SET block_hash = deposit_id WHERE stage = 'reversed'"],
        Verify("deposits"),
    ),
    sql(
        "the record of a payment whose credit was undone changed",
        &["UPDATE deposits SET record_seq = record_seq - 1 WHERE stage = 'reversed'"],
        Verify("deposits"),
    ),
    sql(
        "a pending payment set to a stage or reason that there is not",
        &["UPDATE deposits SET stage = 'held', reason = 'xyz' WHERE stage = 'pending'"],
        Verify("deposits"),
    ),
    sql(
        "a confirmation invented for a pending payment",
        &[
            "INSERT INTO confirmations (deposit_id, block_hash, log_index, policy, head_number, head_hash, receipt_provider, receipt_transfers, confirmed_at_ms, log_provider, verify, reversals) SELECT d.deposit_id, d.block_hash, d.log_index, c.policy, c.head_number, c.head_hash, c.receipt_provider, c.receipt_transfers, c.confirmed_at_ms, c.log_provider, 'same-provider', 0 FROM deposits d, (SELECT * FROM confirmations LIMIT 1) c WHERE d.stage = 'pending'",
        ],
        Nothing(
            "the daemon does not go by it: without a proof that shows the payment, it reads the receipt itself before it credits",
        ),
    ),
    sql(
        "an answer about a payer invented, of before the credit",
        &[
            "INSERT INTO screenings (deposit_id, block_hash, sender, asked, outcome, question, answer, at_ms) SELECT deposit_id, block_hash, sender, asked, outcome, question, answer, at_ms - 1 FROM screenings WHERE outcome = 'clear' LIMIT 1",
        ],
        Nothing(
            "a credit names the answers that it rests on, and one more is not told from one that was of no use",
        ),
    ),
    sql(
        "an event without a record taken away before it has a number",
        &["DELETE FROM events_new WHERE kind = 'deposit.seen'"],
        Nothing("it told of a moment; the payment's rows stand"),
    ),
    sql(
        "an event with a number taken away, the others left as they are",
        &[
            "INSERT INTO events (incarnation, feed_no, event_id, kind, namespace_id, chain_id, subject, payload, at_ms) SELECT 1, ROW_NUMBER() OVER (ORDER BY position), event_id, kind, namespace_id, chain_id, subject, payload, at_ms FROM events_new WHERE kind = 'deposit.seen'",
            "DELETE FROM events_new WHERE kind = 'deposit.seen'",
            "UPDATE log_state SET feed_no = (SELECT COUNT(*) FROM events)",
            "DELETE FROM events WHERE feed_no = 2",
        ],
        Verify("events"),
    ),
    sql(
        "a record of what was scanned made wider, and the chain's cursor with it",
        &[
            "INSERT INTO blocks (chain_id, block_hash, block_number, parent_hash, block_time_ms, canonical) SELECT c.chain_id, i.installation_id, c.block_number + 10, c.block_hash, 0, 1 FROM cursors c, installation i",
            "UPDATE scans SET to_number = to_number + 10, valid_to = valid_to + 10, rechecked_to = to_number + 10 WHERE scan_id = (SELECT MAX(scan_id) FROM scans)",
            "UPDATE cursors SET block_number = block_number + 10, block_hash = (SELECT installation_id FROM installation)",
        ],
        Nothing("`topupd rescan` over these blocks reads them"),
    ),
];

/// The block below this one, as the chain has it.
async fn below(fair: &Fair, header: &Header) -> Header {
    let times = fair.house.sql("SELECT block_number, block_time_ms FROM blocks").await;
    let number = header.number - 1;
    let row = times.iter().find(|row| u64::try_from(row[0]) == Ok(number)).unwrap();
    Header { number, hash: header.parent_hash, parent_hash: B256::ZERO, time_ms: row[1], ..*header }
}

/// An invented reversal holds, and is gone once the chain is read again from before its block.
#[tokio::test]
async fn a_forged_reversal_is_put_right_by_the_chain() {
    let mut fair = Fair::new(market_rules(1, fixed(), 2)).await;
    mine_empty(&fair.chain, 3);
    let header = fair.mine(vec![ten(1)]).await;
    mine_empty(&fair.chain, 5);
    fair.rest().await;
    let balance = fair.house.balance("acme").await;
    assert_ne!(balance, "0");
    let mut forger = Forger::of(&fair.house).await;
    forger.undo().await;
    fair.rest().await;
    fair.house.verify().await;
    assert_eq!(
        (fair.house.balance("acme").await, fair.house.stages().await),
        ("0".into(), vec!["reversed".into()])
    );
    let before = below(&fair, &header).await;
    assert!(fair.house.store.resume(CHAIN, Some(before), 0).await.unwrap() > 0);
    fair.rest().await;
    assert_eq!(fair.house.stages().await, ["credited"]);
    assert_eq!(fair.house.balance("acme").await, balance);
    fair.house.verify().await;
}
