//! Tables: what sources say, and what is decided of it.

use alloy::primitives::B256;

use super::*;
use crate::domain::ids::{BlockRef, ChainId};
use crate::domain::oracle::source::Reads;

pub(super) const AT_MS: i64 = 1_700_000_000_000;

pub(super) fn rate(text: &str) -> Rate {
    text.parse().unwrap()
}

/// Sources by name and venue.
pub(super) fn policy(quorum: u32, sources: &[(&str, &str)]) -> PairPolicy {
    PairPolicy {
        pair: "RTITY/USD".into(),
        hold_below: None,
        quorum,
        outlier_floor_bps: 100,
        dispersion_max_bps: 200,
        spread_max_s: 60,
        jump_max_bps: 1_000,
        jump_window_s: 3_600,
        day_max_bps: 3_000,
        sources: sources
            .iter()
            .map(|(name, venue)| SourceSpec {
                name: (*name).into(),
                venue: (*venue).into(),
                via: None,
                guard: false,
                reads: Reads::Fixed { price: Rate::ONE },
            })
            .collect(),
    }
}

/// So many sources, each a venue of its own.
fn of(quorum: u32, sources: usize) -> PairPolicy {
    policy(quorum, &[("a", "a"), ("b", "b"), ("c", "c"), ("d", "d"), ("e", "e")][..sources])
}

pub(super) fn at() -> PriceInstant {
    let block = BlockRef { number: 7, hash: B256::repeat_byte(7) };
    PriceInstant { chain: ChainId(1), block, time_ms: AT_MS }
}

fn says_at(price: &str, as_of_ms: i64) -> Input {
    let price = rate(price);
    let detail = String::new();
    Input::Read(None, Ok(Reading { price, as_of_ms, updated_ms: as_of_ms, detail }))
}

fn say(prices: &[&str]) -> Vec<Input> {
    prices.iter().map(|price| says_at(price, AT_MS)).collect()
}

fn rejects() -> Input {
    Input::Read(None, Err(Reject::new("stale", "old")))
}

/// The price or the reason, and the code by which each source was rejected.
fn decided(
    policy: &PairPolicy,
    inputs: &[Input],
    via: &[Via],
    past: &Past,
) -> (Result<String, HoldReason>, Vec<String>) {
    let (body, outcome) = decide(policy, &at(), inputs, via, past);
    let code = |part: &Part| {
        let why = part.rejected.as_deref().unwrap_or("");
        why.split(':').next().unwrap_or("").to_owned()
    };
    let codes = body.parts.iter().map(code).collect();
    match outcome {
        Outcome::Accepted(price) => {
            assert_eq!((body.price, &body.held), (Some(price), &None));
            (Ok(price.to_string()), codes)
        }
        Outcome::Hold(reason, why) => {
            assert_eq!((body.price, &body.held), (None, &Some(why)));
            (Err(reason), codes)
        }
        Outcome::Wait(why) | Outcome::Later(why) => panic!("waits: {why}"),
    }
}

fn price_of(policy: &PairPolicy, inputs: &[Input]) -> Result<String, HoldReason> {
    decided(policy, inputs, &[], &Past::default()).0
}

fn past(day: &[(i64, &str)]) -> Past {
    let day = (1..)
        .zip(day)
        .map(|(seq, (ago_s, price))| Accepted {
            seq,
            hash: B256::repeat_byte(1),
            instant_ms: AT_MS - ago_s * 1_000,
            price: rate(price),
        })
        .collect();
    Past { day, newest_seq: 9, ..Past::default() }
}

