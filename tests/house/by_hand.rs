//! What two people decide: prices by hand, what is shown of them before, and proposals that do not
//! count any more.

use alloy::primitives::B256;
use topupd::chain::scripted::ScriptedChain;
use topupd::domain::acts::Standing;
use topupd::domain::compared::Base;
use topupd::domain::conversion::Leg;
use topupd::domain::ids::DepositId;
use topupd::domain::oracle::policy::{Body, FORMULA_WITH_HANDS};
use topupd::domain::oracle::price_hash;
use topupd::planted::{Fault, plant};
use topupd::store::Act;
use topupd::tasks::by_hand::{From, Preview, preview};
use topupd::tasks::prices::recompute::{Recompute, Recomputed};

use super::feeds::*;
use super::support::*;
use crate::database::Cell;

/// Two feeds, of which both must answer alike; a payment at 2 cents, and one whose feeds say 2 and 3.
async fn in_doubt() -> Fair {
    let mut fair = Fair::new(market_rules(1, fixed(), 2)).await;
    fair.mine(vec![ten(1)]).await;
    fair.say(RTITY_FEEDS[1], "0.03");
    fair.mine(vec![ten(2)]).await;
    fair.all_say("0.02");
    assert_eq!(fair.house.stages().await, ["credited", "held (prices_disagree)"]);
    fair
}

impl Fair {
    async fn id(&self, position: usize) -> DepositId {
        self.house.deposits().await[position].id
    }

    async fn propose(&self, position: usize, price: &str) -> i64 {
        let act = price_by_hand(RTITY_USD, price);
        self.house.act(self.id(position).await, &act, "alice").await.unwrap()
    }

    async fn approve(&self, position: usize, proposal: i64) -> Result<i64, String> {
        let approve = approval(&self.house.store, proposal).await;
        self.house.act(self.id(position).await, &approve, "bob").await.map_err(|e| e.to_string())
    }

    /// Two people say what a payment was worth.
    async fn by_hand(&mut self, position: usize, price: &str) {
        let proposal = self.propose(position, price).await;
        self.approve(position, proposal).await.unwrap();
        self.rest().await;
        assert_eq!(self.house.stages().await[position], "credited");
    }

    async fn preview(&self, position: usize, price: &str) -> Preview {
        let deposit = &self.house.deposits().await[position];
        let (store, rules) = (&self.house.store, &self.house.rules);
        let policy = rules.oracle.pair(RTITY_USD).unwrap();
        let given = store.compared_by_hand(policy, &deposit.instant(), rate(price)).await.unwrap();
        preview(store, rules, deposit, Some(given)).await.unwrap()
    }

    /// Everything that was accepted, computed again.
    pub async fn recomputed(&self) -> Recomputed {
        let store = &self.house.store;
        let mut again = Recompute::<ScriptedChain>::new(store, None);
        for (_, hash) in store.price_hashes(0, i64::MAX, 0).await.unwrap() {
            again.price(hash).await.unwrap();
        }
        again.done
    }
}

#[tokio::test]
async fn later_payments_are_compared_with_the_market_and_not_with_a_price_by_hand() {
    // By hand; what the market says next; what becomes of the next payment. The last price of the
    // market is 0.02, and it may move by a tenth.
    for (by_hand, next, stage) in [
        ("0.0001", "0.0201", "credited"),
        ("0.03", "0.0201", "credited"),
        ("0.025", "0.025", "held (breaker)"),
    ] {
        let mut fair = in_doubt().await;
        fair.by_hand(1, by_hand).await;
        fair.all_say(next);
        fair.mine(vec![ten(3)]).await;
        assert_eq!(fair.house.stages().await[2], stage, "{by_hand} {next}");
        if stage != "credited" {
            // One that is let pass is a price of the market, and what is compared with it too.
            fair.pass(RTITY_USD).await;
            fair.all_say("0.0251");
            fair.mine(vec![ten(4)]).await;
            assert_eq!(fair.house.stages().await[2..], ["credited", "credited"]);
        }
        let again = fair.recomputed().await;
        assert!(again.prices >= 5 && again.differs.is_empty(), "{again:?}");
        let newest = fair.house.store.last_market_price(RTITY_USD, i64::MAX).await.unwrap();
        assert_ne!(newest.unwrap().accepted.price, rate(by_hand));
        fair.house.verify().await;
    }
}

