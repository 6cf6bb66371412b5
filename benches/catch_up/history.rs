//! A chain's history from a seed: linked blocks full of transfers of one token, some of them to us;
//! and the same history as a node puts it into JSON.

use std::collections::HashMap;
use std::fmt::{LowerHex, Write};
use std::ops::RangeInclusive;

use alloy::primitives::{Address, B256, U256, hex, keccak256};
use topupd::domain::transfer::TRANSFER_TOPIC;

use crate::ground::{TOKEN, address};

/// Deposit addresses.
pub const ADDRESSES: usize = 1_000;
/// First block: as high as those of a real chain, because the numbers are hexadecimal on the wire.
pub const FIRST: u64 = 20_000_000;
/// One transfer in so many is to one of our addresses.
const OURS: u64 = 50;
const FIRST_SECONDS: u64 = 1_700_000_000;
const SECONDS_A_BLOCK: u64 = 12;
/// A log of a transfer with numbers like these takes no more bytes, comma included.
const LOG_BYTES_MAX: usize = 660;

/// What a history is made from.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Plan {
    /// Makes another history of the same size.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Blocks.
    #[arg(long, default_value_t = 20_000)]
    pub blocks: u64,
    /// Transfers in each block.
    #[arg(long, default_value_t = 100)]
    pub transfers: u64,
}

impl Plan {
    /// The arguments that another process parses to the same plan.
    pub fn args(&self) -> Vec<String> {
        [("seed", self.seed), ("blocks", self.blocks), ("transfers", self.transfers)]
            .map(|(name, value)| format!("--{name}={value}"))
            .to_vec()
    }

    pub fn logs(&self) -> u64 {
        self.blocks * self.transfers
    }

    pub fn tip(&self) -> u64 {
        FIRST + self.blocks - 1
    }

    fn numbers(&self) -> RangeInclusive<u64> {
        FIRST..=self.tip()
    }
}

/// What must be found in the database in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Found {
    /// Deposits.
    pub deposits: u64,
    /// The sum of their raw amounts.
    pub raw: U256,
}

struct Transfer {
    tx_hash: B256,
    from: Address,
    to: Address,
    ours: bool,
    amount: u64,
    log_index: u64,
}

/// Tells the transfers of a plan, block by block.
struct Story {
    plan: Plan,
    ours: Vec<Address>,
}

impl Story {
    fn new(plan: Plan) -> Self {
        Self { plan, ours: (0..ADDRESSES).map(address).collect() }
    }

    fn block(&self, number: u64) -> impl Iterator<Item = Transfer> + '_ {
        let mut random = noise(self.plan.seed, number);
        let mut next_index = 0;
        (0..self.plan.transfers).map(move |_| {
            let ours = random.u64(..OURS) == 0;
            let (from, anybody) = (Address::from(bytes(&mut random)), bytes(&mut random));
            let i = random.usize(..ADDRESSES);
            let log_index = next_index + random.u64(..4); // other contracts emit logs in between
            next_index = log_index + 1;
            Transfer {
                tx_hash: B256::from(bytes(&mut random)),
                from,
                to: if ours { self.ours[i] } else { Address::from(anybody) },
                ours,
                amount: random.u64(1..100_000_000_000),
                log_index,
            }
        })
    }
}

fn noise(seed: u64, number: u64) -> fastrand::Rng {
    fastrand::Rng::with_seed(
        keccak256(format!("{seed} {number}")).as_slice()[0..8]
            .iter()
            .fold(0, |word, byte| (word << 8) | u64::from(*byte)),
    )
}

fn bytes<const N: usize>(random: &mut fastrand::Rng) -> [u8; N] {
    let mut bytes = [0; N];
    random.fill(&mut bytes);
    bytes
}

/// What a daemon that follows this history must find.
pub fn expected(plan: Plan) -> Found {
    let story = Story::new(plan);
    let mut found = Found { deposits: 0, raw: U256::ZERO };
    for transfer in plan.numbers().flat_map(|n| story.block(n)).filter(|t| t.ours) {
        found.deposits += 1;
        found.raw += U256::from(transfer.amount);
    }
    found
}

/// The history as a node answers it: every log and every header ready to be sent.
pub struct Wire {
    plan: Plan,
    /// All logs, each with a comma after it.
    logs: String,
    /// Where the logs of each block end.
    log_ends: Vec<usize>,
    headers: String,
    header_ends: Vec<usize>,
    heights: HashMap<B256, u64>,
}

