//! Structured logs: where they go, how they look, and the names of their fields.
//!
//! A message reads alone; what varies is in fields. Field names are dotted, the same everywhere,
//! and carry their unit. No field ever holds a URL, a key or a configuration value that is secret.
//!
//! | field | meaning |
//! |---|---|
//! | `chain.name`, `chain.id` | name of the chain in the configuration, its CAIP-2 id |
//! | `network` | `mainnet` or `testnet` |
//! | `block.number`, `block.hash` | a block |
//! | `blocks.orphaned` | how many blocks a reorg took off |
//! | `deposit.id`, `tx.hash`, `token` | a deposit, its transaction, its token contract |
//! | `deposits` | how many deposits |
//! | `namespace`, `credits`, `record.seq` | who got how many credits, where in the namespace's journal |
//! | `provider`, `range.blocks` | who was asked, for how many blocks |
//! | `daemon`, `database` | name of the daemon, its database without the password |
//! | `lease.task`, `lease.token`, `lease.holder` | a lease, its fencing token, who holds it |
//! | `finding.kind`, `finding.subject`, `finding.detail` | what a person should look at, about what, and what was said |
//! | `answers` | what providers said that contradict each other |
//! | `lines.lost` | how many lines of the log nobody read |
//! | `clock.off_ms` | how far this machine's clock is ahead of the database's |
//! | `clock.jumped_ms` | how much further the database's clock moved than time passed |
//! | `clock.behind_ms` | how far the database's clock is behind the last record of a journal |
//! | `pair`, `price`, `price.source`, `instant_ms` | a pair, its price, a source of it, the time that it stands for |
//! | `why`, `error` | a reason in words |
//! | `elapsed_ms`, `pause_ms` | milliseconds |

use tracing_subscriber::EnvFilter;

use crate::output::Stderr;

/// How logs look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Sends logs to stderr. `RUST_LOG` chooses what is logged; without it, `default`.
pub fn init(format: LogFormat, default: &str) {
    let mut filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    // At debug the first library opens a span that holds the URL, and so the key in it; what ends a
    // WebSocket, the others say without the provider's name, and it is said with it; and a connection to
    // the database that is gone, in words of a driver.
    for quiet in [
        "alloy_transport_http=info",
        "alloy_pubsub=off",
        "alloy_transport_ws=off",
        "sqlx_core::pool=off",
    ] {
        if let Ok(directive) = quiet.parse() {
            filter = filter.add_directive(directive);
        }
    }
    // Its own way to tell of a line that it cannot write would panic.
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| Stderr)
        // What is written to stderr is made harmless there, in one way.
        .with_ansi_sanitization(false)
        .log_internal_errors(false);
    // A second call, as tests make, keeps the first subscriber.
    drop(match format {
        LogFormat::Text => builder.with_ansi(false).with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    });
}
