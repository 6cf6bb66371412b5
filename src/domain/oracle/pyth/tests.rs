//! Real and made-up updates, cut, changed and forged.

use alloy::primitives::{Address, address, b256};

use super::*;

/// What Hermes answered on 2025-04-04 for SOL, TON, PYTH and USDT in USD, signed by 13 of
/// Wormhole's guardians. From pyth-network/pyth-crosschain (Apache-2.0),
/// `target_chains/ton/contracts/tests/utils/pyth.ts`, `HERMES_SOL_TON_PYTH_USDT_UPDATE`; the
/// prices are those its comment tells. In capitals, because `tests/tidy.rs` looks for the names
/// of floats.
const FROM_HERMES: &str = "\
504E41550100000003B801000000040D00A699130558C81E1326548D3E8066A9AD7E00D775BBD76ECC0D23B986EB04\
9A2E3F8D6717318A5AC1316CA37C25251B28ECF900A86ACB196E87311D1D663FC1B301022BAB82B2B65D442F901858\
3A12A46EA6D51734DD00B8110627CB250EA45E1C040FD95B82ED60D2E998323A373E60DDDF96A50F09E5B57EC8ECA3\
B1BBCC2A3D3D0103762903038517F06D83F26E0DFC8E96ACA662BE75384D7533B5664CAE4463E7DB083C0C3A3FAB13\
0651A2E75B6E8C39CBE828025B18DBFE2869761769A27BFDAB0004E55635D2887F1ED0FE95FE96396AE7FC36D9C099\
E3F580035B4E0DFE44E6273F31C60C3ADCAD567CB983DBDF954FAC688D34C9B429FCF6DD09EEAA9AB64EC234010605\
72E9399DC50608ECABC7A58389B2DF675D727E3F7F8CD697685C3555B6FF463368B535A6100E84E445A420BCD4369D\
1B76320CAC160BA60A60A9E0AD007DAD0008AB89305615BDFEBDD35377DBE6E665CF4AA59150BFE18B31A545D48EB7\
5C023242854F3A9BEC6C5A38898323F56E41747F1F8C4C2D8E98FC57F3B840D120435C000A5F726E236FFDADAD272A\
0CC5972EE326A3436DB009DE80DCF4AA6491A71321722C8E68A7C65AC3528B87C42A50C268148AEC512DEFB2E07428\
1BBB85835DBBD3000B361860629B7CEA436A81F7E73D3DAAA6697AB6A250A35E35CA9DA121A4FC627A304B18AA2740\
B1F9462C28C07A60A3F964B38979BA5BC0D7F44C961637AB67D5000CC9994B20B8FA52C3D3E461A173D8CA062FC296\
5EEFDE9551D054693095A0CED619958B2C76B9F385496ABB7BDF6618CCCF2FFB355D43AE287504B9E4105C52F6010D\
69300BAE67D8A39EE458F351F34AB3AE81C0AB005C9BDB70B27DB266D9A105315C9259DA11CDAE73155D9B4DB7E89D\
A6C2367721C2E015EFC8D3A6E3259CBD7D010E63D9E740F33B345557887702BC75BE800631CFCAD686B23D04072BE3\
6D02416E3DEEE9D090390651F53099DF558F7E56A95E8F2CB4BB0BBFB23A74508D58F39C000F6D64D1F7E23EBC8164\
EBED052796CE35F150FE24A89129BD1F00B9D79B1BF4E256A308C0B77777B1FB29D72E0219867648E097F67C3782C9\
F3F097FFD7B237D3011088A52C3298EC2F5EA9F4B205AFB9413FECBF55531399C429D79D9FED568CB7DB02620C43EE\
573CABB4992C9F43B056BAE4C19747965D366E4AC018896C43015A0067EF653000000000001AE101FAEDAC5851E32B\
9B23B5F9411A8C2BAC4AAE3ED4DD7B811DD1A72EA4AA7100000000075DD077014155575600000000000C6B18170000\
271001792AB62BBCFE4A0075C69EC3D0EFC811ABA31304005500EF0D8B6FDA2CEBA41DA15D4095D1DA392A0D2F8ED0\
C6C7BC0F4CFAC8C280B56D00000002AD4F332F000000000053B235FFFFFFF80000000067EF65300000000067EF652F\
00000002AEE3AC1400000000005CD0A00CBA900A539AFF592EEC3BADF4D8CE65B2F2DEFCD16C3707475F792D837DAE\
4AADB7ECF0885006F67A1EEB41AEA7B27D7164FE5C7D48F284AAD1CDB0117FB3B3C2966DC36AD1FC2F13D80090D83F\
8A1CB73354AEDEEACCE8D01445DCAF91B0FCE506B2FAFA680621E940629ED7FF7E30BEB0FA65F2419D692E44C3C88C\
780C00932C814F99C07A2C1434EEAE42DAB0406471A6FE43128D89E8A57239ACF78B24D4886AF436C8E5FA15900DC9\
314576A0BEAA191BDF1EAEA528893C7823097F5B66CD2E53A954A01E5018EC3A52B1C8FDD57B611E46C8B0BF327543\
D953A0168A859E832E5BBE3B68BE339667FD74870DC70055008963217838AB4CF5CADC172203C1F0B763FBAA45F346\
D8EE50BA994BBCAC30260000000014EAF3BE0000000000064467FFFFFFF80000000067EF65300000000067EF652F00\
00000014FAB8CE00000000000634960C7CE9B36E2E29E615F61A96AAB7DE93A24352EC1B16D3D1817DEDFC059BA8BC\
6122841F57C631ED55D9FC8F1255AB59FEC80446534B48BEF6AE94398A4152943498DF64AB8617D0BCBA8A34F09A91\
0AEDD4F28FB48E0B985B06B79535B0DB48AA93FDEB1E9441E62912428632000EC14968F1F7E57C06932DAE5D5199A4\
36F53B39EA32534B4D831B42B1DCED15F9FECF554F775DD826E2BAF6DC24B50B057BB856458CB740D61EBB3573BC47\
E5BFF2FCB8F920F1C3E05E16BB2882F9F8E9985AA95E8B0EEFB49E77494DCA59CDBD03B1AB12EDB5B9500E660595D1\
14A0168A859E832E5BBE3B68BE339667FD74870DC70055000BBF28E9A841A1CC788F6A361B17CA072D0EA3098A1E5D\
F1C3922D06719579FF0000000000C5EA1A0000000000004255FFFFFFF80000000067EF65300000000067EF652F0000\
000000C6757800000000000044FD0CD96D0A4D7BCD660823EC72348E515182E431C160BCE78F8BD62D8C4B25880827\
DF715A65DA0FC7B7D307ADF46E376CE0BEBBD3FBB4B57CE6ABC0D535EFF844A06EE0CC53B8799F034B6103C93A35F9\
ECEE5F66CB95C873414D6D8F5ED3B9589D4D7A9E9A69DA9C2BECB6532935E74ECDD2C514E19E3D0F567510F182DB3A\
AD233517AAC06A5A4AD07CE53304A0574A3EB9592ABB0AA82DE1047945659E374A7507D4FB148A9492A1EA00A7E194\
6F86FD2A310F8E5ED290E2D75627E1D7549CAB8411B5C595B196E1494DCA59CDBD03B1AB12EDB5B9500E660595D114\
A0168A859E832E5BBE3B68BE339667FD74870DC70055002B89B9DC8FDF9F34709A5B106B472F0F39BB6CA9CE04B0FD\
7F2E971688E2E53B0000000005F55552000000000000CC10FFFFFFF80000000067EF65300000000067EF652F000000\
0005F5521B000000000000FEFF0CE0FCD4D8F57FAB900D72DB1DD5BCFC0827DBF3C7F0FD02D308F63EA261B7033DE5\
FB74E9ED7EA9FA7B1CEA9C390503D0A0141EC54BB59366E9091339087139A2710703CEDF2E021E244D3A0E0EC87548\
2A744865366074D5F3C2412BB72042BF1F1F80F2CF854B3CB3CA2338B91559D5AB17404631D4F38989DB698290FAC1\
16D1DB42ABCB0DC0F1AF93D4A0A63D9F371C5D78F79248F4B4B4156DD7B044333B8C728E42C745DFB341A8802B1FD0\
33DD7864AA0A5ED290E2D75627E1D7549CAB8411B5C595B196E1494DCA59CDBD03B1AB12EDB5B9500E660595D114A0\
168A859E832E5BBE3B68BE339667FD74870DC7";

