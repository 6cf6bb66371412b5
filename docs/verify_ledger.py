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
OWED, BOUGHT, SLIPPAGE = (f"treasury/usd/{name}" for name in ("obligations", "purchases", "slippage"))
HOUSE_ACCOUNTS = {HOUSE, OWED, BOUGHT, SLIPPAGE}
RATES = {"par": "credits_per_usd", "fixed": "credits_per_token", "market": "credits_per_usd"}


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


def amount(text):
    """Base units, as a decimal string."""
    if not re.fullmatch("[0-9]+", text) or int(text) >= 2**256:
        raise ValueError(f"{text!r} is not a 256-bit number")
    return int(text)


def stored_amount(value):
    return value.to_bytes(32, "big")


def credits_nano(raw_amount, decimals, credits_per_token, price="1"):
    """raw x price x rate x 10^9 / 10^decimals, rounded down once."""
    mantissa, scale = rate(credits_per_token)
    price_mantissa, price_scale = rate(price)
    product = raw_amount * price_mantissa * mantissa * 10**9
    return product // 10 ** (decimals + scale + price_scale)


def tokens_and_rest(raw_amount, decimals, multiplied, divided, decimals_out):
    """raw x multiplied / divided x 10^(decimals_out - decimals), rounded down once; and what the
    division leaves, with the powers of ten that stand on both sides taken out."""
    (m_mantissa, m_scale), (d_mantissa, d_scale) = rate(multiplied), rate(divided)
    over, under = d_scale + decimals_out, m_scale + decimals
    common = min(over, under)
    numerator = raw_amount * m_mantissa * 10 ** (over - common)
    divisor = d_mantissa * 10 ** (under - common)
    tokens, rest = divmod(numerator, divisor)
    return tokens, f"{rest}/{divisor}"


def market_credits(where, ev, raw_amount, decimals):
    """What a payment gives at the market prices of its evidence: in tokens first, if converted."""
    how, asset, per = ev["conversion"], ev["asset"], ev["credits_per_token"]
    claim(how["formula"] == "topupd/conversion/v1", where, "formula is not known to this script")
    applied = {leg["pair"]: leg["applied"] for leg in how["legs"]}
    claim(len(applied) == len(how["legs"]), where, "a pair has two prices")
    into = how.get("into")
    claim((into is not None) == (ev["rule"] == "convert"), where, "is converted by another rule")
    if into is None:
        claim(how["path"] == "market", where, "path is not market")
        return credits_nano(raw_amount, decimals, per, applied[f"{asset}/USD"])
    token, token_decimals = into["asset"], number(into["decimals"], most=36)
    if how["path"] == "direct":
        prices = ("1", applied[f"{token}/{asset}"])
    else:
        claim(how["path"] == "usd", where, "path is neither usd nor direct")
        prices = (applied[f"{asset}/USD"], applied[f"{token}/USD"])
    tokens, rest = tokens_and_rest(raw_amount, decimals, *prices, token_decimals)
    claim(tokens == amount(into["tokens"]), where, f"tokens should be {tokens}")
    claim(rest == into["remainder"], where, f"remainder should be {rest}")
    price = {"fixed": lambda: "1", "market": lambda: applied[f"{token}/USD"]}[into["rule"]]()
    return credits_nano(tokens, token_decimals, per, price)


def check_terms(where, ev, accept):
    """The epoch gives the asset this rule and rate. A conversion has the rate of its tokens."""
    terms = rated = accept[ev["asset"]]
    claim(terms["valuation"] == ev["rule"], where, "its epoch does not give this rule")
    if ev["rule"] == "convert":
        into = ev["conversion"]["into"]
        same = (terms["into"], terms["into_decimals"]) == (into["asset"], into["decimals"])
        claim(same, where, "its epoch does not convert into these tokens")
        rated = accept[into["asset"]]
        claim(rated["valuation"] == into["rule"], where, "its epoch does not value tokens by this rule")
    same = rated[RATES[rated["valuation"]]] == ev["credits_per_token"]
    claim(same, where, "its epoch does not give this rate")


