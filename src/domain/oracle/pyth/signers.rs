//! Who must have signed a price update, and whether they did.
//!
//! By Wormhole's rule (its whitepaper "VAAs", `Messages.sol` `verifySignatures`): each signature
//! names its signer by number, in rising order; it is over the keccak-256 of the keccak-256 of the
//! VAA's body, and every one of them must be right. The emitter is signed too, and checked, because
//! guardians sign anybody's messages.

use alloy::primitives::{Address, B256, keccak256};
use bip32::secp256k1::ecdsa::{RecoveryId, Signature, VerifyingKey};
use serde::{Deserialize, Serialize};

use super::SIGNATURE_BYTES;

/// Signers, of whom enough must have signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signers {
    /// Their addresses, by their numbers.
    pub addresses: Vec<Address>,
    /// So many signatures are enough.
    pub least: u8,
    /// Wormhole's number of the chain that emits the roots.
    pub emitter_chain: u16,
    /// Who emits them there.
    pub emitter: B256,
}

impl Signers {
    /// Checks the signatures over a VAA's body, each one's number before it.
    pub(super) fn check(
        &self,
        signatures: &[u8],
        body: &[u8],
        emitter: (u16, B256),
    ) -> Result<(), String> {
        if emitter != (self.emitter_chain, self.emitter) {
            return Err(format!("emitted by {} on chain {}", emitter.1, emitter.0));
        }
        let digest = keccak256(keccak256(body));
        let (signatures, _) = signatures.as_chunks::<SIGNATURE_BYTES>();
        if signatures.len() < usize::from(self.least) {
            return Err(format!("signed by {}, {} are wanted", signatures.len(), self.least));
        }
        let mut last = None;
        for [number, signature @ .., parity] in signatures {
            if last.is_some_and(|last| *number <= last) {
                return Err("its signers are not in their order".to_owned());
            }
            last = Some(*number);
            let signer = self.addresses.get(usize::from(*number)).ok_or_else(|| {
                format!("signed by number {number} of {} signers", self.addresses.len())
            })?;
            if recovered(digest, signature, *parity) != Some(*signer) {
                return Err(format!("the signature of number {number} is not that of {signer}"));
            }
        }
        Ok(())
    }
}

/// Who signed a digest (SEC 1, section 4.1.6).
fn recovered(digest: B256, signature: &[u8; 64], parity: u8) -> Option<Address> {
    let signature = Signature::from_slice(signature).ok()?;
    let id = RecoveryId::from_byte(parity)?;
    let key = VerifyingKey::recover_from_prehash(digest.as_slice(), &signature, id).ok()?;
    let point = key.to_sec1_point(false);
    Some(Address::from_raw_public_key(point.as_bytes().get(1..)?))
}