/// Without asking who signed it.
fn decoded(blob: &[u8]) -> Result<Vec<PriceMessage>, String> {
    decode(blob, None)
}

fn from_hermes() -> Vec<u8> {
    hex::decode(FROM_HERMES).unwrap()
}

fn message(n: u8) -> PriceMessage {
    PriceMessage {
        feed_id: B256::repeat_byte(n),
        price: -i64::from(n) * 1_000_000_007,
        conf: u64::from(n) * 1_000_003,
        exponent: -i32::from(n),
        publish_time_s: 1_743_742_256 + i64::from(n),
        prev_publish_time_s: 1_743_742_255 - i64::from(n),
    }
}

fn messages(count: u8) -> Vec<PriceMessage> {
    (1..=count).map(message).collect()
}

/// Where the number of messages stands.
fn count_at(blob: &[u8]) -> usize {
    10 + usize::from(u16::from_be_bytes([blob[8], blob[9]]))
}

#[test]
fn reads_what_hermes_wrote() {
    let told = [
        "ef0d8b6fda2ceba41da15d4095d1da392a0d2f8ed0c6c7bc0f4cfac8c280b56d 11497583407 5485109",
        "8963217838ab4cf5cadc172203c1f0b763fbaa45f346d8ee50ba994bbcac3026 350942142 410727",
        "0bbf28e9a841a1cc788f6a361b17ca072d0ea3098a1e5df1c3922d06719579ff 12970522 16981",
        "2b89b9dc8fdf9f34709a5b106b472f0f39bb6ca9ce04b0fd7f2e971688e2e53b 99964242 52240",
    ];
    let read = decoded(&from_hermes()).unwrap();
    assert_eq!(read.len(), told.len());
    for (message, told) in read.iter().zip(told) {
        let feed = hex::encode(message.feed_id);
        assert_eq!(format!("{feed} {} {}", message.price, message.conf), told);
        assert_eq!(message.exponent, -8);
        assert_eq!(message.publish_time_s, 1_743_742_256);
        assert_eq!(message.prev_publish_time_s, 1_743_742_255);
    }
}

