//! Tables: a pool whose price of the moment was off, beside others, and how it went on.

use super::super::tests::{AT_MS, at, rate};
use super::super::{tests, *};
use crate::domain::oracle::reading::Reject;
use crate::domain::oracle::source::Reads;
use crate::domain::oracle::uniswap_v3;
use crate::domain::oracle::uniswap_v3::Pool;

/// Prices beside the pool may be 2 % apart, and its price of the moment 5 % from its mean.
fn policy(quorum: u32, sources: &[&str]) -> PairPolicy {
    let reads = |name: &str| match name.starts_with("pool") {
        false => Reads::Fixed { price: Rate::ONE },
        true => Reads::UniswapV3(Pool { history_s: 600, ..uniswap_v3::tests::pool(1) }),
    };
    let source = |name: &&str| SourceSpec {
        name: (*name).into(),
        venue: name.trim_end_matches('+').into(),
        via: None,
        guard: name.contains("guard"),
        reads: reads(name),
    };
    PairPolicy { sources: sources.iter().map(source).collect(), ..tests::policy(quorum, &[]) }
}

fn reading(price: &str, as_of_ms: i64) -> Reading {
    Reading { price: rate(price), as_of_ms, updated_ms: as_of_ms, detail: "mean".into() }
}

fn says(price: &str) -> Input {
    Input::Read(Some(B256::repeat_byte(1)), Ok(reading(price, AT_MS)))
}

/// A pool that was off, and how it went on.
fn off_at(mean: &str, as_of_ms: i64, after: Input) -> Input {
    let mean = Some(Box::new(reading(mean, as_of_ms)));
    let doubt = Reject { mean, ..Reject::new("spot_off", "off") };
    Input::Doubted(Some(B256::repeat_byte(1)), doubt, Box::new(after))
}

fn off(mean: &str, after: Input) -> Input {
    off_at(mean, AT_MS, after)
}

fn back(price: &str) -> Input {
    Input::Read(Some(B256::repeat_byte(9)), Ok(reading(price, AT_MS)))
}

fn no(reason: HoldReason) -> String {
    format!("held ({})", reason.as_str())
}

/// The price, `held (…)`, or `later`, and how many means count.
fn decided(policy: &PairPolicy, inputs: &[Input]) -> (String, usize) {
    let (body, outcome) = decide(policy, &at(), inputs, &[], &Past::default());
    let said = match outcome {
        Outcome::Accepted(price) => price.to_string(),
        Outcome::Hold(reason, why) => {
            assert_eq!(body.held, Some(why));
            no(reason)
        }
        Outcome::Later(why) => {
            assert_eq!((&body.held, body.price), (&Some(why), None));
            "later".to_owned()
        }
        Outcome::Wait(why) => panic!("waits: {why}"),
    };
    let counts = |part: &&Part| part.after_id.is_some() && part.rejected.is_none();
    (said, body.parts.iter().filter(counts).count())
}

#[test]
fn a_mean_makes_up_for_one_source_where_the_others_agree_and_the_pool_came_back() {
    let two = policy(2, &["feed", "pool"]);
    let held = no(HoldReason::NoPrice);
    let yet = || Input::NotYet("wait".into());
    let table: Vec<(Input, Input, &str, usize)> = vec![
        // It came back, and is within 2 % of the other one: halfway between the two.
        (says("1"), off("1.01", back("1.01")), "1.005", 1),
        (says("1"), off("1.02", back("1.07")), "1.01", 1),
        // What it was later does not move the price, which is of the payment's block.
        (says("1"), off("1.01", back("1.06")), "1.005", 1),
        // It stayed off, up or down.
        (says("1"), off("1", back("1.051")), &held, 0),
        (says("1"), off("1", back("0.949")), &held, 0),
        // Whatever it did later: its mean is not what the other one says.
        (says("1"), off("1.0201", back("1.0201")), &held, 0),
        (says("1"), off("0.8", back("0.8")), &held, 0),
        // It is not known yet; but what does not depend on it is not waited for.
        (says("1"), off("1.01", yet()), "later", 0),
        (says("1"), off("1.03", yet()), &held, 0),
        // It cannot be known any more.
        (says("1"), off("1", Input::Missing("gone".into())), &held, 0),
        (says("1"), off("1", Input::Read(None, Err(Reject::new("too_young", "old")))), &held, 0),
        // Never alone.
        (Input::Missing("silent".into()), off("1", back("1")), &held, 0),
        (Input::Missing("silent".into()), off("1", yet()), &held, 0),
        // Of another time.
        (says("1"), off_at("1", AT_MS - 60_001, back("1")), &held, 0),
    ];
    for (feed, pool, expected, counting) in table {
        let said = format!("{feed:?} {pool:?}");
        assert_eq!(decided(&two, &[feed, pool]), (expected.to_owned(), counting), "{said}");
    }
}

#[test]
fn two_pools_that_were_off_do_not_make_each_other_credible() {
    let held = no(HoldReason::NoPrice);
    let both = || [off("1", back("1")), off("1", back("1"))];
    assert_eq!(decided(&policy(1, &["pool"]), &both()[..1]), (held.clone(), 0), "alone");
    assert_eq!(decided(&policy(2, &["pool", "pool-2"]), &both()), (held.clone(), 0));
    let [one, two] = both();
    let three = ["feed", "pool", "pool-2"];
    // Two are missing to three, and one may make up; one is missing to two.
    let inputs = [says("1"), one, two];
    assert_eq!(decided(&policy(3, &three), &inputs), (held.clone(), 0));
    assert_eq!(decided(&policy(2, &three), &inputs), ("1".into(), 1));
    // The second one where the first one did not come back, and not before that is known.
    for (first, expected, counting) in
        [(back("2"), "1.005", 1), (Input::NotYet("wait".into()), "later", 0)]
    {
        let inputs = [says("1"), off("1", first), off("1.01", back("1.01"))];
        assert_eq!(decided(&policy(2, &three), &inputs), (expected.to_owned(), counting));
    }
    // One that was off, and a ticker that may be frozen.
    let mut undated = policy(2, &["pool", "ticker"]);
    undated.sources[1].reads = serde_json::from_value(serde_json::json!({
        "kind": "http", "url": "https://x", "price": "/p", "time": null, "time_as": "seconds",
        "invert": false, "max_age_s": 60, "headers": [],
    }))
    .unwrap();
    assert_eq!(decided(&undated, &[off("1", back("1")), says("1")]), (held, 0));
}