#[tokio::test]
async fn a_history_with_prices_by_hand_would_be_noticed_and_an_old_one_is_computed_again() {
    let mut fair = in_doubt().await;
    fair.by_hand(1, "0.0215").await;
    plant(Some(Fault::HandsInHistory));
    let block = fair.mine(vec![ten(3)]).await;
    plant(None);
    assert_eq!(fair.house.stages().await[2], "credited");
    let price = fair.price(RTITY_USD, block.hash).await.unwrap();
    let mut body: Body = serde_json::from_str(&price.text).unwrap();
    assert_eq!(body.last.unwrap().price, rate("0.0215"));
    let [(what, _)] = &fair.recomputed().await.differs[..] else { panic!("one differs") };
    assert!(what.contains(RTITY_USD), "{what}");

    // As it was written when that was the rule.
    body.formula = FORMULA_WITH_HANDS.into();
    let (text, hash) = (body.text(), price_hash(&body.text()));
    let mut sql = fair.house.database.sql().await;
    sql.drop_guards().await;
    let cells = [Cell::Text(text), Cell::Bytes(hash.to_vec()), Cell::Int(price.accepted.seq)];
    sql.execute_with(
        "UPDATE market_prices SET body = $1, price_hash = $2 WHERE price_seq = $3",
        &cells,
    )
    .await
    .unwrap();
    let differs = fair.recomputed().await.differs;
    assert_eq!(differs, []);
}

#[tokio::test]
async fn what_a_price_by_hand_comes_to_is_said_before_and_is_what_is_credited() {
    let mut fair = Fair::new(market_rules(1, fixed(), 2)).await;
    fair.mine(vec![ten(1)]).await;
    fair.say(RTITY_FEEDS[1], "0.03");
    let block = fair.mine(vec![ten(2), ten(3)]).await;
    let seen = fair.preview(1, "0.0001").await;
    let by_hand = seen.given.clone().unwrap();
    // Halfway between its two quotes.
    assert_eq!(by_hand.base, Some(Base::Median(rate("0.025"))));
    assert_eq!((by_hand.apart_bps(), by_hand.bound_bps), (Some(9_960), 1_000));
    assert!(by_hand.is_beyond_the_bound());
    let (body, _) = by_hand.quotes.unwrap();
    let quotes: Vec<_> = body.parts.iter().map(|p| (p.source.as_str(), p.price)).collect();
    assert_eq!(quotes, [("feed-1", Some(rate("0.02"))), ("feed-2", Some(rate("0.03")))]);
    for (price, beyond) in [
        ("0.0225", false),
        ("0.02249", true),
        ("0.0275", false),
        ("0.02751", true),
        ("0.025", false),
    ] {
        let seen = fair.preview(1, price).await.given.unwrap();
        assert_eq!(seen.is_beyond_the_bound(), beyond, "{price}");
    }
    let from: Vec<From> = seen.legs.iter().map(|(_, from)| *from).collect();
    assert_eq!(from, [From::Market, From::This]);
    let said = seen.priced.unwrap().unwrap().credits;
    assert_eq!(said.to_string(), "5050000", "100,000 RTITY at 50.5");
    fair.by_hand(1, "0.0001").await;
    assert_eq!(fair.house.deposits().await[1].credits, Some(said));
    assert_eq!(fair.price(RTITY_USD, block.hash).await, None);
    // The other payment of the block has the same quotes, whatever was said of the first.
    assert_eq!(fair.house.stages().await[2], "held (prices_disagree)");
    let seen = fair.preview(2, "0.025").await.given.unwrap();
    assert_eq!(seen.base, Some(Base::Median(rate("0.025"))));
    fair.house.verify().await;
}

