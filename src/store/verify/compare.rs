//! The rows that a record makes, beside the rows that there are: column by column.

use super::finding::{Findings, Remedy};
use super::page::{Key, Page};
use crate::domain::account::{Effects, Lot, ObligationRow};
use crate::domain::money::RawAmount;

/// A record's name, for people: the namespace (or `house`) and its number.
pub(super) fn named(namespace: &str, seq: i64) -> String {
    let journal = if namespace.is_empty() { "house" } else { namespace };
    format!("{journal}/{seq}")
}

/// Takes the rows of a record out of the page, and says where they differ from what it makes.
pub(super) struct Compared<'a> {
    pub(super) found: &'a mut Findings,
    pub(super) page: &'a mut Page,
    pub(super) key: Key,
    pub(super) name: String,
}

const MISSING: &str = "the row that its record makes is gone";
/// The same of a row that a credit rests on.
pub(super) const MISSING_ROW: &str = "the row is gone, or does not agree with the others";

impl Compared<'_> {
    /// All of them.
    pub(super) fn with(&mut self, made: &Effects) {
        self.lots(made);
        self.moves(made);
        self.credits(made);
        self.obligations(made);
        self.settlements(made);
    }

    fn put_back(&mut self, table: &'static str, problem: &str) {
        self.found.add(table, &self.name, problem, Remedy::PutBack);
    }

    fn not_ours(&mut self, table: &'static str) {
        self.found.add(table, &self.name, "its record makes no such row", Remedy::NotOurs);
    }

    /// Names the columns that differ.
    fn columns(&mut self, table: &'static str, claims: &[(bool, &str)]) {
        for (_, column) in claims.iter().filter(|(same, _)| !same) {
            let problem = format!("{column} is not what its record makes it");
            self.found.add(table, &self.name, problem, Remedy::PutBack);
        }
    }

    fn lots(&mut self, made: &Effects) {
        let stored = self.page.lots.remove(&self.key);
        let moved = self.page.moved.remove(&self.key).unwrap_or(0);
        match (made.lots.first(), stored) {
            (None, None) => {}
            (None, Some(_)) => self.not_ours("lots"),
            (Some(_), None) => self.put_back("lots", MISSING),
            (Some(made), Some(stored)) => self.lot(made, &stored, moved),
        }
    }

    fn lot(&mut self, made: &Lot, stored: &Lot, moved: i128) {
        let (paid, was) = (made.consideration.as_ref(), stored.consideration.as_ref());
        self.columns(
            "lots",
            &[
                (made.kind == stored.kind, "kind"),
                (made.priority == stored.priority, "priority"),
                (made.scope == stored.scope, "scope"),
                (made.amount == stored.amount, "amount_nano"),
                (made.effective_at_ms == stored.effective_at_ms, "effective_at_ms"),
                (made.expires_at_ms == stored.expires_at_ms, "expires_at_ms"),
                (paid.map(|c| &c.asset) == was.map(|c| &c.asset), "consideration_asset"),
                (paid.map(|c| c.raw) == was.map(|c| c.raw), "consideration_raw"),
                (paid.map(|c| c.decimals) == was.map(|c| c.decimals), "consideration_decimals"),
                (paid.map(|c| c.usd) == was.map(|c| c.usd), "consideration_usd_nano"),
            ],
        );
        let left = i128::from(made.amount.0).saturating_add(moved);
        if i128::from(stored.remaining.0) != left {
            let problem = format!(
                "remaining_nano is {}, and its amount with its moves is {left}",
                stored.remaining.0
            );
            self.found.add("lots", &self.name, problem, Remedy::Recount);
        }
    }

    fn moves(&mut self, made: &Effects) {
        let stored = self.page.moves.remove(&self.key).unwrap_or_default();
        for (n, wanted) in (0i64..).zip(&made.lot_moves) {
            match stored.iter().find(|(at, _)| *at == n) {
                None => self.put_back("lot_moves", MISSING),
                Some((_, stored)) => self.columns(
                    "lot_moves",
                    &[
                        (wanted.lot == stored.lot, "lot_seq"),
                        (wanted.amount == stored.amount, "amount_nano"),
                        (wanted.reason == stored.reason, "reason"),
                    ],
                ),
            }
        }
        let known = i64::try_from(made.lot_moves.len()).unwrap_or(i64::MAX);
        if stored.iter().any(|(n, _)| !(0..known).contains(n)) {
            self.not_ours("lot_moves");
        }
    }

    fn credits(&mut self, made: &Effects) {
        match (made.credits.first(), self.page.credits.remove(&self.key)) {
            (None, None) => {}
            (None, Some(_)) => self.not_ours("credits"),
            (Some(_), None) => self.put_back("credits", MISSING),
            (Some(made), Some(stored)) => self.columns(
                "credits",
                &[
                    (made.deposit == stored.deposit, "deposit_id"),
                    (made.block_hash == stored.block_hash, "block_hash"),
                    (made.log_index == stored.log_index, "log_index"),
                ],
            ),
        }
    }

    fn obligations(&mut self, made: &Effects) {
        let stored = self.page.obligations.remove(&self.key);
        let (tokens, usd) = self.page.settled.remove(&self.key).unwrap_or((RawAmount::ZERO, 0));
        match (made.obligations.first(), stored) {
            (None, None) => {
                if tokens > RawAmount::ZERO {
                    let problem = "a part of it is settled, and it owes nothing";
                    self.found.add("settlements", &self.name, problem, Remedy::NotOurs);
                }
            }
            (None, Some(_)) => self.not_ours("obligations"),
            (Some(_), None) => self.put_back("obligations", MISSING),
            (Some(made), Some(stored)) => {
                let (owed, was) = (&made.owed, &stored.owed);
                self.columns(
                    "obligations",
                    &[
                        (made.chain.0 == stored.chain_id, "chain_id"),
                        (made.asset == stored.asset, "asset"),
                        (made.raw == stored.raw, "raw_amount"),
                        (made.decimals == stored.decimals, "decimals"),
                        (owed.asset == was.asset, "into_asset"),
                        (owed.tokens == was.tokens, "tokens"),
                        (owed.decimals == was.decimals, "token_decimals"),
                        (owed.usd == was.usd, "usd_nano"),
                        (owed.carried_tokens == was.carried_tokens, "carried_tokens"),
                        (owed.carried_usd == was.carried_usd, "carried_usd_nano"),
                        (made.effective_at_ms == stored.effective_at_ms, "effective_at_ms"),
                    ],
                );
                let sums = (was.settled, i128::from(stored.settled_usd.0));
                self.settled(made, sums, (tokens, usd));
            }
        }
    }

    /// What is kept as settled is what the settlements sum to, and no more than is owed.
    fn settled(&mut self, made: &ObligationRow, kept: (RawAmount, i128), sums: (RawAmount, i128)) {
        if kept.0 != sums.0 {
            let problem =
                format!("settled_tokens is {}, its settlements are {}", kept.0.0, sums.0.0);
            self.found.add("obligations", &self.name, problem, Remedy::Recount);
        }
        if kept.1 != sums.1 {
            let problem = format!("settled_usd_nano is {}, its settlements are {}", kept.1, sums.1);
            self.found.add("obligations", &self.name, problem, Remedy::Recount);
        }
        if sums.0 > made.owed.tokens {
            let problem = "more of it is settled than it owes";
            self.found.add("settlements", &self.name, problem, Remedy::PutBack);
        }
    }

    fn settlements(&mut self, made: &Effects) {
        let stored = match made.journal.is_house() {
            true => self.page.settlements.remove(&self.key.1),
            false => None,
        };
        match (made.settlements.first(), stored) {
            (None, None) => {}
            (None, Some(_)) => self.not_ours("settlements"),
            (Some(_), None) => self.put_back("settlements", MISSING),
            (Some(made), Some(stored)) => self.columns(
                "settlements",
                &[
                    (made.obligation_journal.0 == stored.obligation.0, "journal_id"),
                    (made.obligation_seq == stored.obligation.1, "credit_seq"),
                    (made.chain.0 == stored.chain_id, "chain_id"),
                    (made.tx_hash == stored.tx_hash, "tx_hash"),
                    (made.tokens == stored.tokens, "tokens"),
                    (made.owed_usd == stored.owed_usd, "owed_usd_nano"),
                    (made.paid_usd == stored.paid_usd, "paid_usd_nano"),
                ],
            ),
        }
    }
}

