//! What each cause does to an account, in tables; the model and the lies are in files of their own.

mod lies;
mod model;

use alloy::primitives::{Address, B256, U256};

use super::*;
use crate::domain::journal::fixtures::{
    JOURNAL, NAME, conversion, converted, correction, draft, house, namespace, opened, paid, raw,
    reversal, settlement,
};
use crate::domain::journal::{
    ACCOUNT_ISSUED_PAID, ACCOUNT_TREASURY_OBLIGATIONS, ACCOUNT_TREASURY_PURCHASES,
    ACCOUNT_TREASURY_RECEIVED, ACCOUNT_TREASURY_SLIPPAGE, AddressesBound, Cause, DepositCredit,
    Draft, JournalId, Kind, Outcome, Record, RecordId, Said, Side, TreasurySettlement,
};
use crate::domain::money::{Nanocredits, Nanodollars, RawAmount};

const NOW: i64 = 1_800_000_100_000;

pub(super) fn credit(cause: DepositCredit) -> Draft {
    draft(namespace(), Cause::DepositCredited(Box::new(cause)))
}

fn settle(cause: TreasurySettlement) -> Draft {
    draft(house(), Cause::TreasurySettled(Box::new(cause)))
}

/// An account whose journal was opened.
pub(super) fn account() -> Account {
    let mut account = Account::fresh(JOURNAL, namespace(), NAME);
    create(&mut account, &draft(namespace(), opened()));
    account
}

pub(super) fn create(account: &mut Account, draft: &Draft) -> New {
    match account.write(draft, NOW) {
        Ok(Written::Created(new)) => *new,
        other => panic!("{other:?}"),
    }
}

fn undo(record: &Record, credits: i64) -> Draft {
    let cause = reversal(record, Nanocredits(credits));
    draft(namespace(), Cause::DepositReversed(Box::new(cause)))
}

fn correct(record: &Record, credits: i64, amount: u64, price: &str) -> Draft {
    let deposit = record.subject.parse().unwrap();
    let cause = correction(record, deposit, Nanocredits(credits), raw(amount), price, 12);
    draft(namespace(), Cause::DepositCorrected(Box::new(cause)))
}

/// Uses credits of a lot, as a posting of usage will: there is no kind for it yet.
pub(super) fn spend(account: &mut Account, lot: i64, amount: i64) {
    let lot = account.lots.get_mut(&lot).unwrap();
    lot.remaining.0 -= amount;
    account.row.posted.0 -= amount;
}

/// Account, side and amount of each leg.
fn legs(new: &New) -> Vec<(&str, Side, i64)> {
    new.effects.entries.iter().map(|e| (e.account.as_str(), e.side, e.amount.nano())).collect()
}

const ACME: &str = "namespace/acme";

#[test]
fn a_credit_repays_debt_first() {
    let mut account = account();
    account.row.debt.0 = 300_000_000_000;
    account.row.posted.0 = -300_000_000_000;
    // dollars in millionths; repaid, left in the lot, balance, debt: in thousands of credits' millionths
    for (n, amount, repaid, left, balance, debt) in [
        (0, 100_000, 100, 0, -200, 200),
        (1, 1_000_000, 200, 800, 800, 0),
        (2, 50_000, 0, 50, 850, 0),
    ] {
        let new = create(&mut account, &credit(paid(n, 0, amount)));
        let Outcome::Credited(did, after) = new.outcome else { panic!() };
        let nano = |credits: i64| Nanocredits(credits * 1_000_000_000);
        assert_eq!((did.repaid_nano, did.remaining_nano), (nano(repaid), nano(left)));
        assert_eq!((after.balance_nano, after.debt_nano), (nano(balance), nano(debt)));
        assert_eq!(new.effects.lots[0].amount, did.credits_nano);
        assert_eq!(new.effects.lots[0].remaining, nano(left));
        let moves: Vec<_> = new.effects.lot_moves.iter().map(|m| (m.lot, m.amount.0)).collect();
        let expected = (repaid > 0).then_some((new.record.seq, -nano(repaid).0));
        assert_eq!(moves, Vec::from_iter(expected));
        // The whole amount stands in the entries, whatever became of it.
        let whole = did.credits_nano.0;
        assert_eq!(
            legs(&new),
            [(ACCOUNT_ISSUED_PAID, Side::Debit, whole), (ACME, Side::Credit, whole)]
        );
    }
}

