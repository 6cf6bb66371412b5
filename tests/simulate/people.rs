//! Operators who correct credits while all the rest goes on: they propose, approve and withdraw in any order, also
//! what they must not, between forks and crashes. Beside them stands a plain model: what each payment is credited
//! with by whom of them had the last word, kept without any of topupd's code, and compared with every record, every
//! answer and every balance.
//!
//! Their draws are their own: a story is the same story with them and without.

use std::collections::BTreeMap;

use alloy::primitives::B256;
use fastrand::Rng;
use topupd::domain::ids::DepositId;
use topupd::domain::money::Rate;
use topupd::planted::crash_after;
use topupd::store::{Correcting, NewCorrection, RecordPlace, StoreError};

use super::market::{self, By};
use super::plan::Valued;
use super::progress::Key;
use super::rules::token;
use super::story::{Failure, NAMESPACES, Sim, name};

const OPERATORS: [&str; 3] = ["alice", "bob", "carol"];
/// Prices by hand, and the same with eight digits: far from the market's two cents, so that each is said twice.
const BY_HAND: [(&str, u64); 3] = [("0.01", 1_000_000), ("0.04", 4_000_000), ("0.05", 5_000_000)];
const PAIR: &str = "RTITY/USD";

/// A credit that stands.
#[derive(Debug, Clone)]
struct Credit {
    place: RecordPlace,
    key: Key,
    block: B256,
    by: By,
    nano: u128,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stands {
    Waits,
    Approved(&'static str, RecordPlace),
    Withdrawn,
}

/// A correction that somebody proposed.
#[derive(Debug, Clone)]
struct Proposal {
    act: i64,
    deposit: String,
    corrects: RecordPlace,
    by: By,
    proposer: &'static str,
    stands: Stands,
}

/// The people, and the model of what they do.
#[derive(Debug)]
pub(super) struct People {
    rng: Rng,
    credits: BTreeMap<String, Credit>,
    proposals: Vec<Proposal>,
}

impl People {
    pub(super) fn of(seed: u64) -> Self {
        let rng = Rng::with_seed(seed ^ 0x0070_656f_706c_6500);
        Self { rng, credits: BTreeMap::new(), proposals: Vec::new() }
    }

    /// By what a payment that stands in this block is credited: as everybody, where nobody corrected it.
    pub(super) fn by(&self, key: &Key, block: B256) -> By {
        let credit = self.credits.values().find(|c| c.key == *key && c.block == block);
        credit.map_or_else(By::default, |credit| credit.by)
    }

    fn waits(&self, of: &Proposal) -> bool {
        let newer = |p: &Proposal| p.deposit == of.deposit && p.act > of.act;
        of.stands == Stands::Waits && !self.proposals.iter().any(newer)
    }

    /// The credit that a proposal would correct, if it stands.
    fn standing(&self, deposit: &str, place: RecordPlace) -> Option<&Credit> {
        self.credits.get(deposit).filter(|credit| credit.place == place)
    }
}

/// One record, as it was read.
struct Told<'a> {
    place: RecordPlace,
    kind: &'a str,
    subject: &'a str,
    cause: serde_json::Value,
}

fn nano(value: &serde_json::Value) -> u128 {
    value.as_u64().map_or_else(|| value.as_str().unwrap().parse().unwrap(), u128::from)
}

impl Sim {
    /// What a payment of a block is worth.
    fn worth(&self, key: &Key, block: B256, by: By) -> Result<u128, Failure> {
        let world = self.world.get();
        let (tx_hash, token, recipient, n) = *key;
        let found = world.blocks.get(&block).and_then(|block| {
            let tx = block.txs.iter().find(|tx| tx.hash == tx_hash)?;
            let mut of_it = tx.payments.iter().filter(|p| p.token == token && p.to == recipient);
            Some((block, of_it.nth(n as usize)?))
        });
        let (block, payment) = found.ok_or_else(|| format!("nobody paid {key:?} in {block}"))?;
        Ok(match self.plan.valued {
            Valued::Par => u128::from(payment.amount) * 1_000_000 * u128::from(by.epoch),
            valued => market::worth(&world, payment, block, valued, by),
        })
    }

