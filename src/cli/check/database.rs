//! `check`, of the database: whether `run` would take the configuration with what is stored.

use crate::cli::db::missing_text;
use crate::cli::error::CliError;
use crate::cli::log::health::about_log;
use crate::cli::print::print;
use crate::config::Config;
use crate::daemon::parts::StartError;
use crate::domain::wallet::AccountXpub;
use crate::store::{KnownKey, Standing, Store, StoreError};

/// Compares the configuration with the database, says what it finds, and counts it.
pub(in crate::cli) async fn check_database(
    config: &Config,
    found: &mut Found,
) -> Result<(), CliError> {
    let store = match Store::open_existing(&config.database, config.network).await {
        Ok(store) => store,
        Err(StoreError::NoDatabase { .. }) => {
            print("ok     database: it is not there yet: `run` creates it")?;
            return first_key(config, found);
        }
        Err(StoreError::NoTables { .. }) => {
            print("ok     database: it is empty: `run` begins it")?;
            return first_key(config, found);
        }
        Err(error) => return found.failed("", error),
    };
    match store.missing_of_schema().await {
        Ok(missing) => {
            if let Some(missing) = missing_text(&missing) {
                found.looks = true;
                print(&format!("WARNING  database: {missing}"))?;
            }
        }
        Err(error) => found.failed("schema: ", error)?,
    }
    match store.check_epochs(&config.epochs).await {
        Ok(0) => print("ok     database: epochs: as they are stored").map(drop)?,
        Ok(new) => print(&format!(
            "ok     database: epochs: {new} new one(s), which the next `run` stores; they cannot be changed after that"
        ))
        .map(drop)?,
        Err(error) => found.failed("epochs: ", error)?,
    }
    if let Some(xpub) = &config.account_xpub {
        match store.known_key(xpub).await {
            Ok(known) => key(&known, found)?,
            Err(error) => found.failed("", error)?,
        }
    }
    registered(config, &store).await?;
    log(config, &store, found).await?;
    // It may be there, and say nothing of this.
    for chain in store.left_chains(&config.chain_ids()).await.unwrap_or_default() {
        print(&format!("WARNING  {chain}"))?;
    }
    store.close().await;
    Ok(())
}

/// The key of a database that has given no address.
fn first_key(config: &Config, found: &mut Found) -> Result<(), CliError> {
    match config.account_xpub.as_ref().map(AccountXpub::receiving) {
        Some(Err(why)) => found.wrong(&format!("wallet.account_xpub {why}")),
        _ => Ok(()),
    }
}

fn key(known: &KnownKey, found: &mut Found) -> Result<(), CliError> {
    if let Some(differs) = known.differs() {
        found.looks = true;
        return print(&format!(
            "WARNING  database: {differs}. `topupd address new` refuses it without --new-wallet"
        ))
        .map(drop);
    }
    let state = match known.standing {
        Standing::First => "no address was derived yet".to_owned(),
        _ => format!("the key in use, its next address is {}", known.next_index),
    };
    let old = if known.is_documented {
        String::new()
    } else {
        let first = known.key.address(0).map_or_else(|e| e.to_string(), |a| a.to_checksum(None));
        format!(
            "; it was taken before the depth of keys was checked, and goes on with its own children (address 0 is {first}), which most wallets do not show"
        )
    };
    print(&format!("ok     database: wallet.account_xpub: {state}{old}")).map(drop)
}

/// Whether the log goes on, and whether the configured key is the one that signs it.
async fn log(config: &Config, store: &Store, found: &mut Found) -> Result<(), CliError> {
    let signer = config.log.signer();
    let health = store.log_health(signer.as_ref().ok().and_then(Option::as_ref)).await;
    let (log, mut looks) = match (store.log_state().await, health) {
        (Ok(log), Ok(looks)) => (log, looks),
        (Err(error), _) | (_, Err(error)) => return found.failed("the log: ", error),
    };
    looks.extend(signer.err().map(|why| why.to_string()));
    for look in about_log(looks.clone()) {
        found.looks = true;
        print(&format!("WARNING  database: {look}"))?;
    }
    if !looks.is_empty() {
        return Ok(());
    }
    let origin = &log.origin;
    match (&log.key, &config.log.key_file) {
        (Some(key), Some(_)) => print(&format!(
            "ok     database: the log {origin}: log.key_file has its registered key, {key}"
        )),
        (Some(key), None) => print(&format!(
            "ok     database: the log {origin}: signed with {key}, and log.key_file names none: other daemons add to it"
        )),
        (None, Some(_)) => print(&format!(
            "ok     database: the log {origin}: the next `run` registers the key in log.key_file"
        )),
        (None, None) => print(&format!(
            "ok     database: the log {origin}: not signed, it has no key (topupd log keygen)"
        )),
    }
    .map(drop)
}

/// Deposit addresses that are a token or the treasury by now.
async fn registered(config: &Config, store: &Store) -> Result<(), CliError> {
    let tokens = config.chains.iter().flat_map(|c| c.rules.tokens.iter().map(|t| t.address));
    for address in tokens.chain(config.oracle.treasury) {
        let owner = store.owner_of(address).await?;
        if let (Some(owner), Some(what)) = (owner, config.not_for_deposits(&address)) {
            print(&format!(
                "WARNING  database: {address}, a deposit address of {owner}, is {what}"
            ))?;
        }
    }
    Ok(())
}

impl Found {
    /// An error of the database: one that an operator must mend, or one that is waited for.
    fn failed(&mut self, what: &str, error: StoreError) -> Result<(), CliError> {
        let text = error.to_string();
        if StartError::Store(error).is_bad_input() {
            return self.wrong(&format!("{what}{text}"));
        }
        self.unknown = self.unknown.saturating_add(1);
        print(&format!("FAIL   database: {what}{text}")).map(drop)
    }

    fn wrong(&mut self, text: &str) -> Result<(), CliError> {
        self.wrong = self.wrong.saturating_add(1);
        print(&format!("WRONG  database: {text}")).map(drop)
    }
}

/// What was found that somebody must mend, wait for, or look at.
#[derive(Default)]
pub(in crate::cli) struct Found {
    /// Contradicts the configuration.
    pub(in crate::cli) wrong: usize,
    /// Could not be asked.
    pub(in crate::cli) unknown: usize,
    /// Works, and somebody should look.
    pub(in crate::cli) looks: bool,
}
