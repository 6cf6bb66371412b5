//! `namespace` and `address`: registering who is paid where. Nothing here can move money.

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::json;

use super::{CliError, Output, now_ms, open, print, print_json, table, time};
use crate::config::Config;
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
        after_help = "Example:\n  topupd address import acme 0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
    )]
    Import {
        /// Who is credited for what arrives there.
        namespace: String,
        /// The address; with letters of both cases its EIP-55 checksum must be right.
        address: String,
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
        AddressCommand::Import { namespace, address } => {
            let namespace = parse_name(&namespace)?;
            let address = parse_address(&address).map_err(CliError::BadInput)?;
            open(&config).await?.import_address(&namespace, address, now_ms()).await?;
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
