//! The parts of a daemon: the providers of a chain, the sources of prices, and why it cannot start.

use std::sync::Arc;

use crate::chain::pool::Pool;
use crate::chain::rpc::node::RpcSource;
use crate::chain::source::SourceError;
use crate::config::{ChainConfig, Config, ConfigError};
use crate::daemon::driver::{Backoff, DATABASE_PAUSE_MAX};
use crate::daemon::health::{Health, Who};
use crate::oracle::Web;
use crate::store::StoreError;
use crate::tasks::prices::market::Market;
use crate::tasks::settle::screen::Screener;

/// Why a daemon does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Something is missing that is needed to ask others.
    #[error("configuration: {0}")]
    Config(#[from] ConfigError),
    /// A client for HTTP cannot be built.
    #[error("{what}: {why}")]
    Client {
        /// What for.
        what: String,
        /// What happened.
        why: String,
    },
    /// No provider of a chain can be asked.
    #[error("chain {chain}: {why}")]
    Silent {
        /// Name of the chain.
        chain: String,
        /// What one of them lacks.
        why: String,
    },
    /// The live chain is not the configured one.
    #[error("chain {chain}: {why}")]
    Mismatch {
        /// Name of the chain.
        chain: String,
        /// What is wrong.
        why: String,
    },
}

impl StartError {
    /// True when the operator must change something; false when waiting may help.
    pub fn is_bad_input(&self) -> bool {
        match self {
            Self::Mismatch { .. } | Self::Config(_) => true,
            Self::Silent { .. } | Self::Client { .. } => false,
            Self::Store(error) => {
                error.is_refused()
                    || error.is_read_only()
                    || matches!(
                        error,
                        StoreError::Refused(_)
                            | StoreError::NotSaidTwice { .. }
                            | StoreError::Open { .. }
                            | StoreError::NoDatabase { .. }
                            | StoreError::OtherNetwork { .. }
                            | StoreError::Newer { .. }
                            | StoreError::OtherBuild { .. }
                            | StoreError::EpochChanged { .. }
                    )
            }
        }
    }
}

/// The providers of one chain; none is asked before it was checked.
///
/// # Errors
/// When an HTTP client cannot be built.
pub fn pool(chain: &ChainConfig) -> Result<Pool<RpcSource>, StartError> {
    let sources = chain
        .providers
        .iter()
        .map(|(options, priority)| Ok((RpcSource::new(options.clone())?, *priority)))
        .collect::<Result<Vec<_>, SourceError>>()
        .map_err(|e| StartError::Client { what: chain.rules.name.clone(), why: e.to_string() })?;
    Ok(Pool::new(sources))
}

/// Asks price sources over HTTP.
///
/// # Errors
/// A header that the environment lacks, or a client that cannot be built.
pub fn web(config: &Config) -> Result<Web, StartError> {
    let headers = config.oracle.headers.all()?.clone();
    Web::new(config.oracle.timeout, headers)
        .map_err(|why| StartError::Client { what: "HTTP client for prices".into(), why })
}

/// Where market prices come from: every chain with its providers, and the web.
pub fn market(chains: &[(ChainConfig, Arc<Pool<RpcSource>>)], web: Web) -> Market<RpcSource> {
    let chains = chains
        .iter()
        .map(|(chain, pool)| (chain.rules.id, (chain.rules.clone(), Arc::clone(pool))))
        .collect();
    Market { chains, web, screener: Screener::default() }
}

/// How a daemon is started.
#[derive(Debug, Clone)]
pub struct Start {
    /// Its name, unique to the process.
    pub holder: String,
    /// False for a replica that only answers questions: it needs no lease and asks no chain.
    pub tasks: bool,
    /// Begin a new database in a file that is there and has no tables.
    pub create: bool,
}

/// Each chain with its providers.
pub(super) type Chains = Vec<(ChainConfig, Arc<Pool<RpcSource>>)>;

/// Tries again while the database is away, or another writer was in the way.
pub(super) async fn retrying<T, F>(
    health: &Health,
    mut attempt: impl FnMut() -> F,
) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let mut backoff = Backoff::default();
    loop {
        match attempt().await {
            // A right that is missing, a person must give: waiting says nothing to anybody. A standby
            // may be promoted, and is waited for.
            Err(error) if error.is_unavailable() && !error.is_refused() => {
                health.lost(&error.to_string(), Who::Keeper);
            }
            Err(error) if error.is_collision() => {
                tracing::warn!(error = %error, "another writer is in the way; trying again");
            }
            done => {
                health.found(Who::Keeper);
                return done;
            }
        }
        tokio::time::sleep(backoff.next(DATABASE_PAUSE_MAX)).await;
    }
}

/// Whether everybody can be asked who is asked before a payment is credited.
///
/// # Errors
/// The key of the configuration, and what is wrong with what it names.
pub fn screening_ready(config: &Config) -> Result<(), ConfigError> {
    let Some(screening) = &config.screening else { return Ok(()) };
    Screener::default()
        .ready(&screening.rules)
        .map_err(|(key, problem)| ConfigError { key: key.to_owned(), problem })
}
