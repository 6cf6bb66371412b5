//! An account as it is known: whole, or only the pieces that were loaded.
//!
//! A store loads of an account what the causes of one commit can touch. A piece that is not loaded is an
//! error for whoever asks for it, and never "there is none".

use std::collections::BTreeMap;
use std::fmt::Debug;

use alloy::primitives::B256;

use super::lot::Lot;
use super::refusal::Refusal;
use crate::domain::ids::{ChainId, DepositId};
use crate::domain::journal::{Genesis, JournalId, RecordId, Said};
use crate::domain::money::{Nanocredits, Nanodollars, RawAmount};

/// Pieces of one sort, by their key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pieces<K, V> {
    what: &'static str,
    /// True when what is not here is not there.
    whole: bool,
    /// `None` for a piece that was looked for and is not there.
    pieces: BTreeMap<K, Option<V>>,
}

impl<K: Ord + Debug, V> Pieces<K, V> {
    const fn new(what: &'static str, whole: bool) -> Self {
        Self { what, whole, pieces: BTreeMap::new() }
    }

    pub(super) fn get(&self, key: &K) -> Result<Option<&V>, Refusal> {
        match self.pieces.get(key) {
            Some(piece) => Ok(piece.as_ref()),
            None if self.whole => Ok(None),
            None => Err(Refusal::NotLoaded { what: self.what, key: format!("{key:?}") }),
        }
    }

    /// A piece that is here; none for one that is not, for whatever reason.
    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.pieces.get_mut(key)?.as_mut()
    }

    pub(super) fn put(&mut self, key: K, piece: Option<V>) {
        self.pieces.insert(key, piece);
    }

    fn values(&self) -> impl Iterator<Item = &V> {
        self.pieces.values().flatten()
    }
}

/// The end of a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Number of records.
    pub seq: i64,
    /// Seal of the last one, or the genesis.
    pub seal: B256,
    /// When the last one was recorded; zero before the first.
    pub recorded_at_ms: i64,
}

/// A journal's row: its end, and the sums that are kept with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalRow {
    /// Which journal.
    pub journal: JournalId,
    /// Its genesis.
    pub genesis: Genesis,
    /// Name of the namespace; empty for the house.
    pub name: String,
    /// Its end.
    pub head: Head,
    /// Balance: what the entries on the namespace's account sum to.
    pub posted: Nanocredits,
    /// What was used beyond what was there.
    pub debt: Nanocredits,
    /// How many addresses were bound.
    pub addresses: u64,
}

/// What is known of a record that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Known {
    /// All that a retry of its cause must know.
    Said(Box<Said>),
    /// Its place: enough to find the same id twice in one journal.
    At(i64),
}

/// A credit that a record gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credit {
    /// Place of the record: the id of its lot too.
    pub seq: i64,
    /// The record's id.
    pub record_id: RecordId,
    /// The record's seal.
    pub seal: B256,
    /// The deposit.
    pub deposit: DepositId,
    /// Chain of the deposit.
    pub chain: ChainId,
    /// Block of the sighting credited.
    pub block_hash: B256,
    /// Index of the log in that block.
    pub log_index: u64,
    /// Place of the record that undid it.
    pub reversed_by: Option<i64>,
}

/// What became of a deposit in this journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DepositState {
    /// How many credits of it were undone.
    pub reversals: u32,
    /// Place of the credit that stands.
    pub standing: Option<i64>,
}

/// What a credit's conversion owes, in the journal of the credit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obligation {
    /// Asset owed.
    pub asset: String,
    /// How much of it, base units. More than nothing.
    pub tokens: RawAmount,
    /// Its decimals.
    pub decimals: u8,
    /// What it is owed for.
    pub usd: Nanodollars,
    /// How much of the tokens the treasury has bought. The house's journal says so: this is told.
    pub settled: RawAmount,
    /// Tokens bought before for the same payment, under a credit that was corrected into this one.
    pub carried_tokens: RawAmount,
    /// What those were owed for.
    pub carried_usd: Nanodollars,
}

/// What a conversion owes, as the house's journal sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owing {
    /// Record of the credit.
    pub record_id: RecordId,
    /// The stablecoin that came in.
    pub asset: String,
    /// Asset owed.
    pub into_asset: String,
    /// How much is owed, base units.
    pub tokens: RawAmount,
    /// What it is owed for.
    pub usd: Nanodollars,
    /// How much of the tokens was settled.
    pub settled: RawAmount,
    /// Its credit was undone. Only a store knows: a namespace's journal says so.
    pub void: bool,
}

/// A purchase of the treasury, as the house's journal sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purchase {
    /// Block of the transaction.
    pub block_hash: B256,
    /// Stablecoin paid.
    pub asset: String,
    /// How much, base units.
    pub paid: RawAmount,
    /// Its decimals.
    pub decimals: u8,
    /// Asset bought.
    pub into_asset: String,
    /// How much, base units.
    pub tokens: RawAmount,
    /// How much of that has settled something.
    pub used: RawAmount,
}