def check_conversion(where, ev, posting, db):
    """The rows of a conversion say what the evidence says; other credits have none. True when the
    treasury owes its tokens."""
    stored = db.execute(
        """SELECT v.body FROM credits k JOIN conversions v ON v.deposit_id = k.deposit_id
             AND v.block_hash = k.block_hash AND v.log_index = k.log_index
           WHERE k.posting_seq = ?""",
        (posting[0],),
    ).fetchall()
    how = ev.get("conversion")
    same = [strict_json(body) for (body,) in stored] == ([] if how is None else [how])
    claim(same, where, "its row in conversions differs")
    owed = db.execute(
        """SELECT chain_id, asset, raw_amount, decimals, into_asset, tokens, token_decimals,
                  effective_at_ms FROM obligations WHERE posting_seq = ?""",
        (posting[0],),
    ).fetchall()
    into = None if how is None else how.get("into")
    expected = [] if into is None else [(
        ev["chain_id"], ev["asset"], stored_amount(amount(ev["raw_amount"])), ev["decimals"],
        into["asset"], stored_amount(amount(into["tokens"])), into["decimals"], posting[4],
    )]
    claim(owed == expected, where, "its row in obligations differs")
    return into is not None


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


def check_named(where, ev, deposit, db):
    """The answers and the acts that a credit names are there as they were."""
    block, sender = unhex(ev["block_hash"], 32), unhex(ev["sender"], 20)
    answers = """SELECT deposit_id, block_hash, sender, asked, outcome, question, answer, at_ms
                 FROM screenings WHERE deposit_id = ? AND block_hash = ? AND sender = ?"""
    acts = """SELECT act_id, kind, operator, reason, deposit_id, chain_id, block_hash, pair, price,
                     instant_ms, approves, approved_hash, withdraws, latch, at_ms
              FROM operator_acts WHERE deposit_id = ? AND block_hash = ?"""
    for key, tag, what, sql, of in (
        ("screenings", "topupd/screening/v1", "an answer", answers, (deposit, block, sender)),
        ("acts", "topupd/act/v1", "a decision", acts, (deposit, block)),
    ):
        rows = db.execute(sql, of) if key in ev else ()
        there = {canonical(tag, *("" if v is None else v for v in row)) for row in rows}
        same = there.issuperset(unhex(named, 32) for named in ev.get(key, []))
        claim(same, where, f"{what} that it rests on is missing, or was changed")


def check_evidence(where, ev, posting, epochs, db):
    """The evidence gives the ids, the time and the amount, and the rows beside it agree."""
    _, posting_id, _, deposit_id, effective_at, _, _, _, _ = posting
    tx_hash, token = unhex(ev["tx_hash"], 32), unhex(ev["token"], 20)
    recipient, block_hash = unhex(ev["recipient"], 20), unhex(ev["block_hash"], 32)
    chain, n = number(ev["chain_id"]), number(ev["n"])
    height, log_index = number(ev["block_number"]), number(ev["log_index"])

    deposit = canonical("topupd/deposit/v1", chain, tx_hash, token, recipient, "transfer", n)
    claim(deposit == deposit_id, where, "deposit_id does not follow from the evidence")
    check_named(where, ev, deposit, db)
    reversals = number(ev.get("reversals", 0))  # how often it was credited and undone before
    again = [reversals] if reversals else []
    credit = canonical("topupd/posting/v1", "deposit_credit", deposit_id, *again)
    claim(credit == posting_id, where, "posting_id does not follow from deposit_id")
    claim(ev["block_time_ms"] == effective_at, where, "effective_at_ms is not the block's time")

    rule, head = ev["finality"], number(ev["head_number"])
    counted = re.fullmatch(r"([0-9]+) confirmations", rule)
    wanted = int(counted[1]) if counted else 1  # a tag: only that the head was not below the block
    claim(head - height + 1 >= wanted, where, f"head_number does not give {rule}")

    raw, decimals = amount(ev["raw_amount"]), number(ev["decimals"], most=36)
    if ev["rule"] in ("market", "convert"):
        nano = market_credits(where, ev, raw, decimals)
    else:
        claim("conversion" not in ev, where, "its rule needs no conversion")
        nano = credits_nano(raw, decimals, ev["credits_per_token"])
    claim(ev["rounding"] == "down", where, "rounding is not down")
    claim(nano == number(ev["credits_nano"], 1), where, f"credits_nano should be {nano}")

    in_force = [name for name, (starts, _, _) in epochs.items() if starts <= effective_at][-1:]
    claim(in_force == [ev["epoch"]], where, "its epoch was not in force at the block's time")
    _, body_hash, accept = epochs[ev["epoch"]]
    claim(body_hash == unhex(ev["epoch_hash"], 32), where, "epoch_hash is not the epoch's")
    check_terms(where, ev, accept)

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
        height, log_index, stored_amount(raw), ev["namespace"],
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
    check_event(where, posting, "deposit.credited", db)
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
    check_event(where, posting, "deposit.reversed", db)
    return nano


