//! Records that were changed: left as they are they break the seal, and sealed again they do not follow.

use alloy::primitives::B256;

use super::super::*;
use super::{account, correct, create, credit, undo};
use crate::domain::journal::fixtures::{JOURNAL, NAME, converted, namespace, opened, paid};
use crate::domain::journal::{Amount, JournalId, Kind, Record, Side};
use crate::domain::money::Nanocredits;

/// Opened, a credit at par, a converted one, its correction, its reversal, and credited again.
fn journal() -> Vec<Record> {
    let mut account = Account::fresh(JOURNAL, namespace(), NAME);
    let mut records = Vec::new();
    let mut write = |account: &mut Account, draft| {
        let new = create(account, &draft);
        records.push(new.record.clone());
        (new.record, new.effects.lots.first().map_or(0, |lot| lot.amount.0))
    };
    write(&mut account, super::draft(namespace(), opened()));
    write(&mut account, credit(paid(0, 0, 1_000_000)));
    let (given, credits) = write(&mut account, credit(converted(1, 0, 1_000_000, "0.02")));
    let (given, credits) = write(&mut account, correct(&given, credits, 1_000_000, "0.03"));
    write(&mut account, undo(&given, credits));
    write(&mut account, credit(converted(1, 2, 1_000_000, "0.04")));
    records
}

fn fold(records: &[Record]) -> Result<Account, (i64, Broken)> {
    let mut fold = Fold::new(JOURNAL, namespace(), NAME);
    for record in records {
        fold.next(record).map_err(|broken| (record.seq, broken))?;
    }
    Ok(fold.account().clone())
}

/// Seals everything again, so that only what does not follow is left to find.
fn resealed(records: &[Record]) -> Vec<Record> {
    let mut prev = namespace().0;
    let mut records = records.to_vec();
    for record in &mut records {
        record.prev = prev;
        record.seal = record.seal_hash();
        prev = record.seal;
    }
    records
}

#[test]
fn a_journal_folds_to_the_account_that_wrote_it() {
    let account = fold(&journal()).unwrap();
    assert_eq!(account.row().head.seq, 6);
    assert_eq!(fold(&resealed(&journal())).unwrap(), account);
    let standing: Vec<i64> =
        account.credits().filter(|c| c.reversed_by.is_none()).map(|c| c.seq).collect();
    assert_eq!(standing, [2, 6]);
}

#[test]
fn what_is_missing_doubled_or_of_another_journal_is_found() {
    let records = journal();
    let without = |n: usize| {
        let mut records = records.clone();
        records.remove(n);
        fold(&records).unwrap_err()
    };
    assert_eq!(without(1), (3, Broken::Sequence { expected: 2, found: 3 }));
    // Without the first one, no other can be the first, even renumbered and sealed again.
    let mut rest = resealed(&records[1..]);
    rest.iter_mut().for_each(|record| record.seq -= 1);
    let found = fold(&resealed(&rest)).unwrap_err();
    assert_eq!(found, (1, Broken::Refused(Refusal::NotTheFirst)));
    // The last credit, doubled under the next number.
    let mut doubled = records.clone();
    doubled.push(Record { seq: 7, ..records[5].clone() });
    assert_eq!(
        fold(&resealed(&doubled)).unwrap_err(),
        (7, Broken::Refused(Refusal::Twice { seq: 6 }))
    );
    let mut other = records.clone();
    other[2].journal = JournalId(8);
    let journal = Broken::Journal { expected: JOURNAL, found: JournalId(8) };
    assert_eq!(fold(&other).unwrap_err(), (3, journal));
    let mut back = records.clone();
    back[2].recorded_at_ms -= 1;
    assert_eq!(fold(&resealed(&back)).unwrap_err(), (3, Broken::Time));
    let mut relinked = records;
    relinked[2].prev = B256::ZERO;
    assert_eq!(fold(&relinked).unwrap_err(), (3, Broken::Link));
}

type Change = fn(&mut Record);