/// The account of one journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    pub(super) row: JournalRow,
    pub(super) records: Pieces<RecordId, Known>,
    pub(super) lots: Pieces<i64, Lot>,
    pub(super) credits: Pieces<i64, Credit>,
    pub(super) deposits: Pieces<DepositId, DepositState>,
    pub(super) obligations: Pieces<i64, Obligation>,
    pub(super) owing: Pieces<(JournalId, i64), Owing>,
    pub(super) purchases: Pieces<(ChainId, B256), Purchase>,
    /// True where a retry may come: then records are kept with all that they say.
    pub(super) answers: bool,
}

impl Account {
    /// The account of a journal without any record, whole. `name` is the namespace's; empty for the house.
    pub fn fresh(journal: JournalId, genesis: Genesis, name: &str) -> Self {
        let head = Head { seq: 0, seal: genesis.0, recorded_at_ms: 0 };
        let (posted, debt) = (Nanocredits::ZERO, Nanocredits::ZERO);
        let name = name.to_owned();
        let row = JournalRow { journal, genesis, name, head, posted, debt, addresses: 0 };
        Self::with(row, true)
    }

    /// The account of a journal of which nothing is loaded but its row.
    pub fn at(row: JournalRow) -> Self {
        Self::with(row, false)
    }

    fn with(row: JournalRow, whole: bool) -> Self {
        Self {
            row,
            records: Pieces::new("record", whole),
            lots: Pieces::new("lot", whole),
            credits: Pieces::new("credit", whole),
            deposits: Pieces::new("deposit", whole),
            obligations: Pieces::new("obligation of record", whole),
            owing: Pieces::new("what is owed by record", whole),
            purchases: Pieces::new("purchase", whole),
            answers: true,
        }
    }

    /// What stands under this id: needed by every cause, `None` where nothing does.
    pub fn load_record(&mut self, id: RecordId, said: Option<Said>) {
        self.records.put(id, said.map(|said| Known::Said(Box::new(said))));
    }

    /// What became of a deposit: needed by credits, reversals and corrections of it. The default is that of
    /// a deposit that this journal has never credited.
    pub fn load_deposit(&mut self, deposit: DepositId, state: DepositState) {
        self.deposits.put(deposit, Some(state));
    }

    /// A credit by its place: needed by reversals and corrections of it, `None` where there is none.
    pub fn load_credit(&mut self, seq: i64, credit: Option<Credit>) {
        self.credits.put(seq, credit);
    }

    /// A lot: needed by reversals and corrections of the credit that made it.
    pub fn load_lot(&mut self, lot: Lot) {
        self.lots.put(lot.seq, Some(lot));
    }

    /// What a credit's conversion owes: needed by reversals and corrections of it, `None` where it owes
    /// nothing. Whoever loads it holds its row.
    pub fn load_obligation(&mut self, seq: i64, obligation: Option<Obligation>) {
        self.obligations.put(seq, obligation);
    }

    /// What is owed by a credit of a namespace's journal: needed by settlements, which stand in the
    /// house's. Whoever loads it holds its row.
    pub fn load_owing(&mut self, journal: JournalId, seq: i64, owing: Owing) {
        self.owing.put((journal, seq), Some(owing));
    }

    /// A purchase: needed by settlements with it, `None` where none was settled with it yet.
    pub fn load_purchase(&mut self, chain: ChainId, tx_hash: B256, purchase: Option<Purchase>) {
        self.purchases.put((chain, tx_hash), purchase);
    }

    /// The journal's row as it is now.
    pub const fn row(&self) -> &JournalRow {
        &self.row
    }

    /// Balance: what all lots have left, without the debt.
    pub const fn balance(&self) -> Nanocredits {
        self.row.posted
    }

    /// What was used beyond what was there.
    pub const fn debt(&self) -> Nanocredits {
        self.row.debt
    }

    /// The time of a record that is written now: never before the one before it.
    pub fn time(&self, now_ms: i64) -> i64 {
        now_ms.max(self.row.head.recorded_at_ms)
    }

    /// The lots that are loaded, or all of a whole account, by their id.
    pub fn lots(&self) -> impl Iterator<Item = &Lot> {
        self.lots.values()
    }

    /// The credits that are loaded, or all of a whole account, by their place.
    pub fn credits(&self) -> impl Iterator<Item = &Credit> {
        self.credits.values()
    }

    /// What each loaded conversion is known to owe, by the place of its credit, in the house's account.
    pub fn owings(&self) -> impl Iterator<Item = (JournalId, i64, &Owing)> {
        self.owing
            .pieces
            .iter()
            .filter_map(|((journal, seq), owing)| Some((*journal, *seq, owing.as_ref()?)))
    }

    /// What each loaded conversion owes, by the place of its credit, in a namespace's account.
    pub fn obligations(&self) -> impl Iterator<Item = (i64, &Obligation)> {
        self.obligations.pieces.iter().filter_map(|(seq, owed)| Some((*seq, owed.as_ref()?)))
    }

    /// What all lots have left: the balance and the debt together. Only of a whole account.
    pub fn remaining(&self) -> i128 {
        self.lots.values().map(|lot| i128::from(lot.remaining.0)).fold(0, i128::saturating_add)
    }
}
