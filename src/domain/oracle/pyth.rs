//! Reads what Pyth's price service ("Hermes") answers: accumulator updates, magic "PNAU".
//!
//! An update is a Wormhole message (a "VAA") that carries the root of a Merkle tree, and some of
//! the tree's leaves, each with its proof. [`decode`] takes the bytes apart, checks every proof
//! against that root and returns the leaves that are prices.
//!
//! A proof shows that the price belongs to the root; that the root is Pyth's, the signatures on the
//! VAA show (of Wormhole's guardians, since August 2026 of Pyth's own routers), and they are checked
//! when it is known whose they must be ([`Signers`]). Otherwise whoever answers may still lie, but
//! not by accident, and not in one field alone. It does not judge: how old a price is, how wide its
//! confidence, and whether a feed is there once, is for the caller.
//!
//! The format, all integers big-endian:
//!
//! ```text
//! update   "PNAU", u8 major = 1, u8 minor, u8 n, n bytes of later headers, u8 type = 0,
//!          u16 length + VAA, u8 count, count × (u16 length + message, u8 n, n × 20-byte node)
//! VAA      u8 version = 1, u32 guardian set, u8 n, n × 66-byte signature, u32 timestamp,
//!          u32 nonce, u16 emitter chain, 32-byte emitter, u64 sequence, u8 consistency, payload
//! payload  "AUWV", u8 type = 0, u64 slot, u32 ring size, 20-byte root
//! message  u8 type = 0, 32-byte feed, i64 price, u64 conf, i32 exponent, i64 publish time,
//!          i64 publish time before it, i64 average price, u64 average conf
//! ```
//!
//! Hashes are the first 20 bytes of keccak-256: of 0 and the message for a leaf, of 1 and both
//! children, the smaller first, for a node. Payloads and messages may grow at their end, so what
//! follows there is ignored, as Pyth's own contracts do; bytes after the last proof are refused.

mod signers;

use alloy::primitives::{B256, hex, keccak256};

pub use signers::Signers;

const UPDATE_MAGIC: [u8; 4] = *b"PNAU";
const UPDATE_MAJOR: u8 = 1;
const VAA_VERSION: u8 = 1;
/// The signer's number and its signature.
const SIGNATURE_BYTES: usize = 66;
/// From the VAA's timestamp to its consistency level: 4 + 4 + 2 + 32 + 8 + 1.
const VAA_BODY_BYTES: usize = 51;
const ROOT_MAGIC: [u8; 4] = *b"AUWV";
/// The only kind of update and of root there is: a Merkle root sent through Wormhole.
const WORMHOLE_MERKLE: u8 = 0;
const PRICE_FEED: u8 = 0;

/// One hash of the tree.
type Node = [u8; 20];

/// One price message of a Pyth accumulator update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PriceMessage {
    /// Which price: Pyth's number of the feed.
    pub feed_id: B256,
    /// The mantissa: the price is `price` × 10^`exponent`. May be negative.
    pub price: i64,
    /// Half the width of the confidence interval, in the price's unit.
    pub conf: u64,
    /// The power of ten, usually -8.
    pub exponent: i32,
    /// When it was published, in Unix seconds.
    pub publish_time_s: i64,
    /// When the one before it was: this is the feed's one price for every second after that, up to
    /// and including `publish_time_s`. Equal to it in all but the first of several in one second.
    pub prev_publish_time_s: i64,
}

