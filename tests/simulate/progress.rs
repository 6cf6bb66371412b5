//! What must become of each payment, and how far the chain may be followed.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::{Address, TxHash};
use topupd::domain::deposit::Stage;
use topupd::domain::finality::Verify;
use topupd::domain::ids::Cursor;
use topupd::domain::waiting::Waiting;
use topupd::store::DepositFilter;
use topupd::tasks::settle::waiting::what_they_wait_for;

use super::WINDOW;
use super::market;
use super::money::counted_once;
use super::plan::Valued;
use super::story::{CHAIN, Failure, Sim, address, name};
use super::turns::MOVERS;

/// Steps after a failure for which a provider may be left alone.
const SILENCE: u64 = 15;

/// What must become of a payment on the final chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is credited.
    Credited,
    /// It may be credited or not, but it is accounted for.
    Either,
    /// It is not new money.
    Never,
    /// Nobody may ever have shown it.
    Unseen,
}

/// What a payment that is deep enough can wait for, as it says itself.
fn is_one(code: &str) -> bool {
    let others = ["second_provider", "provider", "providers_contradict"];
    others.contains(&code) || ["receipt_missing", "proof", "backfill"].contains(&code)
}

/// A payment on the final chain: transaction, token, recipient and which one of them.
pub(super) type Key = (TxHash, Address, Address, u32);

/// What is true of it.
#[derive(Debug)]
pub(super) struct Paid {
    pub(super) fate: Fate,
    /// Its credit, as a line.
    pub(super) line: String,
    pub(super) from: Address,
    /// Its block, and its place in it.
    pub(super) at: (u64, usize),
}

impl Sim {
    /// Every payment to us on the final chain: what must become of it, and its credit as a line.
    pub(super) fn paid(&self) -> BTreeMap<Key, Paid> {
        let world = self.world.get();
        let mut all = BTreeMap::new();
        for number in 0..=world.head().header.number {
            let block = world.at(world.head, number).unwrap();
            let mut place = 0;
            for tx in &block.txs {
                let mut n: BTreeMap<(Address, Address), u32> = BTreeMap::new();
                for payment in &tx.payments {
                    let at = (number, place);
                    place += 1;
                    let Some(i) = (0..6).find(|i| address(*i) == payment.to) else { continue };
                    let count = n.entry((payment.token, payment.to)).or_default();
                    let key = (tx.hash, payment.token, payment.to, *count);
                    let by = self.people.by(&key, block.header.hash);
                    let nano = match self.plan.valued {
                        Valued::Par => {
                            u128::from(payment.amount) * 1_000_000 * u128::from(by.epoch)
                        }
                        valued => market::worth(&world, payment, block, valued, by),
                    };
                    let line = format!(
                        "\"{}\" \"{}\" \"{:#x}\" \"{:#x}\" {count} \"{}\" {nano}",
                        name(i).as_str(),
                        tx.hash,
                        payment.token,
                        payment.to,
                        block.header.hash,
                    );
                    let (from, fate) = (payment.from, self.fate(payment.from, i, payment.token));
                    all.insert(key, Paid { fate, line, from, at });
                    *count += 1;
                }
            }
        }
        all
    }

    fn fate(&self, from: Address, to: usize, token: Address) -> Fate {
        let late = to > 1 || token != self.rules.tokens[0].address;
        if self.plan.omits && late {
            return Fate::Unseen;
        }
        if from == address(to) || from == address(MOVERS[0]) {
            return Fate::Never;
        }
        // Whether it was ours when it was judged, or whether its coins went round, is another question.
        let moved = MOVERS.iter().any(|i| from == address(*i) || to == *i);
        // And a node whose logs contradict its receipts may be the only one that is asked.
        let against_itself = self.plan.omits && self.plan.verify == Verify::SameProvider;
        let may_stay_unproved = self.plan.unproved && !self.plan.fallback;
        if (self.plan.moves && moved) || self.plan.per_tx > 0 || against_itself || may_stay_unproved
        {
            return Fate::Either;
        }
        Fate::Credited
    }