#[test]
fn reads_what_it_writes() {
    for count in [0, 1, 2, 3, 4, 5, 17, 255] {
        assert_eq!(decoded(&encode(&messages(count))).unwrap(), messages(count));
    }
    let many = vec![message(7); 300];
    assert_eq!(decoded(&encode(&many)).unwrap().len(), 255);
}

/// Whichever bit is wrong: an error, or the very same prices. From the number of messages on,
/// and in the root, always an error; what is left is the VAA's signatures and body and the
/// minor version, which no proof covers.
#[test]
fn no_bit_changes_a_price() {
    for blob in [from_hermes(), encode(&messages(1)), encode(&messages(5))] {
        let right = decoded(&blob).unwrap();
        let proven = count_at(&blob) - 20;
        for (at, bit) in (0..blob.len()).flat_map(|at| [(at, 0), (at, 7)]) {
            let mut wrong = blob.clone();
            wrong[at] ^= 1 << bit;
            if let Ok(prices) = decoded(&wrong) {
                assert!(at < proven, "byte {at}, bit {bit} was not noticed");
                assert_eq!(prices, right, "byte {at}, bit {bit}");
            }
        }
    }
}

#[test]
fn every_cut_is_noticed() {
    for blob in [from_hermes(), encode(&messages(3))] {
        for length in 0..blob.len() {
            let text = decoded(&blob[..length]).unwrap_err();
            assert!(text.starts_with("truncated: "), "cut to {length}: {text}");
        }
    }
}