#[test]
fn the_median_and_what_is_an_outlier() {
    let no = || "outlier".to_owned();
    let ok = String::new;
    // quorum, prices, price or reason, rejected
    type Row<'a> = (u32, &'a [&'a str], Result<&'a str, HoldReason>, Vec<String>);
    let table: &[Row<'_>] = &[
        (1, &["2"], Ok("2"), vec![ok()]),
        // Halfway between two, rounded down to 18 digits.
        (2, &["1", "1.001"], Ok("1.0005"), vec![ok(), ok()]),
        (
            2,
            &["1.00000000000000001", "1.00000000000000002"],
            Ok("1.00000000000000001"),
            vec![ok(), ok()],
        ),
        (3, &["2.01", "2", "1.99"], Ok("2"), vec![ok(), ok(), ok()]),
        (4, &["2.01", "2", "1.99", "2.002"], Ok("2.001"), vec![ok(), ok(), ok(), ok()]),
        // A MAD of zero: within the floor of 1 % nothing is an outlier, beyond it everything.
        (3, &["1", "1", "1.01"], Ok("1"), vec![ok(), ok(), ok()]),
        (2, &["1", "1", "1.0101"], Ok("1"), vec![ok(), ok(), no()]),
        (3, &["1", "1", "1.0101"], Err(HoldReason::NoPrice), vec![ok(), ok(), no()]),
        (2, &["1", "1", "1000"], Ok("1"), vec![ok(), ok(), no()]),
        (2, &["1", "0.001", "1"], Ok("1"), vec![ok(), no(), ok()]),
        // A MAD of 0.5 % times 4.4478 is 2.2239 %: nearer is none, though beyond the floor.
        (3, &["0.995", "1", "1.0222"], Err(HoldReason::PricesDisagree), vec![ok(), ok(), ok()]),
        (2, &["0.995", "1", "1.0223"], Ok("0.9975"), vec![ok(), ok(), no()]),
        // Of two that disagree nobody knows which is right.
        (2, &["1", "1.02"], Ok("1.01"), vec![ok(), ok()]),
        (2, &["1", "1.0203"], Err(HoldReason::PricesDisagree), vec![ok(), ok()]),
        (1, &["1", "1000"], Err(HoldReason::PricesDisagree), vec![ok(), ok()]),
        (2, &["1", "1", "1000", "1000"], Err(HoldReason::PricesDisagree), vec![ok(); 4]),
        // Five, two of them far off to one side.
        (3, &["1", "1.001", "0.999", "9", "8"], Ok("1"), vec![ok(), ok(), ok(), no(), no()]),
        (
            4,
            &["1", "1.001", "0.999", "9", "8"],
            Err(HoldReason::NoPrice),
            vec![ok(), ok(), ok(), no(), no()],
        ),
    ];
    for (quorum, prices, price, rejected) in table {
        let got = decided(&of(*quorum, prices.len()), &say(prices), &[], &Past::default());
        assert_eq!(got, (price.map(str::to_owned), rejected.clone()), "{quorum} of {prices:?}");
    }
}

#[test]
fn numbers_that_are_too_far_apart_to_subtract_disagree() {
    let apart = ["0.0213456789012345678", "5000000000000000000000000000"];
    assert_eq!(price_of(&of(2, 2), &say(&apart)), Err(HoldReason::PricesDisagree));
    let near = ["0.0213456789012345678", "0.0213456789012345679", apart[1]];
    assert_eq!(price_of(&of(2, 3), &say(&near)).as_deref(), Ok("0.0213456789012345678"));
}

#[test]
fn survivors_are_counted_and_not_sources() {
    let silent = || Input::Missing("silent".into());
    let table = [
        (2, vec![says_at("1", AT_MS), says_at("1", AT_MS), silent()], true),
        (2, vec![says_at("1", AT_MS), rejects(), silent()], false),
        (1, vec![rejects(), silent(), says_at("1", AT_MS)], true),
        (1, vec![rejects(), silent(), rejects()], false),
    ];
    for (quorum, inputs, enough) in table {
        let expected = if enough { Ok("1".to_owned()) } else { Err(HoldReason::NoPrice) };
        assert_eq!(price_of(&of(quorum, 3), &inputs), expected, "{quorum} of {inputs:?}");
    }
    let (body, _) = decide(&of(3, 2), &at(), &[rejects(), silent()], &[], &Past::default());
    let why = "0 of 3 wanted sources answer for RTITY/USD; a: stale: old; b: missing: silent";
    assert_eq!(body.held.as_deref(), Some(why));
}

