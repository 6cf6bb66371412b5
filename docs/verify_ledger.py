#!/usr/bin/env python3
"""Checks the ledger in a topupd SQLite database without topupd.

    python3 verify_ledger.py topupd.db

Prints "holds: N postings, head 0x..." and exits 0, or the first problem and exits 1. Exits 2 when
the file cannot be read. Needs Python 3.9 and SQLite 3.37 or newer, and nothing else. It changes
nothing in the database, but SQLite may leave topupd.db-wal and topupd.db-shm beside it: run it as
the daemon's user, or on a copy. The format is described in docs/ledger-format.md.
"""

import hashlib
import json
import pathlib
import re
import sqlite3
import sys

HOUSE = "house/issued/paid"


class Problem(Exception):
    """Something that does not hold."""


def claim(holds, where, what):
    if not holds:
        raise Problem(f"{where}: {what}")


def canonical(domain, *fields):
    """sha-256 over length-prefixed fields, the domain word first."""
    hasher = hashlib.sha256()
    for field in (domain, *fields):
        if isinstance(field, str):
            field = field.encode("utf-8")
        elif isinstance(field, int):  # 64 bits: two's complement, so that signed and unsigned agree
            field = (field % 2**64).to_bytes(8, "big")
        hasher.update(len(field).to_bytes(8, "big"))
        hasher.update(field)
    return hasher.digest()


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


def unhex(text, length):
    if not re.fullmatch(f"0x[0-9a-f]{{{2 * length}}}", text):
        raise ValueError(f"{text!r} is not {length} bytes in lower-case hexadecimal")
    return bytes.fromhex(text[2:])


def number(value, least=0, most=2**63 - 1):
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{value!r} is not an integer from {least} to {most}")
    return value


def rate(text):
    """An exact decimal number as (mantissa, digits after the point)."""
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        raise ValueError(f"{text!r} is not a decimal number")
    whole, _, fraction = text.partition(".")
    return int(whole + fraction), len(fraction)


def credits_nano(raw_amount, decimals, credits_per_token):
    """raw x rate x 10^9 / 10^decimals, rounded down once."""
    mantissa, scale = rate(credits_per_token)
    return raw_amount * mantissa * 10**9 // 10 ** (decimals + scale)


def check_epochs(db):
    epochs = {}
    for name, starts, body, body_hash in db.execute(
        "SELECT epoch_id, starts_at_ms, body, body_hash FROM epochs ORDER BY starts_at_ms"
    ):
        where = f"epoch {name}"
        claim(canonical("topupd/epoch/v1", body) == body_hash, where, "body_hash is not the hash of body")
        rules = strict_json(body)
        same = rules["id"] == name and rules["starts_at_ms"] == starts
        claim(same, where, "epoch_id or starts_at_ms is not what body says")
        epochs[name] = (starts, body_hash, rules["accept"])
    return epochs


