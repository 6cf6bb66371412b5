//! What somebody who can write the database might try, and what names it: a table, which docs/ledger-format.md
//! prints. Where nothing in the database can show it, the ledger must hold: that is what the table says.

use std::pin::Pin;

use super::forged::*;
use super::forger::Forger;
use super::support::*;
use super::tampering::{a_ledger, copy_of};
use super::unseen::UNSEEN;

pub type Work<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

pub enum How {
    /// These statements.
    Sql(&'static [&'static str]),
    /// Somebody with topupd's code.
    Hand(for<'a> fn(&'a mut Forger) -> Work<'a>),
}

#[derive(Debug)]
pub enum Named {
    /// `ledger verify`, with a finding about this table.
    Verify(&'static str),
    /// `scans`.
    Scans,
    /// `log status`, and whatever hands out a checkpoint or a proof; `ledger verify` as well.
    LogStatus,
    /// Nothing in the rows; the log shows it, once the record is in it and a checkpoint is kept elsewhere.
    Log,
    /// Nothing in the database.
    Nothing(&'static str),
}

pub struct Attempt {
    what: &'static str,
    how: How,
    named: Named,
}

impl Attempt {
    /// Its line in the documents.
    fn line(&self) -> String {
        let by = match self.named {
            Named::Verify(table) => format!("`ledger verify`: `{table}`"),
            Named::Scans => "`scans`".to_owned(),
            Named::LogStatus => "`log status`, `log checkpoint` and all that prove".to_owned(),
            Named::Log => "nothing in the rows; the log, once the record is in it: `ledger verify --expect FILE`".to_owned(),
            Named::Nothing(why) => format!("nothing in the database: {why}"),
        };
        format!("| {} | {by} |", self.what)
    }
}

pub const fn sql(what: &'static str, statements: &'static [&'static str], named: Named) -> Attempt {
    Attempt { what, how: How::Sql(statements), named }
}

pub const fn hand(
    what: &'static str,
    how: for<'a> fn(&'a mut Forger) -> Work<'a>,
    named: Named,
) -> Attempt {
    Attempt { what, how: How::Hand(how), named }
}

use Named::{Log, LogStatus, Nothing, Scans, Verify};

const ATTEMPTS: &[Attempt] = &[
    // Records.
    hand(
        "the last record of a journal deleted, with every row that tells of it",
        |f| Box::pin(f.cut(1)),
        Log,
    ),
    hand(
        "the last credit doubled: cause, outcome, entries, lot and balance, every hash computed again",
        |f| Box::pin(f.rewrite(1, doubled)),
        Verify("conversions"),
    ),
    hand(
        "the same, and its sighting, deposit and price doubled as well, where its receipt was proved",
        |f| Box::pin(doubled_below(f)),
        Verify("receipt_proofs"),
    ),
    hand(
        "the same, and its receipt's proof taken away, as if there had been none",
        |f| Box::pin(doubled_without_proof(f, doubled_and_unproved)),
        Nothing("any node or explorer shows the transfer"),
    ),
    hand(
        "the same, and it is still said to have been proved",
        |f| Box::pin(doubled_without_proof(f, doubled_and_said_to_be_proved)),
        Verify("receipt_proofs"),
    ),
    hand(
        "an outcome changed, and the journal sealed again",
        |f| Box::pin(f.reseal(1, other_outcome)),
        Verify("records"),
    ),
    hand(
        "a cause changed (who paid), and the journal sealed again",
        |f| Box::pin(f.reseal(1, other_sender)),
        Verify("sightings"),
    ),
    hand(
        "a record's time moved between its neighbours', and the journal sealed again",
        |f| Box::pin(f.reseal(1, a_little_earlier)),
        Log,
    ),
    sql(
        "a record's time moved, and nothing sealed again",
        &[
            "UPDATE records SET recorded_at_ms = recorded_at_ms - 1 WHERE journal_id = 1 AND seq = 4",
        ],
        Verify("records"),
    ),
    sql(
        "the operator of an act's record edited",
        &["UPDATE records SET operator = 'mallory' WHERE kind = 'act'"],
        Verify("records"),
    ),
    sql(
        "a key's id written to a record",
        &["UPDATE records SET key_id = 'k1' WHERE journal_id = 2 AND seq = 2"],
        Verify("records"),
    ),
    sql(
        "a record moved to another journal",
        &[
            "UPDATE records SET journal_id = 2, seq = (SELECT seq + 1 FROM journals WHERE journal_id = 2) WHERE journal_id = 1 AND seq = (SELECT seq FROM journals WHERE journal_id = 1)",
        ],
        Verify("records"),
    ),
    sql(
        "a record numbered otherwise",
        &[
            "UPDATE records SET seq = 900 WHERE journal_id = 2 AND seq = (SELECT seq FROM journals WHERE journal_id = 2)",
        ],
        Verify("records"),
    ),
    sql(
        "a record deleted from the middle of a journal",
        &["DELETE FROM records WHERE journal_id = 1 AND seq = 4"],
        Verify("records"),
    ),
    sql(
        "a record taken out of what waits for the log",
        &[
            "DELETE FROM unlogged WHERE journal_id = 1 AND seq = (SELECT seq FROM journals WHERE journal_id = 1)",
        ],
        Verify("records"),
    ),
    hand(
        "the log's key replaced by another one: its record sealed, and not signed by the key before",
        |f| Box::pin(another_log_key(f)),
        Verify("records"),
    ),
    sql(
        "the log called otherwise",
        &["UPDATE log_state SET origin = 'example.com/other/1'"],
        LogStatus,
    ),
    // Journals.
    sql(
        "a journal's salt changed",
        &["UPDATE journals SET salt = seal WHERE journal_id = 1"],
        Verify("journals"),
    ),
    sql(
        "another installation's id",
        &[
            "UPDATE installation SET installation_id = (SELECT salt FROM journals WHERE journal_id = 0)",
        ],
        Verify("journals"),
    ),
    sql(
        "a namespace renamed",
        &["UPDATE namespaces SET name = 'acne' WHERE namespace_id = 1"],
        Verify("journals"),
    ),
    sql(
        "a balance raised",
        &["UPDATE journals SET posted_nano = posted_nano + 1 WHERE journal_id = 2"],
        Verify("journals"),
    ),
    sql(
        "a debt written where there is none",
        &["UPDATE journals SET debt_nano = 5 WHERE journal_id = 2"],
        Verify("journals"),
    ),
    // Rows of records.
    sql(
        "an entry's unit changed",
        &[
            "UPDATE entries SET unit = 'usd' WHERE journal_id = 1 AND seq = (SELECT MIN(seq) FROM credits WHERE journal_id = 1)",
        ],
        Verify("records"),
    ),
    sql(
        "an entry added",
        &[
            "INSERT INTO entries SELECT journal_id, 2, leg, account, unit, side, amount FROM entries WHERE journal_id = 1 AND seq = (SELECT MIN(seq) FROM credits WHERE journal_id = 1)",
        ],
        Verify("records"),
    ),
    sql(
        "what a lot has left changed",
        &["UPDATE lots SET remaining_nano = remaining_nano - 1 WHERE journal_id = 1"],
        Verify("lots"),
    ),
    sql(
        "what was paid for a lot changed",
        &[
            "UPDATE lots SET consideration_usd_nano = consideration_usd_nano + 1 WHERE consideration_usd_nano > 0",
        ],
        Verify("lots"),
    ),
    sql(
        "a lot added",
        &[
            "INSERT INTO lots (journal_id, lot_seq, kind, priority, amount_nano, remaining_nano, effective_at_ms) SELECT 1, 2, 'bonus', 0, 1000, 1000, 0 FROM installation",
        ],
        Verify("lots"),
    ),
    sql("a move of a lot deleted", &["DELETE FROM lot_moves"], Verify("lot_moves")),
    sql(
        "a credit's block changed",
        &[
            "UPDATE credits SET block_hash = deposit_id WHERE journal_id = 1 AND seq = (SELECT MIN(seq) FROM credits WHERE journal_id = 1)",
        ],
        Verify("credits"),
    ),
    sql(
        "a credit said to be undone",
        &[
            "UPDATE credits SET reversed_by = 900 WHERE journal_id = 1 AND seq = (SELECT MIN(seq) FROM credits WHERE journal_id = 1)",
        ],
        Verify("credits"),
    ),
    sql(
        "more owed by a conversion",
        &[
            "UPDATE obligations SET tokens = (SELECT tokens FROM purchases LIMIT 1) WHERE journal_id = 1",
        ],
        Verify("obligations"),
    ),
    sql(
        "less settled of what is owed",
        &["UPDATE settlements SET tokens = (SELECT raw_amount FROM obligations LIMIT 1)"],
        Verify("settlements"),
    ),
    sql(
        "less paid for a purchase",
        &["UPDATE purchases SET paid = (SELECT raw_amount FROM obligations LIMIT 1)"],
        Verify("purchases"),
    ),
    sql(
        "an event removed",
        &[
            "DELETE FROM events_new WHERE position = (SELECT MIN(position) FROM events_new WHERE kind = 'deposit.credited')",
        ],
        Verify("events"),
    ),
    // What credits rest on.
    sql(
        "a sighting's amount changed",
        &[
            "UPDATE sightings SET raw_amount = (SELECT tokens FROM purchases LIMIT 1) WHERE deposit_id IN (SELECT deposit_id FROM credits WHERE journal_id = 1)",
        ],
        Verify("prices"),
    ),
    sql(
        "the time of a credited payment's block changed",
        &[
            "UPDATE blocks SET block_time_ms = block_time_ms + 1 WHERE block_hash IN (SELECT block_hash FROM credits WHERE journal_id = 2)",
        ],
        Verify("blocks"),
    ),
    sql(
        "a confirmation deleted",
        &[
            "DELETE FROM confirmations WHERE deposit_id IN (SELECT deposit_id FROM credits WHERE journal_id = 1)",
        ],
        Verify("confirmations"),
    ),
    sql(
        "a credited deposit set to pending",
        &[
            "UPDATE deposits SET stage = 'pending', record_seq = NULL WHERE deposit_id IN (SELECT deposit_id FROM credits WHERE journal_id = 2)",
        ],
        Verify("deposits"),
    ),
    sql(
        "a pending deposit set to ignored",
        &["UPDATE deposits SET stage = 'ignored', reason = 'not_accepted' WHERE stage = 'pending'"],
        Verify("deposits"),
    ),
    sql(
        "a pending deposit set to ignored, as if its token had not been listed",
        &[
            "UPDATE deposits SET stage = 'ignored', reason = 'unlisted_token' WHERE stage = 'pending'",
        ],
        Nothing("what is not credited has no record; a node shows the transfer"),
    ),
    sql(
        "two addresses' namespaces swapped before anybody paid",
        &[
            "UPDATE addresses SET namespace_id = 3 - namespace_id WHERE address_id IN (SELECT address_id FROM addresses WHERE namespace_id IN (1, 2) ORDER BY address_id DESC LIMIT 2)",
        ],
        Verify("addresses"),
    ),
    sql(
        "an address bound to another namespace",
        &["UPDATE addresses SET namespace_id = 2 WHERE address_id = 1"],
        Verify("addresses"),
    ),
    sql(
        "an address deleted",
        &["DELETE FROM addresses WHERE address_id = (SELECT MAX(address_id) FROM addresses)"],
        Verify("addresses"),
    ),
    hand(
        "an account key's record taken out of the house's journal, which is sealed again",
        |f| Box::pin(f.reseal(0, without_keys)),
        Verify("wallets"),
    ),
    sql(
        "a hit of a check deleted",
        &["DELETE FROM screenings WHERE outcome = 'hit'"],
        Verify("screenings"),
    ),
    sql(
        "the reason of an act edited",
        &["UPDATE operator_acts SET reason = 'because' WHERE act_id = 1"],
        Verify("operator_acts"),
    ),
    sql(
        "an act added",
        &[
            "INSERT INTO operator_acts (act_id, kind, operator, reason, chain_id, block_hash, at_ms) SELECT 900, 'veto_price', 'eve', 'why', chain_id, block_hash, at_ms FROM operator_acts LIMIT 1",
        ],
        Verify("operator_acts"),
    ),
    // Corrections.
    sql(
        "what a correction was proposed for edited in its act",
        &[
            "UPDATE operator_acts SET correction = replace(correction, 'ticket 4711', 'ticket 4712') WHERE correction IS NOT NULL",
        ],
        Verify("operator_acts"),
    ),
    sql(
        "the act that approved a correction deleted",
        &["DELETE FROM operator_acts WHERE kind = 'approve_correction'"],
        Verify("operator_acts"),
    ),
    hand(
        "a correction at more credits: cause, outcome, entries, lot and balance, every hash computed again",
        |f| Box::pin(f.rewrite(3, corrected_higher)),
        Verify("operator_acts"),
    ),
    hand(
        "another approver in a correction's cause, and the journal sealed again",
        |f| Box::pin(f.reseal(3, other_approver)),
        Verify("operator_acts"),
    ),
    sql(
        "a corrected credit said to stand, and its correction to be undone",
        &[
            "UPDATE credits SET reversed_by = seq WHERE journal_id = 3 AND reversed_by IS NULL AND seq IN (SELECT seq FROM records WHERE journal_id = 3 AND kind = 'deposit_corrected')",
            "UPDATE credits SET reversed_by = NULL WHERE journal_id = 3 AND reversed_by <> seq AND reversed_by IN (SELECT seq FROM records WHERE journal_id = 3 AND kind = 'deposit_corrected')",
        ],
        Verify("credits"),
    ),
    sql(
        "a corrected deposit led back to its first credit",
        &[
            "UPDATE deposits SET record_seq = (SELECT MIN(k.seq) FROM credits k WHERE k.deposit_id = deposits.deposit_id) WHERE record_seq IN (SELECT seq FROM records WHERE kind = 'deposit_corrected') AND namespace_id = 3",
        ],
        Verify("deposits"),
    ),
    // What credits are priced by.
    hand("an epoch's text changed, with its hash", |f| Box::pin(other_epoch(f)), Verify("epochs")),
    sql(
        "a policy's text changed",
        &["UPDATE price_policies SET body = replace(body, '\"quorum\":2', '\"quorum\":1')"],
        Verify("price_policies"),
    ),
    sql(
        "an answer that a price rests on changed",
        &[
            "UPDATE quotes SET evidence = replace(evidence, '\"late\":false', '\"late\":true') WHERE used = 1",
        ],
        Verify("market_prices"),
    ),
    sql(
        "an answer that a price rests on deleted",
        &[
            "DELETE FROM quotes WHERE quote_id IN (SELECT quote_id FROM quotes WHERE used = 1 LIMIT 1)",
        ],
        Verify("market_prices"),
    ),
    sql(
        "an accepted price deleted",
        &["DELETE FROM market_prices WHERE price_seq = 1"],
        Verify("market_prices"),
    ),
    sql(
        "a conversion deleted",
        &[
            "DELETE FROM conversions WHERE deposit_id IN (SELECT deposit_id FROM credits WHERE journal_id = 1)",
        ],
        Verify("conversions"),
    ),
    // What was read of the chain.
    sql(
        "a record of what was scanned made wider than the chain's cursor",
        &[
            "UPDATE scans SET to_number = to_number + 10, valid_to = valid_to + 10 WHERE scan_id = (SELECT MAX(scan_id) FROM scans)",
        ],
        Scans,
    ),
];

#[tokio::test]
async fn each_attempt_is_named_by_what_the_table_says() {
    let original = a_ledger().await;
    let mut wrong = Vec::new();
    for attempt in ATTEMPTS.iter().chain(UNSEEN) {
        let house = copy_of(&original).await;
        let mut forger = Forger::of(&house).await;
        match attempt.how {
            How::Sql(statements) => {
                for statement in statements {
                    forger.run(statement).await;
                }
            }
            How::Hand(how) => how(&mut forger).await,
        }
        let verified = house.store.verify().await.unwrap();
        let gap = house.store.scan_gap(CHAIN).await.unwrap();
        let holds = match attempt.named {
            Named::Verify(table) => {
                verified.as_ref().is_err_and(|f| f.named().iter().any(|f| f.table == table))
            }
            Named::Scans => verified.is_ok() && gap.is_some(),
            Named::LogStatus => {
                let looks = !house.store.log_health(None).await.unwrap().is_empty();
                verified.is_ok() && looks && house.store.verify_log(None).await.unwrap().is_err()
            }
            Named::Log | Named::Nothing(_) => verified.is_ok() && gap.is_none(),
        };
        if !holds {
            let said = verified.map_or_else(|f| format!("{:#?}", f.named()), |_| "holds".into());
            wrong.push(format!("{}: {said}", attempt.what));
        }
        house.store.close().await;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(ATTEMPTS.len() >= 30);
}

/// The signature is all that names another key: with it, the same records hold.
#[tokio::test]
async fn a_log_key_that_was_handed_over_holds() {
    let house = copy_of(&a_ledger().await).await;
    a_log_key_handed_over(&mut Forger::of(&house).await).await;
    house.store.verify().await.unwrap().unwrap();
}

/// The documents print the table as it stands here.
#[test]
fn the_table_is_printed_in_the_documents() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ledger-format.md");
    let printed = std::fs::read_to_string(path).unwrap();
    let lines: Vec<String> = ATTEMPTS.iter().chain(UNSEEN).map(Attempt::line).collect();
    let table = format!("| attempt | named by |\n|---|---|\n{}\n", lines.join("\n"));
    assert!(printed.contains(&table), "docs/ledger-format.md must have this table:\n{table}");
}