#[test]
fn a_mean_changes_no_price_that_there_is_without_it() {
    // It neither moves the median nor makes another one an outlier.
    let three = policy(2, &["a", "b", "pool"]);
    for after in [back("1"), back("9"), Input::NotYet("wait".into())] {
        let inputs = [says("1"), says("1.02"), off("1", after)];
        assert_eq!(decided(&three, &inputs), ("1.01".into(), 0));
    }
    // Nor does it settle a dispute, ...
    let inputs = [says("1"), says("1.03"), off("1", back("1"))];
    assert_eq!(decided(&three, &inputs), (no(HoldReason::PricesDisagree), 0));
    // ... count where it would be an outlier if it were like any other, or make one of another.
    let three = policy(3, &["a", "b", "pool"]);
    let held = (no(HoldReason::NoPrice), 0);
    assert_eq!(decided(&three, &[says("1"), says("1.001"), off("1.019", back("1.019"))]), held);
    assert_eq!(decided(&three, &[says("1"), says("1.019"), off("1", back("1"))]), held);
    let inputs = [says("1"), says("1.001"), off("1.002", back("1"))];
    assert_eq!(decided(&three, &inputs), ("1.001".into(), 1));
    // A venue counts once.
    assert_eq!(decided(&policy(2, &["pool", "pool+"]), &[says("1"), off("1", back("1"))]), held);
}

#[test]
fn a_guard_that_was_off_sees_to_the_price_by_its_mean_where_no_other_one_does() {
    let two = policy(1, &["feed", "pool-guard"]);
    let held = no(HoldReason::NoPrice);
    for (pool, expected, counting) in [
        (off("1.01", back("1.01")), "1", 1),
        (off("1.01", back("1.2")), held.as_str(), 0),
        (off("1.03", back("1.03")), held.as_str(), 0),
        (off("1.01", Input::NotYet("wait".into())), "later", 0),
    ] {
        assert_eq!(decided(&two, &[says("1"), pool]), (expected.to_owned(), counting));
    }
    let three = policy(1, &["feed", "guard", "pool-guard"]);
    let inputs = [says("1"), says("1.01"), off("1", Input::NotYet("wait".into()))];
    assert_eq!(decided(&three, &inputs), ("1".into(), 0), "the other guard has seen to it");
    // Not beside a source that was off itself.
    let three = policy(2, &["feed", "pool", "pool-guard"]);
    let inputs = [says("1"), off("1", back("1")), off("1", back("1"))];
    assert_eq!(decided(&three, &inputs), (held, 1));
}

#[test]
fn why_a_mean_does_not_count_is_said() {
    let two = policy(2, &["feed", "pool"]);
    let held =
        |pool| decide(&two, &at(), &[says("1"), pool], &[], &Past::default()).0.held.unwrap();
    let stayed = held(off("1", back("1.2")));
    assert!(stayed.contains("spot_off: off; it was not back in most of the 300 s"), "{stayed}");
    assert!(held(off("1.1", back("1"))).ends_with("is 1000 bp from 1; at most 200 are allowed"));
    let why = held(off("1", Input::NotYet("it is looked at again".into())));
    let expected = "pool: spot_off: off; its mean counts if it was back in most of the 300 s after the payment: it is looked at again";
    assert_eq!(why, expected);
    assert_eq!(
        held(off_at("1", AT_MS - 61_000, back("1"))).split_once("; ").unwrap().1,
        "pool: spot_off: off; spread: 61 s from the payment"
    );
    // Prices without such a part are written as before.
    let inputs = [says("1"), says("1")];
    let (body, _) = decide(&two, &at(), &inputs, &[], &Past::default());
    assert!(!body.text().contains("after_id"));
}

#[test]
fn a_source_without_an_answer_lacks_what_it_said_and_no_more() {
    let pair = tests::policy(2, &[]).pair;
    let none = "no sample within 1 s of the payment";
    let table = [
        (Input::Missing(none.into()), format!("missing: {none}")),
        (
            Input::Read(None, Err(Reject::new("unreadable", "http status 500"))),
            "unreadable: http status 500".to_owned(),
        ),
        // Said once.
        (
            Input::Read(None, Ok(reading("1", AT_MS - 65_000))),
            "spread: 65 s from the payment".to_owned(),
        ),
    ];
    for (input, lacks) in table {
        for (quorum, name, begins) in [
            (2, "exchange", format!("1 of 2 wanted sources answer for {pair}")),
            (1, "exchange-guard", format!("no guard of {pair} answers")),
        ] {
            let policy = policy(quorum, &["listed", name]);
            let inputs = [says("1"), input.clone()];
            let (body, _) = decide(&policy, &at(), &inputs, &[], &Past::default());
            assert_eq!(body.held, Some(format!("{begins}; {name}: {lacks}")));
            assert_eq!(body.parts[1].rejected.as_ref(), Some(&lacks));
        }
    }
}