#[test]
fn a_guard_holds_a_price_and_never_moves_it() {
    let ok = String::new;
    let mut policy = of(2, 4);
    policy.sources[2].guard = true;
    let no = |reason| Err(reason);
    type Row = (Vec<Input>, Result<&'static str, HoldReason>, [&'static str; 4]);
    let gone = || Input::Missing("silent".into());
    let old = |price| says_at(price, AT_MS - 60_001);
    let one = |third, fourth| {
        let first = says_at("1", AT_MS);
        vec![first.clone(), first, third, fourth]
    };
    let now = |price| says_at(price, AT_MS);
    let table: Vec<Row> = vec![
        // Within 2 %, whatever it says: the others alone make the price.
        (one(now("1.02"), gone()), Ok("1"), ["", "", "", "missing"]),
        (one(now("0.98"), now("1.002")), Ok("1"), ["", "", "", ""]),
        (one(now("1.0201"), gone()), no(HoldReason::PricesDisagree), ["", "", "", "missing"]),
        (one(now("0.5"), now("1")), no(HoldReason::PricesDisagree), ["", "", "", ""]),
        // A guard that can be silenced guards nothing.
        (one(gone(), now("1")), no(HoldReason::NoPrice), ["", "", "missing", ""]),
        (one(old("1"), now("1")), no(HoldReason::NoPrice), ["", "", "spread", ""]),
        (one(rejects(), now("1")), no(HoldReason::NoPrice), ["", "", "stale", ""]),
        // It is not one of two.
        (
            vec![now("1"), gone(), now("1"), gone()],
            no(HoldReason::NoPrice),
            ["", "missing", "", "missing"],
        ),
    ];
    for (inputs, price, rejected) in table {
        let got = decided(&policy, &inputs, &[], &Past::default());
        let rejected: Vec<String> = rejected.map(str::to_owned).to_vec();
        assert_eq!(got, (price.map(str::to_owned), rejected), "{inputs:?}");
    }
    // One of two guards is enough, and each may hold.
    policy.sources[3].guard = true;
    let got = |third, fourth| price_of(&policy, &one(third, fourth));
    assert_eq!(got(gone(), now("1.01")), Ok("1".into()));
    assert_eq!(got(now("1"), now("1.03")), Err(HoldReason::PricesDisagree));
    assert_eq!(got(gone(), gone()), Err(HoldReason::NoPrice));
    // Its venue may be that of a source, and it need not say of when it is.
    policy.sources[2].venue = "a".into();
    let got = decided(&policy, &one(now("1"), now("1")), &[], &Past::default());
    assert_eq!(got, (Ok("1".into()), vec![ok(); 4]));
}

#[test]
fn policies_and_prices_without_a_guard_are_written_as_before() {
    let policy = of(2, 2);
    let (body, _) = decide(&policy, &at(), &say(&["1", "1"]), &[], &Past::default());
    assert!(!policy.body().contains("guard") && !body.text().contains("guard"));
    let mut guarded = policy.clone();
    guarded.sources[1].guard = true;
    assert_ne!(
        crate::domain::oracle::policy::policy_hash(&policy.body()),
        crate::domain::oracle::policy::policy_hash(&guarded.body())
    );
}

#[test]
fn a_quorum_in_which_one_ticker_moves_the_price_is_said() {
    let ticker = serde_json::json!({
        "kind": "http", "url": "https://x", "price": "/p", "time_as": "seconds", "invert": false,
        "max_age_s": 60, "headers": [],
    });
    let with = |quorum, guard, time: Option<&str>| {
        let mut policy = of(quorum, 3);
        let mut ticker = ticker.clone();
        ticker["time"] = time.into();
        policy.sources[2].reads = serde_json::from_value(ticker).unwrap();
        policy.sources[2].guard = guard;
        policy.warnings()
    };
    let first = |quorum| with(quorum, false, None).remove(0);
    assert!(first(1).contains("a quorum of 1, which may be a ticker: c alone"));
    assert!(first(2).contains("a quorum of 2 of which one is a ticker"));
    let mut two = of(2, 3);
    for source in &mut two.sources[1..] {
        source.reads = serde_json::from_value(ticker.clone()).unwrap();
    }
    assert!(two.warnings()[0].contains("a quorum of 2 of which two may be tickers (b, c)"));
    // Two that say of when they are make a quorum of two, and not one of three.
    assert!(first(3).contains("c is needed for the quorum of 3, and does not say of when"));
    assert_eq!(with(2, false, None).len(), 1);
    for fine in [with(3, false, Some("/t")), with(2, true, None), of(2, 3).warnings()] {
        assert!(fine.is_empty(), "{fine:?}");
    }
}

#[test]
fn one_venue_counts_once() {
    let twice = policy(2, &[("a", "x"), ("b", "x"), ("c", "y")]);
    let got = decided(&twice, &say(&["1", "1.001", "1.002"]), &[], &Past::default());
    let rejected = ["", "same_venue", ""].map(str::to_owned).to_vec();
    assert_eq!(got, (Ok("1.001".into()), rejected));
    // The first of them that says anything.
    let inputs = [rejects(), says_at("1", AT_MS), says_at("1", AT_MS)];
    assert_eq!(price_of(&twice, &inputs).as_deref(), Ok("1"));
    let all = policy(2, &[("a", "x"), ("b", "x"), ("c", "x")]);
    assert_eq!(price_of(&all, &say(&["1", "1", "1"])), Err(HoldReason::NoPrice));
}

