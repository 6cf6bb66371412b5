//! Deposit addresses from an extended *public* key (BIP-32), and the reasons to refuse a key.
//!
//! Only non-hardened children of an account key can be derived, which is all that is needed and
//! all that a watch-only daemon can do. It holds no private key, accepts none, and never repeats
//! what it was given in an error: somebody may have pasted the wrong key.
//!
//! Wallets export the key of an account, `m/44'/60'/N'`, and show the addresses below its first chain,
//! `/0/i`. Whoever has that chain's own key, `m/44'/60'/N'/0`, gives the same addresses.

use alloy::primitives::{Address, address, keccak256};
use bip32::{ChildNumber, ExtendedKey, Prefix, XPub};

/// Why a key was refused. No variant carries the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WalletError {
    /// `xprv…`, or 64 hexadecimal digits, or words.
    #[error(
        "this is a private key or a mnemonic: topupd never holds keys that can move money; give the account's extended PUBLIC key (xpub…), and treat what you pasted as exposed"
    )]
    Private,
    /// Not a base58check-encoded BIP-32 key.
    #[error(
        "not an extended public key: expected 111 characters starting with xpub (BIP-32, base58check)"
    )]
    Malformed,
    /// Another coin's or another script type's version bytes.
    #[error("extended key of another kind: expected the prefix xpub (BIP-32 version 0488b21e)")]
    Prefix,
    /// Depth, parent and child number contradict each other (BIP-32 test vector 5).
    #[error("extended public key contradicts itself: depth 0 must have no parent and no index")]
    Inconsistent,
    /// The key bytes are not a point of the curve.
    #[error("extended public key holds no valid secp256k1 point")]
    NotAPoint,
    /// Not at a place that is documented: no wallet would show the addresses below it.
    #[error(
        "is the key at depth {depth}, child {child}: wanted is the account's, m/44'/60'/0' (depth 3, a hardened child), which wallets export, or m/44'/60'/0'/0 (depth 4, child 0). No wallet shows the addresses below another key, so what is paid to them may be lost"
    )]
    Place {
        /// Steps from the master key.
        depth: u8,
        /// The last of them.
        child: Step,
    },
    /// BIP-32 allows 2³¹ non-hardened children.
    #[error("no address left to derive: an account has 2147483648 non-hardened children")]
    Exhausted,
}

/// A step of a path: `7`, or `7'` where it is hardened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step(ChildNumber);

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mark = if self.0.is_hardened() { "'" } else { "" };
        write!(f, "{}{mark}", self.0.index())
    }
}

/// An extended public key: that of an account, or the one whose children are its addresses (BIP-44,
/// SLIP-44 coin 60).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountXpub {
    key: XPub,
    text: String,
}

impl AccountXpub {
    /// Reads an `xpub…` string.
    ///
    /// # Errors
    /// [`WalletError`], which never repeats the text.
    pub fn parse(text: &str) -> Result<Self, WalletError> {
        let text = text.trim();
        refuse_private(text)?;
        let extended: ExtendedKey = text.parse().map_err(|_| WalletError::Malformed)?;
        // The library turns an xprv into its xpub without a word; we do not want to have seen it.
        if extended.prefix.is_private() {
            return Err(WalletError::Private);
        }
        if extended.prefix.as_str() != "xpub" {
            return Err(WalletError::Prefix);
        }
        let attrs = &extended.attrs;
        let rootless = attrs.parent_fingerprint == [0; 4] && attrs.child_number.0 == 0;
        if attrs.depth == 0 && !rootless {
            return Err(WalletError::Inconsistent);
        }
        let key = XPub::try_from(extended).map_err(|_| WalletError::NotAPoint)?;
        Ok(Self { key, text: text.to_owned() })
    }