    /// The model goes on by what was written: a credit of a payment, its end, or another one in its place that two
    /// people asked for.
    pub(super) fn follow_record(&mut self, row: &str) -> Result<(), Failure> {
        let [journal, seq, kind, subject, cause] =
            row.splitn(5, ' ').collect::<Vec<_>>().try_into().unwrap();
        let place = RecordPlace {
            journal: topupd::domain::journal::JournalId(journal.parse().unwrap()),
            seq: seq.parse().unwrap(),
        };
        let told = Told { place, kind, subject, cause: serde_json::from_str(cause).unwrap() };
        let before = self.people.credits.remove(subject);
        match (told.kind, before) {
            ("deposit_credited", None) => self.credited(&told),
            ("deposit_reversed", Some(before)) => {
                let cause = &told.cause;
                let named = (cause["reverses_seq"].as_i64(), nano(&cause["credits_nano"]));
                if named == (Some(before.place.seq), before.nano) {
                    return Ok(());
                }
                Err(format!("undid {named:?}, where {before:?} stood"))
            }
            ("deposit_corrected", Some(before)) => self.corrected(&told, before),
            (kind, before) => Err(format!("{kind} of {subject}, where {before:?} stood")),
        }
    }

    fn credited(&mut self, told: &Told<'_>) -> Result<(), Failure> {
        let e = &told.cause;
        let hash = |key: &str| -> B256 { e[key].as_str().unwrap().parse().unwrap() };
        let address = |key: &str| e[key].as_str().unwrap().parse().unwrap();
        let n = u32::try_from(e["n"].as_u64().unwrap()).unwrap();
        let key = (hash("tx_hash"), address("token"), address("recipient"), n);
        let (block, by) = (hash("block_hash"), By::default());
        let credit =
            Credit { place: told.place, key, block, by, nano: self.worth(&key, block, by)? };
        if nano(&e["credits_nano"]) != credit.nano {
            return Err(format!("credited {}, and not {credit:?}", e["credits_nano"]));
        }
        self.people.credits.insert(told.subject.to_owned(), credit);
        Ok(())
    }

    fn corrected(&mut self, told: &Told<'_>, before: Credit) -> Result<(), Failure> {
        let cause = &told.cause;
        let asked = |p: &&Proposal| p.stands_approved_at(told.place) && p.deposit == told.subject;
        let Some(asked) = self.people.proposals.iter().find(asked).cloned() else {
            return Err(format!("nobody asked for record {:?}: {cause}", told.place));
        };
        let nano_again = self.worth(&before.key, before.block, asked.by)?;
        let found = (
            cause["corrects_seq"].as_i64(),
            nano(&cause["credited_nano"]),
            nano(&cause["again"]["credits_nano"]),
        );
        if found != (Some(before.place.seq), before.nano, nano_again) {
            return Err(format!("corrected {found:?}, and not {before:?} to {nano_again}"));
        }
        let credit = Credit { place: told.place, by: asked.by, nano: nano_again, ..before };
        self.people.credits.insert(told.subject.to_owned(), credit);
        Ok(())
    }

    /// Balances are sums of what stands.
    pub(super) async fn check_balances(&self) -> Result<(), Failure> {
        for i in 0..NAMESPACES.len() {
            let ours = name(i);
            let of_it = |c: &&Credit| c.place.journal.0 == i64::try_from(i).unwrap() + 1;
            let sum: u128 = self.people.credits.values().filter(of_it).map(|c| c.nano).sum();
            let balance = self.store.balance(&ours).await.map_err(|e| e.to_string())?;
            if u128::try_from(balance.0).ok() != Some(sum) {
                return Err(format!("{ours} has {balance}, and its credits are {sum} nanocredits"));
            }
        }
        Ok(())
    }

    /// Somebody does something, or two do one thing after the other; now and then the machine stops in it.
    pub(super) async fn people(&mut self) -> Result<(), Failure> {
        if self.people.credits.is_empty() || self.people.rng.bool() {
            return Ok(());
        }
        self.check().await?;
        if self.people.rng.u8(..6) == 0 {
            crash_after(Some(self.people.rng.u32(..2)));
        }
        let what = self.people.rng.u8(..10);
        let done = match what {
            0..=2 => self.propose().await.map(drop),
            3..=5 => self.approve_any().await,
            6 => self.withdraw_any().await,
            _ => self.correct_one().await,
        };
        crash_after(None);
        done?;
        self.check().await
    }