#[test]
fn a_conversion_owes_dollars_and_its_reversal_takes_the_unsettled_part_back() {
    let mut account = account();
    let given = create(&mut account, &credit(converted(0, 0, 1_000_001, "0.02")));
    let Outcome::Credited(did, _) = given.outcome else { panic!() };
    let credits = did.credits_nano.0;
    let usd = 1_000_001_000;
    let expected = [
        (ACCOUNT_ISSUED_PAID, Side::Debit, credits),
        (ACME, Side::Credit, credits),
        (ACCOUNT_TREASURY_RECEIVED, Side::Debit, usd),
        (ACCOUNT_TREASURY_OBLIGATIONS, Side::Credit, usd),
    ];
    assert_eq!(legs(&given), expected);
    let owed = given.effects.obligations[0].owed.clone();
    assert_eq!((owed.usd.0, Some(owed.tokens)), (usd, did.owed_tokens));
    let paid_for = given.effects.lots[0].consideration.clone().unwrap();
    assert_eq!((paid_for.raw, paid_for.usd), (raw(1_000_001), Some(Nanodollars(usd))));

    // The house has settled a third of it, by the store's word.
    let third = RawAmount(owed.tokens.0 / U256::from(3));
    // 333,333,666.6 dollars' billionths, and less than a whole one is not settled.
    let settled = 333_333_666;
    account.load_obligation(2, Some(Obligation { settled: third, ..owed }));
    spend(&mut account, 2, 7);
    let undone = create(&mut account, &undo(&given.record, credits));
    let Outcome::Reversed(did, after) = undone.outcome else { panic!() };
    assert_eq!((did.taken_nano.0, did.debt_added_nano.0), (credits - 7, 7));
    assert_eq!((after.balance_nano.0, after.debt_nano.0), (-7, 7));
    assert_eq!((did.settled_tokens, did.returned_usd_nano.0), (Some(third), usd - settled));
    let expected = [
        (ACME, Side::Debit, credits),
        (ACCOUNT_ISSUED_PAID, Side::Credit, credits),
        (ACCOUNT_TREASURY_OBLIGATIONS, Side::Debit, usd - settled),
        (ACCOUNT_TREASURY_RECEIVED, Side::Credit, usd - settled),
    ];
    assert_eq!(legs(&undone), expected);
    assert_eq!((undone.effects.undone, undone.effects.voided), (vec![2], vec![2]));
    assert_eq!(undone.effects.remaining, [(2, Nanocredits::ZERO)]);
    // Credited again, it repays that debt first.
    let again = create(&mut account, &credit(converted(0, 1, 1_000_001, "0.02")));
    let Outcome::Credited(did, after) = again.outcome else { panic!() };
    assert_eq!((did.repaid_nano.0, did.remaining_nano.0), (7, credits - 7));
    assert_eq!((after.balance_nano.0, after.debt_nano.0), (credits - 7, 0));
}

