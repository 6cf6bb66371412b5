//! A price that is far from the market passes when its number is said twice; and what passes is what
//! was shown, whoever asks the store to write it down.

use topupd::domain::compared::{Base, Compared};
use topupd::domain::ids::DepositId;
use topupd::domain::money::Rate;
use topupd::planted::{Fault, plant};
use topupd::store::{Act, Resume, StoreError};
use topupd::tasks::by_hand::{From, preview};

use super::feeds::*;

/// A payment at 2 cents, and then one while the feeds say this.
async fn then(feeds: &[(alloy::primitives::Address, &str)]) -> (Fair, DepositId) {
    let mut fair = Fair::new(market_rules(1, fixed(), 2)).await;
    fair.mine(vec![ten(1)]).await;
    for (feed, price) in feeds {
        fair.say(*feed, price);
    }
    fair.mine(vec![ten(2)]).await;
    let id = fair.house.deposits().await[1].id;
    (fair, id)
}

async fn acts(fair: &Fair) -> i64 {
    fair.house.sql("SELECT COUNT(*) FROM operator_acts").await[0][0]
}

/// Refused because a number was not repeated, and nothing is written.
fn not_said_twice<T: std::fmt::Debug>(done: Result<T, StoreError>) -> Compared {
    match done {
        Err(StoreError::NotSaidTwice { compared, .. }) => *compared,
        other => panic!("{other:?}"),
    }
}

const PRICES: [(&str, bool); 6] = [
    ("0.0225", false),
    ("0.02249", true),
    ("0.0275", false),
    ("0.02751", true),
    ("0.0001", true),
    ("1000000", true),
];

#[tokio::test]
async fn a_price_by_hand_beyond_its_bound_is_said_twice_by_both() {
    // Its quotes are 2 and 3 cents, and it may be a tenth from the middle.
    let (fair, id) = then(&[(RTITY_FEEDS[1], "0.03")]).await;
    for (text, beyond) in PRICES {
        let price = rate(text);
        for repeated in [None, Some(price), Some(rate("0.5"))] {
            let passes = repeated.map_or(!beyond, |again| again == price);
            let before = acts(&fair).await;
            let once = Act::ProposePrice { pair: RTITY_USD.into(), price, repeated };
            let done = fair.house.act(id, &once, "alice").await;
            match passes {
                true => drop(done.unwrap()),
                false => {
                    let seen = not_said_twice(done);
                    assert_eq!((seen.price, seen.base), (price, Some(Base::Median(rate("0.025")))));
                    assert_eq!(acts(&fair).await, before);
                }
            }
            let proposal =
                fair.house.act(id, &price_by_hand(RTITY_USD, text), "alice").await.unwrap();
            let hash = fair.house.store.act_by_id(proposal).await.unwrap().unwrap().hash();
            let done = fair.house.act(id, &Act::Approve { proposal, hash, repeated }, "bob").await;
            assert_eq!(done.is_ok(), passes, "{text} {repeated:?}");
            if !passes {
                assert_eq!(not_said_twice(done).price, price);
            }
        }
    }
    // What does not wait any more is refused for that reason, whatever is repeated.
    let stale = Act::Approve { proposal: 1, hash: Default::default(), repeated: None };
    assert!(matches!(fair.house.act(id, &stale, "bob").await, Err(StoreError::Refused(_))));
    // Of a pair that is not configured, nothing can be compared.
    let act = fair.house.act(id, &price_by_hand("ETH/USD", "1"), "alice").await;
    assert!(act.unwrap_err().to_string().contains("ETH/USD is not configured"));
}

#[tokio::test]
async fn a_number_that_is_said_once_would_be_noticed() {
    let (fair, id) = then(&[(RTITY_FEEDS[1], "0.03")]).await;
    let price = rate("0.0001");
    let once = Act::ProposePrice { pair: RTITY_USD.into(), price, repeated: None };
    plant(Some(Fault::SaidOnce));
    let done = fair.house.act(id, &once, "alice").await;
    plant(None);
    assert!(done.is_ok());
}

async fn accepts(
    fair: &Fair,
    id: DepositId,
    price: &str,
    repeated: Option<Rate>,
) -> Result<i64, StoreError> {
    let accept = Act::AcceptMarket { pair: USDC_USD.into(), price: rate(price), repeated };
    fair.house.act(id, &accept, "ann").await
}