def usd_nano(raw_amount, decimals, part, whole):
    """raw x part / whole in billionths of a dollar, a stablecoin at its face, rounded down once."""
    return raw_amount * part * 10**9 // (whole * 10**decimals)


def check_settlement(where, ev, posting, db):
    """A purchase settles this much of this conversion. Returns the entries that follow."""
    seq, posting_id, _, deposit_id, effective_at, _, _, _, _ = posting
    owed_id, tx_hash = unhex(ev["obligation_posting_id"], 32), unhex(ev["tx_hash"], 32)
    block_hash = unhex(ev["block_hash"], 32)
    chain, owed_seq = number(ev["chain_id"]), number(ev["obligation_seq"], 1, seq - 1)
    expected = canonical("topupd/posting/v1", "treasury_settlement", owed_id, chain, tx_hash)
    claim(expected == posting_id, where, "posting_id does not follow from the evidence")
    claim(ev["block_time_ms"] == effective_at, where, "effective_at_ms is not the block's time")
    raw, decimals, tokens = amount(ev["raw_amount"]), number(ev["decimals"]), amount(ev["tokens"])
    spent, got = amount(ev["purchase_paid"]), amount(ev["purchase_tokens"])
    spent_decimals, part = number(ev["purchase_decimals"]), amount(ev["settled_tokens"])
    claim(0 < part <= min(tokens, got), where, "settles more than was owed or bought")
    owed, paid = usd_nano(raw, decimals, part, tokens), usd_nano(spent, spent_decimals, part, got)
    claim(owed == number(ev["owed_nano"]), where, f"owed_nano should be {owed}")
    claim(paid == number(ev["paid_nano"]), where, f"paid_nano should be {paid}")
    stored = db.execute(
        """SELECT s.obligation_seq, s.chain_id, s.tx_hash, s.tokens, b.block_hash, b.asset, b.paid,
                  b.decimals, b.into_asset, b.tokens, p.posting_id, p.deposit_id, o.asset,
                  o.raw_amount, o.decimals, o.into_asset, o.tokens
           FROM settlements s
           JOIN purchases b ON b.chain_id = s.chain_id AND b.tx_hash = s.tx_hash
           JOIN postings p ON p.seq = s.obligation_seq
           JOIN obligations o ON o.posting_seq = s.obligation_seq
           WHERE s.posting_seq = ?""",
        (seq,),
    ).fetchall()
    claimed = (
        owed_seq, chain, tx_hash, stored_amount(part), block_hash, ev["asset"],
        stored_amount(spent), spent_decimals, ev["into_asset"], stored_amount(got), owed_id,
        deposit_id, ev["asset"], stored_amount(raw), decimals, ev["into_asset"],
        stored_amount(tokens),
    )
    what = "its rows in settlements, purchases and obligations do not say what the evidence says"
    claim(stored == [claimed], where, what)
    check_event(where, posting, "treasury.settled", db)
    lost = paid - owed
    legs = [(OWED, "debit", owed), (BOUGHT, "credit", paid),
            (SLIPPAGE, "debit" if lost > 0 else "credit", abs(lost))]
    return [leg for leg in legs if leg[2] > 0]


