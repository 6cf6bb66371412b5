//! What logs say, in tables.

use super::*;

const US: Address = Address::repeat_byte(0xaa);
const THEM: Address = Address::repeat_byte(0xbb);
const TOKEN: Address = Address::repeat_byte(0xcc);

fn book() -> AddressBook {
    let mut book = AddressBook::default();
    book.insert(US, AddressId(7));
    book
}

fn log(topics: &[B256], data: &[u8]) -> RawLog {
    RawLog {
        address: TOKEN,
        topics: topics.to_vec(),
        data: Bytes::copy_from_slice(data),
        block_hash: B256::repeat_byte(1),
        block_number: 1,
        tx_hash: B256::repeat_byte(2),
        log_index: 0,
    }
}

fn word(address: Address) -> B256 {
    address.into_word()
}

fn one(log: RawLog) -> Option<Content> {
    let mut found = match_logs(ChainId(1), &[log], &book());
    assert!(found.len() <= 1);
    found.pop().map(|s| s.content)
}

fn why(content: Option<Content>) -> Option<Malformation> {
    match content {
        Some(Content::Malformed { why, .. }) => Some(why),
        _ => None,
    }
}

#[test]
fn a_clean_transfer() {
    let amount = U256::MAX.to_be_bytes::<32>();
    let content = one(log(&[TRANSFER_TOPIC, word(THEM), word(US)], &amount));
    let expected = Content::Transfer { sender: THEM, amount: RawAmount(U256::MAX) };
    assert_eq!(content, Some(expected));
}

#[test]
fn transfers_to_others_are_nothing_to_us() {
    let data = [0; 32];
    assert_eq!(one(log(&[TRANSFER_TOPIC, word(US), word(THEM)], &data)), None);
    assert_eq!(one(log(&[B256::ZERO, word(THEM), word(US)], &data)), None);
    assert_eq!(one(log(&[], &data)), None);
}

#[test]
fn what_leaves_our_addresses_is_found_and_a_stranger_can_invent_none_of_it() {
    let moved = |token: Address, from: Address, to: Address, amount: u8| {
        let mut data = [0; 32];
        data[31] = amount;
        RawLog { address: token, ..log(&[TRANSFER_TOPIC, word(from), word(to)], &data) }
    };
    let other = Address::repeat_byte(0xdd);
    let logs = [
        moved(TOKEN, US, THEM, 5),
        moved(TOKEN, US, THEM, 0), // anybody may move nothing
        moved(TOKEN, US, US, 5),   // stays
        moved(other, US, THEM, 5), // a contract of anybody's
        moved(TOKEN, THEM, US, 5), // arrives
        moved(TOKEN, THEM, other, 5),
    ];
    let found = match_outgoing(ChainId(1), &logs, &book(), |token| *token == TOKEN);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].address_id, found[0].recipient), (AddressId(7), THEM));
    assert_eq!(found[0].amount, RawAmount(U256::from(5)));
}

#[test]
fn odd_logs_are_recorded_with_their_reason() {
    use Malformation::{DataLength, DirtyTopic, TopicCount};
    let (from, to) = (word(THEM), word(US));
    let mut dirty_to = to;
    dirty_to[0] = 1;
    let mut dirty_from = from;
    dirty_from[11] = 1;
    let two = [from.as_slice(), to.as_slice()].concat();
    let three = [two.as_slice(), &[0; 32]].concat();
    let table: &[(&[B256], &[u8], Option<Malformation>)] = &[
        (&[TRANSFER_TOPIC], &three, Some(TopicCount)),
        (&[TRANSFER_TOPIC], &[], None), // nobody's: there is no recipient to be found
        (&[TRANSFER_TOPIC, from], &three[32..], Some(TopicCount)),
        (&[TRANSFER_TOPIC, from, to, B256::ZERO], &[], Some(TopicCount)), // ERC-721
        (&[TRANSFER_TOPIC, from, to], &[], Some(DataLength)),
        (&[TRANSFER_TOPIC, from, to], &[0; 31], Some(DataLength)),
        (&[TRANSFER_TOPIC, from, to], &[0; 33], Some(DataLength)),
        (&[TRANSFER_TOPIC, from, to], &[0; 64], Some(DataLength)),
        (&[TRANSFER_TOPIC, from, dirty_to], &[0; 32], Some(DirtyTopic)),
        (&[TRANSFER_TOPIC, dirty_from, to], &[0; 32], Some(DirtyTopic)),
    ];
    for (topics, data, expected) in table {
        assert_eq!(why(one(log(topics, data))), *expected, "{topics:?} {}", data.len());
    }
}

#[test]
fn the_evidence_of_an_odd_log_is_bounded() {
    let Some(Content::Malformed { data, .. }) =
        one(log(&[TRANSFER_TOPIC, word(THEM), word(US)], &[9; 10_000]))
    else {
        panic!("expected a malformed log")
    };
    assert_eq!(data.len(), MALFORMED_DATA_KEPT);
}

#[test]
fn n_counts_per_transaction_token_recipient_and_shape_whatever_the_order() {
    let clean = |tx: u8, token: Address, index: u64| RawLog {
        address: token,
        tx_hash: B256::repeat_byte(tx),
        log_index: index,
        ..log(&[TRANSFER_TOPIC, word(THEM), word(US)], &[0; 32])
    };
    let odd = RawLog { log_index: 1, ..log(&[TRANSFER_TOPIC, word(THEM), word(US)], &[]) };
    let other = Address::repeat_byte(0xdd);
    let logs = [
        clean(2, TOKEN, 5),
        clean(2, TOKEN, 0),
        odd,
        clean(2, other, 2),
        clean(3, TOKEN, 3),
        clean(2, TOKEN, 4),
    ];
    let found: Vec<(u64, u32, Shape)> = match_logs(ChainId(1), &logs, &book())
        .iter()
        .map(|s| (s.key.log_index, s.deposit.n, s.deposit.shape))
        .collect();
    use Shape::{Malformed, Transfer};
    assert_eq!(
        found,
        [
            (0, 0, Transfer),
            (1, 0, Malformed),
            (2, 0, Transfer),
            (3, 0, Transfer),
            (4, 1, Transfer),
            (5, 2, Transfer)
        ]
    );
}
