//! Proofs out of the store, verified by the domain and by docs/verify_log.py, which knows nothing of it.

use std::process::Command;

use topupd::domain::log::base64;
use topupd::domain::log::tree::{TreeHead, verify_consistency};
use topupd::store::RecordPlace;

use super::*;

/// Runs a second implementation; what it says, and whether it agrees.
fn python(arguments: &[&str]) -> (bool, String) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/verify_log.py");
    let out = Command::new("python3").arg("-B").arg(script).args(arguments).output().unwrap();
    let said = [out.stdout, out.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    (out.status.success(), said)
}

#[tokio::test]
async fn each_record_is_proved_at_any_size_of_the_log() {
    let house = Logged::new().await;
    let mut all = Vec::new();
    for count in [1, 1, 2, 3, 250, 1, 300] {
        all.extend(house.write(1, count).await);
        house.goes_on().await;
        let keys = house.store.log_keys().await.unwrap();
        for record in all.iter().step_by(all.len() / 7 + 1).chain(all.last()) {
            let place = RecordPlace { journal: record.journal, seq: record.seq };
            let proved = house.store.prove_record(place).await.unwrap();
            let seal = record.seal.as_slice();
            proved.file.verify(seal, &keys).unwrap();
            let mut other = record.seal;
            other.0[31] ^= 1;
            assert!(proved.file.verify(other.as_slice(), &keys).is_err());
        }
    }
    let waiting = house.write(1, 1).await.remove(0);
    let place = RecordPlace { journal: waiting.journal, seq: waiting.seq };
    let error = house.store.prove_record(place).await.unwrap_err();
    assert!(error.to_string().contains("has no leaf in the log yet"), "{error}");
    let none = RecordPlace { journal: JournalId(77), seq: 1 };
    assert!(house.store.prove_record(none).await.is_err());
}

#[tokio::test]
async fn each_older_size_is_the_beginning_of_each_newer_one() {
    let house = Logged::unsigned().await;
    house.write(1, 600).await;
    let size = house.goes_on().await.head.size;
    let heads = [0, 1, 2, 3, 7, 255, 256, 257, 511, 512, size - 1, size];
    for (at, old) in heads.iter().enumerate() {
        for new in &heads[at..] {
            let proved = house.store.prove_consistency(*old, Some(*new)).await.unwrap();
            let head = proved.new.claimed().head;
            verify_consistency(&proved.old, &head, &proved.path).unwrap();
            let other = TreeHead { root: head.root, ..proved.old };
            if old != new && *old > 0 {
                assert!(verify_consistency(&other, &head, &proved.path).is_err());
            }
        }
    }
    for (old, new, said) in [
        (5, Some(4), "the smaller size comes first"),
        (5, Some(size + 1), "and not"),
        (size + 1, None, "and not"),
    ] {
        let refused = house.store.prove_consistency(old, new).await.unwrap_err().to_string();
        assert!(refused.contains(said) && !refused.contains("damaged"), "{refused}");
    }
}

#[tokio::test]
async fn the_script_verifies_proofs_and_checkpoints_and_refuses_others() {
    let house = Logged::new().await;
    house.write(1, 300).await;
    house.goes_on().await;
    let older = house.store.log_checkpoint().await.unwrap();
    let record = house.write(1, 30).await.remove(17);
    house.goes_on().await;
    let place = RecordPlace { journal: record.journal, seq: record.seq };
    let proved = house.store.prove_record(place).await.unwrap();
    let consistency = house.store.prove_consistency(older.claimed().head.size, None).await.unwrap();
    let hashes: String =
        consistency.path.iter().map(|hash| format!("{}\n", base64(&hash.0))).collect();
    let consistency = format!("old {}\n{hashes}\n{}", consistency.old.size, consistency.new);

    let write = |name: &str, text: &str| {
        let path = house.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let key = house.store.log_keys().await.unwrap().remove(0).to_string();
    let other = house.key(2).public().to_string();
    let proof = write("proof", &proved.file.to_string());
    let checkpoint = write("checkpoint", &older.to_string());
    let path = write("consistency", &consistency);
    let seal = record.seal.to_string();
    let zero = B256::ZERO.to_string();
    let changed = write("changed", &older.to_string().replace("\n30", "\n31"));
    let longer = write("longer", &consistency.replacen("old 30", "old 31", 1));
    for (arguments, holds) in [
        (vec!["checkpoint", &checkpoint, "--key", &key], true),
        (vec!["checkpoint", &checkpoint, "--key", &other], false),
        (vec!["checkpoint", &changed, "--key", &key], false),
        (vec!["proof", &proof, &seal, "--key", &key], true),
        (vec!["proof", &proof, &zero, "--key", &key], false),
        (vec!["proof", &proof, &seal, "--key", &other], false),
        (vec!["consistency", &path, &checkpoint, "--key", &key], true),
        (vec!["consistency", &longer, &checkpoint, "--key", &key], false),
        (vec!["consistency", &path, &changed, "--key", &key], false),
    ] {
        let (held, said) = python(&arguments);
        assert_eq!(held, holds, "{arguments:?}: {said}");
        assert_eq!(said.contains("does NOT hold"), !holds, "{said}");
    }
}

/// Whoever has both keys follows the log over a key that was replaced; with one of them nobody can.
#[tokio::test]
async fn the_script_follows_the_log_over_a_replaced_key() {
    let mut house = Logged::new().await;
    house.write(1, 20).await;
    house.goes_on().await;
    let older = house.store.log_checkpoint().await.unwrap();
    let (old, new) = (house.signer.take().unwrap(), house.key(2));
    house.store.rotate_log_key(&old, &new, "alice").await.unwrap();
    house.signer = Some(new);
    house.write(1, 7).await;
    house.goes_on().await;
    let proved = house.store.prove_consistency(older.claimed().head.size, None).await.unwrap();
    let hashes: String = proved.path.iter().map(|h| format!("{}\n", base64(&h.0))).collect();
    let text = format!("old {}\n{hashes}\n{}", proved.old.size, proved.new);
    let write = |name: &str, text: &str| {
        let path = house.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (path, checkpoint) = (write("consistency", &text), write("older", &older.to_string()));
    let keys: Vec<String> =
        house.store.log_keys().await.unwrap().iter().map(ToString::to_string).collect();
    let asked = ["consistency", &path, &checkpoint, "--key", &keys[0], "--key", &keys[1]];
    let (held, said) = python(&asked);
    assert!(held && said.contains("are the same"), "{said}");
    for key in &keys {
        let (held, said) = python(&["consistency", &path, &checkpoint, "--key", key]);
        assert!(!held && said.contains("not signed by a key that was given"), "{said}");
    }
}