    /// When all is at rest, every correction can be made.
    pub(super) async fn last_words(&mut self) -> Result<(), Failure> {
        for _ in 0..3 {
            self.correct_one().await?;
            self.check().await?;
        }
        Ok(())
    }

    async fn correct_one(&mut self) -> Result<(), Failure> {
        let Some(at) = self.propose().await? else { return Ok(()) };
        let others: Vec<_> = OPERATORS
            .into_iter()
            .filter(|who| *who != self.people.proposals[at].proposer)
            .collect();
        let second = others[self.people.rng.usize(..others.len())];
        self.approve(at, second).await
    }

    /// The block of a credit is canonical, as far as the database knows.
    async fn is_canonical(&mut self, block: B256) -> bool {
        let sql = format!(
            "SELECT CAST(canonical AS TEXT) FROM blocks WHERE lower(hex(block_hash)) = '{block:x}'"
        );
        self.sql.texts(&sql).await == ["1"]
    }

    /// Somebody proposes to correct a credit, of now or of before. Which proposal it is.
    async fn propose(&mut self) -> Result<Option<usize>, Failure> {
        let people = &mut self.people;
        // Often one that was corrected before, or about which somebody said something: the last word counts.
        let which = people.rng.u8(..3);
        let proposed = |of: &String| people.proposals.iter().any(|p| p.deposit == *of);
        let wanted = |(of, c): &(&String, &Credit)| match which {
            0 => true,
            1 => c.by != By::default(),
            _ => proposed(of),
        };
        let of: Vec<_> = people.credits.iter().filter(wanted).collect();
        let of = if of.is_empty() { people.credits.iter().collect() } else { of };
        if of.is_empty() {
            return Ok(None);
        }
        let (deposit, credit) = of[people.rng.usize(..of.len())];
        let (deposit, credit) = (deposit.clone(), credit.clone());
        let proposer = OPERATORS[people.rng.usize(..OPERATORS.len())];
        let converts = self.plan.valued != Valued::Par && credit.key.1 == token(0);
        let price = Some(BY_HAND[people.rng.usize(..BY_HAND.len())]);
        let price = price.filter(|_| converts && people.rng.bool());
        let epoch = 3 - credit.by.epoch;
        let by = match price {
            Some((_, price)) => By { price: Some(price), ..credit.by },
            None => By { epoch, ..credit.by },
        };
        let typed: Option<Rate> = price.map(|(text, _)| text.parse().unwrap());
        let new = NewCorrection {
            place: credit.place,
            price: typed.map(|typed| (PAIR, typed)),
            epoch: price.is_none().then_some(["one", "two"][usize::from(epoch == 2)]),
            evidence: "a ticket",
        };
        let canonical = self.is_canonical(credit.block).await;
        let possible = canonical && by != credit.by;
        let (store, oracle) = (&self.store, &self.rules.oracle);
        if typed.is_some() && possible {
            let once = store.propose_correction(oracle, &new, None, (proposer, "wrong")).await;
            if !matches!(once, Err(StoreError::NotSaidTwice { .. })) && !planned(&once) {
                return Err(format!("a price far from the market's was said once: {once:?}"));
            }
        }
        let done = store.propose_correction(oracle, &new, typed, (proposer, "wrong")).await;
        let said = format!("{proposer} proposes {by:?} for {deposit}: {done:?}");
        self.tell(said.clone());
        let act = match done {
            Ok(act) if possible => act,
            Err(StoreError::Refused(_)) if !possible => return Ok(None),
            done if planned(&done) => return Ok(None),
            _ => return Err(format!("{said}; canonical: {canonical}, it stands as {credit:?}")),
        };
        let proposal =
            Proposal { act, deposit, corrects: credit.place, by, proposer, stands: Stands::Waits };
        self.noted(proposal, &said).map(Some)
    }

    /// The same again is the same act; anything else is a newer one.
    fn noted(&mut self, new: Proposal, said: &str) -> Result<usize, Failure> {
        let people = &mut self.people;
        let same = |p: &Proposal| {
            (&p.deposit, p.corrects, p.by, p.proposer)
                == (&new.deposit, new.corrects, new.by, new.proposer)
        };
        let known = people.proposals.iter().position(|p| same(p) && people.waits(p));
        if let Some(at) = known {
            let right = people.proposals[at].act == new.act;
            return if right { Ok(at) } else { Err(format!("asked again: {said}")) };
        }
        if people.proposals.iter().any(|p| p.act >= new.act) {
            return Err(format!("an act that there was: {said}"));
        }
        people.proposals.push(new);
        Ok(people.proposals.len() - 1)
    }

