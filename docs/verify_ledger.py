#!/usr/bin/env python3
"""Checks the journals and the log of topupd without topupd.

    python3 verify_ledger.py topupd.db [--key KEY] [--expect CHECKPOINT]
                                             a SQLite database (of PostgreSQL: topupd db backup)
    python3 verify_ledger.py acme.json       what `topupd ledger history acme --json` printed

KEY is the log's public key, as its owner gave it to you; CHECKPOINT is one that was kept elsewhere, and must
be the beginning of this log. Both may be given several times.

Prints "holds: N records in M journals, ..." and exits 0, or the first problem and exits 1. Exits 2 when
the file cannot be read. Needs Python 3.9 and SQLite 3.37 or newer, verify_log.py beside it, and nothing else.
It changes nothing in the database, but SQLite may leave topupd.db-wal and topupd.db-shm beside it: run it as
the daemon's user, or on a copy. The format is described in docs/ledger-format.md.

Of a database it checks each journal, the rows that its records make, and what credits rest on but for what is
named below; that each record has one leaf of the log or waits for one, in its journal's order; all tiles, the
edge and the root; and the last checkpoint's signature, by KEY. Without KEY it can only take the key that the
file itself names, and says so.

It does NOT check: how market prices were decided from sources' answers; that an answer about a payer says
what was made of it; confirmations; proofs of receipts; that derived addresses are children of their key;
events; sums by day; payments that are not credited; that a reversal or a purchase is on the chain. Of a JSON file it checks one journal, all
that is printed of it (but which letters of an address are capital ones), and none of the rows that its credits
rest on, nor the log: verify_log.py does that for a record.
"""

import argparse
import datetime
import hashlib
import pathlib
import re
import sqlite3
import sys

sys.dont_write_bytecode = True  # nothing is left beside the scripts

import verify_log
from verify_log import strict_json

HOUSE = "house/issued/paid"
RECEIVED, OWED, BOUGHT, SLIPPAGE = (
    f"treasury/usd/{name}" for name in ("received", "obligations", "purchases", "slippage")
)
RATES = {"par": "credits_per_usd", "fixed": "credits_per_token", "market": "credits_per_usd"}
NANO = 10**9


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


# ---- Records ----


class Record:
    """A sealed line of a journal, whichever file it comes from."""

    def __init__(self, **fields):
        self.__dict__.update(fields)

    def seal_hash(self):
        flat = [value for entry in self.entries for value in entry]
        return canonical(
            "topupd/record-seal/v1", self.prev, self.seq, self.id, self.kind, self.subject,
            self.effective_at, self.recorded_at, self.operator or "", self.key_id or "",
            self.cause, self.outcome, len(self.entries), *flat,
        )

    def cause_hash(self, effective):
        return canonical(
            "topupd/cause/v1", self.kind, self.subject, effective, self.operator or "",
            self.key_id or "", self.cause,
        )


def genesis(network, installation, namespace, salt):
    kind = "house" if namespace is None else "namespace"
    return canonical("topupd/journal/v1", network, installation, kind, namespace or "", salt)