#[test]
fn a_correction_undoes_and_gives_again_in_one_record() {
    let mut account = account();
    let given = create(&mut account, &credit(converted(0, 0, 1_000_000, "0.02")));
    let credits = given.effects.lots[0].amount.0;
    spend(&mut account, 2, 5);
    let new = create(&mut account, &correct(&given.record, credits, 1_000_000, "0.03"));
    let Outcome::Corrected(did, after) = new.outcome else { panic!() };
    let (better, _, _) = conversion(raw(1_000_000), "0.03");
    assert_eq!((did.reversed.taken_nano.0, did.reversed.debt_added_nano.0), (credits - 5, 5));
    assert_eq!((did.credited.repaid_nano.0, did.credited.credits_nano), (5, better));
    assert_eq!((after.balance_nano.0, after.debt_nano.0), (better.0 - 5, 0));
    let moves: Vec<_> =
        new.effects.lot_moves.iter().map(|m| (m.lot, m.amount.0, m.reason)).collect();
    let expected = [(2, 5 - credits, MoveReason::Reversal), (3, -5, MoveReason::Debt)];
    assert_eq!(moves, expected);
    assert_eq!(new.effects.lots[0].effective_at_ms, given.effects.lots[0].effective_at_ms);
    let usd = 1_000_000_000;
    let expected = [
        (ACME, Side::Debit, credits),
        (ACCOUNT_ISSUED_PAID, Side::Credit, credits),
        (ACCOUNT_TREASURY_OBLIGATIONS, Side::Debit, usd),
        (ACCOUNT_TREASURY_RECEIVED, Side::Credit, usd),
        (ACCOUNT_ISSUED_PAID, Side::Debit, better.0),
        (ACME, Side::Credit, better.0),
        (ACCOUNT_TREASURY_RECEIVED, Side::Debit, usd),
        (ACCOUNT_TREASURY_OBLIGATIONS, Side::Credit, usd),
    ];
    assert_eq!(legs(&new), expected);
    // What it gave can be undone in its turn, and what it undid cannot be undone again.
    let twice = account.write(&undo(&given.record, credits), NOW);
    assert_eq!(twice, Err(Refusal::Undone { seq: 2, by: 3 }));
    create(&mut account, &undo(&new.record, better.0));
    assert_eq!((account.balance().0, account.debt().0), (-5, 5));
}

#[test]
fn what_was_bought_before_a_correction_is_not_owed_again() {
    let mut account = account();
    let given = create(&mut account, &credit(converted(0, 0, 1_000_000, "0.02")));
    let credits = given.effects.lots[0].amount.0;
    let owed = given.effects.obligations[0].owed.clone();
    let half = RawAmount(owed.tokens.0 / U256::from(2));
    let told = Obligation { settled: half, ..owed.clone() };
    account.load_obligation(2, Some(told));
    // At five times the price, the payment is worth less than what was bought for it.
    let too_little = account.write(&correct(&given.record, credits, 1_000_000, "0.1"), NOW);
    assert_eq!(too_little, Err(Refusal::Bought));
    let new = create(&mut account, &correct(&given.record, credits, 1_000_000, "0.01"));
    let now_owed = new.effects.obligations[0].owed.clone();
    let whole = conversion(raw(1_000_000), "0.01").2.into.unwrap().tokens;
    assert_eq!(now_owed.tokens, whole.checked_sub(half).unwrap());
    assert_eq!((now_owed.usd.0, now_owed.carried_usd.0), (500_000_000, 500_000_000));
    assert_eq!(now_owed.carried_tokens, half);
    // The dollars received are those of one payment, however often it is corrected.
    let received = |new: &New| -> i64 {
        let of = |e: &&(&str, Side, i64)| e.0 == ACCOUNT_TREASURY_RECEIVED;
        let signed = |(_, side, nano): &(&str, Side, i64)| match side {
            Side::Debit => *nano,
            Side::Credit => -nano,
        };
        legs(new).iter().filter(of).map(signed).sum()
    };
    assert_eq!((received(&given), received(&new)), (1_000_000_000, 0));
    let credits = new.effects.lots[0].amount.0;
    account.load_obligation(3, Some(Obligation { settled: half, ..now_owed }));
    let third = create(&mut account, &correct(&new.record, credits, 1_000_000, "0.009"));
    let carried = &third.effects.obligations[0].owed.carried_tokens;
    assert_eq!((received(&third), carried.0), (0, half.0 + half.0));
}