#[test]
fn says_what_is_wrong() {
    let with = |at: usize, byte: u8| {
        let mut blob = encode(&messages(2));
        blob[at] = byte;
        decoded(&blob).unwrap_err()
    };
    assert_eq!(with(0, b'Q'), "not a Pyth update: starts with 514e4155");
    assert_eq!(with(4, 2), "Pyth update of major version 2; 1 is known");
    assert_eq!(with(7, 1), "Pyth update of type 1; 0 is known");
    assert_eq!(with(10, 9), "VAA of version 9; 1 is known");
    assert_eq!(with(67, b'B'), "the VAA is not about a Merkle root: 42555756");
    assert_eq!(with(71, 3), "root of type 3; 0 is known");
    assert_eq!(with(84, 0), "message 1 of 2 is not under the Merkle root");

    let mut longer = encode(&messages(2));
    longer.push(0);
    assert_eq!(decoded(&longer).unwrap_err(), "1 bytes after the last message's proof");
    assert_eq!(decoded(b"PN").unwrap_err(), "truncated: the magic takes 4 bytes, 2 are left");
}

/// An update with this one leaf, which is then the root.
fn alone(message: &[u8], headers: &[u8]) -> Vec<u8> {
    let mut blob = encode(&[]);
    let root_at = count_at(&blob) - 20;
    blob.splice(root_at..root_at + 20, leaf_hash(message));
    blob.pop();
    blob.push(1);
    extend_prefixed(&mut blob, message);
    blob.push(0);
    blob[6] = u8::try_from(headers.len()).unwrap();
    blob.splice(7..7, headers.iter().copied());
    blob
}

#[test]
fn what_may_grow_may_grow() {
    let mut longer = written(&message(1));
    longer.extend([1, 2, 3]);
    assert_eq!(decoded(&alone(&longer, &[4, 5, 6])).unwrap(), [message(1)]);

    let mut blob = encode(&messages(1));
    let end = count_at(&blob);
    blob.splice(end..end, [9, 9]);
    blob[9] += 2;
    assert_eq!(decoded(&blob).unwrap(), messages(1));
}

#[test]
fn other_messages_prove_themselves_and_are_left_out() {
    let mut average = written(&message(1));
    average[0] = 1;
    let mut blob = alone(&average, &[]);
    assert_eq!(decoded(&blob).unwrap(), []);
    let last = blob.len() - 2;
    blob[last] ^= 1;
    assert_eq!(decoded(&blob).unwrap_err(), "message 1 of 1 is not under the Merkle root");
}

#[test]
fn a_proven_message_may_still_be_no_message() {
    assert_eq!(
        decoded(&alone(&[], &[])).unwrap_err(),
        "truncated: a message's type takes 1 bytes, 0 are left"
    );
    let short = &written(&message(1))[..84];
    assert_eq!(
        decoded(&alone(short, &[])).unwrap_err(),
        "truncated: an average price takes 16 bytes, 15 are left"
    );
}

/// Leaves and nodes are hashed differently, so that an inner node is not taken for a message.
#[test]
fn a_node_is_not_a_leaf() {
    let blob = encode(&messages(2));
    let [a, b] = [1, 2].map(|n| leaf_hash(&written(&message(n))));
    let pretended = [a.min(b), a.max(b)].concat();
    let mut forged = blob[..count_at(&blob)].to_vec();
    forged.push(1);
    extend_prefixed(&mut forged, &pretended);
    forged.push(0);
    assert_eq!(decoded(&forged).unwrap_err(), "message 1 of 1 is not under the Merkle root");
}

