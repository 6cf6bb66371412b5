//! What people decide, as it is kept: the hash by which an approval names what it approves, and
//! whether a proposal can still be approved.

use alloy::primitives::B256;

use super::act_kind::ActKind;
use super::ids::{ChainId, DepositId};
use super::money::Rate;
use super::seal::Canonical;

/// An act as it is stored. It is never changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActRow {
    /// Its number.
    pub id: i64,
    /// What it does.
    pub kind: ActKind,
    /// Who.
    pub operator: String,
    /// Why.
    pub reason: String,
    /// The deposit that it is about; none for a latch.
    pub deposit: Option<DepositId>,
    /// Chain of the block that it is about.
    pub chain: ChainId,
    /// That block.
    pub block_hash: B256,
    /// Pair, of a price.
    pub pair: Option<String>,
    /// Price: by hand, accepted below its floor, or the one that opened a latch. Acts of before that
    /// accept the market's name none.
    pub price: Option<String>,
    /// Instant of the price that opened a latch.
    pub instant_ms: Option<i64>,
    /// The proposal that it approves.
    pub approves: Option<i64>,
    /// The hash of that proposal, as the operator named it. Approvals of before have none.
    pub approved_hash: Option<B256>,
    /// The proposal that it withdraws.
    pub withdraws: Option<i64>,
    /// Why a latch was open, or what a release was proposed for.
    pub latch: Option<String>,
    /// What a correction undoes and gives instead, as a text.
    pub correction: Option<String>,
    /// When.
    pub at_ms: i64,
}

/// Where a proposal stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Another operator can approve it.
    Waits,
    /// This act approved it.
    Approved(i64),
    /// This act withdrew it.
    Withdrawn(i64),
    /// This act proposes something else for the same subject.
    Superseded(i64),
}

impl ActRow {
    /// The hash of all that it says.
    pub fn hash(&self) -> B256 {
        let mut bytes = Canonical::new("topupd/act/v1");
        let number = |n: Option<i64>| n.map(|n| n.to_be_bytes().to_vec()).unwrap_or_default();
        let hash = |h: Option<B256>| h.map(|h| h.to_vec()).unwrap_or_default();
        bytes
            .i64(self.id)
            .text(self.kind.as_str())
            .text(&self.operator)
            .text(&self.reason)
            .bytes(&hash(self.deposit.map(|d| d.0)))
            .u64(self.chain.0)
            .bytes(self.block_hash.as_slice())
            .text(self.pair.as_deref().unwrap_or_default())
            .text(self.price.as_deref().unwrap_or_default())
            .bytes(&number(self.instant_ms))
            .bytes(&number(self.approves))
            .bytes(&hash(self.approved_hash))
            .bytes(&number(self.withdraws))
            .text(self.latch.as_deref().unwrap_or_default())
            .text(self.correction.as_deref().unwrap_or_default())
            .i64(self.at_ms);
        bytes.finish()
    }

    /// True for what another operator must approve.
    pub fn is_proposal(&self) -> bool {
        self.kind.is_proposal()
    }

    /// The price by hand that it proposes for a payment on hold.
    pub fn proposed(&self) -> Option<(&str, Rate)> {
        self.named_price().filter(|_| self.kind == ActKind::ProposePrice)
    }

    /// The price that it names, for whatever purpose.
    pub fn named_price(&self) -> Option<(&str, Rate)> {
        Some((self.pair.as_deref()?, self.price.as_deref()?.parse().ok()?))
    }