#[test]
fn parts_of_an_obligation_and_of_a_purchase_round_cumulatively() {
    let mut house = Account::fresh(JournalId::HOUSE, house(), "");
    // Each conversion owes 100 tokens for 3.000000001 dollars, each purchase is 90 tokens for 2.500001.
    let part = |seq: u8, part, tx| {
        settle(TreasurySettlement {
            obligation_seq: i64::from(seq),
            obligation_record_id: RecordId(B256::repeat_byte(seq)),
            obligation_usd_nano: Nanodollars(3_000_000_001),
            purchase_paid: raw(2_500_001),
            ..settlement(part, tx)
        })
    };
    // conversion, tokens, purchase; owed and paid in nanodollars
    let table = [
        (2, 33, 1, 990_000_000, 916_667_033),
        (3, 33, 1, 990_000_000, 916_667_033),
        (4, 24, 1, 720_000_000, 666_666_934),
        (2, 33, 2, 990_000_000, 916_667_033),
        (2, 34, 3, 1_020_000_001, 944_444_822),
    ];
    for (seq, tokens, tx, owed, paid) in table {
        let new = create(&mut house, &part(seq, tokens, tx));
        let Outcome::Settled(did) = new.outcome else { panic!() };
        assert_eq!((did.owed_usd_nano.0, did.paid_usd_nano.0), (owed, paid), "{seq} {tokens}");
        let expected = [
            (ACCOUNT_TREASURY_OBLIGATIONS, Side::Debit, owed),
            (ACCOUNT_TREASURY_PURCHASES, Side::Credit, paid),
            (ACCOUNT_TREASURY_SLIPPAGE, Side::Credit, owed - paid),
        ];
        assert_eq!(legs(&new), expected);
    }
    let refused = [
        (part(2, 1, 4), Refusal::TooMany("the obligation")),
        (part(5, 1, 1), Refusal::TooMany("the purchase")),
    ];
    for (draft, refusal) in refused {
        assert_eq!(house.write(&draft, NOW), Err(refusal));
    }
    // The same purchase settles the same conversion once.
    let conflict = Written::Conflict { seq: 1, field: "cause.settled_tokens".into() };
    assert_eq!(house.write(&part(2, 1, 1), NOW), Ok(conflict));
    // A loss is a debit, and a part that is worth nothing on either side is not written.
    let dear = settle(TreasurySettlement { purchase_paid: raw(9_000_000), ..settlement(30, 7) });
    let dear = create(&mut Account::fresh(JournalId::HOUSE, house.row().genesis, ""), &dear);
    assert_eq!(legs(&dear)[2], (ACCOUNT_TREASURY_SLIPPAGE, Side::Debit, 2_100_000_000));
    let nothing = TreasurySettlement {
        obligation_usd_nano: Nanodollars(0),
        purchase_paid: raw(0),
        obligation_seq: 8,
        ..settlement(30, 8)
    };
    assert_eq!(house.write(&settle(nothing), NOW), Err(Refusal::MovesNothing));
}