/// Wormhole's nineteen guardians in April 2025 (its set 4; wormhole-foundation/wormhole-networks,
/// `mainnetv2/guardianset/v4.prototxt`).
const GUARDIANS: [Address; 19] = [
    address!("0x5893B5A76c3f739645648885bDCcC06cd70a3Cd3"),
    address!("0xfF6CB952589BDE862c25Ef4392132fb9D4A42157"),
    address!("0x114De8460193bdf3A2fCf81f86a09765F4762fD1"),
    address!("0x107A0086b32d7A0977926A205131d8731D39cbEB"),
    address!("0x8C82B2fd82FaeD2711d59AF0F2499D16e726f6b2"),
    address!("0x11b39756C042441BE6D8650b69b54EbE715E2343"),
    address!("0x54Ce5B4D348fb74B958e8966e2ec3dBd4958a7cd"),
    address!("0x15e7cAF07C4e3DC8e7C469f92C8Cd88FB8005a20"),
    address!("0x74a3bf913953D695260D88BC1aA25A4eeE363ef0"),
    address!("0x000aC0076727b35FBea2dAc28fEE5cCB0fEA768e"),
    address!("0xAF45Ced136b9D9e24903464AE889F5C8a723FC14"),
    address!("0xf93124b7c738843CBB89E864c862c38cddCccF95"),
    address!("0xD2CC37A4dc036a8D232b48f62cDD4731412f4890"),
    address!("0xDA798F6896A3331F64b48c12D1D57Fd9cbe70811"),
    address!("0x71AA1BE1D36CaFE3867910F99C09e347899C19C3"),
    address!("0x8192b6E7387CCd768277c17DAb1b7a5027c0b3Cf"),
    address!("0x178e21ad2E77AE06711549CFBB1f9c7a9d8096e8"),
    address!("0x5E1487F35515d02A92753504a8D75471b9f49EdB"),
    address!("0x6FbEBc898F403E4773E95feB15E80C9A99c8348d"),
];

fn guardians() -> Signers {
    let emitter = b256!("0xe101faedac5851e32b9b23b5f9411a8c2bac4aae3ed4dd7b811dd1a72ea4aa71");
    Signers { addresses: GUARDIANS.to_vec(), least: 13, emitter_chain: 26, emitter }
}

#[test]
fn thirteen_of_the_guardians_signed_what_hermes_wrote() {
    let blob = from_hermes();
    assert_eq!(decode(&blob, Some(&guardians())), decoded(&blob));

    let refused = |change: &dyn Fn(&mut Signers)| {
        let mut signers = guardians();
        change(&mut signers);
        decode(&blob, Some(&signers)).unwrap_err()
    };
    assert_eq!(refused(&|s| s.least = 14), "signed by 13, 14 are wanted");
    assert!(refused(&|s| s.emitter_chain = 1).starts_with("emitted by 0xe101faed"));
    assert!(refused(&|s| s.emitter.0[31] ^= 1).ends_with("on chain 26"));
    assert!(refused(&|s| s.addresses.swap(3, 4)).starts_with("the signature of number 3 is not"));
    assert_eq!(refused(&|s| s.addresses.truncate(16)), "signed by number 16 of 16 signers");
    let unsigned = decode(&encode(&messages(2)), Some(&guardians())).unwrap_err();
    assert!(unsigned.starts_with("emitted by 0x0000"), "{unsigned}");

    // One signature in place of another, or twice: in order, and each signer once.
    let (first, second) =
        (16..16 + SIGNATURE_BYTES, 16 + SIGNATURE_BYTES..16 + 2 * SIGNATURE_BYTES);
    let mut twice = blob.clone();
    twice.copy_within(first.clone(), second.start);
    assert_eq!(
        decode(&twice, Some(&guardians())).unwrap_err(),
        "its signers are not in their order"
    );
}

/// Whatever is changed in signatures and body, the guardians did not sign that.
#[test]
fn no_bit_of_what_is_signed_can_be_changed() {
    let blob = from_hermes();
    let (begin, end) = (16, count_at(&blob));
    for at in (begin..end).step_by(37).chain([begin, end - 1]) {
        let mut wrong = blob.clone();
        wrong[at] ^= 1 << (at % 8);
        assert!(decode(&wrong, Some(&guardians())).is_err(), "byte {at}");
    }
}
