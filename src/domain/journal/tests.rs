//! The hashes, pinned by a script that knows only the documented encoding; and what each kind says of
//! itself.

use crate::domain::act_kind::ActKind;
use std::collections::BTreeSet;

use alloy::primitives::{Address, B256};

use super::fixtures::{
    JOURNAL, conversion, correction, draft, house, namespace, opened, paid, raw, reversal,
    settlement,
};
use super::*;
use crate::domain::account::{Account, Written};
use crate::domain::acts::ActRow;
use crate::domain::ids::{ChainId, DepositId};
use crate::domain::money::{Nanocredits, Nanodollars};

const NOW: i64 = 1_800_000_100_000;

fn act() -> Act {
    Act::of(&ActRow {
        id: 12,
        kind: ActKind::Retry,
        operator: "alice".into(),
        reason: "why".into(),
        deposit: Some(DepositId(B256::repeat_byte(7))),
        chain: ChainId(1),
        block_hash: B256::repeat_byte(8),
        pair: None,
        price: None,
        instant_ms: None,
        approves: None,
        approved_hash: None,
        withdraws: None,
        latch: None,
        correction: None,
        at_ms: 9,
    })
}

/// A record of a journal that holds one credit: the golden one.
fn records() -> Vec<(Record, B256)> {
    let mut account = Account::fresh(JOURNAL, namespace(), "acme");
    [opened(), Cause::DepositCredited(Box::new(paid(0, 0, 1_000_000)))]
        .into_iter()
        .zip([NOW, NOW + 1])
        .map(|(cause, now)| {
            let draft = draft(namespace(), cause);
            let Written::Created(new) = account.write(&draft, now).unwrap() else { panic!() };
            (new.record, draft.cause_hash)
        })
        .collect()
}

/// One cause of each kind.
fn causes() -> Vec<Cause> {
    let (credit, _) = records().remove(1);
    let key = |origin: &str| LogKey {
        public_key: "topupd+1+key".into(),
        origin: origin.into(),
        replaces: None,
        signature: None,
    };
    let credits = paid(0, 0, 1_000_000).credits_nano;
    vec![
        Cause::XpubRegistered(XpubRegistered { xpub: "xpub6".into(), fingerprint: "00".into() }),
        Cause::EpochAdded(EpochAdded::of("beta", 5, "{}")),
        Cause::PolicyAdded(PolicyAdded::of("{}")),
        Cause::Act(Box::new(act())),
        Cause::LogKey(key("topupd/1")),
        Cause::LogResumed(LogResumed {
            origin: "topupd/2".into(),
            before: "topupd/1".into(),
            reason: "restored".into(),
            checkpoint: None,
            size: 0,
        }),
        Cause::TreasurySettled(Box::new(settlement(30, 1))),
        opened(),
        Cause::AddressesBound(AddressesBound::imported("acme", &addresses(3))),
        Cause::DepositCredited(Box::new(paid(0, 0, 1_000_000))),
        Cause::DepositReversed(Box::new(reversal(&credit, credits))),
        Cause::DepositCorrected(Box::new(correction(
            &credit,
            credit.subject.parse().unwrap(),
            credits,
            raw(1_000_000),
            "0.02",
            12,
        ))),
    ]
}

fn addresses(count: u8) -> Vec<Address> {
    (1..=count).map(Address::repeat_byte).collect()
}