def addresses_root(leaves):
    """RFC 6962, 2.1, over the addresses' bytes."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\0" + leaves[0]).digest()
    left = 1 << ((len(leaves) - 1).bit_length() - 1)
    both = addresses_root(leaves[:left]) + addresses_root(leaves[left:])
    return hashlib.sha256(b"\1" + both).digest()


def share(usd, part, whole):
    """usd x part / whole, rounded down."""
    return usd * part // whole


def at_face(raw_amount, decimals):
    """A stablecoin at its face, in billionths of a dollar, rounded down."""
    return raw_amount * NANO // 10**decimals


def act_hash(act):
    return canonical(
        "topupd/act/v1", act["number"], act["act"], act["operator"], act["reason"],
        unhex(act["deposit"], 32) if "deposit" in act else "", act["chain_id"],
        unhex(act["block_hash"], 32), act.get("pair", ""), act.get("price", ""),
        act.get("instant_ms", ""), act.get("approves", ""),
        unhex(act["approved_hash"], 32) if "approved_hash" in act else "",
        act.get("withdraws", ""), act.get("latch", ""), act.get("correction", ""), act["at_ms"],
    )


# ---- One journal ----


class Journal:
    """A journal that is read from its start: what its records come to, decided here again."""

    def __init__(self, name, start, settled=None):
        self.name, self.start = name, start  # None for the house
        self.seq, self.seal, self.recorded_at = 0, start, 0
        self.balance, self.debt, self.addresses = 0, 0, 0
        self.lots, self.credits, self.standing, self.reversals = {}, {}, {}, {}
        self.obligations, self.ids = {}, set()
        # What the house's journal settled of each credit's conversion; not known from one journal.
        self.settled = settled
        # Of the house: what is settled of obligations and purchases, and what its records note.
        self.owing, self.used, self.notes = {}, {}, {}

    def where(self, seq):
        return f"record {self.name or 'house'}/{seq}"

    def take(self, record):
        where = self.where(self.seq + 1)
        claim(record.seq == self.seq + 1, where, f"the next one is {record.seq}")
        claim(record.prev == self.seal, where, "prev is not the seal of the record before")
        claim(record.seal_hash() == record.seal, where, "seal does not match its contents")
        claim(record.recorded_at >= self.recorded_at, where, "was recorded before the one before it")
        known = KINDS.get(record.kind)
        claim(known is not None, where, f"kind {record.kind!r} is not known to this script")
        of_house, decide = known
        claim(of_house == (self.name is None), where, "a record of this kind belongs to another journal")
        first = record.seq == 1 and self.name is not None
        claim(first == (record.kind == "namespace_opened"), where, "is not how a journal begins")
        cause = strict_json(record.cause)
        made = decide(self, where, record, cause)
        claim(made.subject == record.subject, where, "subject does not follow from its cause")
        expected = canonical("topupd/record/v1", self.start, record.kind, *made.key)
        claim(expected == record.id, where, "record_id does not follow from its cause")
        claim(record.id not in self.ids, where, "its id stands twice")
        effective = record.recorded_at if made.effective is None else made.effective
        claim(effective == record.effective_at, where, "effective_at_ms does not follow from its cause")
        hashed = record.cause_hash("" if made.effective is None else made.effective)
        claim(record.hashed in (None, hashed), where, "cause_hash is not the hash of its cause")
        claim(strict_json(record.outcome) == made.outcome, where, f"outcome should be {made.outcome}")
        legs = [leg for leg in made.entries if leg[3] > 0]
        claim(record.entries == legs, where, "entries do not follow from its cause")
        for unit in ("credits", "usd"):
            sums = [sum(n for _, u, side, n in legs if (u, side) == (unit, which))
                    for which in ("debit", "credit")]
            claim(sums[0] == sums[1], where, f"entries in {unit} do not balance")
        self.ids.add(record.id)
        self.seq, self.seal, self.recorded_at = record.seq, record.seal, record.recorded_at
        return made

    def close(self):
        left = sum(lot["left"] for lot in self.lots.values())
        claim(self.balance == left - self.debt and self.debt >= 0, f"journal {self.name or 'house'}",
              "balance is not what lots have left, less debt")

    # -- what a credit does, and what undoing it does --

    def give(self, where, seq, worth, since, bought):
        """Gives what a payment is worth; returns outcome and entries."""
        nano, owed = worth["credits_nano"], worth["owed"]
        if owed is not None and bought is not None:
            same = (owed["asset"], owed["decimals"]) == (bought["asset"], bought["decimals"])
            left = (owed["tokens"] - bought["tokens"], owed["usd"] - bought["usd"])
            claim(same and left[0] > 0 and left[1] >= 0, where, "owes less than was bought for it")
            owed = {**owed, "tokens": left[0], "usd": left[1]}
        claim(bought is None or owed is not None, where, "owes nothing, and something was bought for it")
        repaid = min(self.debt, nano)
        self.balance, self.debt = self.balance + nano, self.debt - repaid
        self.lots[seq] = {
            "amount": nano, "left": nano - repaid, "since": since, "paid": worth["paid"],
            "moves": [(seq, 0, -repaid, "debt")] if repaid else [],
        }
        if owed is not None:
            carried = (0, 0) if bought is None else (bought["tokens"], bought["usd"])
            self.obligations[seq] = {**owed, "carried": carried, "since": since, "void": False}
        did = {"credits_nano": nano, "repaid_nano": repaid, "remaining_nano": nano - repaid}
        if owed is not None:
            did["owed_tokens"] = str(owed["tokens"])
        did["owed_usd_nano"] = usd = 0 if owed is None else owed["usd"]
        account = f"namespace/{self.name}"
        entries = [(HOUSE, "credits", "debit", nano), (account, "credits", "credit", nano),
                   (RECEIVED, "usd", "debit", usd), (OWED, "usd", "credit", usd)]
        return did, entries

    def undo(self, where, seq, by, told):
        """Takes back what a credit gave; returns outcome, entries and what was bought for it."""
        credit = self.credits.get(seq)
        claim(credit is not None, where, f"record {seq} is not a credit")
        claim(credit["undone"] is None, where, f"record {seq} is undone already")
        lot, owed = self.lots[seq], self.obligations.get(seq)
        taken, nano = lot["left"], lot["amount"]
        lot["left"] = 0
        if taken:
            lot["moves"].append((by, 0, -taken, "reversal"))
        self.balance, self.debt = self.balance - nano, self.debt + nano - taken
        credit["undone"] = by
        self.standing.pop(credit["deposit"])
        self.reversals[credit["deposit"]] = self.reversals.get(credit["deposit"], 0) + 1
        did = {"taken_nano": taken, "debt_added_nano": nano - taken}
        returned, bought = 0, None
        if owed is not None:
            settled = amount(told) if self.settled is None else self.settled.get(seq, 0)
            claim(settled <= owed["tokens"], where, "more is settled than was owed")
            before = share(owed["usd"], settled, owed["tokens"])
            did["settled_tokens"], returned, owed["void"] = str(settled), owed["usd"] - before, True
            tokens, usd = owed["carried"][0] + settled, owed["carried"][1] + before
            if tokens:
                bought = {"asset": owed["asset"], "decimals": owed["decimals"],
                          "tokens": tokens, "usd": usd}
        did["returned_usd_nano"] = returned
        account = f"namespace/{self.name}"
        entries = [(account, "credits", "debit", nano), (HOUSE, "credits", "credit", nano),
                   (OWED, "usd", "debit", returned), (RECEIVED, "usd", "credit", returned)]
        return did, entries, bought

    def after(self, did):
        return {"did": did, "after": {"balance_nano": self.balance, "debt_nano": self.debt}}


class Made:
    """What a record must be, by its cause."""

    def __init__(self, subject, key, effective=None, outcome=None, entries=()):
        self.subject, self.key, self.effective = subject, key, effective
        self.outcome, self.entries = {} if outcome is None else outcome, list(entries)


def worth_of(where, ev):
    """What a payment is worth by its cause: credits, dollars, tokens owed."""
    raw, decimals = amount(ev["raw_amount"]), number(ev["decimals"], most=36)
    how = ev.get("conversion")
    if ev["rule"] in ("market", "convert"):
        nano = market_credits(where, ev, raw, decimals)
    else:
        claim(how is None, where, "its rule needs no conversion")
        nano = credits_nano(raw, decimals, ev["credits_per_token"])
    claim(ev["rounding"] == "down", where, "rounding is not down")
    claim(nano == number(ev["credits_nano"], 1), where, f"credits_nano should be {nano}")
    usd = {
        "par": lambda: at_face(raw, decimals),
        "convert": lambda: at_face(raw, decimals),
        "market": lambda: credits_nano(raw, decimals, "1", how["legs"][0]["applied"]),
        "fixed": lambda: None,
    }[ev["rule"]]()
    into = None if how is None else how.get("into")
    owed = None if into is None else {
        "asset": into["asset"], "tokens": amount(into["tokens"]), "decimals": into["decimals"],
        "usd": at_face(raw, decimals), "of": (ev["asset"], raw, decimals),
    }
    return {"credits_nano": nano, "paid": (ev["asset"], raw, decimals, usd), "owed": owed}


def deposit_id(ev):
    return canonical(
        "topupd/deposit/v1", number(ev["chain_id"]), unhex(ev["tx_hash"], 32),
        unhex(ev["token"], 20), unhex(ev["recipient"], 20), "transfer", number(ev["n"]),
    )


def credited(journal, where, record, ev):
    claim(ev["namespace"] == journal.name, where, "is of another namespace")
    deposit = deposit_id(ev)
    reversals = number(ev["reversals"])
    claim(deposit not in journal.standing, where, "its deposit has a credit that stands")
    claim(journal.reversals.get(deposit, 0) == reversals, where, "reversals are counted otherwise")
    rule, depth = ev["finality"], number(ev["head_number"]) - number(ev["block_number"]) + 1
    counted = re.fullmatch(r"([0-9]+) confirmations", rule)
    wanted = int(counted[1]) if counted else 1  # a tag: only that the head was not below the block
    claim(depth >= wanted, where, f"head_number does not give {rule}")
    did, entries = journal.give(where, record.seq, worth_of(where, ev), ev["block_time_ms"], None)
    journal.standing[deposit] = record.seq
    place = (ev["chain_id"], unhex(ev["block_hash"], 32), number(ev["log_index"]))
    journal.credits[record.seq] = {
        "deposit": deposit, "place": place, "undone": None, "id": record.id, "seal": record.seal,
        "chain": ev["chain_id"],
    }
    return Made("0x" + deposit.hex(), (deposit, reversals), ev["block_time_ms"],
                journal.after(did), entries)


def named_credit(journal, where, ev, what):
    """The credit that a cause undoes is the one that it names."""
    seq = number(ev[f"{what}_seq"], 1)
    credit = journal.credits.get(seq)
    claim(credit is not None, where, f"record {seq} is not a credit")
    same = (credit["id"], credit["seal"], credit["deposit"]) == (
        unhex(ev[f"{what}_record_id"], 32), unhex(ev[f"{what}_seal"], 32), unhex(ev["deposit"], 32))
    claim(same and ev["namespace"] == journal.name, where, "is not of the credit that it names")
    return seq, credit


def told_of(record, *path):
    did = strict_json(record.outcome)["did"]
    for key in path:
        did = did[key]
    return did.get("settled_tokens", "0")


def reversed_(journal, where, record, ev):
    seq, credit = named_credit(journal, where, ev, "reverses")
    block = unhex(ev["block_hash"], 32)
    claim(credit["place"][:2] == (ev["chain_id"], block), where, "is of another block")
    claim(unhex(ev["canonical_hash"], 32) != block, where, "the block in its place is the same one")
    claim(len(ev["providers"]) > 0, where, "no provider says so")
    claim(journal.lots[seq]["amount"] == ev["credits_nano"], where, "credits_nano is not what was given")
    did, entries, _ = journal.undo(where, seq, record.seq, told_of(record))
    return Made(ev["deposit"], (credit["id"],), None, journal.after(did), entries)


def corrected(journal, where, record, ev):
    seq, credit = named_credit(journal, where, ev, "corrects")
    people = [ev[who].strip().upper().lower().upper() for who in ("proposer", "approver")]
    claim(all(people) and people[0] != people[1], where, "was not decided by two people")
    claim(ev["reason"].strip() and ev["evidence"].strip(), where, "has no reason or no evidence")
    lot, again = journal.lots[seq], ev["again"]
    claim(lot["amount"] == ev["credited_nano"], where, "credited_nano is not what was given")
    claim(lot["paid"][1] == amount(again["raw_amount"]), where, "changes what was paid")
    since = lot["since"]
    undone, entries, bought = journal.undo(where, seq, record.seq, told_of(record, "reversed"))
    given, more = journal.give(where, record.seq, worth_of(where, again), since, bought)
    journal.standing[credit["deposit"]] = record.seq
    journal.credits[record.seq] = {**credit, "undone": None, "id": record.id, "seal": record.seal}
    outcome = journal.after({"reversed": undone, "credited": given})
    return Made(ev["deposit"], (credit["id"], number(ev["act"])), None, outcome, entries + more)


def settled(journal, where, record, ev):
    owed_key = (number(ev["obligation_journal"], 1), number(ev["obligation_seq"], 1))
    owed_id, tx_hash = unhex(ev["obligation_record_id"], 32), unhex(ev["tx_hash"], 32)
    chain, part, usd = number(ev["chain_id"]), amount(ev["settled_tokens"]), ev["obligation_usd_nano"]
    tokens, got = amount(ev["tokens"]), amount(ev["purchase_tokens"])
    of = (owed_id, ev["asset"], ev["into_asset"], tokens, usd)
    bought = (unhex(ev["block_hash"], 32), ev["asset"], ev["purchase_paid"], ev["purchase_decimals"],
              ev["into_asset"], got)
    claim(journal.owing.setdefault(owed_key, [of, 0])[0] == of, where, "says another thing of what is owed")
    claim(journal.used.setdefault((chain, tx_hash), [bought, 0])[0] == bought, where,
          "says another thing of the purchase")
    spent = at_face(amount(ev["purchase_paid"]), number(ev["purchase_decimals"]))
    dollars = []
    for sums, whole, total in ((journal.owing[owed_key], usd, tokens), (journal.used[chain, tx_hash], spent, got)):
        before, sums[1] = sums[1], sums[1] + part
        claim(0 < part and sums[1] <= total, where, "more is settled than is owed or was bought")
        dollars.append(share(whole, sums[1], total) - share(whole, before, total))
    owed, paid = dollars
    lost = paid - owed
    entries = [(OWED, "usd", "debit", owed), (BOUGHT, "usd", "credit", paid),
               (SLIPPAGE, "usd", "debit" if lost > 0 else "credit", abs(lost))]
    outcome = {"owed_usd_nano": owed, "paid_usd_nano": paid,
               "settled_tokens": str(journal.owing[owed_key][1]),
               "used_tokens": str(journal.used[chain, tx_hash][1])}
    journal.notes.setdefault("settlement", {})[record.seq] = (ev, owed, paid)
    return Made(f"eip155:{chain}/{ev['tx_hash']}", (owed_id, chain, tx_hash), ev["block_time_ms"], outcome, entries)


def opened(journal, where, record, ev):
    claim(ev["name"] == journal.name, where, "opens another namespace")
    return Made(ev["name"], (ev["name"],))


def bound(journal, where, record, ev):
    claim(ev["namespace"] == journal.name, where, "is of another namespace")
    root, count = unhex(ev["root"], 32), number(ev["count"], 1)
    indexes = ev.get("indexes", [])
    derived = ev["origin"] == "derived"
    children = sum(last - first + 1 for first, last in indexes)
    claim(children == (count if derived else 0), where, "indexes are not as many as count")
    claim(derived == ("wallet" in ev) and (count == 1) == ("address" in ev), where, "contradicts itself")
    subject = ev["root"]
    if "address" in ev:
        claim(addresses_root([unhex(ev["address"], 20)]) == root, where, "root is not that of its address")
        subject = ev["address"]
    journal.addresses += count
    journal.notes.setdefault("addresses", {})[record.seq] = ev
    first = indexes[0][0].to_bytes(4, "big") if indexes else b""
    made = Made(subject, (root, first), None, {"addresses": journal.addresses})
    if "address" in ev:  # an address is written with its checksum as a subject
        claim(record.subject.lower() == ev["address"], where, "subject is not its address")
        made.subject = record.subject
    return made


def noted(kind, subject, key, effective=None, hashed=None):
    def decide(journal, where, record, ev):
        if hashed is not None:
            claim(hashed(ev) == unhex(ev["hash"], 32), where, "hash does not follow from its text")
        if kind == "act":
            claim(record.operator == ev["operator"], where, "operator is not its operator")
        claim(key(ev) not in journal.notes.setdefault(kind, {}), where, "stands twice")
        journal.notes[kind][key(ev)] = ev
        return Made(subject(ev), (key(ev),), None if effective is None else ev[effective])

    return decide


def log_key(journal, where, record, ev):
    """A key takes the place of the last one, which signs that; nothing signs the first one."""
    known = list(journal.notes.get("log_key", {}))
    claim(ev.get("replaces") == (known[-1] if known else None), where, "replaces is not the key before")
    key = verify_log.Key(ev["public_key"])
    claim(key.text == ev["public_key"] and key.name == ev["origin"], where, "origin is not its key's name")
    claim(("signature" in ev) == bool(known), where, "is not signed by the key before, or there is none")
    if known:
        text = f"topupd/log-key/v1\n{key.name}\n{known[-1]}\n{key.text}\n".encode()
        signature = verify_log.base64.b64decode(ev["signature"], validate=True)
        held = verify_log.ed25519_verifies(verify_log.Key(known[-1]).public, text, signature)
        claim(held, where, "is not signed by the key before")
    return noted("log_key", lambda c: c["public_key"], lambda c: c["public_key"])(journal, where, record, ev)


# Of the house's journal or not, and what a record of the kind must be.
KINDS = {
    "xpub_registered": (True, noted("xpub", lambda c: c["fingerprint"], lambda c: c["xpub"])),
    "epoch_added": (True, noted("epoch", lambda c: c["id"], lambda c: c["id"], "starts_at_ms",
                                lambda c: canonical("topupd/epoch/v1", c["body"]))),
    "policy_added": (True, noted("policy", lambda c: c["hash"], lambda c: unhex(c["hash"], 32), None,
                                 lambda c: canonical("topupd/price-policy/v1", c["body"]))),
    "act": (True, noted("act", lambda c: str(c["number"]), lambda c: c["number"], "at_ms", act_hash)),
    "log_key": (True, log_key),
    "log_resumed": (True, noted("log_resumed", lambda c: c["origin"], lambda c: c["origin"])),
    "treasury_settled": (True, settled),
    "namespace_opened": (False, opened),
    "addresses_bound": (False, bound),
    "deposit_credited": (False, credited),
    "deposit_reversed": (False, reversed_),
    "deposit_corrected": (False, corrected),
}


# ---- A SQLite file ----


class File:
    """A database: each journal is folded, and its rows must be what its records make."""

    def __init__(self, db):
        self.db = db
        ((self.network, self.installation),) = self.rows("SELECT network, installation_id FROM installation")
        self.records = self.credits = 0
        self.balances = 0

    def rows(self, sql, *of):
        return self.db.execute(sql, of).fetchall()

    def same(self, where, table, stored, made):
        claim(sorted(stored, key=repr) == sorted(made, key=repr), where, f"its rows in {table} differ")

    def check(self):
        ends = self.rows(
            """SELECT j.journal_id, n.name, j.genesis, j.salt, j.seq, j.seal, j.recorded_at_ms,
                      j.posted_nano, j.debt_nano, j.addresses
               FROM journals j LEFT JOIN namespaces n ON n.namespace_id = j.journal_id
               ORDER BY j.journal_id""")
        claim([end[0] for end in ends[:1]] == [0], "journals", "the house has none")
        namespaces = {row[0] for row in self.rows("SELECT namespace_id FROM namespaces")}
        claim({end[0] for end in ends[1:]} == namespaces, "journals", "not one for each namespace")
        house = self.journal(ends[0], None)
        self.house_rows(house)
        self.house = house
        for end in ends[1:]:
            self.journal(end, house)
        for table in ("records", "entries", "lot_moves", "credits", "obligations"):
            strays = self.rows(f"SELECT count(*) FROM {table} t WHERE NOT EXISTS (SELECT 1 FROM journals j"
                               f" WHERE j.journal_id = t.journal_id AND t.seq BETWEEN 1 AND j.seq)")
            claim(strays == [(0,)], table, "rows belong to no record")
        standing = self.rows("SELECT count(*) FROM deposits WHERE stage = 'credited'")
        claim(standing == [(self.credits,)], "deposits", f"{standing[0][0]} are credited, {self.credits} credits stand")
        return len(ends)

    def journal(self, end, house):
        number_, name, start, salt, *kept = end
        label = f"journal {name or 'house'}"
        claim((number_ == 0) == (name is None), label, "is nobody's")
        claim(genesis(self.network, self.installation, name, salt) == start, label,
              "genesis does not follow from network, installation, namespace and salt")
        settled = None
        if house is not None:
            settled = {seq: sums[1] for (j, seq), sums in house.owing.items() if j == number_}
        journal = Journal(name, start, settled)
        legs = {}
        for seq, *leg in self.rows("SELECT seq, leg, account, unit, side, amount FROM entries"
                                   " WHERE journal_id = ? ORDER BY seq, leg", number_):
            legs.setdefault(seq, []).append(tuple(leg))
        for row in self.db.execute(
            """SELECT seq, record_id, kind, subject, cause, cause_hash, outcome, effective_at_ms,
                      recorded_at_ms, operator, key_id, prev, seal
               FROM records WHERE journal_id = ? ORDER BY seq""", (number_,)):
            keys = ("seq", "id", "kind", "subject", "cause", "hashed", "outcome", "effective_at",
                    "recorded_at", "operator", "key_id", "prev", "seal")
            record = Record(**dict(zip(keys, row)))
            numbered = legs.get(record.seq, [])
            where = journal.where(record.seq)
            claim([leg[0] for leg in numbered] == list(range(len(numbered))), where, "legs are not 0, 1, ...")
            record.entries = [leg[1:] for leg in numbered]
            journal.take(record)
            if record.kind == "deposit_credited":
                self.credit_rests(journal, record, number_)
            if record.kind == "deposit_corrected":
                self.correction_rests(journal, record, house)
            self.records += 1
        journal.close()
        claim(tuple(kept) == (journal.seq, journal.seal, journal.recorded_at, journal.balance,
                              journal.debt, journal.addresses), label, "its row is not what its records come to")
        if house is not None:
            self.account_rows(number_, journal, house)
            self.balances += journal.balance
        return journal

    def account_rows(self, journal_id, journal, house):
        """Lots, moves, credits, obligations and addresses are what the records make."""
        label = f"journal {journal.name}"
        self.same(label, "lots", self.rows(
            """SELECT lot_seq, kind, priority, scope, amount_nano, remaining_nano, effective_at_ms,
                      expires_at_ms, consideration_asset, consideration_raw, consideration_decimals,
                      consideration_usd_nano FROM lots WHERE journal_id = ?""", journal_id),
            [(seq, "paid", 0, None, lot["amount"], lot["left"], lot["since"], None, lot["paid"][0],
              stored_amount(lot["paid"][1]), lot["paid"][2], lot["paid"][3])
             for seq, lot in journal.lots.items()])
        # A correction takes from the old lot first, then from the new one.
        moves = sorted((by, lot_seq, nano, reason) for lot_seq, lot in journal.lots.items()
                       for by, _, nano, reason in lot["moves"])
        numbered, last = [], None
        for by, lot_seq, nano, reason in moves:
            n = 0 if by != last else n + 1
            numbered.append((by, n, lot_seq, nano, reason))
            last = by
        self.same(label, "lot_moves", self.rows(
            "SELECT seq, n, lot_seq, amount_nano, reason FROM lot_moves WHERE journal_id = ?", journal_id),
            numbered)
        self.same(label, "credits", self.rows(
            "SELECT seq, deposit_id, block_hash, log_index, reversed_by FROM credits WHERE journal_id = ?",
            journal_id),
            [(seq, c["deposit"], c["place"][1], c["place"][2], c["undone"]) for seq, c in journal.credits.items()])
        owed = []
        for seq, o in journal.obligations.items():
            of, done = house.owing.get((journal_id, seq), (None, 0))
            credit = journal.credits[seq]
            expected = (credit["id"], o["of"][0], o["asset"], o["tokens"], o["usd"])
            claim(of in (None, expected), label, f"what record {seq} owes is settled as another thing")
            owed.append((seq, credit["chain"], o["of"][0], stored_amount(o["of"][1]), o["of"][2], o["asset"],
                         stored_amount(o["tokens"]), o["decimals"], o["usd"], o["since"],
                         stored_amount(o["carried"][0]), o["carried"][1], stored_amount(done),
                         share(o["usd"], done, o["tokens"])))
        self.same(label, "obligations", self.rows(
            """SELECT seq, chain_id, asset, raw_amount, decimals, into_asset, tokens, token_decimals,
                      usd_nano, effective_at_ms, carried_tokens, carried_usd_nano, settled_tokens,
                      settled_usd_nano FROM obligations WHERE journal_id = ?""", journal_id), owed)
        named = {key[1] for key in house.owing if key[0] == journal_id}
        claim(named <= set(journal.obligations), label, "something is settled that is not owed")
        self.credits += len(journal.standing)
        self.address_rows(journal_id, journal, label)

    def address_rows(self, journal_id, journal, label):
        bound = {}
        for seq, address, origin, index in self.rows(
            "SELECT record_seq, address, origin, derivation_index FROM addresses WHERE namespace_id = ?"
            " ORDER BY address_id", journal_id):
            bound.setdefault(seq, []).append((address, origin, index))
        notes = journal.notes.get("addresses", {})
        claim(bound.keys() == notes.keys(), label, "addresses are bound by no record, or are gone")
        for seq, ev in notes.items():
            where = journal.where(seq)
            indexes = [i for first, last in ev.get("indexes", []) for i in range(first, last + 1)]
            rows = bound[seq]
            claim(addresses_root([row[0] for row in rows]) == unhex(ev["root"], 32), where,
                  "its addresses are others than it bound")
            claim([row[1:] for row in rows] == [(ev["origin"], i) for i in indexes or [None] * len(rows)],
                  where, "its addresses have another origin or index")

    def house_rows(self, house):
        """What the house's records note is what its tables say."""
        notes = house.notes
        self.same("house", "operator_acts", self.rows(
            """SELECT act_id, kind, operator, reason, deposit_id, chain_id, block_hash, pair, price,
                      instant_ms, approves, approved_hash, withdraws, latch, correction, at_ms FROM operator_acts"""),
            [(a["number"], a["act"], a["operator"], a["reason"],
              unhex(a["deposit"], 32) if "deposit" in a else None, a["chain_id"], unhex(a["block_hash"], 32),
              a.get("pair"), a.get("price"), a.get("instant_ms"), a.get("approves"),
              unhex(a["approved_hash"], 32) if "approved_hash" in a else None, a.get("withdraws"),
              a.get("latch"), a.get("correction"), a["at_ms"]) for a in notes.get("act", {}).values()])
        self.epochs = notes.get("epoch", {})
        self.same("house", "epochs", self.rows("SELECT epoch_id, starts_at_ms, body, body_hash FROM epochs"),
                  [(e["id"], e["starts_at_ms"], e["body"], unhex(e["hash"], 32)) for e in self.epochs.values()])
        for name, epoch in self.epochs.items():
            rules = strict_json(epoch["body"])
            claim((rules["id"], rules["starts_at_ms"]) == (name, epoch["starts_at_ms"]), f"epoch {name}",
                  "its text has another name or start")
        self.same("house", "price_policies", self.rows("SELECT policy_hash, body FROM price_policies"),
                  [(key, p["body"]) for key, p in notes.get("policy", {}).items()])
        self.same("house", "wallets", self.rows("SELECT account_xpub FROM wallets"),
                  [(key,) for key in notes.get("xpub", {})])
        parts, bought = [], {}
        for seq, (ev, owed, paid) in notes.get("settlement", {}).items():
            tx_hash = unhex(ev["tx_hash"], 32)
            parts.append((seq, ev["obligation_journal"], ev["obligation_seq"], ev["chain_id"], tx_hash,
                          stored_amount(amount(ev["settled_tokens"])), owed, paid))
            bought[ev["chain_id"], tx_hash] = (
                unhex(ev["block_hash"], 32), ev["asset"], stored_amount(amount(ev["purchase_paid"])),
                ev["purchase_decimals"], ev["into_asset"], stored_amount(amount(ev["purchase_tokens"])))
        self.same("house", "settlements", self.rows(
            """SELECT seq, journal_id, credit_seq, chain_id, tx_hash, tokens, owed_usd_nano, paid_usd_nano
               FROM settlements"""), parts)
        for (chain, tx_hash), said in bought.items():
            stored = self.rows("SELECT block_hash, asset, paid, decimals, into_asset, tokens FROM purchases"
                               " WHERE chain_id = ? AND tx_hash = ?", chain, tx_hash)
            claim(stored == [said], f"purchase 0x{tx_hash.hex()}", "is not what was settled with it")

    def credit_rests(self, journal, record, journal_id):
        """The rows that a credit rests on say what its cause says."""
        where, ev = journal.where(record.seq), strict_json(record.cause)
        deposit, at = deposit_id(ev), ev["block_time_ms"]
        in_force = sorted((e["starts_at_ms"], name) for name, e in self.epochs.items() if e["starts_at_ms"] <= at)
        claim(in_force and in_force[-1][1] == ev["epoch"], where, "its epoch was not in force at the block's time")
        epoch = self.epochs[ev["epoch"]]
        claim(epoch["hash"] == ev["epoch_hash"], where, "epoch_hash is not the epoch's")
        check_terms(where, ev, strict_json(epoch["body"])["accept"])
        self.check_named(where, ev, deposit)
        stored = self.rows(
            """SELECT d.chain_id, d.tx_hash, d.token, d.recipient, d.shape, d.n, d.namespace_id,
                      s.block_number, s.raw_amount, s.sender, b.block_time_ms,
                      CASE WHEN k.reversed_by IS NULL THEN d.stage END,
                      CASE WHEN k.reversed_by IS NULL THEN d.record_seq END
               FROM credits k
               JOIN deposits d ON d.deposit_id = k.deposit_id
               JOIN addresses a ON a.address_id = d.address_id AND a.address = d.recipient
                 AND a.namespace_id = d.namespace_id
               JOIN sightings s ON s.chain_id = d.chain_id AND s.block_hash = k.block_hash
                 AND s.log_index = k.log_index AND s.tx_hash = d.tx_hash AND s.token = d.token
                 AND s.recipient = d.recipient AND s.deposit_id = d.deposit_id
               JOIN blocks b ON b.chain_id = d.chain_id AND b.block_hash = k.block_hash
                 AND b.block_number = s.block_number
               WHERE k.journal_id = ? AND k.seq = ? AND d.deposit_id = ?""", journal_id, record.seq, deposit)
        expected = (ev["chain_id"], unhex(ev["tx_hash"], 32), unhex(ev["token"], 20),
                    unhex(ev["recipient"], 20), "transfer", ev["n"], journal_id, ev["block_number"],
                    stored_amount(amount(ev["raw_amount"])), unhex(ev["sender"], 20), at)
        what = "its rows in deposits, addresses, sightings and blocks do not say what its cause says"
        claim([row[:11] for row in stored] == [expected], where, what)
        claim(stored[0][11:] in ((None, None), ("credited", record.seq)), where, "its deposit stands elsewhere")
        priced = self.rows(
            """SELECT p.epoch_id, p.rule, p.asset, p.raw_amount, p.decimals, p.credits_per_token, p.rounding,
                      p.credits_nano, v.body
               FROM prices p LEFT JOIN conversions v ON v.deposit_id = p.deposit_id
                 AND v.block_hash = p.block_hash AND v.log_index = p.log_index
               WHERE p.deposit_id = ? AND p.block_hash = ? AND p.log_index = ?""",
            deposit, unhex(ev["block_hash"], 32), ev["log_index"])
        said = (ev["epoch"], ev["rule"], ev["asset"], expected[8], ev["decimals"], ev["credits_per_token"],
                ev["rounding"], ev["credits_nano"])
        claim([row[:8] for row in priced] == [said], where, "its row in prices differs")
        how = None if priced[0][8] is None else strict_json(priced[0][8])
        claim(how == ev.get("conversion"), where, "its row in conversions differs")

    def correction_rests(self, journal, record, house):
        """The two acts say what a correction does, and its epoch's rules and the prices give that."""
        where, ev = journal.where(record.seq), strict_json(record.cause)
        acts, again = house.notes.get("act", {}), ev["again"]
        approval = acts.get(ev["act"], {})
        proposal = acts.get(approval.get("approves"), {})
        claim(approval.get("hash") == ev["act_hash"] and approval.get("approved_hash") == proposal.get("hash"),
              where, "the acts that it names are gone, or others")
        said = (approval["act"], approval["operator"], approval["deposit"], proposal["act"], proposal["operator"],
                proposal["reason"], proposal["deposit"])
        claim(said == ("approve_correction", ev["approver"], ev["deposit"], "propose_correction", ev["proposer"],
                       ev["reason"], ev["deposit"]), where, "its acts say another thing")
        keys = ("corrects_seq", "corrects_record_id", "corrects_seal", "credited_nano", "evidence", "again")
        claim(strict_json(proposal["correction"]) == {key: ev[key] for key in keys}, where,
              "is not what was proposed")
        epoch = self.epochs.get(again["epoch"])
        claim(epoch is not None and epoch["hash"] == again["epoch_hash"], where, "epoch_hash is not the epoch's")
        check_terms(where, again, strict_json(epoch["body"])["accept"])
        for leg in again.get("conversion", {}).get("legs", []):
            by_hand = canonical("topupd/corrected-price/v1", unhex(ev["corrects_record_id"], 32), leg["pair"],
                                leg["price"])
            named = (proposal.get("pair"), proposal.get("price")) == (leg["pair"], leg["price"])
            claim(named or unhex(leg["price_hash"], 32) != by_hand, where, "a price by hand is nobody's")
            claim(not named or unhex(leg["price_hash"], 32) == by_hand, where, "a price by hand has another hash")
        stands = self.rows(
            """SELECT d.stage, d.record_seq FROM credits k JOIN deposits d ON d.deposit_id = k.deposit_id
               WHERE k.journal_id = d.namespace_id AND k.seq = ? AND k.reversed_by IS NULL
                 AND d.deposit_id = ?""", record.seq, unhex(ev["deposit"], 32))
        claim(stands in ([], [("credited", record.seq)]), where, "its deposit stands elsewhere")

    def check_named(self, where, ev, deposit):
        """The answers and the acts that a credit names are there as they were."""
        block, sender = unhex(ev["block_hash"], 32), unhex(ev["sender"], 20)
        answers = """SELECT deposit_id, block_hash, sender, asked, outcome, question, answer, at_ms
                     FROM screenings WHERE deposit_id = ? AND block_hash = ? AND sender = ?"""
        acts = """SELECT act_id, kind, operator, reason, deposit_id, chain_id, block_hash, pair, price,
                         instant_ms, approves, approved_hash, withdraws, latch, correction, at_ms
                  FROM operator_acts WHERE deposit_id = ? AND block_hash = ?"""
        for key, tag, what, sql, of in (
            ("screenings", "topupd/screening/v1", "an answer", answers, (deposit, block, sender)),
            ("acts", "topupd/act/v1", "a decision", acts, (deposit, block)),
        ):
            rows = self.rows(sql, *of) if key in ev else ()
            there = {canonical(tag, *("" if v is None else v for v in row)) for row in rows}
            same = there.issuperset(unhex(named, 32) for named in ev.get(key, []))
            claim(same, where, f"{what} that it rests on is missing, or was changed")