    /// The key as given. Public, but it links all of an installation's addresses: never logged.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The key whose children are the addresses that a wallet shows: of an account's key its child 0,
    /// and of that child itself. What is stored is this one, so that both are the same key in use.
    ///
    /// # Errors
    /// [`WalletError::Place`] for a key at any other place.
    pub fn receiving(&self) -> Result<Self, WalletError> {
        let attrs = self.key.attrs();
        let (depth, child) = (attrs.depth, attrs.child_number);
        match (depth, child.is_hardened(), child.index()) {
            (4, false, 0) => Ok(self.clone()),
            (3, true, _) => {
                let first = ChildNumber::new(0, false).map_err(|_| WalletError::NotAPoint)?;
                let key = self.key.derive_child(first).map_err(|_| WalletError::NotAPoint)?;
                let text = key.to_string(Prefix::XPUB);
                Ok(Self { key, text })
            }
            _ => Err(WalletError::Place { depth, child: Step(child) }),
        }
    }

    /// Where it says that it is, as far as a key can say: the steps above the last one are not in it.
    pub fn place(&self) -> String {
        let attrs = self.key.attrs();
        let child = Step(attrs.child_number);
        match self.receiving() {
            Ok(_) if attrs.depth == 3 => format!("m/44'/60'/{child}"),
            Ok(_) => format!("m/44'/60'/…'/{child}"),
            Err(_) => format!("depth {}, child {child}", attrs.depth),
        }
    }

    /// Eight hexadecimal digits that tell two keys apart without revealing either (BIP-32).
    pub fn fingerprint(&self) -> String {
        alloy::primitives::hex::encode(self.key.fingerprint())
    }

    /// The address of the `index`-th non-hardened child: the last 20 bytes of the keccak-256 of
    /// its uncompressed public key.
    ///
    /// # Errors
    /// [`WalletError::Exhausted`] from 2³¹ on; [`WalletError::NotAPoint`] with probability 2⁻¹²⁷.
    pub fn address(&self, index: u32) -> Result<Address, WalletError> {
        let number = ChildNumber::new(index, false).map_err(|_| WalletError::Exhausted)?;
        let child = self.key.derive_child(number).map_err(|_| WalletError::NotAPoint)?;
        let point = child.public_key().to_sec1_point(false);
        let hash = point.as_bytes().get(1..).map(keccak256).ok_or(WalletError::NotAPoint)?;
        Ok(Address::from_word(hash))
    }
}

/// Recognises private material before any parser sees it.
fn refuse_private(text: &str) -> Result<(), WalletError> {
    let hex = text.strip_prefix("0x").unwrap_or(text);
    let raw_key = hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit());
    let private_prefix = text.get(1..4).is_some_and(|p| p.eq_ignore_ascii_case("prv"));
    let words = text.split_whitespace().count() >= 12;
    if raw_key || private_prefix || words { Err(WalletError::Private) } else { Ok(()) }
}

/// Reads an address, insisting on its EIP-55 checksum when letters of both cases are used.
///
/// # Errors
/// A sentence saying what is wrong.
pub fn parse_address(text: &str) -> Result<Address, String> {
    let digits = text.strip_prefix("0x").unwrap_or_default();
    if digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err("this looks like a private key, not an address; treat it as exposed".into());
    }
    if digits.len() != 40 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err("not an address: expected 0x and 40 hexadecimal digits".into());
    }
    if digits.bytes().all(|b| b == b'0') {
        return Err(
            "the zero address cannot be a deposit address: tokens burned there would be credited"
                .into(),
        );
    }
    let mixed = digits.bytes().any(|b| b.is_ascii_lowercase())
        && digits.bytes().any(|b| b.is_ascii_uppercase());
    if mixed {
        Address::parse_checksummed(text, None)
            .map_err(|_| format!("{text} has a wrong EIP-55 checksum: a letter is mistyped"))
    } else {
        text.parse().map_err(|_| format!("{text} is not an address"))
    }
}

/// Reads an address that payments are to come to: one that somebody can have the key of.
///
/// # Errors
/// A sentence saying what is wrong.
pub fn parse_deposit_address(text: &str) -> Result<Address, String> {
    let address = parse_address(text)?;
    match nobodys(&address) {
        None => Ok(address),
        Some(what) => Err(format!(
            "{text} is {what}: nobody has its key, and it can never be somebody's deposit address"
        )),
    }
}

