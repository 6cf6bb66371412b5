//! A correction of a credit, as one person proposes it and another one approves it: what is undone, what
//! the payment is worth instead, and the cause of the record that their two acts give.
//!
//! What was paid does not change. What changes is the price, by hand, or the epoch whose rule counts; the
//! arithmetic is that of every other payment. Nothing here knows whether the credit still stands: that is
//! decided by [`super::account`], when it is written.

use alloy::primitives::{Address, B256};
use serde::{Deserialize, Serialize};

use super::acts::ActRow;
use super::conversion::{Leg, in_usd};
use super::ids::ChainId;
use super::journal::{DepositCorrection, RecordId, Valued};
use super::money::{Nanocredits, Rate};
use super::pricing::{Epoch, Price, Token, price_in};
use super::seal::Canonical;
use crate::domain::act_kind::ActKind;
use crate::domain::terms::NoPrice;

/// What a correction undoes and gives instead. Part of the act that proposes it, so that whoever approves
/// that act by its hash approves just this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProposedCorrection {
    /// Place of the record whose credit is corrected, in the journal of the deposit's namespace.
    pub corrects_seq: i64,
    /// Its id.
    pub corrects_record_id: RecordId,
    /// Its seal.
    pub corrects_seal: B256,
    /// What it gave, in nanocredits.
    pub credited_nano: Nanocredits,
    /// What shows that it was wrong: a text, such as an address of a page or of a ticket.
    pub evidence: String,
    /// What the payment is worth instead.
    pub again: Valued,
}

impl ProposedCorrection {
    /// The text that is stored and hashed: JSON, its fields in declared order.
    pub fn to_text(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }

    /// Reads the text back. One that says the same in other words is not taken.
    pub fn from_text(text: &str) -> Option<Self> {
        let read: Self = serde_json::from_str(text).ok()?;
        (read.to_text().ok()? == text).then_some(read)
    }

    /// What an act proposes; `None` for one that proposes no correction.
    pub fn of(act: &ActRow) -> Option<Self> {
        Self::from_text(act.correction.as_deref()?)
    }

    /// The cause that a proposal of this and its approval give; `None` where these acts are not those of
    /// two people about the same.
    pub fn cause(
        self,
        namespace: String,
        proposal: &ActRow,
        approval: &ActRow,
    ) -> Option<DepositCorrection> {
        let names = approval.approves == Some(proposal.id)
            && approval.approved_hash == Some(proposal.hash())
            && (approval.kind, proposal.kind)
                == (ActKind::ApproveCorrection, ActKind::ProposeCorrection)
            && approval.deposit == proposal.deposit;
        names.then_some(())?;
        Some(DepositCorrection {
            namespace,
            deposit: proposal.deposit?,
            corrects_seq: self.corrects_seq,
            corrects_record_id: self.corrects_record_id,
            corrects_seal: self.corrects_seal,
            credited_nano: self.credited_nano,
            reason: proposal.reason.clone(),
            evidence: self.evidence,
            proposer: proposal.operator.clone(),
            approver: approval.operator.clone(),
            act: approval.id,
            act_hash: approval.hash(),
            again: self.again,
        })
    }
}

/// The hash that stands for a price by hand in a correction, where an accepted price has its own: nobody
/// accepted this one for any other payment.
pub fn by_hand_hash(corrects: RecordId, pair: &str, price: Rate) -> B256 {
    let mut bytes = Canonical::new("topupd/corrected-price/v1");
    bytes.bytes(corrects.0.as_slice()).text(pair).text(&price.to_string());
    bytes.finish()
}

/// What a payment is worth by the rules of an epoch, at these prices.
///
/// # Errors
/// [`NoPrice`], with the reason.
pub fn value_again(
    paid: &Valued,
    (epoch, epoch_hash): (&Epoch, B256),
    legs: &[Leg],
) -> Result<Valued, NoPrice> {
    // Of a token, only what it is taken as and its decimals have a part in a price.
    let token = Token {
        chain: ChainId(0),
        address: Address::ZERO,
        symbol: String::new(),
        asset: paid.asset.clone(),
        decimals: paid.decimals,
    };
    let Price { epoch_id, rule, rate, asset, raw, decimals, credits, conversion } =
        price_in(paid.raw_amount, &token, epoch, legs)?;
    Ok(Valued {
        raw_amount: raw,
        decimals,
        asset,
        epoch: epoch_id,
        epoch_hash,
        rule: rule.as_str().to_owned(),
        credits_per_token: rate,
        conversion,
        rounding: "down".to_owned(),
        credits_nano: credits,
    })
}