# ---- The log ----


class Log:
    """The log of a database: the tree is built again from the records' seals."""

    def __init__(self, db, keys, expected):
        self.db, self.keys, self.expected = db, keys, expected

    def check(self, house):
        """Returns what it is, in a sentence."""
        columns = "origin, size, root, edge, checkpoint, public_key, paused"
        ((origin, self.size, root, edge, note, public, paused),) = self.db.execute(f"SELECT {columns} FROM log_state")
        self.levels = [self.leaves()]
        while len(self.levels[-1]) > 1:
            below = self.levels[-1]
            pairs = zip(below[::2], below[1::2])
            self.levels.append([verify_log.node_hash(left, right) for left, right in pairs])
        claim(self.root_at(self.size) == root, "log_state", "root is not that of the records")
        claim(b"".join(self.edge_at(self.size)) == edge, "log_state", "edge is not that of the records")
        self.tiles()
        registered = list(house.notes.get("log_key", {}))
        claim(public == (registered[-1] if registered else None), "log_state",
              "public_key is not the one that the house registered last")
        for known in self.expected:
            known.verify(self.keys or [verify_log.Key(key) for key in registered])
            claim(known.size <= self.size, "log", f"has {self.size} records, and a checkpoint of it {known.size}")
            other = f"another history than that of the checkpoint of {known.size} records of {known.origin}"
            if known.origin != origin:
                other += f"; the log is {origin} now: `topupd ledger verify --expect` says how far both are the same"
            claim(self.root_at(known.size) == known.root, "log", other)
        end = f"; {len(self.expected)} checkpoints kept elsewhere are its beginning" if self.expected else ""
        end += "" if paused is None else f"; it is paused ({paused})"
        return f"log: {self.size} records of {origin}, {self.signed(origin, root, note, public)}{end}"

    def leaves(self):
        """The leaves' hashes. Each record has one, or waits for one."""
        last, hashes = {}, []
        for index, journal, seq, seal in self.db.execute(
            """SELECT l.leaf_index, l.journal_id, l.seq, r.seal FROM log_leaves l
               LEFT JOIN records r ON r.journal_id = l.journal_id AND r.seq = l.seq ORDER BY l.leaf_index"""):
            where = f"leaf {index}"
            claim(index == len(hashes), where, f"leaf {len(hashes)} is missing")
            claim(seal is not None, where, "its record is gone")
            claim(seq == last.get(journal, 0) + 1, where, "is not the next record of its journal")
            last[journal] = seq
            hashes.append(verify_log.leaf_hash(seal))
        claim(len(hashes) == self.size, "log_leaves", f"{len(hashes)} leaves, and a log of {self.size}")
        waiting = set()
        for journal, seq in self.db.execute("SELECT journal_id, seq FROM unlogged"):
            claim(seq > last.get(journal, 0) and (journal, seq) not in waiting, "unlogged", "a record waits twice")
            waiting.add((journal, seq))
        for journal, end in self.db.execute("SELECT journal_id, seq FROM journals"):
            left = {(journal, seq) for seq in range(last.get(journal, 0) + 1, end + 1)}
            claim(left <= waiting, "unlogged", f"records of journal {journal} are neither in the log nor wait for it")
            waiting -= left
        claim(not waiting, "unlogged", "something waits that is no record")
        return hashes

    def edge_at(self, size):
        """The roots of the perfect trees that a tree of this size is made of, the largest first."""
        roots, at = [], 0
        for height in range(size.bit_length() - 1, -1, -1):
            if size >> height & 1:
                roots.append(self.levels[height][at >> height])
                at += 1 << height
        return roots

    def root_at(self, size):
        roots = self.edge_at(size)
        if not roots:
            return hashlib.sha256().digest()
        root = roots.pop()
        while roots:
            root = verify_log.node_hash(roots.pop(), root)
        return root

    def tiles(self):
        made = {}
        for height in range(0, len(self.levels), 8):
            row = self.levels[height]
            for at in range(0, len(row), 256):
                made[height // 8, at // 256] = b"".join(row[at:at + 256])
        stored = {(level, idx): hashes for level, idx, hashes in self.db.execute(
            "SELECT level, idx, hashes FROM log_tiles")}
        for place in sorted(made.keys() | stored.keys()):
            claim(made.get(place) == stored.get(place), "log_tiles", f"tile {place} is not that of the records")

    def signed(self, origin, root, note, public):
        """Who signed the last checkpoint, which must be of this size and root."""
        if public is not None:
            claim(verify_log.Key(public).name == origin, "log_state", "public_key is of another origin")
        if note is None:
            # A key that is new itself, or of a log that was resumed: nothing can be signed before it is in the log.
            waits = self.db.execute("""SELECT 1 FROM unlogged u JOIN records r ON r.journal_id = u.journal_id
                                       AND r.seq = u.seq WHERE r.kind IN ('log_key', 'log_resumed')""").fetchall()
            claim(waits or self.size == 0 or (public is None and not self.keys), "log_state",
                  "a key is registered or was given, and there is no checkpoint")
            return "NOT signed yet" if public else "NOT signed"
        head = note.rpartition("\n\n")[0].split("\n") if public or self.keys else note.split("\n")[:3]
        said = head[0], head[1], head[2]
        claim(said == (origin, str(self.size), verify_log.base64.b64encode(root).decode()), "log_state",
              "checkpoint is not of its name, size and root")
        if not public and not self.keys:
            return "NOT signed"
        key = verify_log.Checkpoint(note).verify(self.keys or [verify_log.Key(public)])
        if self.keys:
            claim(key.text == public, "log_state", "public_key is not the key that was given and that signed")
            return "signed by the key that was given"
        return f"signed by the key that this file names, {public}: compare it with the one that you were given"


# ---- The JSON of one namespace ----


def milliseconds(text):
    """RFC 3339, UTC, as topupd writes it."""
    pattern = r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,3}))?Z"
    parts = re.fullmatch(pattern, text)
    if not parts:
        raise ValueError(f"{text!r} is not a time")
    moment = datetime.datetime(*map(int, parts.groups()[:6]), tzinfo=datetime.timezone.utc)
    return round(moment.timestamp()) * 1000 + int((parts[7] or "0").ljust(3, "0"))


