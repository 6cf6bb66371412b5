//! Epochs and what they give, in tables.

use proptest::prelude::*;

use super::*;

fn token() -> Token {
    Token {
        chain: ChainId(1),
        address: Address::repeat_byte(1),
        symbol: "USDC".into(),
        asset: "USDC".into(),
        decimals: 6,
    }
}

fn epoch(id: &str, starts_at_ms: i64, rate: &str, minimum: Option<&str>, dust: Dust) -> Epoch {
    let terms = Terms {
        valuation: Valuation::Par { credits_per_usd: rate.parse().unwrap() },
        minimum: minimum.map(|m| m.parse().unwrap()),
        dust,
    };
    Epoch {
        id: id.into(),
        starts_at_ms,
        phase: Phase::PreTge,
        accept: BTreeMap::from([("USDC".into(), terms)]),
    }
}

fn raw(n: u64) -> RawAmount {
    RawAmount(U256::from(n))
}

#[test]
fn the_blocks_time_picks_the_epoch() {
    let book = EpochBook::new(vec![
        epoch("b", 2000, "20", None, Dust::Ignore),
        epoch("a", 1000, "10", None, Dust::Ignore),
    ])
    .unwrap();
    let credits = |time| {
        price(raw(1_000_000), &token(), &book, time, &[])
            .map(|p| (p.epoch_id, p.credits.to_string()))
    };
    assert_eq!(credits(999), Err(NoPrice::Hold(HoldReason::NoEpoch)));
    assert_eq!(credits(1000), Ok(("a".into(), "10".into())));
    assert_eq!(credits(1999), Ok(("a".into(), "10".into())));
    assert_eq!(credits(2000), Ok(("b".into(), "20".into())));
}

/// Where each group that is released together ends.
fn groups(dust: &[(RawAmount, RawAmount)]) -> Vec<usize> {
    let mut sum = DustSum::default();
    let ends = dust.iter().zip(1..).filter(|((raw, least), _)| sum.add(*raw, *least));
    ends.map(|(_, end)| end).collect()
}

#[test]
fn dust_is_released_in_the_order_of_the_chain() {
    let table: &[(&[u64], &[usize])] = &[
        (&[], &[]),
        (&[4], &[]),
        (&[4, 5], &[]),
        (&[4, 6], &[2]),
        (&[4, 6, 9], &[2]),
        (&[4, 6, 9, 1], &[2, 4]),
        (&[10, 1], &[1]),
    ];
    for (amounts, expected) in table {
        let dust: Vec<_> = amounts.iter().map(|n| (raw(*n), raw(10))).collect();
        assert_eq!(groups(&dust), *expected, "{amounts:?}");
    }
    let endless = RawAmount(U256::MAX);
    assert_eq!(groups(&[(raw(1), endless), (endless, endless)]), [2]);
}

proptest! {
    /// Whoever looks after every payment releases the groups that who looks once releases.
    #[test]
    fn looking_often_changes_nothing(amounts in prop::collection::vec(1u64..10, 0..30)) {
        let dust: Vec<_> = amounts.iter().map(|n| (raw(*n), raw(10))).collect();
        let mut held = Vec::new();
        let (mut often, mut before) = (Vec::new(), 0);
        for one in &dust {
            held.push(*one);
            for end in groups(&held) {
                held.drain(..end);
                before += end;
                often.push(before);
            }
        }
        prop_assert_eq!(often, groups(&dust));
    }
}

#[test]
fn dust_that_does_not_accumulate_is_ignored() {
    let book = EpochBook::new(vec![epoch("a", 0, "10", Some("1"), Dust::Ignore)]).unwrap();
    let got = price(raw(999_999), &token(), &book, 0, &[]);
    assert_eq!(got, Err(NoPrice::Ignore(IgnoreReason::BelowMinimum)));
}

#[test]
fn too_much_is_held_and_nothing_is_ignored() {
    let book = EpochBook::new(vec![epoch("a", 0, "0.000001", None, Dust::Ignore)]).unwrap();
    let got = price(RawAmount(U256::MAX), &token(), &book, 0, &[]);
    assert_eq!(got, Err(NoPrice::Hold(HoldReason::Overflow)));
    let nothing = price(raw(1), &token(), &book, 0, &[]);
    assert_eq!(nothing, Err(NoPrice::Ignore(IgnoreReason::BelowMinimum)));
}

#[test]
fn epochs_may_not_collide() {
    let two = |a, b, at| {
        EpochBook::new(vec![
            epoch(a, 1, "1", None, Dust::Ignore),
            epoch(b, at, "1", None, Dust::Ignore),
        ])
    };
    assert!(two("a", "b", 2).is_ok());
    assert!(two("a", "a", 2).is_err());
    assert!(two("a", "b", 1).is_err());
}
