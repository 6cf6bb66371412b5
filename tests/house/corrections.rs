//! Credits that two people correct: what is undone and given again, what of it was used or bought, what is refused,
//! and that the ledger with all of it holds.

use alloy::primitives::{B256, U256};
use topupd::domain::acts::ActRow;
use topupd::domain::ids::DepositId;
use topupd::domain::money::{Nanocredits, RawAmount};
use topupd::store::{Correcting, CorrectionDone, NewCorrection, RecordPlace, StoreError};

use super::feeds::*;
use super::support::*;
use super::treasury::bought;
use crate::database::{Cell, Engine};

const TOKEN: u128 = 1_000_000_000_000_000_000;

/// Ten dollars of USDC, converted at 2 cents into 500 RTITY: 25,250 credits of acme.
async fn credited() -> Fair {
    let mut fair = Fair::new(market_rules(1, fixed(), 2)).await;
    fair.mine(vec![ten(1)]).await;
    assert_eq!(fair.house.stages().await, ["credited"]);
    assert_eq!(fair.house.balance("acme").await, "25250");
    fair
}

/// How a credit is wanted instead.
#[derive(Debug, Clone, Copy)]
enum How {
    Price(&'static str),
    Epoch(&'static str),
}
use How::{Epoch, Price};

impl Fair {
    async fn deposit(&self) -> DepositId {
        self.house.deposits().await[0].id
    }

    async fn credit(&self) -> RecordPlace {
        self.house.store.standing_credit(self.deposit().await).await.unwrap().unwrap()
    }

    async fn propose_of(
        &self,
        place: RecordPlace,
        how: How,
        reason: &str,
    ) -> Result<i64, StoreError> {
        let (price, epoch) = match how {
            Price(price) => (Some((RTITY_USD, rate(price))), None),
            Epoch(id) => (None, Some(id)),
        };
        let new = NewCorrection { place, price, epoch, evidence: "ticket 4711" };
        let (store, oracle) = (&self.house.store, &self.house.rules.oracle);
        let repeated = price.map(|(_, price)| price);
        store.propose_correction(oracle, &new, repeated, ("alice", reason)).await
    }

    async fn proposed(&self, how: How) -> Result<i64, String> {
        let done = self.propose_of(self.credit().await, how, "typed wrong").await;
        done.map_err(|e| e.to_string())
    }

    async fn act_of(&self, number: i64) -> ActRow {
        self.house.store.act_by_id(number).await.unwrap().unwrap()
    }

    async fn approved(&self, number: i64, who: &str) -> Result<CorrectionDone, String> {
        let act = self.act_of(number).await;
        let repeated = act.named_price().map(|(_, price)| price);
        let named = (number, act.hash());
        let (store, oracle) = (&self.house.store, &self.house.rules.oracle);
        let done = store.approve_correction(oracle, named, repeated, (who, "seen")).await;
        done.map_err(|e| e.to_string())
    }

    /// Two people correct the credit that stands. What was shown before is what came of it.
    async fn correct(&self, how: How) -> CorrectionDone {
        let number = self.proposed(how).await.unwrap();
        let (store, oracle) = (&self.house.store, &self.house.rules.oracle);
        let seen = store.preview_correction(oracle, Correcting::Proposed(number)).await.unwrap();
        let done = self.approved(number, "bob").await.unwrap();
        assert_eq!(self.house.balance("acme").await, seen.after.balance_nano.to_string());
        let debt = self.house.sql("SELECT debt_nano FROM journals WHERE journal_id = 1").await;
        assert_eq!(debt, [[seen.after.debt_nano.0]]);
        assert_eq!(self.house.deposits().await[0].credits, Some(seen.again.credits_nano));
        assert_eq!(self.credit().await, done.place);
        done
    }

    /// Kinds of the records in acme's journal that move something.
    async fn moves(&self) -> Vec<String> {
        let kinds =
            "SELECT kind FROM records WHERE journal_id = 1 AND kind LIKE 'deposit_%' ORDER BY seq";
        self.house.database.sql().await.texts(kinds).await
    }

    /// Whole tokens that are still owed, each with what they are owed for, in cents.
    async fn owed(&self) -> Vec<(u128, i64)> {
        let open = self.house.store.obligations(false).await.unwrap();
        let whole = |raw: RawAmount| (raw.0 / U256::from(TOKEN)).to::<u128>();
        open.iter().map(|o| (whole(o.open()), o.usd.0 / 10_000_000)).collect()
    }

    /// Nothing uses credits yet: so many of acme's are gone.
    async fn use_up(&self, used: i64) {
        let mut sql = self.house.database.sql().await;
        let nano = used * 1_000_000_000;
        let lot = format!("UPDATE lots SET remaining_nano = remaining_nano - {nano}");
        sql.execute(&lot).await.unwrap();
        let journal =
            format!("UPDATE journals SET posted_nano = posted_nano - {nano} WHERE journal_id = 1");
        sql.execute(&journal).await.unwrap();
    }

    async fn told(&self) -> i64 {
        let told = "SELECT COUNT(*) FROM events_new WHERE kind = 'deposit.corrected'";
        self.house.sql(told).await[0][0]
    }
}

#[tokio::test]
async fn a_credit_is_undone_and_given_again_in_one_record_higher_or_lower() {
    for (price, credits, tokens) in [("0.04", "12625", 250), ("0.01", "50500", 1_000)] {
        let fair = credited().await;
        let first = fair.credit().await;
        let done = fair.correct(Price(price)).await;
        assert!(!done.before && done.place.seq > first.seq);
        assert_eq!(fair.house.balance("acme").await, credits);
        assert_eq!(fair.house.stages().await, ["credited"]);
        assert_eq!(fair.moves().await, ["deposit_credited", "deposit_corrected"]);
        // What was owed for it is not any more; all ten dollars are owed for the other tokens.
        assert_eq!(fair.owed().await, [(tokens, 1_000)]);
        assert_eq!(fair.told().await, 1);
        let record = fair.house.store.record(done.place).await.unwrap().unwrap();
        assert_eq!(record.operator.as_deref(), Some("bob"));
        for part in ["\"typed wrong\"", "\"ticket 4711\"", "\"alice\"", "\"bob\""] {
            assert!(record.cause.contains(part), "{}", record.cause);
        }
        let verified = fair.house.store.verify().await.unwrap().unwrap();
        assert_eq!((verified.credits, verified.reversed), (2, 1));
        says_the_script(&fair).await;
    }
}

/// The script for auditors says the same of the file. The store is closed then.
async fn says_the_script(fair: &Fair) {
    if crate::ENGINE != Engine::Sqlite {
        return; // it reads files
    }
    fair.house.store.close().await;
    let (code, said) = script(&fair.house.database.path());
    assert!(code == Some(0) && said.starts_with("holds: "), "{said}");
}

#[tokio::test]
async fn the_rule_of_another_epoch_counts_where_two_people_say_so() {
    let fair = credited().await;
    // At par: nothing is converted, nothing is owed.
    fair.correct(Epoch("before")).await;
    assert_eq!(fair.house.balance("acme").await, "10000");
    assert_eq!(fair.owed().await, []);
    // And back, at the prices that were accepted at its block.
    fair.correct(Epoch("after")).await;
    assert_eq!(fair.house.balance("acme").await, "25250");
    assert_eq!(fair.owed().await, [(500, 1_000)]);
    fair.correct(Price("0.04")).await;
    assert_eq!(fair.house.balance("acme").await, "12625");
    let corrected = ["deposit_corrected"; 3];
    assert_eq!(fair.moves().await, [&["deposit_credited"][..], &corrected].concat());
    fair.house.verify().await;
    says_the_script(&fair).await;
}

#[tokio::test]
async fn what_cannot_be_computed_is_refused_before_it_is_written() {
    let fair = credited().await;
    for (how, part) in [
        (Price("0.02"), "gave already"),
        (Price("0.00000001"), "the credits would not fit"),
        (Epoch("later"), "there is no epoch later"),
        (Epoch("after"), "gave already"),
    ] {
        let refused = fair.proposed(how).await.unwrap_err();
        assert!(refused.contains(part) && refused.contains("nothing was written"), "{refused}");
    }
    let place = fair.credit().await;
    let (store, oracle) = (&fair.house.store, &fair.house.rules.oracle);
    let new = NewCorrection {
        place,
        price: Some(("USDT/USD", rate("1"))),
        epoch: None,
        evidence: "ticket",
    };
    let refused = store.propose_correction(oracle, &new, None, ("alice", "why")).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("needs the price of USDC/USD and of RTITY/USD"), "{refused}");
    // Far from the market, the number is said twice; and there must be evidence, in one line.
    let new = NewCorrection { price: Some((RTITY_USD, rate("0.04"))), ..new };
    let once = store.propose_correction(oracle, &new, None, ("alice", "why")).await;
    assert!(matches!(once, Err(StoreError::NotSaidTwice { .. })), "{once:?}");
    for evidence in ["", "a\nb"] {
        let new = NewCorrection { evidence, ..new };
        let refused =
            store.propose_correction(oracle, &new, Some(rate("0.04")), ("alice", "why")).await;
        assert!(refused.unwrap_err().to_string().contains("--evidence must"));
    }
    let none = RecordPlace { seq: 1, ..place };
    let refused = fair.propose_of(none, Price("0.04"), "why").await.unwrap_err().to_string();
    assert!(refused.contains("is no credit"), "{refused}");
    assert_eq!(fair.house.sql("SELECT COUNT(*) FROM operator_acts").await, [[0]]);

    // A balance that would not fit is refused when it is proposed, and when it is approved.
    let number = fair.proposed(Price("0.01")).await.unwrap();
    let full = format!("UPDATE journals SET posted_nano = {} WHERE journal_id = 1", i64::MAX);
    fair.house.database.sql().await.execute(&full).await.unwrap();
    for refused in [
        fair.proposed(Price("0.011")).await.unwrap_err(),
        fair.approved(number, "bob").await.unwrap_err(),
    ] {
        assert!(refused.contains("the balance does not fit"), "{refused}");
    }
    assert_eq!(fair.moves().await, ["deposit_credited"]);
    assert_eq!(fair.house.sql("SELECT COUNT(*) FROM operator_acts").await, [[1]]);
}

#[tokio::test]
async fn what_was_used_of_the_credit_is_owed_and_repaid_first() {
    // Of 25,250 credits 10,000 are used. What they are instead; the balance, the debt and what the lot has left.
    for (price, balance, debt, left) in
        [("0.04", "2625", 0, 2_625), ("0.08", "-3687.5", 3_687_500_000_000, 0)]
    {
        let fair = credited().await;
        fair.use_up(10_000).await;
        fair.correct(Price(price)).await;
        assert_eq!(fair.house.balance("acme").await, balance, "{price}");
        let stored = fair.house.sql("SELECT debt_nano FROM journals WHERE journal_id = 1").await;
        assert_eq!(stored, [[debt]], "{price}");
        let lots = fair.house.sql("SELECT remaining_nano FROM lots ORDER BY lot_seq").await;
        assert_eq!(lots, [[0], [left * 1_000_000_000]], "{price}");
        let reasons = "SELECT reason FROM lot_moves ORDER BY seq, n";
        let reasons = fair.house.database.sql().await.texts(reasons).await;
        assert_eq!(reasons, ["reversal", "debt"], "{price}");
    }
}

#[tokio::test]
async fn what_the_treasury_bought_counts_for_the_corrected_credit_as_well() {
    let fair = credited().await;
    let store = &fair.house.store;
    let buy = async |id, paid: u128, tokens: u128| {
        store.settle_treasury(&bought(id, paid * DOLLAR, tokens * TOKEN)).await.unwrap()
    };
    // 200 of 500, for 4 of the ten dollars.
    assert_eq!(buy(1, 5, 200).await.records.len(), 1);
    assert_eq!(fair.owed().await, [(300, 1_000)]);
    // At ten cents it would be 100 tokens, and 200 are bought.
    let refused = fair.proposed(Price("0.1")).await.unwrap_err();
    assert!(refused.contains("has bought for this conversion"), "{refused}");
    let refused = fair.proposed(Epoch("before")).await.unwrap_err();
    assert!(refused.contains("has bought for this conversion"), "{refused}");
    // At one cent 1,000: 800 are still to be bought, for the six dollars that are left.
    fair.correct(Price("0.01")).await;
    assert_eq!(fair.owed().await, [(800, 600)]);
    fair.house.verify().await;
    // Again: what was bought before is carried on.
    assert_eq!(buy(2, 3, 400).await.records.len(), 1);
    fair.correct(Price("0.0125")).await;
    assert_eq!(fair.owed().await, [(200, 300)]);
    assert_eq!(buy(3, 3, 200).await.records.len(), 1);
    assert_eq!(fair.owed().await, []);
    fair.house.verify().await;
    let usd = "SELECT CAST(COALESCE(SUM(CASE side WHEN 'debit' THEN amount ELSE -amount END), 0) AS BIGINT) FROM entries WHERE account = 'treasury/usd/obligations'";
    let usd = fair.house.sql(usd).await;
    assert_eq!(usd, [[0]], "all that was owed was settled or given back");
    says_the_script(&fair).await;
}

#[tokio::test]
async fn the_same_again_is_answered_with_what_was_done() {
    let fair = credited().await;
    let first = fair.credit().await;
    let number = fair.proposed(Price("0.04")).await.unwrap();
    assert_eq!(fair.proposed(Price("0.04")).await, Ok(number));
    let done = fair.approved(number, "bob").await.unwrap();
    let again = fair.approved(number, "bob").await.unwrap();
    assert_eq!(again, CorrectionDone { before: true, ..done });
    let other = fair.approved(number, "carol").await.unwrap_err();
    assert!(other.contains(&format!("approved already, by act {}", done.act)), "{other}");
    let stale = fair.propose_of(first, Price("0.04"), "why").await.unwrap_err().to_string();
    assert!(stale.contains("was corrected already, by record acme/"), "{stale}");
    assert_eq!(fair.moves().await, ["deposit_credited", "deposit_corrected"]);
    assert_eq!(fair.house.sql("SELECT COUNT(*) FROM operator_acts").await, [[2]]);
    assert_eq!(fair.told().await, 1);
    fair.house.verify().await;
}

#[tokio::test]
async fn of_those_who_approve_at_once_one_writes_the_record() {
    for _ in 0..3 {
        let fair = credited().await;
        let number = fair.proposed(Price("0.04")).await.unwrap();
        let (bob, carol, again) = tokio::join!(
            fair.approved(number, "bob"),
            fair.approved(number, "carol"),
            fair.approved(number, "bob"),
        );
        let done: Vec<_> = [bob, carol, again].into_iter().flatten().collect();
        assert!(!done.is_empty() && done.iter().filter(|done| !done.before).count() == 1);
        assert_eq!(fair.moves().await, ["deposit_credited", "deposit_corrected"]);
        fair.house.verify().await;
    }
}

#[tokio::test]
async fn it_takes_two_people_and_the_second_names_what_the_first_proposed() {
    let fair = credited().await;
    let number = fair.proposed(Price("0.04")).await.unwrap();
    for same in ["alice", " Alice "] {
        let refused = fair.approved(number, same).await.unwrap_err();
        assert!(refused.contains("another operator must approve it"), "{refused}");
    }
    let (store, oracle) = (&fair.house.store, &fair.house.rules.oracle);
    let (zero, price) = (B256::ZERO, Some(rate("0.04")));
    let other = store.approve_correction(oracle, (number, zero), price, ("bob", "seen")).await;
    let (other, hash) = (other.unwrap_err().to_string(), fair.act_of(number).await.hash());
    assert!(other.contains(&format!("its hash is {hash}, and not {zero}")), "{other}");
    let once = store.approve_correction(oracle, (number, hash), None, ("bob", "seen")).await;
    assert!(matches!(once, Err(StoreError::NotSaidTwice { .. })), "{once:?}");
    // A newer one takes its place, whatever it proposes; a withdrawn one does not bring it back.
    let newer = fair.proposed(Epoch("before")).await.unwrap();
    let refused = fair.approved(number, "bob").await.unwrap_err();
    assert!(refused.contains("proposes something else in its place"), "{refused}");
    store.withdraw(newer, ("carol", "no")).await.unwrap();
    let refused = fair.approved(newer, "bob").await.unwrap_err();
    assert!(refused.contains("was withdrawn"), "{refused}");
    let withdrawal = fair.act_of(newer + 1).await;
    let named = (withdrawal.id, withdrawal.hash());
    let refused = store.approve_correction(oracle, named, None, ("bob", "seen")).await;
    assert!(refused.unwrap_err().to_string().contains("proposes no correction: it is withdraw"));
    assert_eq!(fair.moves().await, ["deposit_credited"]);
    assert_eq!(fair.house.balance("acme").await, "25250");
    fair.house.verify().await;
}

#[tokio::test]
async fn a_corrected_credit_is_undone_like_any_other_and_an_undone_one_is_not_corrected() {
    let mut fair = credited().await;
    fair.correct(Price("0.04")).await;
    let waits = fair.proposed(Price("0.05")).await.unwrap();
    // Its block goes; nothing is corrected while it is not canonical.
    let txs = fair.chain.rewind(1);
    mine_empty(&fair.chain, 1);
    fair.watch().await;
    for refused in [
        fair.proposed(Price("0.03")).await.unwrap_err(),
        fair.approved(waits, "bob").await.unwrap_err(),
    ] {
        assert!(refused.contains("is not canonical any more"), "{refused}");
    }
    mine_empty(&fair.chain, 4);
    fair.rest().await;
    assert_eq!(fair.house.stages().await, ["reversed"]);
    assert_eq!(fair.house.balance("acme").await, "0");
    assert_eq!(fair.owed().await, []);
    let expected = ["deposit_credited", "deposit_corrected", "deposit_reversed"];
    assert_eq!(fair.moves().await, expected);
    let refused = fair.approved(waits, "bob").await.unwrap_err();
    assert!(refused.contains("was undone by record acme/"), "{refused}");
    fair.house.verify().await;
    // Mined again, it is credited again as any payment is: nobody has corrected that credit.
    fair.all_say("0.02");
    fair.say(USDC_FEED, "1");
    fair.mine(txs).await;
    assert_eq!(fair.house.stages().await, ["credited"]);
    assert_eq!(fair.house.balance("acme").await, "25250");
    let again = fair.house.deposits().await[0].credits;
    assert_eq!(again, Some(Nanocredits(25_250_000_000_000)));
    fair.house.verify().await;
    says_the_script(&fair).await;
}

#[tokio::test]
async fn an_act_that_was_changed_is_named_by_verify() {
    let fair = credited().await;
    let number = fair.proposed(Price("0.04")).await.unwrap();
    fair.approved(number, "bob").await.unwrap();
    let text = fair.act_of(number).await.correction.unwrap();
    let mut sql = fair.house.database.sql().await;
    for change in ["UPDATE operator_acts SET correction = '{}'", "DELETE FROM operator_acts"] {
        assert!(sql.execute(change).await.is_err(), "{change}");
    }
    sql.drop_guards().await;
    let update = "UPDATE operator_acts SET correction = $1 WHERE correction IS NOT NULL";
    for changed in [
        text.replace("ticket 4711", "ticket 4712"),
        text.replace("\"price\":\"0.04\"", "\"price\":\"0.05\""),
        String::new(),
    ] {
        sql.execute_with(update, &[Cell::Text(changed.clone())]).await.unwrap();
        let found = fair.house.store.verify().await.unwrap().unwrap_err();
        let named: Vec<_> = found.named().iter().map(|finding| finding.table).collect();
        // The act is not what the house noted, and no cause of what was sealed.
        assert_eq!(named, ["operator_acts", "operator_acts"], "{changed}: {found}");
    }
    sql.execute_with(update, &[Cell::Text(text)]).await.unwrap();
    fair.house.verify().await;
}

/// Proposals that wait are those that `standing` says wait, of all payments, newest first.
#[tokio::test]
async fn what_waits_for_a_second_person_can_be_listed() {
    let fair = credited().await;
    let open = async || -> Vec<i64> {
        let open = fair.house.store.open_proposals().await.unwrap();
        open.iter().map(|act| act.id).collect()
    };
    assert_eq!(open().await, [0; 0]);
    let first = fair.proposed(Price("0.04")).await.unwrap();
    assert_eq!(open().await, [first]);
    // A newer one takes its place, whichever price it names.
    let second = fair.proposed(Epoch("before")).await.unwrap();
    assert_eq!(open().await, [second]);
    fair.house.store.withdraw(second, ("carol", "no")).await.unwrap();
    assert_eq!(open().await, [0; 0]);
    let third = fair.proposed(Price("0.01")).await.unwrap();
    assert_eq!(open().await, [third]);
    for who in ["alice", "ALICE", "ali ce", "al\u{200b}ice", "\u{430}lice", "bob\u{202e}"] {
        assert!(fair.approved(third, who).await.is_err(), "{who:?}");
    }
    assert_eq!(open().await, [third]);
    fair.approved(third, "bob").await.unwrap();
    assert_eq!(open().await, [0; 0]);
}

/// A corrected credit's payment stands where it was paid.
#[tokio::test]
async fn the_block_of_a_corrected_payment_is_compared() {
    let fair = credited().await;
    fair.correct(Price("0.04")).await;
    fair.house.verify().await;
    let mut sql = fair.house.database.sql().await;
    sql.drop_guards().await;
    sql.execute("UPDATE deposits SET block_number = block_number + 1").await.unwrap();
    let found = fair.house.store.verify().await.unwrap().unwrap_err();
    let named: Vec<String> = found.named().iter().map(ToString::to_string).collect();
    assert!(
        named.iter().any(|f| f.contains("deposits") && f.contains("block_number")),
        "{named:?}"
    );
}
