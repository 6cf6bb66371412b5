//! A node that is not anvil: ganache 7.9.2, whose EVM is EthereumJS and not revm, on a chain of
//! its own. It is installed from its pinned npm package when a test needs it.
//!
//! It answers like a node that is a few years behind, which is what it is here for:
//!
//! - `eth_getLogs` of a block that it does not know is `[]`, not an error: "no logs", says who
//!   has not seen the block. With `fromBlock` above `toBlock` it returns logs all the same, and
//!   beyond the tip it returns none.
//! - `safe` and `finalized` are `latest`; `pending` has the number of the tip.
//! - Logs have no `blockTimestamp`, errors of unknown methods carry a JavaScript stack.
//! - There is no `eth_getBlockReceipts`, no `eth_getRawTransactionByHash`, no `eth_call` by block
//!   hash.
//!
//! It cannot reorganise its chain in one step, dump it, or listen on port 0, and has no
//! `evm_setAutomine`: going back is `evm_revert` to an `evm_snapshot`, which announces nothing, and
//! it mines at each transaction. `evm_mine` with a `timestamp` of `null` mines in 1970. It knows
//! no opcode newer than Shanghai's; the test contracts are compiled for `paris`.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::sync::oneshot;
use topupd::devnet::LocalChain;
use url::Url;

use super::support::Running;

/// How long it may take to say where it listens: a second on an idle machine.
const START: Duration = Duration::from_secs(180);
/// Below the ephemeral ports, so that no outgoing connection takes one in between.
const PORTS: Range<u16> = 20_000..30_000;

/// A running ganache. Dropping it kills the process.
pub struct Ganache {
    chain: LocalChain,
    _process: Running,
}

impl Deref for Ganache {
    type Target = LocalChain;

    fn deref(&self) -> &LocalChain {
        &self.chain
    }
}

impl Ganache {
    /// Starts it with chain id 31337 and five unlocked accounts; mines at each transaction.
    pub async fn start() -> Self {
        let script = tokio::task::spawn_blocking(find).await.unwrap();
        // Somebody else may take the port before it does; it then ends without having listened.
        for _ in 0..5 {
            let port = free_port();
            let mut process = Running(spawn(&script, port));
            if listens(&mut process.0, port).await {
                let url = |scheme| Url::parse(&format!("{scheme}://127.0.0.1:{port}")).unwrap();
                let chain = LocalChain::at(url("http"), url("ws")).await.unwrap();
                return Self { chain, _process: process };
            }
        }
        panic!("ganache did not start, five times");
    }
}

fn spawn(script: &Path, port: u16) -> Child {
    let mut command = Command::new("node");
    command
        .arg(script)
        .args(["--server.host", "127.0.0.1", "--server.port", &port.to_string()])
        .args(["--chain.chainId", "31337", "--chain.networkId", "31337"])
        .args(["--chain.hardfork", "shanghai", "--miner.blockGasLimit", "60000000"])
        .args(["--wallet.totalAccounts", "5", "--wallet.defaultBalance", "100000"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    // Ctrl-C in a terminal goes to the foreground group; who started it ends it.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command.spawn().unwrap_or_else(|e| panic!("node, 20 or newer: {e}"))
}

/// Waits until it says that it listens on that port: asking the port alone could reach whoever
/// took it first.
async fn listens(child: &mut Child, port: u16) -> bool {
    let stdout = child.stdout.take().unwrap();
    let (said, listening) = oneshot::channel();
    // It prints a line for each request, and blocks when nobody reads them.
    std::thread::spawn(move || {
        let mut said = Some(said);
        let wanted = format!("RPC Listening on 127.0.0.1:{port}");
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if line == wanted {
                said.take().map(|said| said.send(()));
            }
        }
    });
    tokio::time::timeout(START, listening).await.is_ok_and(|said| said.is_ok())
}

fn free_port() -> u16 {
    std::iter::repeat_with(|| fastrand::u16(PORTS))
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .unwrap()
}

/// The script of the npm package, which is installed when it is not there yet.
fn find() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("anvil-fixtures/second-node");
    // npm writes the list of packages last: without it the rest may be half there.
    let installed = || package.join("node_modules/.package-lock.json").is_file();
    if !installed() {
        // Many tests may find it missing at once; one installs, the others wait.
        let lock = File::create(package.join(".install.lock")).unwrap();
        lock.lock().unwrap();
        if !installed() {
            eprintln!("installing ganache from npm into {} (once)", package.display());
            let output = Command::new("npm")
                .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
                .current_dir(&package)
                .stdin(Stdio::null())
                .output()
                .unwrap_or_else(|e| panic!("npm, which comes with node: {e}"));
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "npm ci failed: {errors}");
        }
    }
    package.join("node_modules/ganache/dist/node/cli.js")
}
