//! Which blocks are canonical: a view of the newest blocks, moved by parent hash, never by height.
//!
//! [`ChainView::advance`] takes headers and says what changes; it fetches nothing, and a header it
//! lacks is an error that names what to fetch next. A reorg below the kept window is never guessed
//! at: it is [`AdvanceError::TooDeep`].

use alloy::primitives::{B256, Bloom};

use super::ids::BlockRef;

/// A block header, reduced to what following a chain needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Height.
    pub number: u64,
    /// Hash.
    pub hash: B256,
    /// Hash of the block before.
    pub parent_hash: B256,
    /// Block timestamp, as epoch milliseconds (chains give seconds).
    pub time_ms: i64,
    /// Bloom filter over the block's logs; all zero where it is not known.
    pub bloom: Bloom,
}

impl Header {
    /// Height and hash.
    pub const fn block(&self) -> BlockRef {
        BlockRef { number: self.number, hash: self.hash }
    }
}

/// The canonical blocks kept, oldest first, each the parent of the next. Empty before a chain's
/// first scan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChainView {
    blocks: Vec<BlockRef>,
    /// The oldest block kept is the first one ever scanned: nothing below it matters.
    rooted: bool,
}

/// What an advance changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChainDelta {
    /// No longer canonical, newest first.
    pub orphaned: Vec<BlockRef>,
    /// Newly canonical, oldest first.
    pub adopted: Vec<Header>,
}

/// Why headers cannot be placed, by what the caller does about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AdvanceError {
    /// The first header's parent is not known: fetch it by hash and put it in front.
    #[error("block {number} {hash} is needed to link the headers to the known chain")]
    MissingParent {
        /// Its height.
        number: u64,
        /// Its hash.
        hash: B256,
    },
    /// Two neighbours are not parent and child: the answers come from different chains; ask again.
    #[error("header {number} is not the child of the header before it")]
    Unlinked {
        /// Height of the child.
        number: u64,
    },
    /// The fork lies below the oldest kept block.
    #[error("the chain forked below block {floor}, the oldest one kept")]
    TooDeep {
        /// Height of the oldest kept block.
        floor: u64,
    },
}

impl ChainView {
    /// A view of the given canonical blocks, oldest first, of a chain scanned from `start` on.
    /// Keeps the newest contiguous stretch.
    pub fn new(blocks: Vec<BlockRef>, start: u64) -> Self {
        let gap = blocks
            .windows(2)
            .rposition(|pair| matches!(pair, [a, b] if a.number.checked_add(1) != Some(b.number)));
        let first = gap.map_or(0, |i| i.saturating_add(1));
        let blocks: Vec<BlockRef> = blocks.into_iter().skip(first).collect();
        let rooted = blocks.first().is_some_and(|b| b.number == start);
        Self { blocks, rooted }
    }

    /// The newest canonical block, if any.
    pub fn tip(&self) -> Option<BlockRef> {
        self.blocks.last().copied()
    }

    /// The oldest canonical block kept: nothing at or below it moves any more.
    pub fn floor(&self) -> Option<BlockRef> {
        self.blocks.first().copied()
    }

    /// True when this very block is in the window and canonical.
    fn contains(&self, header: &Header) -> bool {
        self.blocks.contains(&header.block())
    }

    /// The canonical block at a height, if it is within the window.
    pub fn at(&self, number: u64) -> Option<BlockRef> {
        self.blocks.iter().find(|b| b.number == number).copied()
    }