#[test]
fn refusals_leave_the_account_as_it_was() {
    let mut account = account();
    let given = create(&mut account, &credit(paid(0, 0, 1_000_000)));
    let credits = given.effects.lots[0].amount.0;
    let named = |operator: Option<&str>, cause| {
        Draft::new(namespace(), cause, operator.map(str::to_owned), None).unwrap()
    };
    let bound = AddressesBound::imported(NAME, &[Address::repeat_byte(1)]);
    let other = DepositCredit { namespace: "other".into(), ..paid(1, 0, 5) };
    let seal = |draft: Draft| match draft.cause {
        Cause::DepositReversed(mut cause) => {
            cause.reverses_seal = B256::ZERO;
            super::tests::draft(namespace(), Cause::DepositReversed(cause))
        }
        _ => panic!(),
    };
    let alone = |draft: Draft| match draft.cause {
        Cause::DepositCorrected(mut cause) => {
            cause.approver = cause.proposer.clone();
            super::tests::draft(namespace(), Cause::DepositCorrected(cause))
        }
        _ => panic!(),
    };
    let elsewhere = Record { seq: 9, ..given.record.clone() };
    let table = [
        (credit(paid(0, 1, 1_000_000)), Refusal::Standing { seq: 2 }),
        (credit(paid(1, 1, 5)), Refusal::Reversals { asked: 1, found: 0 }),
        (credit(other), Refusal::Contradiction("namespace")),
        (
            credit(DepositCredit { rounding: "up".into(), ..paid(1, 0, 5) }),
            Refusal::Contradiction("rounding"),
        ),
        (undo(&elsewhere, credits), Refusal::NoCredit { seq: 9 }),
        (undo(&given.record, credits - 1), Refusal::Contradiction("credits_nano")),
        (seal(undo(&given.record, credits)), Refusal::Contradiction("reverses_seal")),
        (
            correct(&given.record, credits, 999_999, "0.02"),
            Refusal::Contradiction("again.raw_amount"),
        ),
        (
            alone(correct(&given.record, credits, 1_000_000, "0.02")),
            Refusal::Contradiction("approver"),
        ),
        (settle(settlement(1, 1)), Refusal::WrongJournal(Kind::TreasurySettled)),
        (named(Some(""), Cause::AddressesBound(bound)), Refusal::Empty("operator")),
    ];
    let before = account.clone();
    for (draft, refusal) in table {
        assert_eq!(account.write(&draft, NOW), Err(refusal), "{}", draft.text);
        assert_eq!(account, before);
    }
    let mut empty = Account::fresh(JOURNAL, namespace(), NAME);
    assert_eq!(empty.write(&credit(paid(0, 0, 5)), NOW), Err(Refusal::NotTheFirst));
}

#[test]
fn what_does_not_fit_is_refused_and_never_wraps() {
    let mut account = account();
    let most = i64::MAX.unsigned_abs() / 1_000_000;
    let given = create(&mut account, &credit(paid(0, 0, most)));
    let before = account.clone();
    assert_eq!(
        account.write(&credit(paid(1, 0, most)), NOW),
        Err(Refusal::Overflow("the balance"))
    );
    assert_eq!(account, before);
    account.row.posted.0 = i64::MIN + 1;
    let (record, amount) = (given.record, given.effects.lots[0].amount.0);
    assert_eq!(account.write(&undo(&record, amount), NOW), Err(Refusal::Overflow("the balance")));
    account.row.posted.0 = 0;
    account.row.debt.0 = i64::MAX;
    account.lots.get_mut(&2).unwrap().remaining.0 = 0;
    assert_eq!(account.write(&undo(&record, amount), NOW), Err(Refusal::Overflow("the debt")));
    account.row.head.seq = i64::MAX;
    account.row.debt.0 = 0;
    assert_eq!(account.write(&credit(paid(3, 0, 1)), NOW), Err(Refusal::Full));
}

