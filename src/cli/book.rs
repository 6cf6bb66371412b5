//! `namespace` and `address`: registering who is paid where. Nothing here can move money.

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::json;

use super::{CliError, Output, now_ms, open, print, print_json, table, time};
use crate::config::Config;
use crate::domain::ids::ChainId;
use crate::domain::ids::NamespaceName;
use crate::domain::wallet::parse_address;
use crate::store::Store;

#[derive(Debug, Subcommand)]
pub(super) enum NamespaceCommand {
    /// Add a namespace: 1 to 63 of a-z 0-9 . _ -
    Add {
        /// Its name.
        name: String,
    },
    /// List all namespaces.
    List {
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum AddressCommand {
    /// Derive the next address of wallet.account_xpub and bind it to a namespace for ever.
    New {
        /// Who is credited for what arrives there.
        namespace: String,
    },
    /// Bind an address that somebody else controls to a namespace for ever.
    #[command(
        after_help = "Examples:\n  topupd address import acme 0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed\n  topupd address import acme 0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed --since base=24000000"
    )]
    Import {
        /// Who is credited for what arrives there.
        namespace: String,
        /// The address; with letters of both cases its EIP-55 checksum must be right.
        address: String,
        /// On this chain, money may have come since this block; otherwise since the first block that
        /// was scanned. Older blocks are read again for it.
        #[arg(long, value_name = "CHAIN=BLOCK")]
        since: Vec<String>,
    },
    /// List deposit addresses.
    List {
        /// Only of this namespace.
        #[arg(long)]
        namespace: Option<String>,
        #[command(flatten)]
        output: Output,
    },
}

pub(super) fn parse_name(text: &str) -> Result<NamespaceName, CliError> {
    text.parse().map_err(CliError::BadInput)
}

pub(super) async fn namespace(
    config: Config,
    command: NamespaceCommand,
) -> Result<ExitCode, CliError> {
    match command {
        NamespaceCommand::Add { name } => {
            let name = parse_name(&name)?;
            // The first namespace may come before the first run: this one creates the database.
            let store = Store::open(&config.database, config.network, now_ms()).await?;
            store.add_namespace(&name, now_ms()).await?;
            print(&format!("namespace {name} added"))
        }
        NamespaceCommand::List { output } => {
            let all = open(&config).await?.namespaces().await?;
            if output.json {
                return print_json(&json!(all));
            }
            let mut rows = vec![vec!["NAMESPACE".into(), "ADDRESSES".into(), "ADDED".into()]];
            rows.extend(
                all.iter().map(|n| {
                    vec![n.name.to_string(), n.addresses.to_string(), time(n.created_at_ms)]
                }),
            );
            print(&table(&rows))
        }
    }
}

pub(super) async fn address(config: Config, command: AddressCommand) -> Result<ExitCode, CliError> {
    match command {
        AddressCommand::New { namespace } => {
            let namespace = parse_name(&namespace)?;
            let xpub = config.account_xpub.as_ref().ok_or_else(|| {
                CliError::BadInput(
                    "wallet.account_xpub is not configured: addresses are derived from it; give the extended public key of m/44'/60'/0'/0, or use: topupd address import".into(),
                )
            })?;
            let row = open(&config).await?.new_address(&namespace, xpub, now_ms()).await?;
            print(&row.address.to_checksum(None))
        }
        AddressCommand::Import { namespace, address, since } => {
            let namespace = parse_name(&namespace)?;
            let address = parse_address(&address).map_err(CliError::BadInput)?;
            let since = since
                .iter()
                .map(|text| parse_since(&config, text))
                .collect::<Result<Vec<_>, _>>()?;
            let store = open(&config).await?;
            store.import_address_since(&namespace, address, &since, now_ms()).await?;
            tracing::warn!(
                "imported: whoever has its key keeps what is credited; when money leaves it, later payments to it are held until an operator has looked"
            );
            print(&address.to_checksum(None))
        }
        AddressCommand::List { namespace, output } => {
            let namespace = namespace.as_deref().map(parse_name).transpose()?;
            let all = open(&config).await?.addresses(namespace.as_ref()).await?;
            if output.json {
                return print_json(&json!(all));
            }
            let head = ["ADDRESS", "NAMESPACE", "ORIGIN", "INDEX", "ADDED"];
            let mut rows = vec![head.map(str::to_owned).to_vec()];
            rows.extend(all.iter().map(|a| {
                vec![
                    a.address.to_checksum(None),
                    a.namespace.to_string(),
                    a.origin.clone(),
                    a.derivation_index.map_or_else(|| "-".into(), |i| i.to_string()),
                    time(a.created_at_ms),
                ]
            }));
            print(&table(&rows))
        }
    }
}

/// A chain of the configuration, and a block of it.
fn parse_since(config: &Config, text: &str) -> Result<(ChainId, u64), CliError> {
    let wrong = || {
        let names: Vec<_> = config.chains.iter().map(|c| c.rules.name.as_str()).collect();
        CliError::BadInput(format!(
            "--since {text}: give CHAIN=BLOCK, such as {}=0; the configured chains are: {}",
            names.first().unwrap_or(&"base"),
            names.join(", ")
        ))
    };
    let (name, block) = text.split_once('=').ok_or_else(wrong)?;
    let chain = config.chains.iter().find(|c| c.rules.name == name).ok_or_else(wrong)?;
    Ok((chain.rules.id, block.parse().map_err(|_| wrong())?))
}