def check_event(where, posting, kind, db):
    rows = db.execute("SELECT event_id, kind FROM outbox WHERE posting_seq = ?", (posting[0],))
    event = canonical("topupd/event/v1", kind, posting[1])
    claim(rows.fetchall() == [(event, kind)], where, "its event differs")


def check_balances(db, sums):
    stored = {}
    for account, name, balance in db.execute(
        """SELECT a.account, n.name, a.balance_nano FROM accounts a
           LEFT JOIN namespaces n ON n.namespace_id = a.namespace_id"""
    ):
        where = f"account {account}"
        stored[account] = balance
        if account in HOUSE_ACCOUNTS:
            claim(name is None and balance is None, where, "belongs to a namespace")
        else:
            claim(account == f"namespace/{name}", where, f"belongs to namespace {name}")
            claim(balance == sums.get(account), where, f"its entries sum to {sums.get(account)}")
    claim(stored.keys() == sums.keys(), "accounts", "not the accounts that entries name")
    claim(sum(sums.values()) == 0, "accounts", "debits and credits differ")
    held = sum(total for account, total in sums.items() if account not in HOUSE_ACCOUNTS)
    claim(held == -sums.get(HOUSE, 0), "accounts", f"{HOUSE} does not stand against the namespaces")


def check(db):
    ((network,),) = db.execute("SELECT network FROM installation").fetchall()
    epochs = check_epochs(db)
    seq, head = 0, canonical("topupd/ledger/v1", network)
    sums = {}
    settled = {}
    entries = reversals = settlements = obligations = 0
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
        if kind == "deposit_credit":
            nano = check_evidence(where, ev, posting, epochs, db)
            obligations += check_conversion(where, ev, posting, db)
            expected = [(HOUSE, "debit", nano), (f"namespace/{ev['namespace']}", "credit", nano)]
        elif kind == "deposit_reversal":
            nano = check_reversal(where, ev, posting, db)
            reversals += 1
            expected = [(f"namespace/{ev['namespace']}", "debit", nano), (HOUSE, "credit", nano)]
        else:
            claim(kind == "treasury_settlement", where, f"kind {kind!r} is not known to this script")
            expected = check_settlement(where, ev, posting, db)
            settlements += 1
            for of, most in [(("obligation", ev["obligation_seq"]), ev["tokens"]),
                             (("purchase", ev["tx_hash"]), ev["purchase_tokens"])]:
                settled[of] = settled.get(of, 0) + int(ev["settled_tokens"])
                claim(settled[of] <= int(most), where, f"more of {of[0]} {of[1]} is settled than there is")
        claim([leg[1:] for leg in legs] == expected, where, "entries do not follow from the evidence")
        debits, credits = (
            sum(nano for _, side, nano in expected if side == which) for which in ("debit", "credit")
        )
        claim(0 < debits == credits, where, "entries do not balance")
        for account, side, nano in expected:
            sums[account] = sums.get(account, 0) + (nano if side == "credit" else -nano)
        entries += len(legs)

    stored = db.execute("SELECT seq, hash FROM ledger_head").fetchall()
    claim(stored == [(seq, head)], "ledger_head", f"the last posting is {seq}, 0x{head.hex()}")
    credits = seq - reversals - settlements
    for table, wanted in [("entries", entries), ("lots", credits), ("credits", credits),
                          ("outbox", seq), ("obligations", obligations),
                          ("settlements", settlements),
                          ("deposits WHERE stage = 'credited'", credits - reversals)]:
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
