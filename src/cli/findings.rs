//! `findings`: what somebody should look at, what it means, and what it turned out to be.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::dialect::list as list_json;
use crate::cli::error::CliError;
use crate::cli::open::open;
use crate::cli::print::{Output, look_if, print, print_data};
use crate::cli::words::{cut, time};
use crate::config::Config;
use crate::domain::finding::FindingKind;
use crate::store::ChainFinding;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct FindingsArgs {
    /// Those that are explained or gone, too.
    #[arg(long)]
    all: bool,
    /// At most so many, the open ones and the newest first.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=100_000))]
    limit: i64,
    #[command(flatten)]
    output: Output,
    #[command(subcommand)]
    command: Option<FindingsCommand>,
}

#[derive(Debug, Subcommand)]
enum FindingsCommand {
    /// Show one, with what it means.
    Show {
        /// Its number, as listed.
        id: i64,
        #[command(flatten)]
        output: Output,
    },
    /// Say what an open one was, so that nobody looks at it again.
    Explain {
        /// Its number, as listed.
        id: i64,
        /// Who says so.
        #[arg(long)]
        operator: String,
        /// What it was.
        #[arg(long)]
        reason: String,
    },
}

pub(super) async fn findings(config: Config, args: FindingsArgs) -> Result<ExitCode, CliError> {
    match args.command {
        None => list(&config, args.all, args.limit, args.output).await,
        Some(FindingsCommand::Show { id, output }) => show(&config, id, output).await,
        Some(FindingsCommand::Explain { id, operator, reason }) => {
            explain(&config, id, &operator, &reason).await
        }
    }
}

async fn list(
    config: &Config,
    all: bool,
    limit: i64,
    output: Output,
) -> Result<ExitCode, CliError> {
    let store = open(config).await?;
    let mut found = store.findings(limit.saturating_add(1)).await?;
    store.close().await;
    // The open ones come first, so the limit leaves none of them out before the others.
    found.retain(|f| all || f.state == "open");
    let truncated = cut(&mut found, limit);
    let look = look_if(found.iter().any(|f| f.state == "open"));
    if output.is_data() {
        let found = found.iter().map(|f| json(config, f)).collect();
        return print_data(output, list_json("findings", found, truncated)).map(|_| look);
    }
    let text: String = found.iter().map(|f| line(config, f)).collect();
    let none = "nothing was found that somebody should look at";
    print(if text.is_empty() { none } else { &text }).map(|_| look)
}

async fn show(config: &Config, id: i64, output: Output) -> Result<ExitCode, CliError> {
    let store = open(config).await?;
    let found = store.finding(id).await?;
    store.close().await;
    let found = found.ok_or_else(|| unknown(id))?;
    if output.is_data() {
        return print_data(output, json(config, &found));
    }
    let page = format!("    docs/findings/{}.md says more, with the commands\n", found.kind);
    let means = means(&found).map(|m| format!("    {m}\n{page}")).unwrap_or_default();
    print(&(line(config, &found) + &means))
}

async fn explain(
    config: &Config,
    id: i64,
    operator: &str,
    reason: &str,
) -> Result<ExitCode, CliError> {
    let store = open(config).await?;
    let now_ms = store.clock().now_ms();
    let explained = store.explain_finding(id, operator, reason, now_ms).await?;
    let found = store.finding(id).await?;
    store.close().await;
    let found = found.ok_or_else(|| unknown(id))?;
    if !explained {
        let problem = format!("finding {id} is not open, it is {}", found.state);
        return Err(CliError::BadInput(problem));
    }
    print(&line(config, &found))
}

fn unknown(id: i64) -> CliError {
    CliError::BadInput(format!("there is no finding {id}; topupd findings --all lists them"))
}

fn means(found: &ChainFinding) -> Option<&'static str> {
    FindingKind::ALL.iter().find(|kind| kind.as_str() == found.kind).map(|kind| kind.means())
}

fn json(config: &Config, found: &ChainFinding) -> Value {
    let mut value = json!(found);
    if let Value::Object(map) = &mut value {
        map.insert("chain_name".into(), chain_name(config, found).into());
        if let Some(id) = map.remove("id") {
            map.insert("finding_id".into(), id);
        }
        map.insert("means".into(), means(found).into());
    }
    value
}

/// The chain's name in the configuration, or its id when it is not there any more.
fn chain_name(config: &Config, found: &ChainFinding) -> Option<String> {
    let chain = found.chain?;
    Some(
        crate::cli::open::chain_name(config, chain)
            .map_or_else(|| chain.to_string(), str::to_owned),
    )
}

fn line(config: &Config, found: &ChainFinding) -> String {
    let chain = chain_name(config, found).map(|name| format!("  {name}")).unwrap_or_default();
    let closed = match (&found.operator, &found.explanation, found.explained_at_ms) {
        (Some(operator), Some(explanation), Some(at)) => {
            format!("    explained {} by {operator}: {explanation}\n", time(at))
        }
        _ => String::new(),
    };
    let gone = found.gone_at_ms.map(|at| format!("    gone {}\n", time(at))).unwrap_or_default();
    format!(
        "{}  {}  {}{chain}  {}: {}\n    {}\n{closed}{gone}",
        found.id,
        time(found.found_at_ms),
        found.severity,
        found.kind,
        found.subject,
        found.detail,
    )
}