def nano_of(text):
    """A decimal string in billionths."""
    if not re.fullmatch(r"[0-9]+(\.[0-9]{1,9})?", text):
        raise ValueError(f"{text!r} is not an amount")
    whole, _, fraction = text.partition(".")
    return int(whole) * NANO + int(fraction.ljust(9, "0") or "0")


def shown_time(ms):
    """A time as topupd prints it."""
    seconds, part = divmod(number(ms, -(2**63)), 1000)
    moment = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=seconds)
    fraction = f".{part:03}".rstrip("0") if part else ""
    return moment.strftime("%Y-%m-%dT%H:%M:%S").zfill(19) + fraction + "Z"


def shown_amount(nano):
    """Billionths as topupd prints them."""
    sign, nano = ("-" if nano < 0 else ""), abs(nano)
    return sign + f"{nano // NANO}.{nano % NANO:09}".rstrip("0").rstrip(".")


def dialect(value):
    """What is sealed, as it is shown (docs/json.md). Addresses are in small letters here."""
    if type(value) is dict:
        return dict(dialect_of(key, field) for key, field in value.items())
    if type(value) is list:
        return [dialect(item) for item in value]
    if type(value) is int and abs(value) > 2**53:
        return str(value)
    return small_address(value)


def dialect_of(key, value):
    is_number = type(value) is int
    if key in ("chain", "chain_id") and is_number:
        return "chain", f"eip155:{value}"
    if key == "chain_id" and value is None:
        return "chain", None
    if key.endswith("_ms") and key != "latency_ms" and (is_number or value is None):
        stem = re.sub("(_time)+$", "", re.sub("(_ms)+$", "", key))
        stem = "as_of_at" if stem == "at" else stem if stem.endswith("_at") else f"{stem}_at"
        return stem, None if value is None else shown_time(value)
    if key.endswith("_nano") and is_number:
        return key, str(value)
    return key, dialect(value)