/// Decodes one `binary.data[i]` of Hermes, as bytes, and checks each message's Merkle proof against
/// the root in the VAA's payload. Returns the price messages in their order; messages of other
/// kinds (time-weighted averages, stake caps) must prove themselves too and are then left out.
///
/// The VAA's signatures are checked against `signers`, and not at all without.
///
/// # Errors
///
/// A sentence that says what is not as the format wants it: wrong magic or version, an unknown kind
/// of update, bytes missing or left over, a message that is not under the root, a root that not
/// enough of the signers signed.
pub fn decode(blob: &[u8], signers: Option<&Signers>) -> Result<Vec<PriceMessage>, String> {
    let mut update = Reader(blob);
    let magic = update.array("the magic")?;
    if magic != UPDATE_MAGIC {
        return Err(format!("not a Pyth update: starts with {}", hex::encode(magic)));
    }
    let major = update.u8("the major version")?;
    if major != UPDATE_MAJOR {
        return Err(format!("Pyth update of major version {major}; {UPDATE_MAJOR} is known"));
    }
    update.u8("the minor version")?;
    let later = update.u8("the trailing headers' size")?;
    update.bytes(usize::from(later), "the trailing headers")?;
    let kind = update.u8("the update type")?;
    if kind != WORMHOLE_MERKLE {
        return Err(format!("Pyth update of type {kind}; {WORMHOLE_MERKLE} is known"));
    }
    let root = root_of(update.prefixed("the VAA")?, signers)?;

    let count = update.u8("the number of messages")?;
    let mut prices = Vec::with_capacity(usize::from(count));
    for number in 1..=count {
        let message = update.prefixed("a message")?;
        let depth = update.u8("a proof's length")?;
        let mut hash = leaf_hash(message);
        for _ in 0..depth {
            hash = node_hash(hash, update.array("a proof")?);
        }
        if hash != root {
            return Err(format!("message {number} of {count} is not under the Merkle root"));
        }
        prices.extend(price_of(message)?);
    }
    match update.0.len() {
        0 => Ok(prices),
        left => Err(format!("{left} bytes after the last message's proof")),
    }
}

/// An update that [`decode`] accepts, with these messages. **For tests and local servers: nobody
/// signed it**, the VAA has no signatures, and no contract of Pyth would take it. What a
/// [`PriceMessage`] does not know is filled in: the averages are the price. Only the first 255
/// messages are written, because the format counts them in one byte.
pub fn encode(messages: &[PriceMessage]) -> Vec<u8> {
    let count = u8::try_from(messages.len()).unwrap_or(u8::MAX);
    let messages: Vec<Vec<u8>> = messages.iter().take(usize::from(count)).map(written).collect();

    let mut leaves: Vec<Node> = messages.iter().map(|m| leaf_hash(m)).collect();
    leaves.resize(leaves.len().next_power_of_two(), hash_20(&[&[2]]));
    let mut levels = vec![leaves];
    while let Some(below) = levels.last()
        && below.len() > 1
    {
        let (pairs, _) = below.as_chunks();
        let level = pairs.iter().map(|&[left, right]| node_hash(left, right)).collect();
        levels.push(level);
    }
    let root = levels.last().and_then(|top| top.first()).copied().unwrap_or_default();

    let mut vaa = vec![VAA_VERSION];
    vaa.extend([0; 4]); // guardian set
    vaa.push(0); // signatures
    vaa.extend([0; VAA_BODY_BYTES]);
    vaa.extend(ROOT_MAGIC);
    vaa.push(WORMHOLE_MERKLE);
    vaa.extend([0; 12]); // slot and ring size
    vaa.extend(root);

    let mut update = Vec::from(UPDATE_MAGIC);
    update.extend([UPDATE_MAJOR, 0, 0, WORMHOLE_MERKLE]);
    extend_prefixed(&mut update, &vaa);
    update.push(count);
    for (index, message) in messages.iter().enumerate() {
        extend_prefixed(&mut update, message);
        let siblings: Vec<Node> = levels
            .iter()
            .scan(index, |at, level| {
                let sibling = level.get(*at ^ 1).copied();
                *at /= 2;
                sibling
            })
            .collect();
        update.push(u8::try_from(siblings.len()).unwrap_or(u8::MAX));
        update.extend(siblings.as_flattened());
    }
    update
}