#[tokio::test]
async fn without_quotes_of_its_block_a_price_by_hand_is_compared_with_the_last_of_the_market() {
    let mut fair = Fair::before_tge(market_rules(1, fixed(), 2)).await;
    mine_empty(&fair.chain, 4);
    // Nobody ever said a price: there is nothing to compare with, so the number is said twice.
    fair.mine(vec![ten(1)]).await;
    fair.rest_long().await;
    assert_eq!(fair.house.stages().await, ["held (no_price)"]);
    let seen = fair.preview(0, "0.02").await;
    let by_hand = seen.given.unwrap();
    assert_eq!((by_hand.base, by_hand.apart_bps()), (None, None));
    assert!(by_hand.is_beyond_the_bound());
    assert_eq!((seen.missing, seen.priced), (vec![USDC_USD.to_owned()], None));
    // A price that is proposed is not the market's.
    let dollar = price_by_hand(USDC_USD, "1.5");
    let proposal = fair.house.act(fair.id(0).await, &dollar, "alice").await.unwrap();
    let seen = fair.preview(0, "0.02").await;
    let leg = |pair: &str, price, applied| Leg {
        pair: pair.into(),
        price: rate(price),
        applied: rate(applied),
        price_hash: B256::ZERO,
    };
    let expected = [
        (leg(USDC_USD, "1.5", "1"), From::Proposed(proposal)),
        (leg(RTITY_USD, "0.02", "0.02"), From::This),
    ];
    assert_eq!(seen.legs, expected);
    assert_eq!(seen.priced.unwrap().unwrap().credits.to_string(), "25250");
    fair.approve(0, proposal).await.unwrap();
    let seen = fair.preview(0, "0.02").await;
    assert!(matches!(seen.legs[0].1, From::Approved([1, 2])), "{seen:?}");
    fair.by_hand(0, "0.0001").await;

    fair.all_say("0.02");
    fair.say(USDC_FEED, "1");
    let paid = fair.mine(vec![ten(2)]).await;
    // Frozen for longer than a heartbeat.
    mine_empty(&fair.chain, BLOCKS_FRESH + 1);
    fair.say(USDC_FEED, "1");
    fair.mine(vec![ten(3)]).await;
    assert_eq!(fair.house.stages().await, ["credited", "credited", "held (no_price)"]);
    let seen = fair.preview(2, "0.0215").await.given.unwrap();
    assert_eq!(seen.base, Some(Base::Last(rate("0.02"), paid.time_ms)));
    assert_eq!((seen.apart_bps(), seen.is_beyond_the_bound()), (Some(750), false));

    // Quotes that an operator rejected are shown, and nothing is compared with them.
    fair.all_say("0.04");
    fair.mine(vec![ten(4)]).await;
    assert_eq!(fair.house.stages().await[3], "held (breaker)");
    let seen = fair.preview(3, "0.04").await.given.unwrap();
    assert_eq!((seen.base, seen.rejected), (Some(Base::Median(rate("0.04"))), false));
    fair.reject(RTITY_USD).await;
    let seen = fair.preview(3, "0.04").await.given.unwrap();
    assert_eq!((seen.base, seen.rejected), (Some(Base::Last(rate("0.02"), paid.time_ms)), true));
    assert!(seen.is_beyond_the_bound() && seen.quotes.is_some());
    fair.house.verify().await;
}

#[tokio::test]
async fn only_the_newest_proposal_is_approved_and_by_what_it_says() {
    let mut fair = in_doubt().await;
    let id = fair.id(1).await;
    let first = fair.propose(1, "2").await;
    let second = fair.propose(1, "0.02").await;
    let refused = fair.approve(1, first).await.unwrap_err();
    assert!(refused.contains("act 2 proposes something else in its place"), "{refused}");
    let hash = B256::repeat_byte(1);
    let other = Act::Approve { proposal: second, hash, repeated: None };
    let refused = fair.house.act(id, &other, "bob").await.unwrap_err().to_string();
    let real = fair.house.store.act_by_id(second).await.unwrap().unwrap().hash();
    assert!(refused.contains(&format!("its hash is {real}, and not {hash}")), "{refused}");
    // The hash of one proposal says nothing of another one.
    let Act::Approve { hash, .. } = approval(&fair.house.store, first).await else { panic!() };
    let crossed = Act::Approve { proposal: second, hash, repeated: None };
    assert!(fair.house.act(id, &crossed, "bob").await.is_err());

    let store = fair.house.store.clone();
    let withdraw = async |act| {
        let done = store.withdraw(act, ("carol", "one zero too many")).await;
        done.map_err(|e| e.to_string())
    };
    assert!(withdraw(99).await.unwrap_err().contains("there is no proposal 99"));
    assert!(withdraw(first).await.unwrap_err().contains("does not count any more"));
    let withdrawn = withdraw(second).await.unwrap();
    for refused in [withdraw(second).await, fair.approve(1, second).await] {
        let refused = refused.unwrap_err();
        assert!(refused.contains(&format!("was withdrawn, by act {withdrawn}")), "{refused}");
    }
    // The older one does not come back by that.
    assert!(fair.approve(1, first).await.unwrap_err().contains("in its place"));
    assert!(withdraw(withdrawn).await.unwrap_err().contains("is no proposal: it is withdraw"));
    fair.rest_long().await;
    assert_eq!(fair.house.stages().await[1], "held (prices_disagree)");

    // Another pair is another subject.
    let third = fair.propose(1, "0.021").await;
    let dollar = price_by_hand(USDC_USD, "0.99");
    let fourth = fair.house.act(id, &dollar, "alice").await.unwrap();
    let approved = fair.approve(1, third).await.unwrap();
    for refused in [fair.approve(1, third).await, withdraw(third).await] {
        let refused = refused.unwrap_err();
        assert!(refused.contains(&format!("approved already, by act {approved}")), "{refused}");
    }
    let acts = store.acts_of(id).await.unwrap();
    let standing: Vec<_> = acts.iter().filter_map(|act| act.standing(&acts)).collect();
    use Standing::{Approved, Superseded, Waits, Withdrawn};
    let expected = [Superseded(second), Withdrawn(withdrawn), Approved(approved), Waits];
    assert_eq!(standing, expected);
    let named = acts.iter().find(|act| act.id == approved).unwrap().approved_hash;
    assert_eq!(named, Some(acts.iter().find(|act| act.id == third).unwrap().hash()));
    fair.rest().await;
    assert_eq!(fair.house.stages().await[1], "credited");
    assert_eq!(fair.recomputed().await.differs, []);
    let late = fair.approve(1, fourth).await.unwrap_err();
    assert!(late.contains("only one on hold"), "{late}");

    // Acts stay as they were written; one that was changed is not what was approved.
    let mut sql = fair.house.database.sql().await;
    for change in ["UPDATE operator_acts SET price = '2'", "DELETE FROM operator_acts"] {
        assert!(sql.execute(change).await.is_err());
    }
    sql.drop_guards().await;
    let tampered = format!("UPDATE operator_acts SET reason = 'other' WHERE act_id = {third}");
    sql.execute(&tampered).await.unwrap();
    let differs = fair.recomputed().await.differs;
    assert!(differs[0].1.contains("is not what the two operators said"), "{differs:?}");
}