#[test]
fn genesis_and_record_ids_are_pinned() {
    assert_eq!(
        namespace().0.to_string(),
        "0x4e6d4415f607a3d94bd084710fb61e80cced5896828dab60b996941b548645e7"
    );
    assert_eq!(
        house().0.to_string(),
        "0x6f1035afef16afbae2c23c80fc80a7c36e756c4ee7c932b0623cf0821226dd2f"
    );
    let expected = [
        "0x44f6e017cbfc00fc461e0215524187fa592f558a289cc777765ecb8eb736caf8",
        "0xe27bba3cb2d9f65265f6c822061aca013c79bc3a949ddcaa5dd1426b31f5ed92",
        "0xdeaefdf98a84dda57299cbf246a2312eab7370510cc53ceffc588798a33560c1",
        "0x78f25fc42ea8a27700689f59894b2e25c9539aecb34130d31bed1df92dac11b4",
        "0xbf89a67474c9345dc8ade55d4f34149e61d1f1d3b1444aa8ea79d28d896979c2",
        "0x2cffad92cc1fdc97b4e3fabff991b24a0504a4d0cbfafa6b354f88671776088c",
        "0x116534676022c3811ddc13b4478d7be92827e61c8b8ca33cc683f3eba4a5bcb2",
        "0x45d9be3e72018b8e3f768f0d5126c3d4a7a777b28ee0806688b67d0e62da67f0",
        "0xb84328bb62643297cb27e478e4cb31ac852bbf1f0e385d845bf03baa14bafb53",
        "0x05a98f9b11d0b7bbbb9213d7301fbaf44912062edd100aa53b95490690cedfa0",
        "0x9c984d3c067e20ce9472bdddc8ea94a876f885d75be13fa39f7cdc218de756c0",
        "0x6bd054f183f4448cbdf697e22cfd3e0308bea67561f03a68fe8b861a5cb00d33",
    ];
    let causes = causes();
    assert_eq!(causes.iter().map(Cause::kind).collect::<Vec<_>>(), Kind::ALL);
    for (cause, expected) in causes.iter().zip(expected) {
        let genesis = if cause.kind().is_of_house() { house() } else { namespace() };
        assert_eq!(cause.record_id(genesis).to_string(), expected, "{}", cause.kind());
        // The same cause in another journal is another record.
        let other = if cause.kind().is_of_house() { namespace() } else { house() };
        assert_ne!(cause.record_id(other).to_string(), expected);
    }
    let again = Cause::DepositCredited(Box::new(paid(0, 1, 5)));
    assert_eq!(
        again.record_id(namespace()).to_string(),
        "0x89953e0db01f8b9333884ac336cef8b8cd88a584a682d756ab62d311414c60a7"
    );
    let child = AddressesBound::derived("acme", "00", &[(9, Address::repeat_byte(1))]);
    let child = Cause::AddressesBound(child).record_id(namespace());
    assert_eq!(
        child.to_string(),
        "0xda91dfae6407669a41ce5dc42f1cd74bb89cc80cda8e91a77cfde112a145cfd4"
    );
}

#[test]
fn seals_and_causes_are_pinned() {
    let records = records();
    assert_eq!(
        records[0].1.to_string(),
        "0xc0f4ed0cfc6ffe73812d1a618c50af6e9d435cc823a8107b622d4e87988dec6f"
    );
    assert_eq!(
        records[0].0.seal.to_string(),
        "0x7e73fa20fd5beb0dc1cc1d0e6c0953c51aa640b3d2f2905f13650c42728cae3e"
    );
    assert_eq!(
        records[1].1.to_string(),
        "0xf7f0978d242e15649fef16349d8ebe3e451f4e1757909559a329e0429af01a0d"
    );
    assert_eq!(
        records[1].0.seal.to_string(),
        "0x8c880d318840bcc4c2a51f39f6551b2048da4e2fa0b669bab452b18435e8664f"
    );
    let named = Draft::new(
        namespace(),
        Cause::DepositCredited(Box::new(paid(0, 0, 1_000_000))),
        Some("alice".into()),
        Some("k1".into()),
    );
    assert_eq!(
        named.unwrap().cause_hash.to_string(),
        "0x83e039f873e1ed5b63d05ac69ef3a8fc60f530fd78e4d1f54e6893f5cb87f2ce"
    );
    let event = Event::of_record(Kind::DepositCredited, records[1].0.id).unwrap();
    assert_eq!(
        event.id.to_string(),
        "0x50f8548c4930694be3ec0452f2ce94fc2b1df52cf6e58af70c1c0cf6faf2bdf2"
    );
}

