//! The account after a record. What does not add up changes nothing.

use alloy::primitives::B256;

use super::effects::Effects;
use super::refusal::Refusal;
use super::state::{Account, Credit, Known};
use crate::domain::journal::{Record, Said, Side, namespace_account};

impl Account {
    /// Moves the account on by a record and the rows it makes. `cause_hash` is that of the record's cause.
    ///
    /// # Errors
    /// [`Refusal::Contradiction`], where the record does not follow the last one, or where lots, debt,
    /// entries and balance do not move by the same amount: the account is as it was then.
    pub fn apply(
        &mut self,
        record: &Record,
        effects: &Effects,
        cause_hash: B256,
    ) -> Result<(), Refusal> {
        let follows = record.seq == effects.seq
            && self.row.head.seq.checked_add(1) == Some(effects.seq)
            && record.prev == self.row.head.seal
            && record.recorded_at_ms >= self.row.head.recorded_at_ms;
        if !follows {
            return Err(Refusal::Contradiction("seq"));
        }
        self.adds_up(effects)?;
        self.take_lots(effects);
        self.take_credits(record, effects);
        for row in &effects.settlements {
            let obligation = (row.obligation_journal, row.obligation_seq);
            self.owing.put(obligation, Some(row.owing.clone()));
            self.purchases.put((row.chain, row.tx_hash), Some(row.purchase.clone()));
        }
        let known = if self.answers {
            Known::Said(Box::new(Said::of(record, cause_hash)))
        } else {
            Known::At(record.seq)
        };
        self.records.put(record.id, Some(known));
        let row = &mut self.row;
        (row.posted, row.debt, row.addresses) = (effects.balance, effects.debt, effects.bound);
        row.head.seq = record.seq;
        row.head.seal = record.seal;
        row.head.recorded_at_ms = record.recorded_at_ms;
        Ok(())
    }

    /// Balance = what all lots have left − debt = what the entries sum to, before and after.
    fn adds_up(&self, effects: &Effects) -> Result<(), Refusal> {
        let mut lots = 0i128;
        for lot in &effects.lots {
            lots = lots.saturating_add(i128::from(lot.remaining.0));
        }
        for (seq, left) in &effects.remaining {
            let lot = self.lots.get(seq)?.ok_or(Refusal::Contradiction("lots"))?;
            let moved = i128::from(left.0).saturating_sub(i128::from(lot.remaining.0));
            lots = lots.saturating_add(moved);
        }
        let balance = i128::from(effects.balance.0).saturating_sub(i128::from(self.row.posted.0));
        let debt = i128::from(effects.debt.0).saturating_sub(i128::from(self.row.debt.0));
        let account = namespace_account(&self.row.name);
        let entries = effects.entries.iter().filter(|e| e.account == account).fold(0, |sum, e| {
            let nano = i128::from(e.amount.nano());
            match e.side {
                Side::Credit => nano.saturating_add(sum),
                Side::Debit => i128::saturating_sub(sum, nano),
            }
        });
        let sound = balance == lots.saturating_sub(debt)
            && balance == entries
            && effects.debt.0 >= 0
            && effects.lots.iter().all(|lot| (0..=lot.amount.0).contains(&lot.remaining.0))
            && effects.remaining.iter().all(|(_, left)| left.0 >= 0);
        if sound { Ok(()) } else { Err(Refusal::Contradiction("balance")) }
    }

    fn take_lots(&mut self, effects: &Effects) {
        for (seq, left) in &effects.remaining {
            if let Some(lot) = self.lots.get_mut(seq) {
                lot.remaining = *left;
            }
        }
        for lot in &effects.lots {
            self.lots.put(lot.seq, Some(lot.clone()));
        }
    }

    fn take_credits(&mut self, record: &Record, effects: &Effects) {
        for seq in &effects.undone {
            let Some(credit) = self.credits.get_mut(seq) else { continue };
            credit.reversed_by = Some(record.seq);
            if let Some(deposit) = self.deposits.get_mut(&credit.deposit) {
                deposit.standing = None;
                deposit.reversals = deposit.reversals.saturating_add(1);
            }
        }
        for row in &effects.credits {
            self.credits.put(
                record.seq,
                Some(Credit {
                    seq: record.seq,
                    record_id: record.id,
                    seal: record.seal,
                    deposit: row.deposit,
                    chain: row.chain,
                    block_hash: row.block_hash,
                    log_index: row.log_index,
                    reversed_by: None,
                }),
            );
            let mut deposit = self.deposits.get_mut(&row.deposit).copied().unwrap_or_default();
            deposit.standing = Some(record.seq);
            self.deposits.put(row.deposit, Some(deposit));
            let owed = effects.obligations.first().map(|made| made.owed.clone());
            self.obligations.put(record.seq, owed);
        }
    }
}
