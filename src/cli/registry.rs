//! `namespace` and `address`: registering who is paid where. Nothing here can move money.

pub(in crate::cli) mod import;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use alloy::hex;
use alloy::primitives::{Address, Bytes};
use clap::Subcommand;
use futures_util::future::join_all;
use serde_json::json;
use tokio::time::timeout;

use crate::cli::error::CliError;
use crate::cli::open::{known_namespace, open};
use crate::cli::print::{Output, print, print_data};
use crate::cli::registry::import::Import;
use crate::cli::words::{cut, table, time};
use crate::config::{ChainConfig, Config};
use crate::daemon::parts::pool;
use crate::domain::ids::{ChainId, NamespaceName};
use crate::domain::wallet::parse_deposit_address;
use crate::store::{JournalStart, Store};

#[derive(Debug, Subcommand)]
pub(super) enum NamespaceCommand {
    /// Add a namespace: 1 to 63 of a-z 0-9 . _ -
    Add {
        /// Its name.
        name: String,
    },
    /// Show a namespace, with what its owner needs to verify its journal: the salt is for the owner alone.
    Show {
        /// Its name.
        name: String,
        #[command(flatten)]
        output: Output,
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
    #[command(
        after_help = "Examples:\n  topupd address new acme\n  topupd address new acme --count 1000 > addresses.txt"
    )]
    New {
        /// Who is credited for what arrives there.
        namespace: String,
        /// wallet.account_xpub is another key than the one that gave the addresses so far, and new
        /// ones shall come from it. Those given out stay registered and are credited as before; what
        /// is paid to them can be moved with the old key only.
        #[arg(long)]
        new_wallet: bool,
        /// So many addresses, one a line; each 1,000 of them are one commit.
        #[arg(long, value_name = "N", default_value_t = 1,
              value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        count: u32,
    },
    /// Bind an address that somebody else controls to a namespace for ever; or many, from a file.
    ///
    /// A file is CSV or JSON Lines, each line with an address, and with a namespace unless the command
    /// names one for all. It is read twice: if a line cannot be taken, each such line is named by its
    /// number (the first 1,000 of them) and nothing is imported. Then 10,000
    /// addresses at a time are imported: where one of them belongs to another namespace, its line is named, and
    /// none of these 10,000 is imported. Those that are bound as asked already are passed over: after whatever stopped it,
    /// run the same command again. For a file no chain is asked whether an address is a contract.
    #[command(
        after_help = "Examples:\n  topupd address import acme 0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed\n  topupd address import acme 0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed --since base=24000000\n  topupd address import --file customers.csv              lines: acme,0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed\n  topupd address import acme --file acme.jsonl            lines: {\"address\": \"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed\"}"
    )]
    Import {
        /// Who is credited for what arrives there.
        #[arg(required_unless_present = "file")]
        namespace: Option<String>,
        /// The address; with letters of both cases its EIP-55 checksum must be right.
        #[arg(required_unless_present = "file", conflicts_with = "file")]
        address: Option<String>,
        /// Many: lines of namespace,address (or address,namespace below such a line, or address
        /// alone), or of {"namespace": …, "address": …}.
        #[arg(long)]
        file: Option<PathBuf>,
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
        /// At most so many, the oldest.
        #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(i64).range(1..))]
        limit: i64,
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
            let store = open(&config).await?;
            store.add_namespace(&name, store.clock().now_ms()).await?;
            let start = journal_start(&store, &name).await?;
            print(&format!(
                "namespace {name} added\njournal   {}\nsalt      {}  (for its owner, who can verify the journal with it; nobody else needs it)",
                start.genesis.0,
                hex::encode_prefixed(&start.salt)
            ))
        }
        NamespaceCommand::Show { name, output } => {
            let name = parse_name(&name)?;
            let store = open(&config).await?;
            known_namespace(&store, Some(&name)).await?;
            let start = journal_start(&store, &name).await?;
            let (salt, installation) =
                (hex::encode_prefixed(&start.salt), hex::encode_prefixed(&start.installation));
            let balance = store.balance(&name).await?;
            if output.is_data() {
                return print_data(
                    output,
                    json!({
                        "namespace": name, "balance": balance.to_string(), "unit": "credits",
                        "network": store.network().as_str(), "installation": installation,
                        "genesis": start.genesis, "salt": salt,
                    }),
                );
            }
            let rows = [
                ("namespace", name.to_string()),
                ("balance", format!("{balance} credits")),
                ("installation", installation),
                ("journal", start.genesis.0.to_string()),
                ("salt", salt),
            ];
            let rows: Vec<Vec<String>> =
                rows.into_iter().map(|(key, value)| vec![key.to_owned(), value]).collect();
            print(&table(&rows))
        }
        NamespaceCommand::List { output } => {
            let all = open(&config).await?.namespaces().await?;
            if output.is_data() {
                return print_data(output, json!({ "namespaces": all }));
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

async fn journal_start(store: &Store, name: &NamespaceName) -> Result<JournalStart, CliError> {
    let journal = store.journal_of(name.as_str()).await?;
    let start = match journal {
        Some(journal) => store.journal_start(journal).await?,
        None => None,
    };
    start.ok_or_else(|| CliError::Failed(format!("the journal of {name} is missing")))
}

pub(super) async fn address(config: Config, command: AddressCommand) -> Result<ExitCode, CliError> {
    match command {
        AddressCommand::New { namespace, new_wallet, count } => {
            let namespace = parse_name(&namespace)?;
            let xpub = config.account_xpub.as_ref().ok_or_else(|| {
                CliError::BadInput(
                    "wallet.account_xpub is not configured: addresses are derived from it; give the extended public key of m/44'/60'/0', or use: topupd address import".into(),
                )
            })?;
            let store = open(&config).await?;
            let mut left = count;
            while left > 0 {
                let part = left.min(AT_ONCE);
                let is_first = left == count;
                let is_new = new_wallet && is_first;
                let now_ms = store.clock().now_ms();
                let made = store.new_addresses(&namespace, xpub, is_new, part, now_ms).await?;
                let lines: Vec<_> = made.iter().map(|row| row.address.to_checksum(None)).collect();
                print(&lines.join("\n"))?;
                left = left.saturating_sub(part);
            }
            if new_wallet {
                tracing::warn!(
                    "addresses come from another key from now on: keep the old one, what is paid to the addresses that it gave can be moved with it only"
                );
            }
            Ok(ExitCode::SUCCESS)
        }
        AddressCommand::Import { namespace, address, file, since } => {
            let namespace = namespace.as_deref().map(parse_name).transpose()?;
            let since = since
                .iter()
                .map(|text| parse_since(&config, text))
                .collect::<Result<Vec<_>, _>>()?;
            match (namespace, address, file) {
                (Some(namespace), Some(address), None) => {
                    import(&config, &namespace, &address, &since).await
                }
                (namespace, None, Some(path)) => {
                    Import { config: &config, path: &path, namespace, since }.run().await
                }
                _ => Err(CliError::BadInput(
                    "give a namespace and an address, or --file with a file of them".into(),
                )),
            }
        }
        AddressCommand::List { namespace, limit, output } => {
            let namespace = namespace.as_deref().map(parse_name).transpose()?;
            let store = open(&config).await?;
            known_namespace(&store, namespace.as_ref()).await?;
            let mut all = store.addresses(namespace.as_ref(), limit.saturating_add(1)).await?;
            let truncated = cut(&mut all, limit);
            if output.is_data() {
                return print_data(output, json!({ "addresses": all, "truncated": truncated }));
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

/// Binds one address.
async fn import(
    config: &Config,
    namespace: &NamespaceName,
    address: &str,
    since: &[(ChainId, u64)],
) -> Result<ExitCode, CliError> {
    let address = parse_deposit_address(address).map_err(CliError::BadInput)?;
    if let Some(what) = config.not_for_deposits(&address) {
        return Err(CliError::BadInput(format!(
            "{address} is {what}: it can never be somebody's deposit address"
        )));
    }
    let store = open(config).await?;
    let now = store.clock().now_ms();
    let child = store.import_address_since(namespace, address, since, now).await?;
    if let Some(index) = child {
        tracing::info!("registered again as what it was: child {index} of the account key");
        return print(&address.to_checksum(None));
    }
    warn_of_contracts(config, address).await;
    tracing::warn!(
        "imported: whoever has its key keeps what is credited; when money leaves it, later payments to it are held until an operator has looked"
    );
    print(&address.to_checksum(None))
}

/// Addresses that are derived in one commit.
const AT_ONCE: u32 = 1_000;
/// How long a chain is asked what an address is.
const CODE_MAX: Duration = Duration::from_secs(3);
/// What an account's code begins with that acts through a contract (EIP-7702). Somebody has its key.
const DELEGATED: [u8; 3] = [0xef, 0x01, 0x00];

/// Warns of an address that is a contract on a chain, or of which that could not be asked.
async fn warn_of_contracts(config: &Config, address: Address) {
    let asked =
        config.chains.iter().map(|chain| async move { (chain, code(chain, address).await) });
    for (chain, code) in join_all(asked).await {
        let name = chain.rules.name.as_str();
        match code {
            Some(code) if code.is_empty() || code.starts_with(&DELEGATED) => {}
            Some(_) => tracing::warn!(
                chain.name = name,
                "the address is a contract: make sure that whoever pays there means it (a smart wallet), that its owner can move tokens out of it, and that it is theirs on every chain; a contract on one chain may be nobody's address on another"
            ),
            None => tracing::warn!(
                chain.name = name,
                "no provider said in time whether the address is a contract"
            ),
        }
    }
}

/// The code at an address, by the first provider that says some, or else that says that there is none.
async fn code(chain: &ChainConfig, address: Address) -> Option<Bytes> {
    let pool = pool(chain).ok()?;
    let answers =
        join_all(pool.all().map(|source| {
            timeout(CODE_MAX, source.ask::<Bytes>("eth_getCode", (address, "latest")))
        }));
    let said: Vec<Bytes> = answers.await.into_iter().filter_map(|a| a.ok()?.ok()).collect();
    said.iter().find(|code| !code.is_empty()).or(said.first()).cloned()
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