#[tokio::test]
async fn a_superseded_proposal_that_is_approved_would_be_noticed() {
    let fair = in_doubt().await;
    let first = fair.propose(1, "2").await;
    fair.propose(1, "0.02").await;
    plant(Some(Fault::StaleProposal));
    let approved = fair.approve(1, first).await;
    plant(None);
    assert!(approved.is_ok());
}

#[tokio::test]
async fn of_those_who_decide_at_once_one_comes_first() {
    for _ in 0..5 {
        let fair = in_doubt().await;
        let proposal = fair.propose(1, "0.02").await;
        let store = &fair.house.store;
        let withdraw =
            async { store.withdraw(proposal, ("carol", "why")).await.map_err(|e| e.to_string()) };
        let newer = price_by_hand(RTITY_USD, "0.021");
        let id = fair.id(1).await;
        let (one, two, gone, again) = tokio::join!(
            fair.approve(1, proposal),
            fair.approve(1, proposal),
            withdraw,
            fair.house.act(id, &newer, "alice"),
        );
        assert!(again.is_ok());
        let done = [one, two, gone];
        assert!(done.iter().filter(|d| d.is_ok()).count() <= 1, "{done:?}");
        let acts = store.acts_of(id).await.unwrap();
        let standing = acts[0].standing(&acts).unwrap();
        assert_eq!(done.iter().any(Result::is_ok), !matches!(standing, Standing::Superseded(_)));
    }
}

#[tokio::test]
async fn a_release_is_approved_by_what_it_says_too() {
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut house = House::new(rules(1)).await;
    let log = topupd::chain::scripted::ScriptedLog::transfer(USDC, address(1), address(0), 1_000);
    chain.mine(vec![tx(1, vec![log])]);
    mine_empty(&chain, 2);
    house.quiesce(&chain).await;
    assert_eq!(house.stages().await, ["held (internal_transfer)"]);
    let id = house.deposits().await[0].id;
    let act = async |act: &Act, who: &str| house.act(id, act, who).await.map_err(|e| e.to_string());
    let first = act(&Act::ProposeRelease, "alice").await.unwrap();
    let second = act(&Act::ProposeRelease, "alice").await.unwrap();
    let stale = approval(&house.store, first).await;
    assert!(act(&stale, "bob").await.unwrap_err().contains("in its place"));
    let blind = Act::Approve { proposal: second, hash: B256::ZERO, repeated: None };
    assert!(act(&blind, "bob").await.unwrap_err().contains("is not what was named"));
    house.store.withdraw(second, ("alice", "not yet")).await.unwrap();
    let gone = approval(&house.store, second).await;
    assert!(act(&gone, "bob").await.unwrap_err().contains("was withdrawn"));
    let third = act(&Act::ProposeRelease, "alice").await.unwrap();
    act(&approval(&house.store, third).await, "bob").await.unwrap();
}