/// Rows of a record that cannot be followed, so that they are not taken for rows of none.
pub(super) fn discard(page: &mut Page, key: Key) {
    page.entries.remove(&key);
    page.lots.remove(&key);
    page.moved.remove(&key);
    page.moves.remove(&key);
    page.credits.remove(&key);
    page.obligations.remove(&key);
    page.settled.remove(&key);
    if key.0 == 0 {
        page.settlements.remove(&key.1);
    }
}

/// What is left in a page belongs to no record.
pub(super) fn strays(found: &mut Findings, page: &Page) {
    let name = |key: &Key| format!("journal {}, record {}", key.0, key.1);
    let keys = [
        ("entries", page.entries.keys().collect::<Vec<_>>()),
        ("lots", page.lots.keys().collect()),
        ("lot_moves", page.moves.keys().collect()),
        ("lot_moves", page.moved.keys().collect()),
        ("credits", page.credits.keys().collect()),
        ("obligations", page.obligations.keys().collect()),
        ("settlements", page.settled.keys().collect()),
    ];
    for (table, keys) in keys {
        for key in keys {
            found.add(table, name(key), "belongs to no record", Remedy::NotOurs);
        }
    }
    for seq in page.settlements.keys() {
        found.add("settlements", name(&(0, *seq)), "belongs to no record", Remedy::NotOurs);
    }
}
