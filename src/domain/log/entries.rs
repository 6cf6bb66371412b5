//! Tiles of entries: what was logged, 256 entries one after the other, each with its length before it.
//!
//! In topupd's log each entry is the 32-byte seal of a record, so a tile of entries tells a stranger nothing about
//! a record; who has the record can find its seal there. Reading is strict, because the bytes may be a stranger's.

use super::tiles::TILE_WIDTH;

/// Why bytes are no tile of entries, or entries cannot be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EntriesError {
    /// None, or more than 256.
    #[error("a tile of entries has 1 to 256 entries, and not {found}")]
    Width {
        /// How many there are; what is beyond the first 257 is not counted.
        found: usize,
    },
    /// More bytes than a length of 16 bits tells.
    #[error("an entry has {bytes} bytes; 65,535 is the most")]
    TooLong {
        /// How many it has.
        bytes: usize,
    },
    /// The bytes end within an entry.
    #[error("the tile ends within an entry")]
    CutShort,
}

/// The tile of these entries: of each one its length as 16 bits, big-endian, then its bytes.
///
/// # Errors
/// [`EntriesError::Width`] or [`EntriesError::TooLong`].
pub fn to_bytes(entries: &[impl AsRef<[u8]>]) -> Result<Vec<u8>, EntriesError> {
    if entries.is_empty() || entries.len() > usize::from(TILE_WIDTH) {
        return Err(EntriesError::Width { found: entries.len() });
    }
    let mut bytes = Vec::new();
    for entry in entries.iter().map(AsRef::as_ref) {
        let too_long = EntriesError::TooLong { bytes: entry.len() };
        let length = u16::try_from(entry.len()).map_err(|_| too_long)?;
        bytes.extend(length.to_be_bytes());
        bytes.extend(entry);
    }
    Ok(bytes)
}

/// The entries of a tile.
///
/// # Errors
/// [`EntriesError::Width`] or [`EntriesError::CutShort`].
pub fn from_bytes(mut bytes: &[u8]) -> Result<Vec<&[u8]>, EntriesError> {
    let mut entries = Vec::new();
    while !bytes.is_empty() && entries.len() <= usize::from(TILE_WIDTH) {
        let (length, rest) = bytes.split_first_chunk::<2>().ok_or(EntriesError::CutShort)?;
        let length = usize::from(u16::from_be_bytes(*length));
        let (entry, rest) = rest.split_at_checked(length).ok_or(EntriesError::CutShort)?;
        entries.push(entry);
        bytes = rest;
    }
    if entries.is_empty() || entries.len() > usize::from(TILE_WIDTH) {
        return Err(EntriesError::Width { found: entries.len() });
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_written_with_their_lengths() {
        let long = vec![7u8; 65_535];
        let entries: [&[u8]; 3] = [b"ab", b"", &long];
        let bytes = to_bytes(&entries).unwrap();
        assert_eq!(bytes[..8], [0, 2, b'a', b'b', 0, 0, 255, 255]);
        assert_eq!(from_bytes(&bytes).unwrap(), entries);
        for cut in [1, 2, 3, 5, 7, bytes.len() - 1] {
            assert_eq!(from_bytes(&bytes[..cut]), Err(EntriesError::CutShort), "{cut}");
        }
    }

    #[test]
    fn bounds() {
        assert_eq!(to_bytes(&[[0u8; 65_536]]), Err(EntriesError::TooLong { bytes: 65_536 }));
        assert_eq!(to_bytes(&[[0u8; 1]; 0]), Err(EntriesError::Width { found: 0 }));
        assert_eq!(to_bytes(&[[0u8; 1]; 257]), Err(EntriesError::Width { found: 257 }));
        assert_eq!(from_bytes(&[]), Err(EntriesError::Width { found: 0 }));
        assert_eq!(from_bytes(&[0; 2 * 256]).unwrap().len(), 256);
        assert_eq!(from_bytes(&[0; 2 * 100_000]), Err(EntriesError::Width { found: 257 }));
        assert_eq!(to_bytes(&[[9u8; 32]; 256]).unwrap().len(), 256 * 34);
    }
}