def check_evidence(where, ev, posting, epochs, db):
    """The evidence gives the ids, the time and the amount, and the rows beside it agree."""
    _, posting_id, _, deposit_id, effective_at, _, _, _, _ = posting
    tx_hash, token = unhex(ev["tx_hash"], 32), unhex(ev["token"], 20)
    recipient, block_hash = unhex(ev["recipient"], 20), unhex(ev["block_hash"], 32)
    chain, n = number(ev["chain_id"]), number(ev["n"])
    height, log_index = number(ev["block_number"]), number(ev["log_index"])

    deposit = canonical("topupd/deposit/v1", chain, tx_hash, token, recipient, "transfer", n)
    claim(deposit == deposit_id, where, "deposit_id does not follow from the evidence")
    reversals = number(ev.get("reversals", 0))  # how often it was credited and undone before
    again = [reversals] if reversals else []
    credit = canonical("topupd/posting/v1", "deposit_credit", deposit_id, *again)
    claim(credit == posting_id, where, "posting_id does not follow from deposit_id")
    claim(ev["block_time_ms"] == effective_at, where, "effective_at_ms is not the block's time")

    rule, head = ev["finality"], number(ev["head_number"])
    counted = re.fullmatch(r"([0-9]+) confirmations", rule)
    wanted = int(counted[1]) if counted else 1  # a tag: only that the head was not below the block
    claim(head - height + 1 >= wanted, where, f"head_number does not give {rule}")

    raw = ev["raw_amount"]
    if not re.fullmatch("[0-9]+", raw) or int(raw) >= 2**256:
        raise ValueError(f"raw_amount {raw!r} is not a 256-bit number")
    nano = credits_nano(int(raw), number(ev["decimals"], most=36), ev["credits_per_token"])
    claim(ev["rounding"] == "down", where, "rounding is not down")
    claim(nano == number(ev["credits_nano"], 1), where, f"credits_nano should be {nano}")

    in_force = [name for name, (starts, _, _) in epochs.items() if starts <= effective_at][-1:]
    claim(in_force == [ev["epoch"]], where, "its epoch was not in force at the block's time")
    _, body_hash, accept = epochs[ev["epoch"]]
    claim(body_hash == unhex(ev["epoch_hash"], 32), where, "epoch_hash is not the epoch's")
    terms = accept[ev["asset"]]
    key = {"par": "credits_per_usd", "fixed": "credits_per_token"}[ev["rule"]]
    same = terms["valuation"] == ev["rule"] and terms[key] == ev["credits_per_token"]
    claim(same, where, "its epoch does not give this rule and rate")

    stored = db.execute(
        """SELECT d.chain_id, d.tx_hash, d.token, d.recipient, d.shape, d.n, k.block_hash,
                  s.block_number, k.log_index, s.raw_amount, n.name,
                  s.sender, b.block_time_ms,
                  CASE WHEN k.reversed_by IS NULL THEN d.stage END,
                  CASE WHEN k.reversed_by IS NULL THEN d.posting_seq END, k.reversed_by
           FROM deposits d
           JOIN credits k ON k.deposit_id = d.deposit_id AND k.posting_seq = ?
           JOIN namespaces n ON n.namespace_id = d.namespace_id
           JOIN addresses a ON a.address_id = d.address_id AND a.address = d.recipient
             AND a.namespace_id = d.namespace_id
           JOIN sightings s ON s.chain_id = d.chain_id AND s.block_hash = k.block_hash
             AND s.log_index = k.log_index AND s.tx_hash = d.tx_hash AND s.token = d.token
             AND s.recipient = d.recipient
           JOIN blocks b ON b.chain_id = d.chain_id AND b.block_hash = k.block_hash
             AND b.block_number = s.block_number
           WHERE d.deposit_id = ?""",
        (posting[0], deposit_id),
    ).fetchall()
    undone_by = stored[0][-1] if stored else None
    standing = ("credited", posting[0]) if undone_by is None else (None, None)
    expected = (
        chain, tx_hash, token, recipient, "transfer", n, block_hash,
        height, log_index, int(raw).to_bytes(32, "big"), ev["namespace"],
        unhex(ev["sender"], 20), effective_at, *standing, undone_by,
    )
    what = "its rows in deposits, addresses, sightings and blocks do not say what the evidence says"
    claim(stored == [expected], where, what)
    lots = db.execute(
        """SELECT l.kind, l.priority, l.amount_nano, l.remaining_nano, l.effective_at_ms,
                  l.expires_at_ms, n.name
           FROM lots l JOIN namespaces n ON n.namespace_id = l.namespace_id
           WHERE l.posting_seq = ?""",
        (posting[0],),
    ).fetchall()
    left = nano if undone_by is None else 0  # nothing spends lots yet
    lot = ("paid", 0, nano, left, effective_at, None, ev["namespace"])
    claim(lots == [lot], where, "its lot differs")
    events = db.execute(
        "SELECT event_id, kind FROM outbox WHERE posting_seq = ?", (posting[0],)
    ).fetchall()
    event = canonical("topupd/event/v1", "deposit.credited", posting_id)
    claim(events == [(event, "deposit.credited")], where, "its event differs")
    return nano


def check_reversal(where, ev, posting, db):
    """The posting undoes exactly the credit that it names."""
    seq, posting_id, _, deposit_id, _, _, _, _, _ = posting
    undone_id = unhex(ev["reverses_posting_id"], 32)
    expected = canonical("topupd/posting/v1", "deposit_reversal", undone_id)
    claim(expected == posting_id, where, "posting_id does not follow from the posting it undoes")
    differs = unhex(ev["canonical_hash"], 32) != unhex(ev["block_hash"], 32)
    claim(differs, where, "the block that took the place is the same one")
    claim(len(ev["providers"]) > 0, where, "no provider says so")
    nano = number(ev["credits_nano"], 1)
    undone = db.execute(
        """SELECT k.posting_seq, p.posting_id, p.hash, p.kind, p.deposit_id, k.block_hash,
                  l.amount_nano, n.name
           FROM credits k JOIN postings p ON p.seq = k.posting_seq
           JOIN lots l ON l.posting_seq = k.posting_seq
           JOIN namespaces n ON n.namespace_id = l.namespace_id WHERE k.reversed_by = ?""",
        (seq,),
    ).fetchall()
    named = (
        number(ev["reverses_seq"], 1, seq - 1), undone_id, unhex(ev["reverses_hash"], 32),
        "deposit_credit", deposit_id, unhex(ev["block_hash"], 32), nano, ev["namespace"],
    )
    claim(undone == [named], where, "what it undoes is not what the evidence says")
    event = canonical("topupd/event/v1", "deposit.reversed", posting_id)
    events = db.execute("SELECT event_id, kind FROM outbox WHERE posting_seq = ?", (seq,)).fetchall()
    claim(events == [(event, "deposit.reversed")], where, "its event differs")
    return nano