#[test]
fn a_piece_that_was_not_loaded_is_an_error() {
    let mut whole = account();
    let given = create(&mut whole, &credit(converted(0, 0, 1_000_000, "0.02")));
    let credits = given.effects.lots[0].amount.0;
    let deposit = given.effects.credits[0].deposit;
    let mut part = Account::at(whole.row().clone());
    let missing = |answer: Result<Written, Refusal>| match answer {
        Err(Refusal::NotLoaded { what, .. }) => what,
        other => panic!("{other:?}"),
    };
    // The retry of a credit, and a new one.
    let (retry, next) = (credit(converted(0, 0, 1_000_000, "0.02")), credit(paid(1, 0, 5)));
    assert_eq!(missing(part.write(&retry, NOW)), "record");
    part.load_record(retry.id, Some(Said::of(&given.record, retry.cause_hash)));
    let exists = Written::Exists { seq: 2, outcome: given.outcome.clone() };
    assert_eq!(part.write(&retry, NOW), Ok(exists));
    part.load_record(next.id, None);
    assert_eq!(missing(part.write(&next, NOW)), "deposit");
    part.load_deposit(next.cause.subject().parse().unwrap(), DepositState::default());
    create(&mut part, &next);
    // A reversal, piece by piece.
    let undo = undo(&given.record, credits);
    assert_eq!(missing(part.write(&undo, NOW)), "record");
    part.load_record(undo.id, None);
    assert_eq!(missing(part.write(&undo, NOW)), "credit");
    part.load_credit(2, whole.credits.get(&2).unwrap().cloned());
    assert_eq!(missing(part.write(&undo, NOW)), "deposit");
    part.load_deposit(deposit, DepositState { reversals: 0, standing: Some(2) });
    assert_eq!(missing(part.write(&undo, NOW)), "lot");
    part.load_lot(whole.lots.get(&2).unwrap().unwrap().clone());
    assert_eq!(missing(part.write(&undo, NOW)), "obligation of record");
    part.load_obligation(2, whole.obligations.get(&2).unwrap().cloned());
    let new = create(&mut part, &undo);
    // The same as the whole account writes.
    create(&mut whole, &next);
    assert_eq!(create(&mut whole, &undo), new);
    assert_eq!(whole.row(), part.row());
    // A settlement.
    let mut part = Account::at(Account::fresh(JournalId::HOUSE, house(), "").row().clone());
    let part_of = settlement(30, 1);
    let settle = settle(part_of.clone());
    part.load_record(settle.id, None);
    assert_eq!(missing(part.write(&settle, NOW)), "what is owed by record");
    let owing = Owing {
        record_id: part_of.obligation_record_id,
        asset: "USDC".into(),
        into_asset: "RTITY".into(),
        tokens: part_of.tokens,
        usd: part_of.obligation_usd_nano,
        settled: raw(0),
        void: true,
    };
    part.load_owing(JOURNAL, 2, owing.clone());
    assert_eq!(part.write(&settle, NOW), Err(Refusal::Void { seq: 2 }));
    part.load_owing(JOURNAL, 2, Owing { void: false, ..owing });
    assert_eq!(missing(part.write(&settle, NOW)), "purchase");
    part.load_purchase(part_of.chain_id, part_of.tx_hash, None);
    create(&mut part, &settle);
}

#[test]
fn another_body_under_an_id_is_a_conflict_that_names_the_field() {
    let mut account = account();
    create(&mut account, &credit(paid(0, 0, 1_000_000)));
    let cause = |cause: DepositCredit| Cause::DepositCredited(Box::new(cause));
    let by = |operator: &str, key: &str| {
        Draft::new(
            namespace(),
            cause(paid(0, 0, 1_000_000)),
            Some(operator.into()),
            Some(key.into()),
        )
        .unwrap()
    };
    let later = DepositCredit { block_time_ms: 1, ..paid(0, 0, 1_000_000) };
    let table = [
        (credit(later), "effective_at_ms"),
        (by("alice", "k1"), "operator"),
        (Draft { operator: None, ..by("alice", "k1") }, "key_id"),
        (credit(paid(0, 0, 2_000_000)), "cause.credits_nano"),
        (credit(DepositCredit { log_index: 4, ..paid(0, 0, 1_000_000) }), "cause.log_index"),
        (credit(DepositCredit { verify: None, ..paid(0, 0, 1_000_000) }), "cause.verify"),
    ];
    let before = account.clone();
    for (draft, field) in table {
        let conflict = Written::Conflict { seq: 2, field: field.into() };
        assert_eq!(account.write(&draft, NOW), Ok(conflict));
        assert_eq!(account, before);
    }
}

#[test]
fn no_record_is_earlier_than_the_one_before() {
    let mut account = account();
    let Written::Created(new) = account.write(&credit(paid(0, 0, 5)), NOW - 9).unwrap() else {
        panic!()
    };
    assert_eq!(new.record.recorded_at_ms, NOW);
    let Written::Created(new) = account.write(&credit(paid(1, 0, 5)), NOW + 9).unwrap() else {
        panic!()
    };
    assert_eq!(new.record.recorded_at_ms, NOW + 9);
}
