#!/usr/bin/env python3
"""Verifies what topupd's log says, without topupd: signatures, proofs, and the seal of a record.

    verify_log.py checkpoint FILE  --key KEY         who signed it
    verify_log.py proof FILE SEAL  --key KEY         the log has the record with this seal
    verify_log.py record FILE      --key KEY         the answer of `topupd ledger prove`: all of it
    verify_log.py consistency FILE OLD --key KEY     the answer of `topupd log consistency`; OLD is the
                                                     older checkpoint, a file

KEY is the log's public key, one line, as its owner gave it to you: not the one in the same file. Give --key
once for each key that you were given: one was replaced (log rotate), or the log went on under another name
(log resume). Python's standard library is all that it needs. It prints what holds and exits 0, or says what
does not, and exits 1; it exits 2 when a file cannot be read, or the answer cannot be printed.

It is slow and it does not hide what it computes from others on the same machine: it verifies, and never signs.
It does not check that a record is right, nor when a key was in use: docs/verify_ledger.py does that for whole
journals. Signatures of witnesses prove nothing here.
"""

import argparse
import base64
import hashlib
import json
import os
import re
import sys


class Wrong(Exception):
    """What does not hold."""


class Unread(Exception):
    """What cannot be read."""


# Ed25519, as RFC 8032 §5.1 and its appendix have it.

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT_OF_MINUS_1 = pow(2, (P - 1) // 4, P)


def _recover_x(y, sign):
    if y >= P:
        return None
    xx = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    if xx == 0:
        return None if sign else 0
    x = pow(xx, (P + 3) // 8, P)
    if (x * x - xx) % P != 0:
        x = x * ROOT_OF_MINUS_1 % P
    if (x * x - xx) % P != 0:
        return None
    return P - x if x & 1 != sign else x


_GY = 4 * pow(5, P - 2, P) % P
_GX = _recover_x(_GY, 0)
_BASE = (_GX, _GY, 1, _GX * _GY % P)


def _add(p, q):
    a = (p[1] - p[0]) * (q[1] - q[0]) % P
    b = (p[1] + p[0]) * (q[1] + q[0]) % P
    c = 2 * p[3] * q[3] * D % P
    d = 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def _times(scalar, point):
    result = (0, 1, 1, 0)
    while scalar > 0:
        if scalar & 1:
            result = _add(result, point)
        point = _add(point, point)
        scalar >>= 1
    return result


def _equal(p, q):
    return (p[0] * q[2] - q[0] * p[2]) % P == 0 and (p[1] * q[2] - q[1] * p[2]) % P == 0


def _point(encoded):
    number = int.from_bytes(encoded, "little")
    y, sign = number & ((1 << 255) - 1), number >> 255
    x = _recover_x(y, sign)
    return None if x is None else (x, y, 1, x * y % P)


def ed25519_verifies(public, message, signature):
    """Whether the key (32 bytes) made the signature (64 bytes) of the message."""
    if len(public) != 32 or len(signature) != 64:
        return False
    a, r = _point(public), _point(signature[:32])
    s = int.from_bytes(signature[32:], "little")
    if a is None or r is None or s >= L:
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % L
    return _equal(_times(s, _BASE), _add(r, _times(h, a)))


# The tree: RFC 6962 §2.1, proofs by RFC 9162 §2.1.3.2 and §2.1.4.2.


def leaf_hash(entry):
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left, right):
    return hashlib.sha256(b"\x01" + left + right).digest()


def verify_inclusion(leaf, index, size, path, root):
    """Raises Wrong unless the leaf is at this index of the tree."""
    if not 0 <= index < size:
        raise Wrong(f"a log of {size} records has no record with the index {index}")
    at, last, hashed = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            raise Wrong("the proof has too many hashes")
        if at & 1 or at == last:
            hashed = node_hash(sibling, hashed)
            while at and not at & 1:
                at, last = at >> 1, last >> 1
        else:
            hashed = node_hash(hashed, sibling)
        at, last = at >> 1, last >> 1
    if last != 0 or hashed != root:
        raise Wrong("the proof does not lead to the root of the checkpoint")


def verify_consistency(old_size, old_root, size, root, path):
    """Raises Wrong unless the old tree is the beginning of the new one."""
    if old_size > size:
        raise Wrong(f"the log has {size} records, and had {old_size}")
    if old_size == size:
        if old_root != root:
            raise Wrong(f"two histories of {size} records")
        if path:
            raise Wrong("the proof has too many hashes")
        return
    if old_size == 0:
        if path or old_root != hashlib.sha256(b"").digest():
            raise Wrong("an empty log has another root, or needs no hashes")
        return
    path = list(path)
    if old_size & (old_size - 1) == 0:
        path.insert(0, old_root)
    if not path:
        raise Wrong("the proof has too few hashes")
    at, last = old_size - 1, size - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    old_hash = new_hash = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise Wrong("the proof has too many hashes")
        if at & 1 or at == last:
            old_hash, new_hash = node_hash(sibling, old_hash), node_hash(sibling, new_hash)
            while at and not at & 1:
                at, last = at >> 1, last >> 1
        else:
            new_hash = node_hash(new_hash, sibling)
        at, last = at >> 1, last >> 1
    if last != 0 or old_hash != old_root or new_hash != root:
        raise Wrong("the proof does not lead from the old root to the new one")


# The texts: C2SP signed-note, tlog-checkpoint, tlog-proof.


LARGEST = 2**63 - 1


def _decoded(text, what):
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except ValueError:
        data = None
    if data is None or base64.b64encode(data).decode() != text:
        raise Wrong(f"{what} is not base64")
    return data


def _hash(text, what):
    data = _decoded(text, what)
    if len(data) != 32:
        raise Wrong(f"{what} has not 32 bytes")
    return data


def _number(text, what):
    if not re.fullmatch("0|[1-9][0-9]{0,18}", text) or int(text) > LARGEST:
        raise Wrong(f"{what} is no number")
    return int(text)


class Key:
    """A public key of a log: name+id+base64."""

    def __init__(self, text):
        self.text = text.strip()
        parts = self.text.split("+", 2)
        if len(parts) != 3:
            raise Wrong("this is no public key of a log")
        self.name, given, key = parts
        data = _decoded(key, "the key")
        if len(data) != 33 or data[0] != 1:
            raise Wrong("this is no Ed25519 key")
        self.public = data[1:]
        self.id = hashlib.sha256(self.name.encode() + b"\n" + data).digest()[:4]
        if self.id.hex() != given:
            raise Wrong("the key's id is not that of its name and its bytes")


class Checkpoint:
    """A checkpoint; it counts only when `verify` has seen a signature of the key that one knows."""

    def __init__(self, note):
        text, separator, signatures = note.rpartition("\n\n")
        if not separator or not signatures:
            raise Wrong("the checkpoint is not signed")
        if not signatures.endswith("\n"):
            raise Wrong("the last line of the checkpoint has no end")
        self.text = text + "\n"
        lines = self.text.split("\n")
        if len(lines) != 4 or lines[3]:
            raise Wrong("a checkpoint has three lines")
        self.origin = lines[0]
        self.size = _number(lines[1], "the size")
        self.root = _hash(lines[2], "the root")
        self.signatures = signatures[:-1].split("\n")

    def verify(self, keys):
        """Raises Wrong unless one of the keys signed it; returns that key. Signatures of others prove nothing."""
        known = [key for key in keys if key.name == self.origin]
        if not known:
            names = ", ".join(sorted({key.name for key in keys}))
            raise Wrong(f"the checkpoint is of {self.origin}, and the key of {names}")
        found = None
        for line in self.signatures:
            parts = line.split(" ")
            if len(parts) != 3 or parts[0] != "—":
                raise Wrong("a line behind the checkpoint is no signature")
            data = _decoded(parts[2], "a signature")
            for key in known:
                if parts[1] != key.name or data[:4] != key.id:
                    continue
                if not ed25519_verifies(key.public, self.text.encode(), data[4:]):
                    raise Wrong("the signature is wrong")
                found = key
        if found is None:
            raise Wrong("the checkpoint is not signed by a key that was given")
        return found


class Proof:
    """A proof file."""

    def __init__(self, text):
        head, separator, checkpoint = text.partition("\n\n")
        lines = head.split("\n")
        if not separator or lines.pop(0) != "c2sp.org/tlog-proof@v1":
            raise Wrong("this is no proof")
        if lines and lines[0].startswith("extra "):
            lines.pop(0)
        if not lines or not lines[0].startswith("index "):
            raise Wrong("the proof has no index")
        self.index = _number(lines.pop(0)[len("index "):], "the index")
        self.path = [_hash(line, "a hash") for line in lines]
        self.checkpoint = Checkpoint(checkpoint)

    def verify(self, entry, keys):
        """Raises Wrong unless the log that one of the keys signs has the entry; returns that key."""
        key = self.checkpoint.verify(keys)
        head = self.checkpoint
        verify_inclusion(leaf_hash(entry), self.index, head.size, self.path, head.root)
        return key


# The seal of a record: docs/ledger-format.md.

ANSWER = {"record", "leaf_index", "proof", "public_key"}
RECORD = {
    "prev", "seq", "record_id", "kind", "subject", "effective_at_ms", "recorded_at_ms", "operator", "key_id",
    "cause", "outcome", "entries", "seal",
}
ENTRY = {"account", "unit", "side", "amount_nano"}


def _field(data):
    return len(data).to_bytes(8, "big") + data


def _object(value, keys, what):
    """An object with just these fields: one that is not looked at could say anything."""
    if type(value) is not dict:
        raise Wrong(f"{what} is no object")
    for key in keys - value.keys():
        raise Wrong(f"{what} has no {key}")
    for key in value.keys() - keys:
        raise Wrong(f"{what} has a field that nothing proves: {key}")
    return value


def _string(value, what):
    if type(value) is not str:
        raise Wrong(f"{what} is no text")
    return value


def _text(record, key, optional=False):
    value = record[key]
    if optional and value is None:
        return _field(b"")
    if optional and not value:
        raise Wrong(f"{key} is empty, and would be null")
    return _field(_string(value, key).encode())


def _int(number):
    return _field(number.to_bytes(8, "big", signed=True))


def _decimal(record, key):
    """An integer of 64 bits that is written as a text."""
    value = _string(record[key], key)
    if not re.fullmatch("0|-?[1-9][0-9]{0,18}", value) or not -LARGEST - 1 <= int(value) <= LARGEST:
        raise Wrong(f"{key} is no whole number of 64 bits in a text")
    return _int(int(value))


def _whole(record, key, least):
    value = record[key]
    if type(value) is not int or not least <= value <= LARGEST:
        raise Wrong(f"{key} is no whole number from {least}")
    return value


def _bytes32(text):
    if type(text) is not str or not re.fullmatch("0x[0-9a-f]{64}", text):
        raise Wrong(f"{text!r:.80} is no hash: 0x and 64 small hexadecimal digits")
    return bytes.fromhex(text[2:])


def seal_of(record):
    """The seal, computed from what the record says."""
    _object(record, RECORD, "the record")
    if type(record["entries"]) is not list:
        raise Wrong("entries is no list")
    data = _field(b"topupd/record-seal/v1")
    data += _field(_bytes32(record["prev"])) + _int(_whole(record, "seq", 1))
    data += _field(_bytes32(record["record_id"]))
    data += _text(record, "kind") + _text(record, "subject")
    data += _decimal(record, "effective_at_ms") + _decimal(record, "recorded_at_ms")
    data += _text(record, "operator", True) + _text(record, "key_id", True)
    data += _text(record, "cause") + _text(record, "outcome")
    data += _int(len(record["entries"]))
    for entry in record["entries"]:
        _object(entry, ENTRY, "an entry")
        data += _text(entry, "account") + _text(entry, "unit") + _text(entry, "side")
        data += _decimal(entry, "amount_nano")
    return hashlib.sha256(data).digest()


def strict_json(text):
    """JSON without floats and without a key twice: both would make two readers disagree."""

    def unique(pairs):
        if len({key for key, _ in pairs}) != len(pairs):
            raise ValueError("a key stands twice")
        return dict(pairs)

    def no_float(number):
        raise ValueError(f"{number} is not an integer")

    return json.loads(
        text, object_pairs_hook=unique, parse_float=no_float, parse_constant=no_float
    )


def whole_json(text):
    """The JSON of a whole file. One that was cut off, or is none, cannot be read."""
    try:
        return strict_json(text)
    except json.JSONDecodeError as error:
        raise Unread(f"this is no JSON, or not all of it: {error}") from error


def say(text):
    """Prints an answer. Returns 0, or 2 where it cannot be printed."""
    try:
        print(text, flush=True)
    except OSError as error:
        # What is left of it must not be tried again at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print(f"the answer cannot be printed: {error}", file=sys.stderr)
        return 2
    return 0


def verify_record(answer, keys):
    """Checks the answer of `topupd ledger prove`: each of its fields. Returns the proof."""
    _object(answer, ANSWER, "the answer")
    record = answer["record"]
    seal = seal_of(record)
    if _bytes32(record["seal"]) != seal:
        raise Wrong("the seal is not the hash of what the record says")
    proof = Proof(_string(answer["proof"], "proof"))
    key = proof.verify(seal, keys)
    if _whole(answer, "leaf_index", 0) != proof.index:
        raise Wrong(f"leaf_index is not that of the proof, {proof.index}")
    if answer["public_key"] != key.text:
        raise Wrong("public_key is not the key that signed the checkpoint")
    return proof


def verify_answer_of_consistency(text, old, keys):
    """Checks the answer of `topupd log consistency` against the older checkpoint. Each may be signed by a key of
    its own: of before and after it was replaced, or before and after the log went on under another name."""
    head, separator, new = text.partition("\n\n")
    lines = head.split("\n")
    if not separator or not lines[0].startswith("old "):
        raise Wrong("this is no proof of consistency")
    size = _number(lines[0][len("old "):], "the old size")
    path = [_hash(line, "a hash") for line in lines[1:]]
    new = Checkpoint(new)
    new.verify(keys)
    old.verify(keys)
    if old.size != size:
        raise Wrong(f"the proof is of {size} records, and the older checkpoint has {old.size}")
    verify_consistency(size, old.root, new.size, new.root, path)
    return new


def read_text(name):
    """A file, or - for the standard input, as it stands."""
    try:
        if name == "-":
            return sys.stdin.buffer.read().decode()
        with open(name, encoding="utf-8", newline="") as file:
            return file.read()
    except (OSError, ValueError) as error:
        raise Unread(f"{name}: {error}") from error


def _holds(given):
    """What holds, in a sentence."""
    keys = [Key(text) for text in given.key]
    text = read_text(given.file)
    if given.what == "checkpoint":
        checkpoint = Checkpoint(text)
        checkpoint.verify(keys)
        return f"signed: {checkpoint.size} records of {checkpoint.origin}"
    if given.what == "proof":
        proof = Proof(text)
        proof.verify(_bytes32(given.more), keys)
        return f"the log has it: leaf {proof.index} of {proof.checkpoint.size}"
    if given.what == "record":
        proof = verify_record(whole_json(text), keys)
        return f"the record is sealed, and the log has it: leaf {proof.index} of {proof.checkpoint.size}"
    old = Checkpoint(read_text(given.more))
    new = verify_answer_of_consistency(text, old, keys)
    names = "" if old.origin == new.origin else f", of {new.origin} and of {old.origin}"
    return f"the first {old.size} records of {new.size} are the same{names}"


def main(arguments=None):
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("what", choices=["checkpoint", "proof", "record", "consistency"])
    parser.add_argument("file", help="a file, or - for the standard input")
    parser.add_argument("more", nargs="?", help="SEAL, or the file of the older checkpoint")
    parser.add_argument("--key", required=True, action="append", help="a public key of the log; again for another one")
    given = parser.parse_args(arguments)
    if (given.what in ("proof", "consistency")) != (given.more is not None):
        parser.error(f"{given.what} needs one thing {'more' if given.more is None else 'less'}")
    try:
        holds = _holds(given)
    except Unread as error:
        print(f"cannot be read: {error}", file=sys.stderr)
        return 2
    except (Wrong, ValueError, RecursionError) as error:
        print(f"it does NOT hold: {error}", file=sys.stderr)
        return 1
    return say(holds)


if __name__ == "__main__":
    sys.exit(main())
