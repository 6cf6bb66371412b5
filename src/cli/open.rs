//! The database and the configuration, as all commands open and look them up.

use std::io::ErrorKind;
use std::sync::{Arc, OnceLock};

use alloy::primitives::Address;

use crate::cli::error::CliError;
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::domain::chain_rules::ChainRules;
use crate::domain::ids::{ChainId, NamespaceName, Network};
use crate::domain::pricing::Token;
use crate::store::{Store, StoreError, seen_beside};

/// What a command opened.
pub(super) static OPENED: OnceLock<Store> = OnceLock::new();

/// The store of a configuration that is there already. It is closed when the command is done.
pub(super) async fn open(config: &Config) -> Result<Store, CliError> {
    Ok(opened(config).await?)
}

/// The same, with why it cannot be had. Whoever asks first opens it, and everybody gets that one.
pub(super) async fn opened(config: &Config) -> Result<Store, StoreError> {
    if let Some(store) = OPENED.get() {
        return Ok(store.clone());
    }
    let store = Store::open_existing(&config.database, config.network).await?;
    recall(&store, config).await?;
    Ok(OPENED.get_or_init(|| store).clone())
}

/// What daemons have seen of the database, where this user may know it.
pub(super) async fn recall(store: &Store, config: &Config) -> Result<(), StoreError> {
    let Some(key_file) = &config.log.key_file else { return Ok(()) };
    match std::fs::File::open(seen_beside(key_file)) {
        Err(e) if e.kind() == ErrorKind::PermissionDenied => {
            store.cannot_recall(key_file);
            Ok(())
        }
        _ => store.recall(key_file).await,
    }
}

/// The time that the configuration's database goes by. On a testnet it may have been moved; where there is no
/// database yet, and on mainnet, it is this machine's.
pub(super) async fn clock_of(config: &Config) -> Result<Arc<dyn Clock>, CliError> {
    if config.network == Network::Mainnet {
        return Ok(Arc::new(SystemClock));
    }
    match opened(config).await {
        Ok(store) => Ok(store.clock()),
        Err(StoreError::NoDatabase { .. } | StoreError::NoTables { .. }) => {
            Ok(Arc::new(SystemClock))
        }
        Err(error) => Err(error.into()),
    }
}

/// A namespace that is to be listed by must be there.
pub(super) async fn known_namespace(
    store: &Store,
    name: Option<&NamespaceName>,
) -> Result<(), CliError> {
    match name {
        Some(name) if !store.has_namespace(name).await? => Err(CliError::BadInput(format!(
            "no namespace is called {name}; topupd namespace list shows them"
        ))),
        _ => Ok(()),
    }
}

/// The name of a chain in the configuration; none where it is not there any more.
pub(super) fn chain_name(config: &Config, chain: ChainId) -> Option<&str> {
    rules_of(config, chain).map(|rules| rules.name.as_str())
}

/// The configured chain of this id, if there is one.
pub(super) fn rules_of(config: &Config, chain: ChainId) -> Option<&ChainRules> {
    config.chains.iter().map(|c| &c.rules).find(|rules| rules.id == chain)
}

/// The configured token at an address of a chain, if there is one.
pub(super) fn token_at(config: &Config, chain: u64, address: Address) -> Option<&Token> {
    rules_of(config, ChainId(chain))?.token(&address)
}
