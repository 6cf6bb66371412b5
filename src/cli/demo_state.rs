//! What a demo holds while it runs: chain, daemon, payers, and every payment that was made.

use std::collections::BTreeMap;
use std::path::PathBuf;

use alloy::primitives::{Address, Bytes, TxHash};

use crate::cli::demo_market::DemoMarket;
use crate::cli::demo_screen::Screen;
use crate::cli::demo_setup::Server;
use crate::config::Config;
use crate::daemon::Daemon;
use crate::devnet::{Devnet, Payer};
use crate::domain::chain_rules::ChainRules;
use crate::domain::money::RawAmount;
use crate::domain::pricing::Token;
use crate::store::Store;

/// A payment, as the payer knows it.
pub(super) struct Payment {
    pub(super) raw_tx: Bytes,
    pub(super) sender: Address,
    pub(super) token: Token,
    pub(super) to: Address,
    pub(super) amount: RawAmount,
    pub(super) namespace: &'static str,
}

pub(super) struct Demo {
    pub(super) net: Devnet,
    /// `None` when daemons are started elsewhere.
    pub(super) daemon: Option<Daemon>,
    pub(super) store: Store,
    pub(super) config: Config,
    /// Where the configuration is.
    pub(super) path: PathBuf,
    /// With --tge.
    pub(super) market: Option<DemoMarket>,
    /// A throwaway server, removed with the demo.
    pub(super) server: Option<Server>,
    pub(super) rules: ChainRules,
    pub(super) random: fastrand::Rng,
    pub(super) addresses: Vec<(Address, &'static str)>,
    pub(super) payer: Payer,
    /// What no reorg may replace: the tokens, and what the payers have of them.
    pub(super) setup_height: u64,
    pub(super) payments: BTreeMap<TxHash, Payment>,
    pub(super) order: Vec<TxHash>,
    pub(super) screen: Screen,
    pub(super) reorgs: u64,
}
