//! In which order waiting records get their leaves, and whether one of them is missing.
//!
//! Records wait in the order in which they were written down, which is that of cause and effect: whoever
//! writes an effect has seen its cause. Within one journal the numbers of its records decide, whatever the
//! places say. Nothing is known of what a record says.

use std::collections::BTreeMap;

/// A record that has no leaf yet: its journal and its number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Waiting {
    /// Journal.
    pub journal: i64,
    /// Number in it, from 1.
    pub seq: i64,
}

/// A journal does not go on where the log has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the log has {before} records of journal {journal}, and the next one to be added has the number {found}"
)]
pub struct Gap {
    /// Journal.
    pub journal: i64,
    /// Number of its last record that has a leaf; 0 for none.
    pub before: i64,
    /// Number of the record that was found.
    pub found: i64,
}

/// The order in which to give leaves: indexes into `waiting`, which is in the order of the places. Each journal
/// keeps the places that it has, and has its records there by their numbers.
pub fn in_order(waiting: &[Waiting]) -> Vec<usize> {
    let mut by_number: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
    for (at, one) in waiting.iter().enumerate() {
        by_number.entry(one.journal).or_default().push(at);
    }
    for places in by_number.values_mut() {
        // From the largest on, because they are taken from the end.
        places.sort_by_key(|at| std::cmp::Reverse(waiting.get(*at).map(|one| one.seq)));
    }
    waiting.iter().filter_map(|one| by_number.get_mut(&one.journal)?.pop()).collect()
}

/// Checks that each journal goes on without a gap. `last` has the number of the last record of each journal that
/// has a leaf, and is moved on; a journal that it does not have has none.
///
/// # Errors
/// The first [`Gap`]; `last` is of no use then.
pub fn goes_on(
    ordered: impl IntoIterator<Item = Waiting>,
    last: &mut BTreeMap<i64, i64>,
) -> Result<(), Gap> {
    for Waiting { journal, seq } in ordered {
        let before = last.entry(journal).or_insert(0);
        if before.checked_add(1) != Some(seq) {
            return Err(Gap { journal, before: *before, found: seq });
        }
        *before = seq;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn waiting(rows: &[(i64, i64)]) -> Vec<Waiting> {
        rows.iter().map(|(journal, seq)| Waiting { journal: *journal, seq: *seq }).collect()
    }

    fn ordered(rows: &[(i64, i64)]) -> Vec<(i64, i64)> {
        let rows = waiting(rows);
        in_order(&rows).into_iter().map(|at| (rows[at].journal, rows[at].seq)).collect()
    }

    #[test]
    fn journals_keep_their_own_order_and_the_places_decide_between_them() {
        assert_eq!(ordered(&[(0, 7), (3, 1), (0, 8)]), [(0, 7), (3, 1), (0, 8)]);
        assert_eq!(ordered(&[(0, 8), (3, 1), (0, 7)]), [(0, 7), (3, 1), (0, 8)]);
        assert_eq!(ordered(&[]), []);
    }

    #[test]
    fn what_is_missing_or_comes_twice_is_named() {
        let check = |rows: &[(i64, i64)], last: &[(i64, i64)]| {
            let mut last = last.iter().copied().collect();
            goes_on(waiting(rows), &mut last).map(|()| last.into_iter().collect::<Vec<_>>())
        };
        assert_eq!(check(&[(1, 3), (2, 1), (1, 4)], &[(1, 2)]), Ok(vec![(1, 4), (2, 1)]));
        assert_eq!(check(&[(1, 4)], &[(1, 2)]), Err(Gap { journal: 1, before: 2, found: 4 }));
        assert_eq!(check(&[(1, 2)], &[(1, 2)]), Err(Gap { journal: 1, before: 2, found: 2 }));
        assert_eq!(check(&[(2, 2)], &[]), Err(Gap { journal: 2, before: 0, found: 2 }));
        assert!(check(&[(1, i64::MIN)], &[(1, i64::MAX)]).is_err());
    }

    proptest! {
        /// Against a model that sorts each journal and reads the places off a list.
        #[test]
        fn any_order_of_places_gives_each_journal_its_own(
            rows in prop::collection::vec((0i64..4, 1i64..30), 0..60)
        ) {
            let mut rows = rows;
            let mut unlike = std::collections::BTreeSet::new();
            rows.retain(|row| unlike.insert(*row));
            let got = ordered(&rows);
            let journals = |rows: &[(i64, i64)]| rows.iter().map(|r| r.0).collect::<Vec<_>>();
            prop_assert_eq!(journals(&got), journals(&rows));
            for journal in 0..4 {
                let of = |rows: &[(i64, i64)]| {
                    rows.iter().filter(|r| r.0 == journal).map(|r| r.1).collect::<Vec<_>>()
                };
                let mut sorted = of(&rows);
                sorted.sort_unstable();
                prop_assert_eq!(of(&got), sorted);
            }
        }
    }
}