#[test]
fn roots_of_addresses_are_those_of_rfc_6962() {
    for (count, root) in [
        (0, "0xe3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        (1, "0xd6ec927adf77786154e6f6b0d3705f57c9f0d9c4fe52a5fa113bb574e44e1f60"),
        (2, "0xf5f924456935788f53b84b5572f23e9ef207f04099652c0d4def01d1dbabcab4"),
        (3, "0x061652a2e17ddbf4f1ff782dcbb8975b3b0ac23414ae29468dd49ef843cd97f2"),
        (5, "0xb3c25637d9216c1b021e5071a1d3637ebda96447ffe29d5daed1955599b844ee"),
        (7, "0x81e236283ea1a2d95f5a885b735c7b435e231170b1713282204c2a8246dcf941"),
    ] {
        assert_eq!(addresses_root(&addresses(count)).to_string(), root, "{count}");
    }
}

#[test]
fn every_field_is_sealed() {
    let (record, _) = records().remove(1);
    let changes: [fn(&mut Record); 18] = [
        |r| r.seq += 1,
        |r| r.id.0 = B256::ZERO,
        |r| r.kind = Kind::DepositReversed,
        |r| r.subject.push('0'),
        |r| r.cause.push(' '),
        |r| r.outcome.push(' '),
        |r| r.effective_at_ms += 1,
        |r| r.recorded_at_ms += 1,
        |r| r.operator = Some("alice".into()),
        |r| r.key_id = Some("alice".into()),
        |r| r.prev = B256::ZERO,
        |r| r.entries[0].account.push('x'),
        |r| r.entries[0].side = Side::Credit,
        |r| r.entries[0].amount = Amount::Dollars(Nanodollars(r.entries[0].amount.nano())),
        |r| r.entries[0].amount = Amount::Credits(Nanocredits(1)),
        |r| r.entries.swap(0, 1),
        |r| drop(r.entries.pop()),
        |r| std::mem::swap(&mut r.effective_at_ms, &mut r.recorded_at_ms),
    ];
    let mut seals = BTreeSet::from([record.seal]);
    for change in changes {
        let mut other = record.clone();
        change(&mut other);
        assert!(seals.insert(other.seal_hash()));
    }
}

#[test]
fn causes_read_back_as_written_and_in_no_other_words() {
    for cause in causes() {
        let (kind, text) = (cause.kind(), cause.to_json().unwrap());
        assert_eq!(Cause::from_json(kind, &text), Ok(cause));
        for other in [format!("{text} "), text.replacen(':', ": ", 1), String::new(), "{}".into()] {
            assert!(Cause::from_json(kind, &other).is_err(), "{other}");
        }
        let unknown = text.replacen('{', "{\"other\":1,", 1);
        assert!(Cause::from_json(kind, &unknown).is_err(), "{unknown}");
    }
}

#[test]
fn kinds_say_whose_they_are_what_they_move_and_how_they_are_announced() {
    let usd: &[Unit] = &[Unit::Usd];
    let both: &[Unit] = &[Unit::Credits, Unit::Usd];
    // kind, word, of the house, units, event
    let table = [
        (Kind::XpubRegistered, "xpub_registered", true, &[][..], None),
        (Kind::EpochAdded, "epoch_added", true, &[], None),
        (Kind::PolicyAdded, "policy_added", true, &[], None),
        (Kind::Act, "act", true, &[], None),
        (Kind::LogKey, "log_key", true, &[], None),
        (Kind::LogResumed, "log_resumed", true, &[], None),
        (Kind::TreasurySettled, "treasury_settled", true, usd, Some("treasury.settled")),
        (Kind::NamespaceOpened, "namespace_opened", false, &[], None),
        (Kind::AddressesBound, "addresses_bound", false, &[], None),
        (Kind::DepositCredited, "deposit_credited", false, both, Some("deposit.credited")),
        (Kind::DepositReversed, "deposit_reversed", false, both, Some("deposit.reversed")),
        (Kind::DepositCorrected, "deposit_corrected", false, both, Some("deposit.corrected")),
    ];
    assert_eq!(table.map(|(kind, ..)| kind), Kind::ALL);
    for (kind, word, house, units, event) in table {
        assert_eq!((kind.as_str(), Kind::parse(word)), (word, Ok(kind)));
        assert_eq!((JournalId::HOUSE.holds(kind), JOURNAL.holds(kind)), (house, !house));
        assert_eq!(kind.units(), units);
        assert_eq!(EventKind::of(kind).map(EventKind::as_str), event);
        assert_eq!(kind.allows(&[]), units.is_empty(), "{kind}");
    }
    let unknown = Kind::parse("deposit_credit").unwrap_err();
    assert!(unknown.to_string().contains("deposit_credit"));
    for kind in EventKind::ALL {
        assert_eq!(EventKind::parse(kind.as_str()), Some(kind));
    }
}

#[test]
fn units_never_mix() {
    let credits = |nano| Amount::Credits(Nanocredits(nano));
    let usd = |nano| Amount::Dollars(Nanodollars(nano));
    let acme = "namespace/acme";
    let (debit, credit) =
        (|amount| Entry::debit(ACCOUNT_ISSUED_PAID, amount), |amount| Entry::credit(acme, amount));
    let received = |nano| Entry::debit(ACCOUNT_TREASURY_RECEIVED, usd(nano));
    let owed = |nano| Entry::credit(ACCOUNT_TREASURY_OBLIGATIONS, usd(nano));
    // entries, balanced, as of a credit, as of a settlement
    let table = [
        (vec![debit(credits(5)), credit(credits(5))], true, true, false),
        (vec![debit(credits(5)), credit(credits(5)), received(2), owed(2)], true, true, false),
        (vec![received(2), owed(2)], true, false, true),
        (vec![debit(credits(5)), credit(credits(4))], false, false, false),
        // Five credits against five dollars.
        (vec![debit(credits(5)), owed(5)], false, false, false),
        // Dollars on an account of credits.
        (vec![Entry::debit(acme, usd(5)), owed(5)], false, false, false),
        (vec![debit(credits(0)), credit(credits(0))], false, false, false),
        (vec![debit(credits(-5)), credit(credits(-5))], false, false, false),
        (
            vec![Entry::debit("house/issued/free", credits(5)), credit(credits(5))],
            false,
            false,
            false,
        ),
        (
            vec![debit(credits(i64::MAX)), debit(credits(i64::MAX)), credit(credits(i64::MAX))],
            false,
            false,
            false,
        ),
        (vec![], true, false, false),
    ];
    for (entries, sound, credited, settled) in table {
        assert_eq!(balanced(&entries), sound, "{entries:?}");
        assert_eq!(Kind::DepositCredited.allows(&entries), credited, "{entries:?}");
        assert_eq!(Kind::TreasurySettled.allows(&entries), settled, "{entries:?}");
    }
    assert!(is_house_account(ACCOUNT_TREASURY_SLIPPAGE) && !is_house_account(acme));
    assert!(!is_house_account("treasury/usd/other"));
}

#[test]
fn a_difference_is_named_by_its_key() {
    let table = [
        (r#"{"a":1,"b":{"c":[1,2]}}"#, r#"{"a":1,"b":{"c":[1,3]}}"#, Some("b.c")),
        (r#"{"a":1}"#, r#"{"a":1,"b":null}"#, Some("b")),
        (r#"{"b":1,"a":1}"#, r#"{"a":2,"b":2}"#, Some("a")),
        (r#"{"a":1,"b":2}"#, r#"{"b":2,"a":1}"#, None),
        ("{", "{}", Some("text")),
    ];
    for (one, other, key) in table {
        assert_eq!(first_difference(one, other).as_deref(), key);
    }
}

#[test]
fn causes_that_contradict_themselves_are_named() {
    let one = paid(0, 0, 1_000_000);
    let (_, rate, market) = conversion(raw(1_000_000), "0.02");
    let credits = [
        (DepositCredit { rounding: "up".into(), ..one.clone() }, "rounding"),
        (DepositCredit { head_number: 110, ..one.clone() }, "finality"),
        (DepositCredit { credits_nano: Nanocredits(1), ..one.clone() }, "credits_nano"),
        (DepositCredit { rule: "gift".into(), ..one.clone() }, "credits_nano"),
        (DepositCredit { rule: "convert".into(), ..one.clone() }, "credits_nano"),
        (DepositCredit { conversion: Some(market), ..one.clone() }, "credits_nano"),
        (DepositCredit { credits_per_token: rate, ..one.clone() }, "credits_nano"),
    ];
    assert_eq!(one.contradicts_itself(), None);
    for (cause, field) in credits {
        assert_eq!(cause.contradicts_itself(), Some(field));
    }
    let part = settlement(30, 1);
    assert_eq!(part.contradicts_itself(), None);
    for (cause, field) in [
        (settlement(0, 1), "settled_tokens"),
        (settlement(91, 1), "settled_tokens"),
        (TreasurySettlement { tokens: raw(29), ..part.clone() }, "settled_tokens"),
        (TreasurySettlement { providers: vec![], ..part.clone() }, "providers"),
        (TreasurySettlement { obligation_journal: JournalId::HOUSE, ..part }, "obligation_journal"),
    ] {
        assert_eq!(cause.contradicts_itself(), Some(field));
    }
    let children = [(3, Address::repeat_byte(1)), (4, Address::repeat_byte(2))];
    let bound = AddressesBound::derived("acme", "00", &children);
    assert_eq!((bound.indexes.as_slice(), bound.contradicts_itself()), (&[(3, 4)][..], None));
    for (cause, field) in [
        (AddressesBound { count: 0, ..bound.clone() }, "count"),
        (AddressesBound { count: 3, ..bound.clone() }, "indexes"),
        (AddressesBound { wallet: None, ..bound.clone() }, "wallet"),
        (AddressesBound { origin: Origin::Imported, ..bound.clone() }, "wallet"),
        (AddressesBound { indexes: vec![(4, 3)], ..bound.clone() }, "indexes"),
        (AddressesBound { address: Some(Address::ZERO), ..bound }, "address"),
        (
            AddressesBound {
                address: Some(Address::ZERO),
                ..AddressesBound::imported("acme", &addresses(1))
            },
            "root",
        ),
    ] {
        assert_eq!(cause.contradicts_itself(), Some(field));
    }
    assert_eq!(Act { reason: "other".into(), ..act() }.contradicts_itself(), Some("hash"));
    assert_eq!(
        EpochAdded { body: String::new(), ..EpochAdded::of("a", 1, "{}") }.contradicts_itself(),
        Some("hash")
    );
    assert_eq!(
        PolicyAdded { body: String::new(), ..PolicyAdded::of("{}") }.contradicts_itself(),
        Some("hash")
    );
}