def check_balances(db, sums):
    stored = {}
    for account, name, balance in db.execute(
        """SELECT a.account, n.name, a.balance_nano FROM accounts a
           LEFT JOIN namespaces n ON n.namespace_id = a.namespace_id"""
    ):
        where = f"account {account}"
        stored[account] = balance
        if account == HOUSE:
            claim(name is None and balance is None, where, "belongs to a namespace")
        else:
            claim(account == f"namespace/{name}", where, f"belongs to namespace {name}")
            claim(balance == sums.get(account), where, f"its entries sum to {sums.get(account)}")
    claim(stored.keys() == sums.keys(), "accounts", "not the accounts that entries name")
    claim(sum(sums.values()) == 0, "accounts", "debits and credits differ")


def check(db):
    ((network,),) = db.execute("SELECT network FROM installation").fetchall()
    epochs = check_epochs(db)
    seq, head = 0, canonical("topupd/ledger/v1", network)
    sums = {}
    reversals = 0
    for posting in db.execute(
        """SELECT seq, posting_id, kind, deposit_id, effective_at_ms, recorded_at_ms, evidence,
                  prev_hash, hash FROM postings ORDER BY seq"""
    ):
        seq += 1
        where = f"posting {seq}"
        claim(posting[0] == seq, where, f"the next one is {posting[0]}")
        _, posting_id, kind, deposit_id, effective_at, recorded_at, evidence, prev, sealed = posting
        claim(prev == head, where, "prev_hash is not the hash of the posting before")
        legs = db.execute(
            "SELECT leg, account, side, amount_nano FROM entries WHERE posting_seq = ? ORDER BY leg",
            (seq,),
        ).fetchall()
        claim([leg[0] for leg in legs] == list(range(len(legs))), where, "legs are not 0, 1, ...")
        flat = [value for leg in legs for value in leg[1:]]
        head = canonical(
            "topupd/posting-seal/v1", prev, seq, posting_id, kind, deposit_id, effective_at,
            recorded_at, evidence, len(legs), *flat,
        )
        claim(head == sealed, where, "hash does not match its contents")
        ev = strict_json(evidence)
        account = f"namespace/{ev['namespace']}"
        if kind == "deposit_credit":
            nano = check_evidence(where, ev, posting, epochs, db)
            expected = [(0, HOUSE, "debit", nano), (1, account, "credit", nano)]
            claim(legs == expected, where, "entries do not follow from the evidence")
        else:
            claim(kind == "deposit_reversal", where, f"kind {kind!r} is not known to this script")
            nano = check_reversal(where, ev, posting, db)
            expected = [(0, account, "debit", nano), (1, HOUSE, "credit", nano)]
            claim(legs == expected, where, "entries do not follow from the evidence")
            reversals += 1
            nano = -nano
        sums[HOUSE] = sums.get(HOUSE, 0) - nano
        sums[account] = sums.get(account, 0) + nano

    stored = db.execute("SELECT seq, hash FROM ledger_head").fetchall()
    claim(stored == [(seq, head)], "ledger_head", f"the last posting is {seq}, 0x{head.hex()}")
    credits = seq - reversals
    for table, wanted in [("entries", 2 * seq), ("lots", credits), ("credits", credits),
                          ("outbox", seq), ("deposits WHERE stage = 'credited'", credits - reversals)]:
        ((rows,),) = db.execute(f"SELECT COUNT(posting_seq) FROM {table}").fetchall()
        claim(rows == wanted, table, f"{rows} rows name a posting, {wanted} should")
    check_balances(db, sums)
    return seq, head


def main():
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        uri = pathlib.Path(sys.argv[1]).resolve().as_uri() + "?mode=ro"
        db = sqlite3.connect(uri, uri=True, isolation_level=None)
        db.execute("BEGIN")  # one snapshot, also while a daemon writes
        db.execute("SELECT 1 FROM ledger_head").fetchone()
    except sqlite3.Error as error:
        print(f"{sys.argv[1]}: {error}", file=sys.stderr)
        return 2
    try:
        postings, head = check(db)
    except Problem as problem:
        print(f"does not hold: {problem}")
        return 1
    except (sqlite3.Error, ValueError, TypeError, LookupError, AttributeError) as error:
        print(f"does not hold: a value that topupd does not write: {error!r}")
        return 1
    print(f"holds: {postings} postings, head 0x{head.hex()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