def small_address(value):
    is_address = type(value) is str and re.fullmatch("0x[0-9a-fA-F]{40}", value)
    return value.lower() if is_address else value


def small_addresses(value):
    if type(value) is dict:
        return {key: small_addresses(field) for key, field in value.items()}
    return [small_addresses(item) for item in value] if type(value) is list else small_address(value)


def same_json(one, other):
    """Equal, and of the same types: true is not 1."""
    if type(one) is not type(other):
        return False
    if type(one) is dict:
        return one.keys() == other.keys() and all(same_json(one[key], other[key]) for key in one)
    if type(one) is list:
        return len(one) == len(other) and all(map(same_json, one, other))
    return one == other


def read_out(text):
    """What the object beside a sealed text must be. An id has one name, whatever it is called where it is sealed."""
    said = strict_json(text)
    if type(said) is dict and "id" in said:
        said["epoch_id"] = said.pop("id")
    return dialect(said)


def only(where, value, keys):
    claim(type(value) is dict, where, "is no object")
    for key in sorted(keys.symmetric_difference(value)):
        claim(key in value, where, f"has no {key}")
        claim(key in keys, where, f"has a field that this script does not know: {key!r}")


EXPORT = {"namespace", "journal", "records"}
START = {"network", "installation", "salt", "genesis"}
SHOWN = {
    "record", "record_seq", "record_id", "kind", "subject", "effective_at", "recorded_at", "operator", "key_id",
    "entries", "cause", "cause_text", "outcome", "outcome_text", "previous_seal", "seal", "change", "balance", "unit",
}
ENTRY = {"account", "unit", "side", "amount"}