    /// Payments that should be credited or say why they are not, and do neither. Those of which
    /// there is no row at all are left out where somebody may hide them until the second pass.
    pub(super) async fn unaccounted(&self, may_be_hidden: bool) -> Result<Vec<String>, Failure> {
        let fail = |e: topupd::store::StoreError| e.to_string();
        let rows = self.store.addresses(None, i64::MAX).await.map_err(fail)?;
        let ours: BTreeSet<Address> = rows.into_iter().map(|row| row.address).collect();
        let listed: BTreeSet<Address> = self.rules.tokens.iter().map(|t| t.address).collect();
        let filter = DepositFilter { limit: 10_000, ..Default::default() };
        let rows = self.store.deposits(&filter).await.map_err(fail)?;
        let waits = what_they_wait_for(&[&self.rules], &self.store, &rows).await.map_err(fail)?;
        let stages: BTreeMap<Key, (Stage, Option<Waiting>)> = rows
            .into_iter()
            .zip(waits)
            .map(|(d, wait)| ((d.tx_hash, d.token, d.recipient, d.n), (d.stage, wait)))
            .collect();
        let mut open = Vec::new();
        for (key, Paid { fate, line, .. }) in self.paid() {
            if !ours.contains(&key.2) || !listed.contains(&key.1) {
                continue;
            }
            let stands = stages.get(&key);
            let reason = stands.and_then(|(_, wait)| wait.as_ref()).map(|wait| wait.code);
            match stands.map(|(stage, _)| stage) {
                Some(Stage::Credited | Stage::Ignored(_)) => {}
                // It says why, also where it may wait for good.
                Some(Stage::Held(_)) if reason.is_some() => {}
                Some(Stage::Pending) if fate != Fate::Credited && reason.is_some_and(is_one) => {}
                None if fate == Fate::Unseen || may_be_hidden => {}
                None if self.plan.few_count_alike() => {}
                _ => open.push(format!("{line}: {stands:?}")),
            }
        }
        Ok(open)
    }

    /// The ledger is that of the final chain.
    pub(super) async fn compare_ledger(&mut self) -> Result<usize, Failure> {
        let ours = self.standing().await;
        let paid = self.paid();
        let lines = |fates: &[Fate]| -> BTreeSet<String> {
            let of = paid.values().filter(|p| fates.contains(&p.fate));
            of.map(|p| p.line.clone()).collect()
        };
        let must = lines(&[Fate::Credited]);
        let may = lines(&[Fate::Credited, Fate::Either, Fate::Unseen]);
        if !must.is_subset(&ours) || !ours.is_subset(&may) {
            let missing: Vec<_> = must.difference(&ours).collect();
            let invented: Vec<_> = ours.difference(&may).collect();
            let rows = self.open_rows().await;
            return Err(format!("missing {missing:#?}, too many {invented:#?}\n{rows}"));
        }
        counted_once(&paid, &ours)?;
        let open = self.unaccounted(false).await?;
        if !open.is_empty() {
            return Err(format!("without a reason: {open:#?}\n{}", self.open_rows().await));
        }
        Ok(ours.len())
    }

    /// The chain is followed no further than an honest provider has it; and alone, where nobody else
    /// answered for a while, half of what can be taken back.
    pub(super) async fn check_cursor(&mut self) -> Result<(), Failure> {
        let state = self.store.chain_state(CHAIN, WINDOW).await.map_err(|e| e.to_string())?;
        let Cursor::At(cursor) = state.cursor else { return Ok(()) };
        if self.cursor_seen.replace(cursor) == Some(cursor) || !self.plan.company {
            return Ok(());
        }
        let (mut top, mut silent) = (0, false);
        for (i, provider) in self.pool.all().enumerate() {
            if Some(i) != self.plan.liar {
                let state = provider.state.lock().unwrap();
                top = state.top.max(top);
                let failed = state.failed_in.is_some_and(|step| step + SILENCE >= self.step);
                silent |= failed || !self.pool.is_admitted(provider);
            }
        }
        let is_real = self.world.get().blocks.contains_key(&cursor.hash);
        let alone = if silent { WINDOW / 2 } else { 0 };
        if (cursor.number > top || !is_real) && cursor.number > top + alone {
            return Err(format!(
                "the cursor is at {}, the highest honest block at {top}; real: {is_real}, silent: {silent}",
                cursor.number
            ));
        }
        Ok(())
    }
}