#[test]
fn answers_of_other_times_do_not_count() {
    let sixty = AT_MS - 60_000;
    let table = [
        (sixty, "", Ok("1")),
        (sixty - 1, "spread", Err(HoldReason::NoPrice)),
        (AT_MS + 60_000, "", Ok("1")),
    ];
    for (as_of_ms, code, expected) in table {
        let inputs = [says_at("1", AT_MS), says_at("1", as_of_ms)];
        let (got, rejected) = decided(&of(2, 2), &inputs, &[], &Past::default());
        assert_eq!((got, rejected[1].as_str()), (expected.map(str::to_owned), code));
    }
    let reading = |updated_ms| Reading {
        price: Rate::ONE,
        as_of_ms: AT_MS,
        updated_ms,
        detail: String::new(),
    };
    for (ahead_ms, code) in [(60_000, ""), (60_001, "future")] {
        let input = Input::Read(None, Ok(reading(AT_MS + ahead_ms)));
        let (_, rejected) = decided(&of(1, 1), &[input], &[], &Past::default());
        assert_eq!(rejected, [code]);
    }
}

#[test]
fn a_price_in_another_token_is_multiplied() {
    let mut policy = of(1, 2);
    policy.sources[0].via = Some("WETH/USD".into());
    let via = Via { pair: "WETH/USD".into(), price: rate("3000.3"), price_hash: B256::ZERO };
    let inputs = say(&["0.00001", "0.03"]);
    let got = |via: &[Via]| decided(&policy, &inputs, via, &Past::default());
    // 0.030003 and 0.03
    assert_eq!(got(std::slice::from_ref(&via)), (Ok("0.0300015".into()), vec![String::new(); 2]));
    assert_eq!(got(&[]), (Ok("0.03".into()), vec!["missing".into(), String::new()]));
    let other = Via { pair: "WBTC/USD".into(), ..via.clone() };
    assert_eq!(got(&[other]).1[0], "missing");
    let tiny = Via { price: rate("0.0000000000000000000000000001"), ..via };
    assert_eq!(got(&[tiny]).1[0], "unreadable", "rounds down to zero");
    assert_eq!(policy.needs().into_iter().collect::<Vec<_>>(), ["WETH/USD"]);
}

#[test]
fn what_may_still_answer_is_waited_for() {
    let policy = of(1, 2);
    let inputs = [says_at("1", AT_MS), Input::NotYet("slow".into())];
    let (body, outcome) = decide(&policy, &at(), &inputs, &[], &past(&[(1, "9")]));
    assert_eq!(outcome, Outcome::Wait("b: slow".into()));
    assert_eq!((body.price, body.median, body.held.as_deref()), (None, None, Some("b: slow")));
}