def check_export(said):
    """One journal, as `topupd ledger history NAMESPACE --json` prints it: each field follows from what is sealed."""
    only("the file", said, EXPORT)
    only("journal", said["journal"], START)
    claim(type(said["records"]) is list, "records", "is no list")
    bound_to, shown_name = said["journal"], said["namespace"]
    claim(type(shown_name) is str, "namespace", "is no text")
    name = None if shown_name == "house" else shown_name  # no namespace is called so
    start = unhex(bound_to["genesis"], 32)
    follows = genesis(bound_to["network"], unhex(bound_to["installation"], 32), name, unhex(bound_to["salt"], 32))
    claim(follows == start, "journal", "genesis does not follow from network, installation, namespace and salt")
    journal, account = Journal(name, start), f"namespace/{shown_name}"
    balance = 0
    for shown in said["records"]:
        where = journal.where(journal.seq + 1)
        only(where, shown, SHOWN)
        record = record_of(where, shown)
        journal.take(record)
        claim(shown["record"] == f"{shown_name}/{record.seq}", where, "record is not its name")
        moved = [(side, nano) for of, unit, side, nano in record.entries if (of, unit) == (account, "credits")]
        change = sum(nano if side == "credit" else -nano for side, nano in moved)
        balance += change
        for key, expected in (
            ("change", shown_amount(change)), ("balance", shown_amount(balance)), ("unit", "credits"),
            ("effective_at", shown_time(record.effective_at)), ("recorded_at", shown_time(record.recorded_at)),
        ):
            claim(same_json(shown[key], expected), where, f"{key} should be {expected}")
        for key in ("cause", "outcome"):
            read = read_out(shown[f"{key}_text"])
            claim(same_json(small_addresses(shown[key]), read), where, f"{key} is not what {key}_text says")
    journal.close()
    claim(balance == journal.balance, "journal", "the balance is not what its records come to")
    return journal


