//! Entries: the legs of a posting, in units that never mix, and the accounts they stand in.

use serde::{Deserialize, Serialize};

use crate::domain::money::{Nanocredits, Nanodollars};

/// The house account that stands against credits sold. In credits.
pub const ACCOUNT_ISSUED_PAID: &str = "house/issued/paid";
/// Stablecoins that came in for conversions, at their face. In dollars, as all under `treasury/usd/`.
pub const ACCOUNT_TREASURY_RECEIVED: &str = "treasury/usd/received";
/// What conversions owe, at the stablecoins they brought in.
pub const ACCOUNT_TREASURY_OBLIGATIONS: &str = "treasury/usd/obligations";
/// What the treasury paid for tokens.
pub const ACCOUNT_TREASURY_PURCHASES: &str = "treasury/usd/purchases";
/// The difference between what was owed and what was paid: a debit is a loss.
pub const ACCOUNT_TREASURY_SLIPPAGE: &str = "treasury/usd/slippage";

const NAMESPACE: &str = "namespace/";

/// The account of a namespace: what the house owes it. Below zero, the namespace owes the house.
pub fn namespace_account(name: &str) -> String {
    format!("{NAMESPACE}{name}")
}

/// True for an account that belongs to no namespace.
pub fn is_house_account(account: &str) -> bool {
    unit_of(account).is_some() && !account.starts_with(NAMESPACE)
}

/// The unit that an account is kept in; `None` for an account that there is not.
pub fn unit_of(account: &str) -> Option<Unit> {
    match account {
        ACCOUNT_ISSUED_PAID => Some(Unit::Credits),
        ACCOUNT_TREASURY_RECEIVED
        | ACCOUNT_TREASURY_OBLIGATIONS
        | ACCOUNT_TREASURY_PURCHASES
        | ACCOUNT_TREASURY_SLIPPAGE => Some(Unit::Usd),
        other => other.starts_with(NAMESPACE).then_some(Unit::Credits),
    }
}

/// What an amount counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Billionths of a credit.
    Credits,
    /// Billionths of a dollar.
    Usd,
}

impl Unit {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Credits, Self::Usd];

    /// The word stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Credits => "credits",
            Self::Usd => "usd",
        }
    }

    /// Reads the word back.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|unit| unit.as_str() == word)
    }
}

/// The side of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// Debit: the house's issue of credits, or what the treasury received.
    Debit,
    /// Credit: what a namespace may spend grows, or what the treasury owes.
    Credit,
}

impl Side {
    /// The word stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Debit => "debit",
            Self::Credit => "credit",
        }
    }

    /// Reads the word back.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Debit, Self::Credit].into_iter().find(|side| side.as_str() == word)
    }
}

/// A number with its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// Of credits.
    Credits(Nanocredits),
    /// Of dollars.
    Dollars(Nanodollars),
}

impl Amount {
    /// An amount as it is stored: its unit and its number.
    pub const fn of(unit: Unit, nano: i64) -> Self {
        match unit {
            Unit::Credits => Self::Credits(Nanocredits(nano)),
            Unit::Usd => Self::Dollars(Nanodollars(nano)),
        }
    }

    /// Its unit.
    pub const fn unit(self) -> Unit {
        match self {
            Self::Credits(_) => Unit::Credits,
            Self::Dollars(_) => Unit::Usd,
        }
    }

    /// Its number, in billionths of the unit.
    pub const fn nano(self) -> i64 {
        match self {
            Self::Credits(Nanocredits(nano)) | Self::Dollars(Nanodollars(nano)) => nano,
        }
    }
}

/// One leg of a posting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Account.
    pub account: String,
    /// Side.
    pub side: Side,
    /// Always positive, in the account's unit.
    pub amount: Amount,
}

impl Entry {
    /// A leg that adds to the debit side of an account.
    pub fn debit(account: impl Into<String>, amount: Amount) -> Self {
        Self { account: account.into(), side: Side::Debit, amount }
    }

    /// A leg that adds to the credit side of an account.
    pub fn credit(account: impl Into<String>, amount: Amount) -> Self {
        Self { account: account.into(), side: Side::Credit, amount }
    }
}

/// True when, within each unit, debits equal credits, every amount is positive and every account is kept
/// in the unit of its amount. True of no entries at all.
pub fn balanced(entries: &[Entry]) -> bool {
    let sound =
        entries.iter().all(|e| e.amount.nano() > 0 && unit_of(&e.account) == Some(e.amount.unit()));
    let sum = |unit: Unit| {
        entries.iter().filter(|e| e.amount.unit() == unit).try_fold(0i128, |sum, e| {
            let nano = i128::from(e.amount.nano());
            match e.side {
                Side::Debit => sum.checked_add(nano),
                Side::Credit => sum.checked_sub(nano),
            }
        })
    };
    sound && Unit::ALL.into_iter().all(|unit| sum(unit) == Some(0))
}
