//! What a demo holds while it runs: chain, daemon, payers, and every payment that was made.

use std::collections::BTreeMap;
use std::path::PathBuf;

use alloy::primitives::{Address, Bytes, TxHash};

use crate::cli::demo::market::DemoMarket;
use crate::cli::demo::screen::Screen;
use crate::cli::demo::setup::Server;
use crate::config::Config;
use crate::daemon::Daemon;
use crate::devnet::{Devnet, Payer};
use crate::domain::chain_rules::ChainRules;
use crate::domain::money::RawAmount;
use crate::domain::pricing::Token;
use crate::store::Store;

/// A payment, as the payer knows it.
pub(in crate::cli) struct Payment {
    pub(in crate::cli) raw_tx: Bytes,
    pub(in crate::cli) sender: Address,
    pub(in crate::cli) token: Token,
    pub(in crate::cli) to: Address,
    pub(in crate::cli) amount: RawAmount,
    pub(in crate::cli) namespace: &'static str,
}

pub(in crate::cli) struct Demo {
    pub(in crate::cli) net: Devnet,
    /// `None` when daemons are started elsewhere.
    pub(in crate::cli) daemon: Option<Daemon>,
    pub(in crate::cli) store: Store,
    pub(in crate::cli) config: Config,
    /// Where the configuration is.
    pub(in crate::cli) path: PathBuf,
    /// With --tge.
    pub(in crate::cli) market: Option<DemoMarket>,
    /// A throwaway server, removed with the demo.
    pub(in crate::cli) server: Option<Server>,
    pub(in crate::cli) rules: ChainRules,
    pub(in crate::cli) random: fastrand::Rng,
    pub(in crate::cli) addresses: Vec<(Address, &'static str)>,
    pub(in crate::cli) payer: Payer,
    /// What no reorg may replace: the tokens, and what the payers have of them.
    pub(in crate::cli) setup_height: u64,
    pub(in crate::cli) payments: BTreeMap<TxHash, Payment>,
    pub(in crate::cli) order: Vec<TxHash>,
    pub(in crate::cli) screen: Screen,
    pub(in crate::cli) reorgs: u64,
}