def record_of(where, shown):
    """A record as it was sealed, of one as it is shown."""
    claim(type(shown["entries"]) is list, where, "entries is no list")
    for key in ("kind", "subject", "cause_text", "outcome_text"):
        claim(type(shown[key]) is str, where, f"{key} is no text")
    for key in ("operator", "key_id"):
        claim(shown[key] is None or (type(shown[key]) is str and shown[key]), where, f"{key} is no text")
    entries = []
    for entry in shown["entries"]:
        only(where, entry, ENTRY)
        nano = nano_of(entry["amount"])
        claim(entry["amount"] == shown_amount(nano), where, "an amount is written otherwise")
        entries.append((entry["account"], entry["unit"], entry["side"], nano))
    return Record(
        seq=number(shown["record_seq"], 1), id=unhex(shown["record_id"], 32), kind=shown["kind"],
        subject=shown["subject"], cause=shown["cause_text"], outcome=shown["outcome_text"],
        hashed=None, effective_at=milliseconds(shown["effective_at"]),
        recorded_at=milliseconds(shown["recorded_at"]), operator=shown["operator"], key_id=shown["key_id"],
        entries=entries, prev=unhex(shown["previous_seal"], 32), seal=unhex(shown["seal"], 32),
    )


def arguments():
    parser = argparse.ArgumentParser(description="Checks the journals and the log of topupd without topupd.")
    parser.add_argument("file", help="a SQLite database, or the JSON of one journal")
    parser.add_argument("--key", action="append", default=[], help="the log's public key; again for another one")
    parser.add_argument("--expect", action="append", default=[], metavar="FILE",
                        help="a checkpoint that was kept elsewhere; again for another one")
    return parser.parse_args()