    /// What follows from a linked run of headers, oldest first, whose last is the new tip.
    ///
    /// A tip that is already canonical changes nothing: a provider that lags is not a reorg.
    /// An empty view adopts the headers as they are.
    ///
    /// # Errors
    /// See [`AdvanceError`]; the view itself never changes.
    pub fn advance(&self, headers: &[Header]) -> Result<ChainDelta, AdvanceError> {
        for pair in headers.windows(2) {
            if let [parent, child] = pair {
                let next = parent.number.checked_add(1) == Some(child.number);
                if child.parent_hash != parent.hash || !next {
                    return Err(AdvanceError::Unlinked { number: child.number });
                }
            }
        }
        // Headers of blocks that are canonical already carry no news.
        let known = headers.iter().rposition(|h| self.contains(h));
        let news = match known {
            Some(i) => headers.get(i.saturating_add(1)..).unwrap_or_default(),
            None => headers,
        };
        let (Some(first), Some(oldest)) = (news.first(), self.blocks.first()) else {
            return Ok(ChainDelta { orphaned: Vec::new(), adopted: news.to_vec() });
        };
        // A known hash at another height, or as the parent of the wrong one, is no chain.
        let misplaced = |hash: &B256, number: Option<u64>| {
            self.blocks.iter().any(|b| b.hash == *hash && Some(b.number) != number)
        };
        for header in news {
            let below = header.number.checked_sub(1);
            if misplaced(&header.hash, Some(header.number)) || misplaced(&header.parent_hash, below)
            {
                return Err(AdvanceError::Unlinked { number: header.number });
            }
        }
        match self.blocks.iter().position(|b| b.hash == first.parent_hash) {
            Some(parent) => {
                let above = parent.saturating_add(1);
                let orphaned = self.blocks.iter().skip(above).rev().copied().collect();
                Ok(ChainDelta { orphaned, adopted: news.to_vec() })
            }
            // The very first block scanned was replaced: what lies below was never looked at.
            None if self.rooted && first.number == oldest.number => Ok(ChainDelta {
                orphaned: self.blocks.iter().rev().copied().collect(),
                adopted: news.to_vec(),
            }),
            None if first.number <= oldest.number => {
                Err(AdvanceError::TooDeep { floor: oldest.number })
            }
            None => Err(AdvanceError::MissingParent {
                number: first.number.saturating_sub(1),
                hash: first.parent_hash,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A chain as one line: `"3a 4a 5b"` is blocks 3 to 5, the last one of fork b.
    fn headers(drawing: &str) -> Vec<Header> {
        let hash = |name: &str| alloy::primitives::keccak256(name);
        let names: Vec<&str> = drawing.split_whitespace().collect();
        names
            .iter()
            .enumerate()
            .map(|(i, name)| {
                let number: u64 = name[..1].parse().unwrap();
                let parent = match i {
                    0 => hash(&format!("{}a", number - 1)),
                    _ => hash(names[i - 1]),
                };
                Header {
                    number,
                    hash: hash(name),
                    parent_hash: parent,
                    time_ms: 0,
                    bloom: Bloom::ZERO,
                }
            })
            .collect()
    }

    fn view(drawing: &str) -> ChainView {
        ChainView::new(headers(drawing).iter().map(Header::block).collect(), 1)
    }

    fn draw(delta: &ChainDelta) -> String {
        let name = |hash: B256| {
            (0..=9)
                .flat_map(|n| ["a", "b", "c"].map(|f| format!("{n}{f}")))
                .find(|name| alloy::primitives::keccak256(name) == hash)
                .unwrap()
        };
        let orphaned: Vec<_> = delta.orphaned.iter().map(|b| name(b.hash)).collect();
        let adopted: Vec<_> = delta.adopted.iter().map(|h| name(h.hash)).collect();
        format!("-{} +{}", orphaned.join(" "), adopted.join(" "))
    }

    #[test]
    fn drawn_forks() {
        // known chain        headers              what changes
        let table = [
            ("1a 2a 3a", "4a", "- +4a"),
            ("1a 2a 3a", "4a 5a", "- +4a 5a"),
            ("1a 2a 3a", "3a", "- +"),         // the same head twice
            ("1a 2a 3a", "2a", "- +"),         // a provider that lags
            ("1a 2a 3a", "2a 3a 4a", "- +4a"), // known headers in front
            ("1a 2a 3a", "3b", "-3a +3b"),     // one deep
            ("1a 2a 3a", "3b 4b", "-3a +3b 4b"),
            ("1a 2a 3a", "2b 3b 4b", "-3a 2a +2b 3b 4b"),
            ("1a 2a 3a", "2b", "-3a 2a +2b"), // a shorter fork is still what the node says
            ("1a 2a 3a", "1b 2b", "-3a 2a 1a +1b 2b"), // the first block ever scanned, replaced
            ("", "5a 6a", "- +5a 6a"),        // first scan
            ("1a 2a 3a", "", "- +"),
        ];
        for (known, news, expected) in table {
            let delta = view(known).advance(&headers(news)).unwrap();
            assert_eq!(draw(&delta), expected, "{known} | {news}");
        }
    }

    #[test]
    fn what_cannot_be_placed_says_what_is_missing() {
        let error = |known: &str, news: &str| view(known).advance(&headers(news)).unwrap_err();
        assert!(matches!(error("1a 2a 3a", "5a"), AdvanceError::MissingParent { number: 4, .. }));
        let mut fork = headers("3b");
        fork[0].parent_hash = alloy::primitives::keccak256("2b");
        let missing = view("1a 2a 3a").advance(&fork).unwrap_err();
        assert!(matches!(missing, AdvanceError::MissingParent { number: 2, .. }));
        let mut deep = headers("3b");
        deep[0].parent_hash = B256::ZERO;
        let too_deep = view("3a 4a 5a").advance(&deep).unwrap_err(); // scanned from 1 on
        assert_eq!(too_deep, AdvanceError::TooDeep { floor: 3 });
        // A known block that is said to stand elsewhere, or to be the parent of another height.
        let mut misplaced = headers("3b");
        misplaced[0].parent_hash = alloy::primitives::keccak256("3a");
        let error = view("1a 2a 3a").advance(&misplaced).unwrap_err();
        assert_eq!(error, AdvanceError::Unlinked { number: 3 });
        let mut misplaced = headers("4a");
        misplaced[0].hash = alloy::primitives::keccak256("2a");
        let error = view("1a 2a 3a").advance(&misplaced).unwrap_err();
        assert_eq!(error, AdvanceError::Unlinked { number: 4 });
        let mut unlinked = headers("4a 5a");
        unlinked[1].parent_hash = B256::ZERO;
        let error = view("1a 2a 3a").advance(&unlinked).unwrap_err();
        assert_eq!(error, AdvanceError::Unlinked { number: 5 });
    }

    #[test]
    fn a_view_keeps_only_the_newest_contiguous_stretch() {
        let mut blocks: Vec<BlockRef> =
            headers("1a 2a").iter().chain(&headers("5a 6a")).map(Header::block).collect();
        let view = ChainView::new(blocks.clone(), 1);
        assert_eq!(view.blocks, blocks.split_off(2));
    }
}