#[tokio::test]
async fn the_markets_price_below_its_floor_is_accepted_as_it_was_shown() {
    // A dollar before; it may be a fifth from that without being said twice.
    for (price, beyond) in [("0.93", false), ("0.8", false), ("0.79", true)] {
        let (mut fair, id) = then(&[(USDC_FEED, price)]).await;
        assert_eq!(fair.house.stages().await[1], "held (depegged)");
        let (store, rules) = (&fair.house.store, &fair.house.rules);
        let deposit = &fair.house.deposits().await[1];
        let policy = rules.oracle.pair(USDC_USD).unwrap();
        let given = store.compared_market(policy, &deposit.instant()).await.unwrap().unwrap();
        assert!(matches!(given.base, Some(Base::Last(one, _)) if one == rate("1")), "{given:?}");
        assert_eq!((given.price, given.is_beyond_the_bound()), (rate(price), beyond));
        let seen = preview(store, rules, deposit, Some(given)).await.unwrap();
        assert_eq!((seen.legs[0].1, seen.legs[0].0.applied), (From::This, rate(price)));
        let credits = seen.priced.unwrap().unwrap().credits;

        // Another price than the one that the sources say is not accepted.
        let other = accepts(&fair, id, "0.94", Some(rate("0.94"))).await.unwrap_err().to_string();
        assert!(other.contains("the market does not say 0.94 of USDC/USD"), "{other}");
        not_said_twice(accepts(&fair, id, price, Some(rate("0.94"))).await);
        if beyond {
            not_said_twice(accepts(&fair, id, price, None).await);
        }
        assert_eq!(acts(&fair).await, 0);
        accepts(&fair, id, price, beyond.then(|| rate(price))).await.unwrap();
        fair.rest_long().await;
        assert_eq!(fair.house.stages().await[1], "credited");
        assert_eq!(fair.house.deposits().await[1].credits, Some(credits));
        assert_eq!(fair.recomputed().await.differs, []);
        fair.house.verify().await;
    }
}

#[tokio::test]
async fn an_accepted_price_passes_and_no_other() {
    for (change, stage) in [
        (None, "credited"),
        (Some("UPDATE operator_acts SET price = '0.94'"), "held (depegged)"),
        // That price passes, and the act is not the one that was recorded.
        (Some("UPDATE operator_acts SET price = NULL"), "held (conflict)"),
    ] {
        let (mut fair, id) = then(&[(USDC_FEED, "0.93")]).await;
        accepts(&fair, id, "0.93", None).await.unwrap();
        let mut sql = fair.house.database.sql().await;
        sql.drop_guards().await;
        if let Some(change) = change {
            sql.execute(change).await.unwrap();
        }
        fair.rest_long().await;
        assert_eq!(fair.house.stages().await[1], stage);
        assert_eq!(fair.recomputed().await.differs, []);
        if stage == "credited" {
            sql.execute("UPDATE operator_acts SET price = '0.94'").await.unwrap();
            let differs = fair.recomputed().await.differs;
            assert!(differs[0].1.contains("no operator accepted"), "{differs:?}");
        }
    }
}

#[tokio::test]
async fn a_breaker_lets_the_price_pass_that_is_named() {
    let (mut fair, _) = then(&[(RTITY_FEEDS[0], "0.04"), (RTITY_FEEDS[1], "0.04")]).await;
    let open = fair.house.store.breaker(RTITY_USD).await.unwrap().unwrap();
    for repeated in [None, Some(rate("0.02")), Some(rate("0.4"))] {
        let seen = not_said_twice(fair.resume(RTITY_USD, Resume::Pass { repeated }).await);
        assert_eq!(
            (seen.price, seen.apart_bps(), seen.bound_bps),
            (rate("0.04"), Some(10_000), 1_000)
        );
        let (body, _) = seen.quotes.unwrap();
        let quotes: Vec<_> = body.survivors().map(|p| (p.source.as_str(), p.price)).collect();
        assert_eq!(quotes, [("feed-1", Some(rate("0.04"))), ("feed-2", Some(rate("0.04")))]);
        assert_eq!(fair.house.store.breaker(RTITY_USD).await.unwrap().as_ref(), Some(&open));
        assert_eq!(acts(&fair).await, 0);
    }
    let (chain, block) = (open.chain, open.block_hash);
    let reason = topupd::domain::deposit::HoldReason::Breaker;
    assert_eq!(fair.house.store.held_in(chain, block, reason, 9).await.unwrap().len(), 1);
    assert_eq!(fair.pass(RTITY_USD).await, open);
    fair.rest().await;
    assert_eq!(fair.house.stages().await, ["credited"; 2]);
    let again = fair.resume(RTITY_USD, Resume::Pass { repeated: Some(rate("0.04")) }).await;
    assert!(again.unwrap_err().to_string().contains("is not open"));
    // Step by step, none of them a jump: what is too far is the day.
    for (id, price) in (3..).zip(["0.0404", "0.044", "0.048", "0.0527"]) {
        fair.all_say(price);
        fair.mine(vec![ten(id)]).await;
    }
    let open = fair.house.store.breaker(RTITY_USD).await.unwrap().unwrap();
    assert!(open.reason.contains("the median of the day before"), "{open:?}");
    let seen = not_said_twice(fair.resume(RTITY_USD, Resume::Pass { repeated: None }).await);
    assert!(matches!(seen.base, Some(Base::Day(_))), "{seen:?}");
    assert!(seen.bound_bps == 3_000 && seen.apart_bps() > Some(3_000), "{seen:?}");
    // What is rejected passes nothing, and needs no number.
    fair.reject(RTITY_USD).await;
    fair.house.verify().await;
}