def opened_file(given):
    """The JSON, or the database, of a file; the other one is None."""
    path = pathlib.Path(given)
    with path.open("rb") as file:
        if file.read(1) == b"{":
            return path.read_text("utf-8"), None
    db = sqlite3.connect(path.resolve().as_uri() + "?mode=ro", uri=True, isolation_level=None)
    db.execute("BEGIN")  # one snapshot, also while a daemon writes
    db.execute("SELECT 1 FROM journals").fetchone()
    return None, db


def checked(said, db, keys, expected):
    """What holds, in sentences."""
    if db is None:
        claim(not keys and not expected, "the log", "is not in this file: give the database")
        journal = check_export(verify_log.whole_json(said))
        return [f"holds: {journal.seq} records in 1 journals, {shown_amount(journal.balance)} credits,"
                f" last seal 0x{journal.seal.hex()}",
                "not checked: the rows that credits rest on, prices, the log; nor whether newer records are left out"]
    file = File(db)
    journals = file.check()
    log = Log(db, keys, expected).check(file.house)
    return [f"holds: {file.records} records in {journals} journals, {shown_amount(file.balances)} credits", log,
            "not checked: prices' sources, answers about payers, confirmations, receipts, key derivation, events,"
            " sums by day, payments that are not credited, whether reversals and purchases are on the chain"]


def main():
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")
    given = arguments()
    try:
        keys = [verify_log.Key(text) for text in given.key]
        expected = [verify_log.Checkpoint(verify_log.read_text(name)) for name in given.expect]
        said, db = opened_file(given.file)
    except (sqlite3.Error, OSError, ValueError, verify_log.Wrong, verify_log.Unread) as error:
        print(f"{given.file}: {error}", file=sys.stderr)
        return 2
    try:
        holds = checked(said, db, keys, expected)
    except verify_log.Unread as error:
        print(f"{given.file}: {error}", file=sys.stderr)
        return 2
    except Problem as problem:
        return verify_log.say(f"does not hold: {problem}") or 1
    except verify_log.Wrong as problem:
        return verify_log.say(f"does not hold: log: {problem}") or 1
    except (sqlite3.Error, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        return verify_log.say(f"does not hold: a value that topupd does not write: {error!r}") or 1
    return verify_log.say("\n".join(holds))


if __name__ == "__main__":
    sys.exit(main())