impl Wire {
    pub fn new(plan: Plan) -> Self {
        let story = Story::new(plan);
        let mut wire = Self {
            plan,
            logs: String::with_capacity(plan.logs() as usize * LOG_BYTES_MAX),
            log_ends: Vec::new(),
            headers: String::new(),
            header_ends: Vec::new(),
            heights: HashMap::new(),
        };
        let mut parent = keccak256(format!("the block before, of seed {}", plan.seed));
        for number in plan.numbers() {
            let hash = keccak256([parent.as_slice(), &number.to_be_bytes()].concat());
            let seconds = FIRST_SECONDS + (number - FIRST) * SECONDS_A_BLOCK;
            let mut txs = Vec::new();
            for (tx_index, transfer) in story.block(number).enumerate() {
                write_log(&mut wire.logs, number, hash, seconds, tx_index, &transfer);
                txs.push(transfer.tx_hash);
            }
            wire.log_ends.push(wire.logs.len());
            write_header(&mut wire.headers, number, hash, parent, seconds, &txs);
            wire.header_ends.push(wire.headers.len());
            wire.heights.insert(hash, number);
            parent = hash;
        }
        wire
    }

    pub fn plan(&self) -> Plan {
        self.plan
    }

    /// The header at a height, without transactions but for their hashes.
    pub fn header(&self, number: u64) -> Option<&[u8]> {
        let i = self.plan.numbers().contains(&number).then(|| (number - FIRST) as usize)?;
        Some(&self.headers.as_bytes()[start(&self.header_ends, i)..self.header_ends[i]])
    }

    pub fn height(&self, hash: &B256) -> Option<u64> {
        self.heights.get(hash).copied()
    }

    /// The logs of a range of blocks that exist, both inclusive, separated by commas.
    pub fn logs(&self, from: u64, to: u64) -> &[u8] {
        let (first, last) = ((from - FIRST) as usize, (to - FIRST) as usize);
        let logs = &self.logs.as_bytes()[start(&self.log_ends, first)..self.log_ends[last]];
        logs.strip_suffix(b",").unwrap_or(logs)
    }
}

fn start(ends: &[usize], i: usize) -> usize {
    i.checked_sub(1).map_or(0, |before| ends[before])
}

/// A log with the fields of `core/types/gen_log_json.go` of geth, in their order.
fn write_log(
    out: &mut String,
    number: u64,
    hash: B256,
    seconds: u64,
    tx_index: usize,
    transfer: &Transfer,
) {
    let Transfer { tx_hash, from, to, amount, log_index, .. } = transfer;
    write!(
        out,
        r#"{{"address":"{TOKEN:#x}","topics":["{TRANSFER_TOPIC:#x}","{:#x}","{:#x}"],"data":"0x{amount:064x}","blockNumber":"{number:#x}","transactionHash":"{tx_hash:#x}","transactionIndex":"{tx_index:#x}","blockHash":"{hash:#x}","blockTimestamp":"{seconds:#x}","logIndex":"{log_index:#x}","removed":false}},"#,
        from.into_word(),
        to.into_word(),
    )
    .unwrap();
}

/// A block with the fields of `RPCMarshalBlock` of geth, which sorts them by name.
fn write_header(
    out: &mut String,
    number: u64,
    hash: B256,
    parent: B256,
    seconds: u64,
    txs: &[B256],
) {
    let mut random = noise(0, number);
    let bloom = hex::encode(bytes::<256>(&mut random));
    let (miner, [mix, beacon, receipts, requests, state, root]) =
        (Address::from(bytes(&mut random)), [(); 6].map(|()| B256::from(bytes(&mut random))));
    let quoted = |i: usize, tx: &dyn LowerHex| format!("{}\"{tx:#x}\"", ["", ","][i.min(1)]);
    let txs: String = txs.iter().enumerate().map(|(i, tx)| quoted(i, tx)).collect();
    write!(
        out,
        r#"{{"baseFeePerGas":"0x3b9aca00","blobGasUsed":"0x0","difficulty":"0x0","excessBlobGas":"0x0","extraData":"0x6265617665726275696c642e6f7267","gasLimit":"0x2255100","gasUsed":"0x1312d00","hash":"{hash:#x}","logsBloom":"0x{bloom}","miner":"{miner:#x}","mixHash":"{mix:#x}","nonce":"0x0000000000000000","number":"{number:#x}","parentBeaconBlockRoot":"{beacon:#x}","parentHash":"{parent:#x}","receiptsRoot":"{receipts:#x}","requestsHash":"{requests:#x}","sha3Uncles":"0x1dcc4de8dec75d7aab85b567b6ccd41ad312451b948a7413f0a142fd40d49347","size":"0x9c40","stateRoot":"{state:#x}","timestamp":"{seconds:#x}","transactions":[{txs}],"transactionsRoot":"{root:#x}","uncles":[],"withdrawals":[],"withdrawalsRoot":"0x56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421"}}"#
    )
    .unwrap();
}