#[test]
fn a_jump_from_the_last_price_or_the_days_median_opens_the_breaker() {
    let ok = Ok("1".to_owned());
    let no = Err(HoldReason::Breaker);
    // Accepted before (so many seconds ago), and what is decided of a price of 1.
    type Row<'a> = (&'a [(i64, &'a str)], &'a Result<String, HoldReason>);
    let table: &[Row<'_>] = &[
        (&[], &ok),
        (&[(10, "0.95")], &ok),
        (&[(10, "0.90")], &no), // 11.1 %
        (&[(10, "1.1")], &ok),  // 9.1 %
        (&[(10, "1.12")], &no),
        (&[(3_600, "0.90")], &no),
        (&[(3_601, "0.90")], &ok), // too old for a jump
        (&[(3_601, "0.70")], &no), // but 43 % from the day
        // The last one decides the jump, and the median the day.
        (&[(5_000, "0.5"), (4_000, "0.5"), (10, "1")], &no),
        (&[(5_000, "0.5"), (4_000, "1"), (10, "1")], &ok),
        // Of an even number, halfway: 0.77 is 29.9 % away, 0.765 is 30.7 %.
        (&[(5_000, "0.54"), (10, "1")], &ok),
        (&[(5_000, "0.53"), (10, "1")], &no),
    ];
    for (day, expected) in table {
        let (got, _) = decided(&of(1, 1), &say(&["1"]), &[], &past(day));
        assert_eq!(got, **expected, "{day:?}");
    }
    let (body, _) = decide(&of(1, 1), &at(), &say(&["1"]), &[], &past(&[(9, "0.98"), (8, "0.99")]));
    assert_eq!((body.after_seq, body.day_median), (9, Some(rate("0.985"))));
    assert_eq!(body.last.map(|a| (a.seq, a.price)), Some((2, rate("0.99"))));
}

#[test]
fn an_open_latch_holds_everything_and_says_why() {
    let past = Past { latched: Some("it moved".into()), ..past(&[(10, "1")]) };
    let (body, outcome) = decide(&of(1, 1), &at(), &say(&["1"]), &[], &past);
    let why = "the breaker is open: it moved".to_owned();
    assert_eq!(outcome, Outcome::Hold(HoldReason::Breaker, why));
    assert_eq!((body.median, body.price), (Some(rate("1")), None));
}

#[test]
fn what_an_operator_let_pass_is_what_later_prices_are_compared_with() {
    let passed = |ago_s: i64, price: &str| {
        Some(Passed { instant_ms: AT_MS - ago_s * 1_000, price: rate(price) })
    };
    let ok = Ok("1".to_owned());
    let no = Err(HoldReason::Breaker);
    let before: &[(i64, &str)] = &[(100, "0.5"), (90, "0.5")];
    type Row<'a> = (Option<Passed>, &'a [(i64, &'a str)], &'a Result<String, HoldReason>);
    let table: &[Row<'_>] = &[
        (None, before, &no),
        (passed(80, "1"), before, &ok),
        (passed(0, "1"), before, &ok),
        // Only what came since counts, and that counts.
        (passed(80, "1"), &[(90, "0.5"), (10, "0.8")], &no),
        (passed(80, "1"), &[(90, "0.5"), (10, "0.95")], &ok),
        // What was accepted of that very instant is not since: it may be what it jumped from.
        (passed(80, "1"), &[(90, "0.5"), (80, "0.5")], &ok),
        // Itself it counts as well: as the last price, and in the median.
        (passed(80, "0.8"), before, &no),
        (passed(3_601, "0.8"), before, &no), // these came since
        (passed(-1, "1"), before, &no),      // of later
        (passed(86_400, "1"), &[(90_000, "0.5")], &ok),
        (passed(86_401, "0.5"), &[(10, "1")], &ok), // of the day before the day
    ];
    for (passed, day, expected) in table {
        let past = Past { passed: *passed, ..past(day) };
        let (got, _) = decided(&of(1, 1), &say(&["1"]), &[], &past);
        assert_eq!(got, **expected, "{passed:?} {day:?}");
    }
}

#[test]
fn a_stablecoin_below_its_floor_is_held_until_somebody_takes_it_at_that() {
    let mut policy = of(1, 1);
    policy.hold_below = Some(rate("0.97"));
    let depegged = Err(HoldReason::Depegged);
    let ok = |price: &str| Ok(price.to_owned());
    let table = [
        ("0.969", None, depegged.clone()),
        ("0.97", None, ok("0.97")),
        ("1.01", None, ok("1.01")),
        ("0.969", Some(5), ok("0.969")),
        ("0.98", Some(5), ok("0.98")),
    ];
    for (price, waived_by, expected) in table {
        let past = Past { waived_by, ..Past::default() };
        let (body, _) = decide(&policy, &at(), &say(&[price]), &[], &past);
        assert_eq!(decided(&policy, &say(&[price]), &[], &past).0, expected, "{price}");
        // Only where it was needed.
        assert_eq!(body.waived_by, waived_by.filter(|_| price == "0.969"));
    }
    // What it counts for is one at most. The floor comes before the breaker, and who takes the
    // market's price takes it whatever it was before.
    assert_eq!(policy.applied(rate("1.01")), Rate::ONE);
    assert_eq!(policy.applied(rate("0.969")), rate("0.969"));
    assert_eq!(of(1, 1).applied(rate("1.01")), rate("1.01"));
    let past = Past { waived_by: Some(5), ..past(&[(10, "1")]) };
    assert_eq!(decided(&policy, &say(&["0.8"]), &[], &past).0, ok("0.8"));
    let past = Past { waived_by: None, latched: Some("open".into()), ..past };
    assert_eq!(decided(&policy, &say(&["0.8"]), &[], &past).0, depegged);
}