    async fn approve_any(&mut self) -> Result<(), Failure> {
        let rng = &mut self.people.rng;
        let count = self.people.proposals.len();
        if count == 0 {
            return Ok(());
        }
        let at = if rng.bool() { count - 1 } else { rng.usize(..count) };
        let who = OPERATORS[rng.usize(..OPERATORS.len())];
        self.approve(at, who).await
    }

    /// Somebody approves a proposal. The model says what must come of it.
    async fn approve(&mut self, at: usize, who: &'static str) -> Result<(), Failure> {
        let proposal = self.people.proposals[at].clone();
        let credit = self.people.standing(&proposal.deposit, proposal.corrects).cloned();
        let canonical = match &credit {
            Some(credit) => self.is_canonical(credit.block).await,
            None => false,
        };
        let possible = canonical && self.people.waits(&proposal) && proposal.proposer != who;
        let act = self.store.act_by_id(proposal.act).await.map_err(|e| e.to_string())?;
        let act = act.ok_or("an act is not there any more")?;
        let repeated = act.named_price().map(|(_, price)| price);
        let (store, oracle) = (&self.store, &self.rules.oracle);
        let shown = store.preview_correction(oracle, Correcting::Proposed(proposal.act)).await;
        let named = (proposal.act, act.hash());
        let done = store.approve_correction(oracle, named, repeated, (who, "seen")).await;
        let said = format!("{who} approves act {}: {done:?}", proposal.act);
        self.tell(said.clone());
        let done = match (done, proposal.stands) {
            (Ok(done), Stands::Approved(by, place)) if done.before => {
                let right = by == who && place == done.place;
                return if right { Ok(()) } else { Err(format!("{said}; it was {by}, {place:?}")) };
            }
            (Ok(done), Stands::Waits) if possible && !done.before => done,
            (Err(StoreError::Refused(_)), _) if !possible => return Ok(()),
            (done, _) if planned(&done) => return Ok(()),
            _ => return Err(format!("{said}; {proposal:?} of {credit:?}, canonical: {canonical}")),
        };
        let (Some(credit), Ok(shown)) = (credit, shown) else {
            return Err(format!("{said}; what was shown is not what was done"));
        };
        let nano = self.worth(&credit.key, credit.block, proposal.by)?;
        if u128::try_from(shown.again.credits_nano.0).ok() != Some(nano) {
            return Err(format!("{said}; shown was {:?}, and not {nano}", shown.again));
        }
        self.people.proposals[at].stands = Stands::Approved(who, done.place);
        let deposit: DepositId = proposal.deposit.parse().unwrap();
        let stands = self.store.standing_credit(deposit).await.map_err(|e| e.to_string())?;
        if stands == Some(done.place) { Ok(()) } else { Err(format!("{said}; {stands:?} stands")) }
    }

    async fn withdraw_any(&mut self) -> Result<(), Failure> {
        let people = &mut self.people;
        if people.proposals.is_empty() {
            return Ok(());
        }
        let at = people.rng.usize(..people.proposals.len());
        let who = OPERATORS[people.rng.usize(..OPERATORS.len())];
        let proposal = people.proposals[at].clone();
        let possible = people.waits(&proposal);
        let done = self.store.withdraw(proposal.act, (who, "no")).await;
        let said = format!("{who} withdraws act {}: {done:?}", proposal.act);
        self.tell(said.clone());
        match done {
            Ok(_) if possible => self.people.proposals[at].stands = Stands::Withdrawn,
            Err(StoreError::Refused(_)) if !possible => {}
            done if planned(&done) => {}
            _ => return Err(format!("{said}; {proposal:?}")),
        }
        Ok(())
    }
}

impl Proposal {
    fn stands_approved_at(&self, place: RecordPlace) -> bool {
        matches!(self.stands, Stands::Approved(_, at) if at == place)
    }
}

/// The crash that the story has in store.
fn planned<T>(done: &Result<T, StoreError>) -> bool {
    matches!(done, Err(StoreError::Refused(why)) if why.contains("as planted"))
}