/// Where money is burned, among addresses that look like any other.
const BURNED: [Address; 2] = [
    address!("0xdEAD000000000000000042069420694206942069"),
    address!("0xdeaDDeADDEaDdeaDdEAddEADDEAdDeadDEADDEaD"),
];
/// Nobody finds a key whose address has so many equal bytes in a row: 80 bits.
const EQUAL_MAX: usize = 10;

/// What an address is that no key leads to.
fn nobodys(address: &Address) -> Option<&'static str> {
    let bytes = address.as_slice();
    let (zeros, last) = bytes.split_at(18);
    if zeros.iter().all(|b| *b == 0) {
        let is_burn = last == [0xde, 0xad];
        return Some(if is_burn { "a burn address" } else { "a precompiled contract's" });
    }
    if BURNED.contains(address) {
        return Some("a burn address");
    }
    let made_up = bytes.chunk_by(|a, b| a == b).any(|equal| equal.len() >= EQUAL_MAX);
    made_up.then_some("made up (a burn address, a placeholder, or a contract of the chain itself)")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// BIP-32 test vectors 1 and 2: a chain's xpub, and that of its non-hardened child.
    #[test]
    fn bip32_vectors() {
        let table = [
            // vector 1: m/0' -> m/0'/1
            (
                "xpub68Gmy5EdvgibQVfPdqkBBCHxA5htiqg55crXYuXoQRKfDBFA1WEjWgP6LHhwBZeNK1VTsfTFUHCdrfp1bgwQ9xv5ski8PX9rL2dZXvgGDnw",
                1,
                "xpub6ASuArnXKPbfEwhqN6e3mwBcDTgzisQN1wXN9BJcM47sSikHjJf3UFHKkNAWbWMiGj7Wf5uMash7SyYq527Hqck2AxYysAA7xmALppuCkwQ",
            ),
            // vector 1: m/0'/1/2' -> m/0'/1/2'/2
            (
                "xpub6D4BDPcP2GT577Vvch3R8wDkScZWzQzMMUm3PWbmWvVJrZwQY4VUNgqFJPMM3No2dFDFGTsxxpG5uJh7n7epu4trkrX7x7DogT5Uv6fcLW5",
                2,
                "xpub6FHa3pjLCk84BayeJxFW2SP4XRrFd1JYnxeLeU8EqN3vDfZmbqBqaGJAyiLjTAwm6ZLRQUMv1ZACTj37sR62cfN7fe5JnJ7dh8zL4fiyLHV",
            ),
            // vector 2: m -> m/0
            (
                "xpub661MyMwAqRbcFW31YEwpkMuc5THy2PSt5bDMsktWQcFF8syAmRUapSCGu8ED9W6oDMSgv6Zz8idoc4a6mr8BDzTJY47LJhkJ8UB7WEGuduB",
                0,
                "xpub69H7F5d8KSRgmmdJg2KhpAK8SR3DjMwAdkxj3ZuxV27CprR9LgpeyGmXUbC6wb7ERfvrnKZjXoUmmDznezpbZb7ap6r1D3tgFxHmwMkQTPH",
            ),
        ];
        for (parent, index, child) in table {
            let parent = AccountXpub::parse(parent).unwrap();
            let number = ChildNumber::new(index, false).unwrap();
            let derived = parent.key.derive_child(number).unwrap();
            assert_eq!(derived.to_string(bip32::Prefix::XPUB), child);
        }
    }

    /// BIP-32 test vector 5: keys that must be refused.
    #[test]
    fn bip32_invalid_keys() {
        let table = [
            (
                "xpub661MyMwAqRbcEYS8w7XLSVeEsBXy79zSzH1J8vCdxAZningWLdN3zgtU6LBpB85b3D2yc8sfvZU521AAwdZafEz7mnzBBsz4wKY5fTtTQBm",
                "pubkey version / prvkey mismatch",
            ),
            (
                "xpub661MyMwAqRbcEYS8w7XLSVeEsBXy79zSzH1J8vCdxAZningWLdN3zgtU6Txnt3siSujt9RCVYsx4qHZGc62TG4McvMGcAUjeuwZdduYEvFn",
                "invalid pubkey prefix 04",
            ),
            (
                "xpub661MyMwAqRbcEYS8w7XLSVeEsBXy79zSzH1J8vCdxAZningWLdN3zgtU6N8ZMMXctdiCjxTNq964yKkwrkBJJwpzZS4HS2fxvyYUA4q2Xe4",
                "invalid pubkey prefix 01",
            ),
            (
                "xpub661no6RGEX3uJkY4bNnPcw4URcQTrSibUZ4NqJEw5eBkv7ovTwgiT91XX27VbEXGENhYRCf7hyEbWrR3FewATdCEebj6znwMfQkhRYHRLpJ",
                "zero depth with non-zero parent fingerprint",
            ),
            (
                "xpub661MyMwAuDcm6CRQ5N4qiHKrJ39Xe1R1NyfouMKTTWcguwVcfrZJaNvhpebzGerh7gucBvzEQWRugZDuDXjNDRmXzSZe4c7mnTK97pTvGS8",
                "zero depth with non-zero index",
            ),
            (
                "DMwo58pR1QLEFihHiXPVykYB6fJmsTeHvyTp7hRThAtCX8CvYzgPcn8XnmdfHGMQzT7ayAmfo4z3gY5KfbrZWZ6St24UVf2Qgo6oujFktLHdHY4",
                "unknown version",
            ),
            (
                "xpub661MyMwAqRbcEYS8w7XLSVeEsBXy79zSzH1J8vCdxAZningWLdN3zgtU6Q5JXayek4PRsn35jii4veMimro1xefsM58PgBMrvdYre8QyULY",
                "pubkey not on curve",
            ),
            (
                "xpub661MyMwAqRbcEYS8w7XLSVeEsBXy79zSzH1J8vCdxAZningWLdN3zgtU6N8ZMMXctdiCjxTNq964yKkwrkBJJwpzZS4HS2fxvyYUA4q2Xe5",
                "wrong checksum",
            ),
        ];
        for (text, why) in table {
            let error = AccountXpub::parse(text).expect_err(why);
            assert!(!error.to_string().contains(text), "{why}: echoed");
        }
    }

    #[test]
    fn private_material_is_refused_and_not_echoed() {
        let secrets = [
            // BIP-32 vector 1, chain m.
            "xprv9s21ZrQH143K3QTDL4LXw2F7HEK3wJUD2nW2nRk4stbPy6cq3jPPqjiChkVvvNKmPGJxWUtg6LnF5kejMRNNU3TGtRBeJgk33yuGBxrMPHi",
            "tprv8ZgxMBicQKsPd9TeAdPADNnSyH9SSUUbTVeFszDE23Ki6TBB5nCefAdHkK8Fm3qMQR6sHwA56zqRmKmxnHk37JkiFzvncDqoKmPWubu7hDF",
            "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
            "test test test test test test test test test test test junk",
        ];
        for secret in secrets {
            let error = AccountXpub::parse(secret).unwrap_err();
            assert_eq!(error, WalletError::Private);
            assert!(!error.to_string().contains(secret));
        }
        assert!(!parse_address(secrets[2]).unwrap_err().contains(&secrets[2][2..]));
    }

    /// The well-known development mnemonic ("test … junk", published with every local node) at
    /// m/44'/60'/0'/0: its children are the accounts every developer has seen. The xpub was
    /// derived from the published seed with another implementation.
    #[test]
    fn known_ethereum_addresses() {
        let seed_hex = "9dfc3c64c2f8bede1533b6a79f8570e5943e0b8fd1cf77107adf7b72cef42185d564a3aee24cab43f80e3c4538087d70fc824eabbad596a23c97b6ee8322ccc0";
        let seed = alloy::primitives::hex::decode(seed_hex).unwrap();
        let path = "m/44'/60'/0'/0".parse().unwrap();
        let account = bip32::XPrv::derive_from_path(&seed, &path).unwrap().public_key();
        let account = AccountXpub::parse(&account.to_string(bip32::Prefix::XPUB)).unwrap();
        let expected = [
            "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266",
            "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
            "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC",
        ];
        for (index, address) in (0u32..).zip(expected) {
            assert_eq!(account.address(index).unwrap().to_checksum(None), address);
        }
        assert_eq!(account.address(1 << 31), Err(WalletError::Exhausted));
    }

    /// Keys of two published mnemonics, derived by another implementation of BIP-32; the second
    /// account's is the one that Trezor's and others' tests have.
    const JUNK: &str = "xpub6Ce9NcJvTk36xtLSrJLZqE7wtgA5deCeYs7rSQtreh4cj6ByPtrg9sD7V2FNFLPnf8heNP3FGkeV9qwfzvZNSd54JoNXVsXFYSYwHsnJxqP";
    const JUNK_0: &str = "xpub6DyUKdwoLWmUJ4Tn9Bbsdtx7B5Ws18mEN19e5HT52ikE53FiUheSQXrZUNPovqfyKmw4579A1Mm3GXXKM39N64uooBfJ4tNAzFsEbodRTx4";
    const ABANDON: &str = "xpub6DCoCpSuQZB2jawqnGMEPS63ePKWkwWPH4TU45Q7LPXWuNd8TMtVxRrgjtEshuqpK3mdhaWHPFsBngh5GFZaM6si3yZdUsT8ddYM3PwnATt";
    const ABANDON_0: &str = "xpub6EF8jXqFeFEW5bwMU7RpQtHkzE4KJxcqJtvkCjJumzW8CPpacXkb92ek4WzLQXjL93HycJwTPUAcuNxCqFPKKU5m5Z2Vq4nCyh5CyPeBFFr";

    #[test]
    fn an_accounts_key_and_that_of_its_first_chain_give_the_same_addresses() {
        for (account, chain, first) in [
            (JUNK, JUNK_0, "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"),
            (ABANDON, ABANDON_0, "0x9858EfFD232B4033E47d90003D41EC34EcaEda94"),
        ] {
            let (account, chain) =
                (AccountXpub::parse(account).unwrap(), AccountXpub::parse(chain).unwrap());
            assert_eq!(account.receiving().unwrap(), chain);
            assert_eq!(chain.receiving().unwrap(), chain);
            assert_eq!(chain.address(0).unwrap().to_checksum(None), first);
            assert_ne!(account.address(0).unwrap().to_checksum(None), first);
            assert_eq!(account.place(), "m/44'/60'/0'");
            assert_eq!(chain.place(), "m/44'/60'/…'/0");
        }
        // Another account of the same mnemonic is as good.
        let second = "xpub6Ce9NcJvTk372KjsGfWqbcex5DumjpNquQLApoeQUavSCjEc823BV1tb4rXUuPuht8h2hSxkg2EXUaKUJmniJvRZAELxypsCzBFdtosmV76";
        let second = AccountXpub::parse(second).unwrap();
        assert_eq!(second.place(), "m/44'/60'/1'");
        assert!(second.receiving().is_ok());
    }

    #[test]
    fn a_key_at_another_place_is_named_and_not_taken() {
        for (text, place) in [
            (
                "xpub661MyMwAqRbcGCHqYL6cunEAC4sjobr4oEsADYNVSpvM1oCFfV98EVtMuHVmKomD5EWqhYwUPCkQdrti7hUGbmxaoTGLSkzhtBmR5tk9Jtu",
                "depth 0, child 0",
            ),
            (
                "xpub684A9eLXsd3iyo21BdpHcG7Auc1eFYh19aZDa98zXH7JbmetZDxgCgn3BXAMnjCRkC73VwEBnmkzqzUBKt4AC1HFB4vq4DZC8H5gnJmRzas",
                "depth 1, child 44'",
            ),
            (
                "xpub6Ay6WWVYghenQVhPqVCSEgcQKFK6emKTmDiXr86hZZKqXw8Uuqq87s8ExNmmrjiWP8wrYYcAzVEGoeUiwhGcbnH51Pd1m8ZWJmPfh6krM7r",
                "depth 2, child 60'",
            ),
            (
                "xpub6Ce9NcJn85W8pmVGuUhyAtCdTA8qYQXPjmUsnXcbjidJh2ZXkEzKrfHiDYgXRwxHJ71jjwNZiaY6QUju84XvdNdT2Awo6EBPewMxB73U7xv",
                "depth 3, child 0",
            ),
            (
                "xpub6DyUKdwoLWmULdVhXToyc8rVwMHsLwaGTg4etxktVXbiNkbmbtvHi4GwUZ691ucz6K2EsD88AJ8DcRXayRd5Xy7F1xVszQ1rYvrSwudXXFv",
                "depth 4, child 1",
            ),
            (
                "xpub6DyUKdwwgBJSUALjhc2LhZjJcyNAQkxTc6bpKLpEVfnPrn6B8s54LnkBUktfw6finnvmnWmVnGBTub8UkUdJ3KiRENPnQtENuo7uZPnQvNU",
                "depth 4, child 0'",
            ),
            (
                "xpub6GJwaADoeFMvX8WJvWaNc9SGyGk5WNu1ot6qKxQxEuBpFy2LoHbetz41PgEcEg4n2bk3hWoHYJ69EqkjpoSv9KrinCnZV6y4Xo6VJZ6KHWT",
                "depth 5, child 0",
            ),
        ] {
            let key = AccountXpub::parse(text).unwrap();
            assert_eq!(key.place(), place);
            let error = key.receiving().unwrap_err();
            assert!(matches!(error, WalletError::Place { .. }), "{place}: {error}");
            assert!(error.to_string().contains(place), "{error}");
            assert!(!error.to_string().contains(text), "{place}: echoed");
        }
    }

    #[test]
    fn what_nobody_has_the_key_of_is_no_deposit_address() {
        for (text, what) in [
            ("0x0000000000000000000000000000000000000000", "zero address"),
            ("0x0000000000000000000000000000000000000001", "precompiled"),
            ("0x0000000000000000000000000000000000000100", "precompiled"),
            ("0x0000000000000000000000000000000000001010", "precompiled"), // Polygon's own coin
            ("0x000000000000000000000000000000000000dEaD", "burn"),
            ("0xdEAD000000000000000042069420694206942069", "burn"),
            ("0xEeeeeEeeeEeEeeEeEeEeeEEEeeeeEeeeeeeeEEeE", "placeholder"),
            ("0xffffffffffffffffffffffffffffffffffffffff", "made up"),
            ("0x1111111111111111111111111111111111111111", "made up"),
            ("0x4200000000000000000000000000000000000006", "made up"), // OP chains' WETH
            ("0x0200000000000000000000000000000000000005", "made up"), // Avalanche's Warp
        ] {
            let error = parse_deposit_address(text).unwrap_err();
            assert!(error.contains(what), "{text}: {error}");
        }
        for good in [
            "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266",
            "0x00000000219ab540356cBB839Cbe05303d7705Fa",
            "0x0000000000000000a1b2c3d4e5f60718293a4b5c",
        ] {
            assert!(parse_deposit_address(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn addresses_are_checked_by_eip55() {
        // Vectors of EIP-55.
        for good in [
            "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
            "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
            "0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed",
        ] {
            assert!(parse_address(good).is_ok(), "{good}");
        }
        for bad in [
            "0x5AAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
            "5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
            "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAe",
            "",
            "0xg",
        ] {
            assert!(parse_address(bad).is_err(), "{bad}");
        }
    }
}