/// True when a price counts for what it can count for: all of it, or, of the asset that was paid, at most
/// one dollar, because that may be a stablecoin.
pub fn counts_for(leg: &Leg, paid: &Valued) -> bool {
    leg.applied == leg.price
        || (leg.pair == in_usd(&paid.asset) && leg.applied == leg.price.min(Rate::ONE))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use alloy::primitives::U256;

    use super::super::ids::DepositId;
    use super::super::money::RawAmount;
    use super::super::pricing::Phase;
    use super::*;
    use crate::domain::terms::{Dust, Terms, Valuation};

    fn rate(text: &str) -> Rate {
        text.parse().unwrap()
    }

    fn epoch(id: &str, usdc: Valuation) -> Epoch {
        let terms = |valuation| Terms { valuation, minimum: None, dust: Dust::Ignore };
        let token = Valuation::Fixed { credits_per_token: rate("50") };
        Epoch {
            id: id.into(),
            starts_at_ms: 0,
            phase: Phase::PostTge,
            accept: BTreeMap::from([("USDC".into(), terms(usdc)), ("RTITY".into(), terms(token))]),
        }
    }

    fn leg(pair: &str, price: &str) -> Leg {
        let price = rate(price);
        Leg { pair: pair.into(), price, applied: price, price_hash: B256::ZERO }
    }

    /// Ten dollars of USDC, at par.
    fn paid() -> Valued {
        Valued {
            raw_amount: RawAmount(U256::from(10_000_000)),
            decimals: 6,
            asset: "USDC".into(),
            epoch: "par".into(),
            epoch_hash: B256::repeat_byte(1),
            rule: "par".into(),
            credits_per_token: rate("1000"),
            conversion: None,
            rounding: "down".into(),
            credits_nano: Nanocredits(10_000_000_000_000),
        }
    }

    #[test]
    fn another_epoch_or_another_price_gives_another_worth_of_the_same_payment() {
        let convert = Valuation::Convert { into: "RTITY".into(), into_decimals: 18 };
        let par = |rate_: &str| Valuation::Par { credits_per_usd: rate(rate_) };
        let legs = |rtity: &str| [leg("USDC/USD", "1"), leg("RTITY/USD", rtity)];
        let hash = B256::repeat_byte(2);
        let cases = [
            (epoch("par", par("900")), vec![], Some("9000")),
            (epoch("after", convert.clone()), legs("0.02").to_vec(), Some("25000")),
            (epoch("after", convert.clone()), legs("0.05").to_vec(), Some("10000")),
            // A price is missing; nothing is worth that little.
            (epoch("after", convert.clone()), vec![leg("USDC/USD", "1")], None),
            (epoch("par", par("0.00000000001")), vec![], None),
        ];
        for (epoch, legs, credits) in cases {
            let again = value_again(&paid(), (&epoch, hash), &legs).ok();
            let found = again.as_ref().map(|again| again.credits_nano.to_string());
            assert_eq!(found.as_deref(), credits, "{epoch:?} {legs:?}");
            let Some(again) = again else { continue };
            assert!(again.worth().holds(), "{again:?}");
            assert_eq!((again.raw_amount, again.epoch_hash), (paid().raw_amount, hash));
        }
    }

    #[test]
    fn a_price_counts_for_itself_and_of_the_stablecoin_for_a_dollar_at_most() {
        let capped = |pair: &str, price: &str| Leg { applied: Rate::ONE, ..leg(pair, price) };
        for (leg, holds) in [
            (leg("RTITY/USD", "3"), true),
            (leg("USDC/USD", "1.01"), true),
            (capped("USDC/USD", "1.01"), true),
            (capped("USDC/USD", "0.99"), false),
            (capped("RTITY/USD", "1.01"), false),
        ] {
            assert_eq!(counts_for(&leg, &paid()), holds, "{leg:?}");
        }
    }

    #[test]
    fn a_cause_is_of_two_acts_about_the_same() {
        let proposed = ProposedCorrection {
            corrects_seq: 2,
            corrects_record_id: RecordId(B256::repeat_byte(3)),
            corrects_seal: B256::repeat_byte(4),
            credited_nano: paid().credits_nano,
            evidence: "a ticket".into(),
            again: paid(),
        };
        let text = proposed.to_text().unwrap();
        assert_eq!(ProposedCorrection::from_text(&text), Some(proposed.clone()));
        assert_eq!(ProposedCorrection::from_text(&text.replacen('{', "{ ", 1)), None);
        let act = |id, kind: ActKind, operator: &str| ActRow {
            id,
            kind,
            operator: operator.into(),
            reason: "typed wrong".into(),
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
        };
        let proposal =
            ActRow { correction: Some(text), ..act(1, ActKind::ProposeCorrection, "alice") };
        let approval = ActRow {
            approves: Some(1),
            approved_hash: Some(proposal.hash()),
            ..act(2, ActKind::ApproveCorrection, "bob")
        };
        let cause = |proposal: &ActRow, approval: &ActRow| {
            proposed.clone().cause("acme".into(), proposal, approval)
        };
        let made = cause(&proposal, &approval).unwrap();
        assert_eq!((made.proposer.as_str(), made.approver.as_str()), ("alice", "bob"));
        assert_eq!((made.act, made.act_hash), (2, approval.hash()));
        assert_eq!(made.contradicts_itself(), None);
        let other = Some(DepositId(B256::repeat_byte(6)));
        for (proposal, approval) in [
            (proposal.clone(), ActRow { approves: Some(3), ..approval.clone() }),
            (proposal.clone(), ActRow { approved_hash: None, ..approval.clone() }),
            (proposal.clone(), ActRow { kind: ActKind::ApprovePrice, ..approval.clone() }),
            (proposal.clone(), ActRow { deposit: other, ..approval.clone() }),
            (ActRow { reason: "other".into(), ..proposal.clone() }, approval.clone()),
        ] {
            assert_eq!(cause(&proposal, &approval), None);
        }
    }

    #[test]
    fn a_price_by_hand_of_one_correction_is_not_that_of_another() {
        let id = |byte| RecordId(B256::repeat_byte(byte));
        let mut hashes = vec![
            by_hand_hash(id(1), "RTITY/USD", rate("0.02")),
            by_hand_hash(id(2), "RTITY/USD", rate("0.02")),
            by_hand_hash(id(1), "USDC/USD", rate("0.02")),
            by_hand_hash(id(1), "RTITY/USD", rate("0.03")),
        ];
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), 4);
    }
}
