//! The append-only Merkle log over all records: its hashes, proofs, tiles, signed notes and checkpoints.
//!
//! A leaf's entry is the 32-byte seal of a record. [`edge::Edge`] is all that is needed to append; [`tiles`] is how
//! the tree is stored and published, so that a proof reads a few rows and not the tree. A [`checkpoint`] is a size
//! and a root, signed by a key of the log. Formats: RFC 6962 and RFC 9162 (tree, proofs), C2SP `tlog-tiles`,
//! `signed-note`, `tlog-checkpoint` and `tlog-proof`.
//!
//! It decides and computes only: it stores nothing, reads no file, knows no clock, and makes no random numbers. It
//! knows nothing of records either but their numbers ([`order`]), and what those of its own keys say ([`history`]). Witnesses' cosignatures are kept where they are found, and not checked.
//!
//! ```text
//! history → checkpoint, origin     proof_file → checkpoint → note → key     proof → tiles → edge     tile_path → tiles
//!          all of them → tree, text
//! ```

pub mod checkpoint;
pub mod edge;
pub mod entries;
pub mod history;
pub mod key;
pub mod note;
pub mod order;
pub mod origin;
pub mod proof;
pub mod proof_file;
#[cfg(test)]
mod tests;
mod text;
pub mod tile_path;
pub mod tiles;
pub mod tree;

/// Base64 as all texts of the log have it (RFC 4648 §4, padded).
pub fn base64(bytes: &[u8]) -> String {
    text::to_base64(bytes)
}