    /// Where it stands as a proposal, by all acts about its deposit; none for another kind of act.
    /// A newer proposal for the same subject takes the place of one that waits, and its withdrawal
    /// does not bring that one back.
    pub fn standing(&self, acts: &[Self]) -> Option<Standing> {
        // A correction is of all that a payment was credited by, whichever price it names.
        let pair = |a: &Self| a.pair.clone().filter(|_| a.kind != ActKind::ProposeCorrection);
        let subject = |a: &Self| (a.deposit, a.kind, pair(a));
        let act = |is: &dyn Fn(&Self) -> bool| acts.iter().find(|a| is(a)).map(|a| a.id);
        let approved = || act(&|a| a.approves == Some(self.id)).map(Standing::Approved);
        let withdrawn = || act(&|a| a.withdraws == Some(self.id)).map(Standing::Withdrawn);
        let newer = |a: &Self| a.id > self.id && subject(a) == subject(self);
        let superseded = || act(&newer).map(Standing::Superseded);
        self.is_proposal()
            .then(|| approved().or_else(withdrawn).or_else(superseded).unwrap_or(Standing::Waits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAITS: Standing = Standing::Waits;

    fn act(id: i64, kind: ActKind, pair: Option<&str>) -> ActRow {
        ActRow {
            id,
            kind,
            operator: "alice".into(),
            reason: "why".into(),
            deposit: Some(DepositId(B256::repeat_byte(7))),
            chain: ChainId(1),
            block_hash: B256::repeat_byte(8),
            pair: pair.map(str::to_owned),
            price: pair.map(|_| "0.02".to_owned()),
            instant_ms: None,
            approves: None,
            approved_hash: None,
            withdraws: None,
            latch: None,
            correction: None,
            at_ms: 9,
        }
    }

    #[test]
    fn a_newer_proposal_for_the_same_subject_takes_the_place_of_the_old_one() {
        let proposals = [
            act(1, ActKind::ProposePrice, Some("RTITY/USD")),
            act(2, ActKind::ProposePrice, Some("USDC/USD")),
            act(3, ActKind::ProposeRelease, None),
            act(4, ActKind::ProposePrice, Some("RTITY/USD")),
        ];
        let standing =
            |acts: &[ActRow]| -> Vec<_> { acts.iter().filter_map(|a| a.standing(acts)).collect() };
        assert_eq!(standing(&proposals), [Standing::Superseded(4), WAITS, WAITS, WAITS]);
        let mut acts = proposals.to_vec();
        acts.push(ActRow { withdraws: Some(4), ..act(5, ActKind::Withdraw, None) });
        acts.push(ActRow { approves: Some(3), ..act(6, ActKind::ApproveRelease, None) });
        acts.push(act(7, ActKind::ProposeRelease, None));
        let expected =
            [Standing::Superseded(4), WAITS, Standing::Approved(6), Standing::Withdrawn(5), WAITS];
        assert_eq!(standing(&acts), expected);
        // Another deposit's are another subject.
        let other = DepositId(B256::repeat_byte(9));
        acts.push(ActRow { deposit: Some(other), ..act(8, ActKind::ProposeRelease, None) });
        assert_eq!(standing(&acts)[..5], expected);
    }

    #[test]
    fn a_newer_correction_takes_the_place_of_an_older_one_whatever_prices_they_name() {
        let mut acts = vec![
            act(1, ActKind::ProposeCorrection, Some("RTITY/USD")),
            act(2, ActKind::ProposePrice, Some("RTITY/USD")),
            act(3, ActKind::ProposeCorrection, None),
        ];
        let standing =
            |acts: &[ActRow]| -> Vec<_> { acts.iter().filter_map(|a| a.standing(acts)).collect() };
        assert_eq!(standing(&acts), [Standing::Superseded(3), WAITS, WAITS]);
        // What was approved stays so: the next one corrects what came of it.
        acts.push(ActRow { approves: Some(3), ..act(4, ActKind::ApproveCorrection, None) });
        acts.push(act(5, ActKind::ProposeCorrection, Some("USDC/USD")));
        let expected = [Standing::Superseded(3), WAITS, Standing::Approved(4), WAITS];
        assert_eq!(standing(&acts), expected);
        // No payment on hold is priced by one.
        assert_eq!(acts[4].proposed(), None);
        assert!(acts[4].named_price().is_some() && acts[1].proposed().is_some());
    }

    #[test]
    fn the_hash_covers_all_that_an_act_says() {
        let one = act(1, ActKind::ProposePrice, Some("RTITY/USD"));
        let others = [
            ActRow { id: 2, ..one.clone() },
            ActRow { kind: ActKind::ProposeRelease, ..one.clone() },
            ActRow { operator: "alic".into(), reason: "ewhy".into(), ..one.clone() },
            ActRow { deposit: None, ..one.clone() },
            ActRow { chain: ChainId(2), ..one.clone() },
            ActRow { block_hash: B256::ZERO, ..one.clone() },
            ActRow { pair: Some("USDC/USD".into()), ..one.clone() },
            ActRow { price: Some("0.2".into()), ..one.clone() },
            ActRow { instant_ms: Some(1), ..one.clone() },
            ActRow { approves: Some(1), ..one.clone() },
            ActRow { approved_hash: Some(B256::ZERO), ..one.clone() },
            ActRow { withdraws: Some(1), ..one.clone() },
            ActRow { latch: Some("unproved".into()), ..one.clone() },
            ActRow { correction: Some("unproved".into()), ..one.clone() },
            ActRow { at_ms: 10, ..one.clone() },
        ];
        let mut hashes: Vec<B256> = others.iter().map(ActRow::hash).collect();
        hashes.push(one.hash());
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), others.len() + 1);
    }
}