/// What is changed, in which record, and what is found when all is sealed again; `None` for what a journal
/// alone cannot show: the store compares the hash of the cause.
const LIES: &[(&str, usize, Change, Option<&str>)] = &[
    ("id", 1, |r| r.id.0 = B256::ZERO, Some("record_id")),
    ("subject", 1, |r| r.subject.push('0'), Some("subject")),
    ("effective time", 1, |r| r.effective_at_ms += 1, Some("effective_at_ms")),
    ("effective time of a reversal", 4, |r| r.effective_at_ms -= 1, Some("effective_at_ms")),
    ("kind", 1, |r| r.kind = Kind::AddressesBound, Some("cause of addresses_bound")),
    ("another namespace", 1, |r| swap(r, "\"acme\"", "\"acmf\""), Some("namespace does not")),
    ("amount in the cause", 1, |r| swap(r, "\"1000000\"", "\"2000000\""), Some("credits_nano")),
    ("another deposit", 1, |r| swap(r, "\"n\":0", "\"n\":9"), Some("record_id")),
    ("a blank in the cause", 1, |r| r.cause.push(' '), Some("cause of deposit_credited")),
    ("a blank in the outcome", 1, |r| r.outcome.push(' '), Some("outcome of deposit_credited")),
    ("repaid", 1, |r| told(r, "\"repaid_nano\":0", "\"repaid_nano\":1"), Some("outcome")),
    ("balance after", 1, |r| told(r, "\"balance_nano\":1", "\"balance_nano\":2"), Some("outcome")),
    ("taken", 4, |r| told(r, "\"taken_nano\":1", "\"taken_nano\":2"), Some("outcome")),
    (
        "what was settled",
        4,
        |r| told(r, "\"settled_tokens\":\"0\"", "\"settled_tokens\":\"9\""),
        None,
    ),
    (
        "more settled than owed",
        4,
        |r| told(r, "\"settled_tokens\":\"0\"", "\"settled_tokens\":\"99999999999999999999999\""),
        Some("outcome"),
    ),
    (
        "settled, where nothing is owed",
        4,
        |r| told(r, "\"settled_tokens\":\"0\",", ""),
        Some("outcome"),
    ),
    (
        "an entry's amount",
        1,
        |r| each(r, |a| Amount::Credits(Nanocredits(a.nano() + 1))),
        Some("entries"),
    ),
    (
        "an entry's amount alone",
        1,
        |r| r.entries[0].amount = Amount::Credits(Nanocredits(1)),
        Some("entries"),
    ),
    ("sides", 1, |r| r.entries.iter_mut().for_each(|e| e.side = other(e.side)), Some("entries")),
    ("order of entries", 1, |r| r.entries.swap(0, 1), Some("entries")),
    ("entries of dollars", 2, |r| r.entries.truncate(2), Some("entries")),
    ("no entries", 1, |r| r.entries.clear(), Some("entries")),
    (
        "the record reversed",
        4,
        |r| swap(r, "\"reverses_seq\":4", "\"reverses_seq\":2"),
        Some("reverses_record_id"),
    ),
    (
        "a record reversed before",
        4,
        |r| swap(r, "\"reverses_seq\":4", "\"reverses_seq\":3"),
        Some("was undone"),
    ),
    ("reversals", 5, |r| swap(r, "\"reversals\":2", "\"reversals\":1"), Some("record_id")),
    ("one operator for two", 3, |r| swap(r, "\"bob\"", "\"alice\""), Some("approver")),
    ("a name", 1, |r| r.operator = Some("mallory".into()), None),
];

fn swap(record: &mut Record, from: &str, to: &str) {
    assert!(record.cause.contains(from), "{}", record.cause);
    record.cause = record.cause.replacen(from, to, 1);
}

fn told(record: &mut Record, from: &str, to: &str) {
    assert!(record.outcome.contains(from), "{}", record.outcome);
    record.outcome = record.outcome.replacen(from, to, 1);
}

fn each(record: &mut Record, to: fn(Amount) -> Amount) {
    record.entries.iter_mut().for_each(|e| e.amount = to(e.amount));
}

fn other(side: Side) -> Side {
    if side == Side::Debit { Side::Credit } else { Side::Debit }
}

#[test]
fn changed_records_break_their_seal_and_sealed_again_they_do_not_follow() {
    for (lie, index, change, found) in LIES {
        let mut records = journal();
        change(&mut records[*index]);
        let seq = records[*index].seq;
        assert_eq!(fold(&records).unwrap_err(), (seq, Broken::Seal), "{lie}");
        match (fold(&resealed(&records)), found) {
            (Err((_, broken)), Some(found)) => {
                assert!(broken.to_string().contains(found), "{lie}: {broken}");
            }
            // Later records name the seals of those they undo, so those may break instead.
            (Ok(_), None) => {}
            (Err((at, _)), None) => assert!(at > seq, "{lie}"),
            (Ok(_), Some(_)) => panic!("{lie} was not found"),
        }
    }
}

/// None and an empty name have one seal: so an empty name is refused.
#[test]
fn an_empty_name_is_found() {
    let mut records = journal();
    records[1].key_id = Some(String::new());
    assert_eq!(fold(&records).unwrap_err(), (2, Broken::Refused(Refusal::Empty("key_id"))));
}

#[test]
fn records_do_not_follow_from_another_state() {
    let records = journal();
    let mut fold = Fold::new(JOURNAL, namespace(), NAME);
    fold.next(&records[0]).unwrap();
    // Credits that were used in between would have changed what the next one repays.
    fold.account.row.debt.0 = 5;
    assert_eq!(fold.next(&records[1]), Err(Broken::Contradiction("outcome")));
    let mut account = account();
    let given = create(&mut account, &credit(paid(0, 0, 1_000_000)));
    let before = account.clone();
    // Rows that do not add up are not applied.
    let mut effects = given.effects.clone();
    effects.seq = 3;
    let record = Record { seq: 3, prev: before.row().head.seal, ..given.record };
    effects.lots[0].remaining.0 -= 1;
    let refused = account.apply(&record, &effects, B256::ZERO);
    assert_eq!(refused, Err(Refusal::Contradiction("balance")));
}
