//! People who correct credits in the middle of a story, and a plain model of what must come of it: who had the last
//! word about each deposit. Everything is by the rules of one of two epochs, the second of which gives twice as much.

use std::collections::BTreeMap;
use std::sync::Arc;

use topupd::domain::chain_rules::ChainRules;
use topupd::domain::deposit::Stage;
use topupd::domain::ids::DepositId;
use topupd::domain::pricing::{Epoch, EpochBook};
use topupd::domain::terms::{Dust, Valuation};
use topupd::store::{NewCorrection, RecordPlace, StoreError};

use super::support::*;

const OPERATORS: [&str; 3] = ["alice", "bob", "carol"];
/// Nothing is in force of the second one: its time has not come.
const EPOCHS: [&str; 2] = ["one", "two"];

/// The rules of [`rules`], and an epoch that gives twice as much, however little it is.
pub fn with_two_epochs(confirmations: u64) -> ChainRules {
    let mut rules = rules(confirmations);
    let one = epochs().at(GENESIS_MS).unwrap().clone();
    let mut accept = one.accept.clone();
    for (asset, terms) in &mut accept {
        (terms.minimum, terms.dust) = (None, Dust::Ignore);
        terms.valuation = if asset == "RTITY" {
            Valuation::Fixed { credits_per_token: "101".parse().unwrap() }
        } else {
            Valuation::Par { credits_per_usd: "2000".parse().unwrap() }
        };
    }
    let starts_at_ms = GENESIS_MS + 3_600_000 * 24 * 365;
    let two = Epoch { id: EPOCHS[1].into(), starts_at_ms, accept, ..one.clone() };
    rules.epochs = Arc::new(EpochBook::new(vec![one, two]).unwrap());
    rules
}

#[derive(Debug, Clone, Copy)]
pub enum Word {
    Propose,
    Approve,
    Withdraw,
}

#[derive(Debug, Clone)]
struct Proposal {
    act: i64,
    deposit: DepositId,
    corrects: RecordPlace,
    epoch: usize,
    proposer: &'static str,
    /// Nobody approved it or withdrew it.
    open: bool,
}

/// What people did about credits.
#[derive(Debug, Default)]
pub struct Corrections {
    proposals: Vec<Proposal>,
    /// What was corrected to which epoch, in order.
    done: Vec<(DepositId, usize)>,
}

impl Corrections {
    /// The epoch that counts for a deposit: the last word about it.
    fn last_word(&self, deposit: DepositId) -> usize {
        self.done.iter().rfind(|(of, _)| *of == deposit).map_or(0, |(_, epoch)| *epoch)
    }

    /// Every balance is what its dollars are worth, each by the last word about it.
    pub async fn hold(&self, house: &House) {
        let mut balances: BTreeMap<String, u128> = BTreeMap::new();
        for deposit in house.deposits().await {
            if deposit.stage != Stage::Credited {
                continue;
            }
            assert_ne!(deposit.token, RTITY, "the stories pay less of it than is credited");
            let times = [1, 2][self.last_word(deposit.id)];
            let nano = deposit.raw.0.to::<u128>() * 1_000_000 * times;
            assert_eq!(deposit.credits.map(|c| u128::try_from(c.0)), Some(Ok(nano)));
            *balances.entry(deposit.namespace).or_default() += nano;
        }
        for namespace in NAMESPACES {
            let balance = house.store.balance(&name(namespace)).await.unwrap();
            let expected = balances.get(namespace).copied().unwrap_or(0);
            assert_eq!(u128::try_from(balance.0), Ok(expected), "{namespace}");
        }
    }

    pub async fn step(&mut self, house: &House, word: Word, which: usize, who: usize) {
        let who = OPERATORS[who % OPERATORS.len()];
        let at = which.checked_rem(self.proposals.len());
        match (word, at) {
            (Word::Propose, _) => self.propose(house, which, who).await,
            (Word::Approve, Some(at)) => self.approve(house, at, who).await,
            (Word::Withdraw, Some(at)) => self.withdraw(house, at, who).await,
            _ => {}
        }
    }

    fn waits(&self, of: &Proposal) -> bool {
        let newer = |p: &Proposal| p.deposit == of.deposit && p.act > of.act;
        of.open && !self.proposals.iter().any(newer)
    }

    async fn propose(&mut self, house: &House, which: usize, who: &'static str) {
        let mut credited = house.deposits().await;
        credited.retain(|d| d.stage == Stage::Credited);
        credited.sort_by_key(|d| d.id);
        let Some(at) = which.checked_rem(credited.len()) else { return };
        let deposit = credited[at].id;
        let corrects = house.store.standing_credit(deposit).await.unwrap().unwrap();
        let epoch = 1 - self.last_word(deposit);
        let Some(act) = proposed(house, corrects, epoch, who).await else { return };
        let new = Proposal { act, deposit, corrects, epoch, proposer: who, open: true };
        let known = self.proposals.iter().find(|p| p.act == act);
        if let Some(known) = known {
            assert!(self.waits(known) && known.proposer == who && known.corrects == corrects);
            return;
        }
        self.proposals.push(new);
    }

    async fn approve(&mut self, house: &House, at: usize, who: &'static str) {
        let proposal = self.proposals[at].clone();
        let stands = house.store.standing_credit(proposal.deposit).await.unwrap();
        let possible =
            self.waits(&proposal) && stands == Some(proposal.corrects) && proposal.proposer != who;
        match approved(house, proposal.act, who).await {
            Ok(before) => {
                assert!(possible || (before && !proposal.open), "{who}: {proposal:?}");
                if !before {
                    self.proposals[at].open = false;
                    self.done.push((proposal.deposit, proposal.epoch));
                }
            }
            Err(StoreError::Refused(why)) => assert!(!possible, "{who}: {proposal:?}: {why}"),
            Err(error) => panic!("{error}"),
        }
    }

    async fn withdraw(&mut self, house: &House, at: usize, who: &'static str) {
        let proposal = self.proposals[at].clone();
        let possible = self.waits(&proposal);
        let done = house.store.withdraw(proposal.act, (who, "no")).await;
        assert_eq!(done.is_ok(), possible, "{who}: {proposal:?}: {done:?}");
        self.proposals[at].open &= !possible;
    }

    /// Does the same to another house, where nothing else happens: all at once, by two people.
    pub async fn again(&self, house: &House) {
        for (deposit, epoch) in &self.done {
            let place = house.store.standing_credit(*deposit).await.unwrap().unwrap();
            let act = proposed(house, place, *epoch, "alice").await.unwrap();
            assert!(!approved(house, act, "bob").await.unwrap());
        }
    }
}

/// `None` for what was paid together with other dust, and is too little by the rules of the first epoch.
async fn proposed(house: &House, place: RecordPlace, epoch: usize, who: &str) -> Option<i64> {
    let new =
        NewCorrection { place, price: None, epoch: Some(EPOCHS[epoch]), evidence: "ticket 4711" };
    let (store, oracle) = (&house.store, &house.rules.oracle);
    match store.propose_correction(oracle, &new, None, (who, "typed wrong")).await {
        Ok(act) => Some(act),
        Err(StoreError::Refused(why)) if epoch == 0 && why.contains("less than the smallest") => {
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// True when it was done before.
async fn approved(house: &House, act: i64, who: &str) -> Result<bool, StoreError> {
    let (store, oracle) = (&house.store, &house.rules.oracle);
    let hash = store.act_by_id(act).await?.unwrap().hash();
    let done = store.approve_correction(oracle, (act, hash), None, (who, "seen")).await?;
    Ok(done.before)
}