/// The Merkle root that the VAA's payload carries.
fn root_of(vaa: &[u8], signers: Option<&Signers>) -> Result<Node, String> {
    let mut vaa = Reader(vaa);
    let version = vaa.u8("the VAA's version")?;
    if version != VAA_VERSION {
        return Err(format!("VAA of version {version}; {VAA_VERSION} is known"));
    }
    vaa.bytes(4, "the VAA's guardian set")?;
    let signatures = usize::from(vaa.u8("the VAA's number of signatures")?);
    let signatures =
        vaa.bytes(signatures.saturating_mul(SIGNATURE_BYTES), "the VAA's signatures")?;
    let signed = vaa.0;
    vaa.bytes(8, "the VAA's time and nonce")?;
    let chain = u16::from_be_bytes(vaa.array("the VAA's emitter chain")?);
    let emitter = B256::new(vaa.array("the VAA's emitter")?);
    vaa.bytes(9, "the VAA's sequence and consistency")?;
    if let Some(signers) = signers {
        signers.check(signatures, signed, (chain, emitter))?;
    }
    let magic = vaa.array("the VAA's payload")?;
    if magic != ROOT_MAGIC {
        return Err(format!("the VAA is not about a Merkle root: {}", hex::encode(magic)));
    }
    let kind = vaa.u8("the root's type")?;
    if kind != WORMHOLE_MERKLE {
        return Err(format!("root of type {kind}; {WORMHOLE_MERKLE} is known"));
    }
    vaa.bytes(12, "the root's slot and ring size")?;
    vaa.array("the root")
}

/// The price in a message, or `None` when the message is of another kind.
fn price_of(message: &[u8]) -> Result<Option<PriceMessage>, String> {
    let mut message = Reader(message);
    if message.u8("a message's type")? != PRICE_FEED {
        return Ok(None);
    }
    let price = PriceMessage {
        feed_id: B256::new(message.array("a feed's id")?),
        price: i64::from_be_bytes(message.array("a price")?),
        conf: u64::from_be_bytes(message.array("a confidence")?),
        exponent: i32::from_be_bytes(message.array("an exponent")?),
        publish_time_s: i64::from_be_bytes(message.array("a publish time")?),
        prev_publish_time_s: i64::from_be_bytes(message.array("a publish time")?),
    };
    message.bytes(16, "an average price")?;
    Ok(Some(price))
}

/// The opposite of [`price_of`].
fn written(message: &PriceMessage) -> Vec<u8> {
    let mut bytes = vec![PRICE_FEED];
    bytes.extend(message.feed_id);
    bytes.extend(message.price.to_be_bytes());
    bytes.extend(message.conf.to_be_bytes());
    bytes.extend(message.exponent.to_be_bytes());
    bytes.extend(message.publish_time_s.to_be_bytes());
    bytes.extend(message.prev_publish_time_s.to_be_bytes());
    bytes.extend(message.price.to_be_bytes());
    bytes.extend(message.conf.to_be_bytes());
    bytes
}

/// Appends the length, in two bytes, and the bytes. Nothing written here is as long as that allows.
fn extend_prefixed(to: &mut Vec<u8>, bytes: &[u8]) {
    to.extend(u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes());
    to.extend(bytes);
}

fn leaf_hash(message: &[u8]) -> Node {
    hash_20(&[&[0], message])
}

fn node_hash(a: Node, b: Node) -> Node {
    hash_20(&[&[1], &a.min(b), &a.max(b)])
}

fn hash_20(parts: &[&[u8]]) -> Node {
    let [first @ .., _, _, _, _, _, _, _, _, _, _, _, _] = keccak256(parts.concat()).0;
    first
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, count: usize, what: &str) -> Result<&'a [u8], String> {
        let (read, rest) = self.0.split_at_checked(count).ok_or_else(|| {
            format!("truncated: {what} takes {count} bytes, {} are left", self.0.len())
        })?;
        self.0 = rest;
        Ok(read)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], String> {
        let (read, rest) = self.0.split_first_chunk().ok_or_else(|| {
            format!("truncated: {what} takes {N} bytes, {} are left", self.0.len())
        })?;
        self.0 = rest;
        Ok(*read)
    }

    fn u8(&mut self, what: &str) -> Result<u8, String> {
        self.array(what).map(u8::from_be_bytes)
    }

    /// Bytes after their length.
    fn prefixed(&mut self, what: &str) -> Result<&'a [u8], String> {
        let length = u16::from_be_bytes(self.array(what)?);
        self.bytes(usize::from(length), what)
    }
}

#[cfg(test)]
mod tests;
