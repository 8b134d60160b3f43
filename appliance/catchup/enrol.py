"""Enrolment: the code that an operator makes for a machine, and who is known by which key.

At the gate, under ``<home>/gate/``: ``identity.pem``; ``codes/<token digest>.json``, renamed
when it is used, so that of two senders with one code one comes too late, but the same sender may
ask again for an answer that was lost; ``machines/`` with the
certificate each machine shows. At the sender, under ``<home>/line/``: ``identity.pem``, and in
``gates/`` the gates it has enrolled with.
"""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from blake3 import blake3

from appliance.block import make_directory, sync_directory
from appliance.catchup.identity import key_of
from appliance.catchup.wire import MOST_CERTIFICATE
from appliance.errors import (
    BadInputError,
    EnrolmentCodeError,
    NotEnrolledError,
    StateError,
    WireViolationError,
)
from appliance.events import Json
from appliance.seal import canon, text
from appliance.seal.kept import alone, kept, load, save
from appliance.seal.keys import FINGERPRINT_SIZE
from appliance.seal.papers import MAX_TEXT

TOKEN = 16
_CHECK = 4
_LONGEST = MAX_TEXT
_NAME = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class Code:
    """What an enrolment code says: whose key to expect, and the token to show."""

    gate: bytes
    token: bytes

    def __str__(self) -> str:
        return text.grouped(self.gate + self.token + _check(self.gate, self.token))

    @classmethod
    def parse(cls, given: str) -> "Code":
        size = FINGERPRINT_SIZE + TOKEN + _CHECK
        data = text.parse_grouped(given, size, "The enrolment code")
        gate, token = data[:FINGERPRINT_SIZE], data[FINGERPRINT_SIZE:-_CHECK]
        if data[-_CHECK:] != _check(gate, token):
            raise BadInputError(
                "The enrolment code was mistyped: its end does not fit its beginning",
                todo="Type it again as `motiongear gate invite` printed it.",
            )
        return cls(gate, token)


def _check(gate: bytes, token: bytes) -> bytes:
    found = blake3(gate + token, derive_key_context="motiongear/1 enrolment code")
    return found.digest(_CHECK)


@dataclass(frozen=True, slots=True)
class Invitation:
    """What the gate keeps of a code: for which machine, until when, and whether the machine may
    bring disks that the gate has no replica of.
    """

    machine: str
    expires: str
    new_disks: bool


@dataclass(frozen=True, slots=True)
class Known:
    """A machine the gate knows, by the certificate it shows (DER)."""

    machine: str
    certificate: bytes
    new_disks: bool
    enrolled: str

    @property
    def key(self) -> bytes:
        return key_of(self.certificate)

    @property
    def fingerprint(self) -> str:
        return text.grouped(self.key)


def _write_invitation(one: Invitation) -> Json:
    return {"expires": one.expires, "machine": one.machine, "new_disks": one.new_disks}


def _parse_invitation(fields: canon.Fields) -> Invitation:
    return Invitation(
        machine=fields.text("machine", _LONGEST),
        expires=fields.time("expires"),
        new_disks=fields.flag("new_disks"),
    )


def _write_known(one: Known) -> Json:
    return {
        "certificate": canon.b64(one.certificate),
        "enrolled": one.enrolled,
        "machine": one.machine,
        "new_disks": one.new_disks,
    }


def _parse_known(fields: canon.Fields) -> Known:
    certificate = fields.any_base64("certificate", MOST_CERTIFICATE)
    try:
        key_of(certificate)
    except WireViolationError as exc:
        raise fields.bad("certificate", "is none of ours") from exc
    return Known(
        machine=fields.text("machine", _LONGEST),
        certificate=certificate,
        new_disks=fields.flag("new_disks"),
        enrolled=fields.time("enrolled"),
    )


class Registry:
    """Who may speak to this gate: codes given out, and machines enrolled."""

    def __init__(self, home: Path) -> None:
        self._codes, self._machines = home / "gate" / "codes", home / "gate" / "machines"
        self._lock = home / "gate" / "registry.lock"
        with kept(self._codes):
            for one in (self._codes, self._machines):
                make_directory(one, 0o700)

    def invite(
        self, gate: bytes, machine: str, lasts: timedelta, *, new_disks: bool = False
    ) -> tuple[Code, Invitation]:
        """A new code for a machine; the gate keeps only the digest of its token."""
        odd = any("\ud800" <= one < "\ue000" for one in machine)
        if odd or not 0 < len(machine.encode()) <= _LONGEST:
            raise BadInputError(
                f"{machine!r} is no name of a machine, which has 1 to {_LONGEST} bytes",
                todo="Give the name that the machine was given at its ingest.",
            )
        code = Code(gate, os.urandom(TOKEN))
        made = Invitation(machine, canon.written(datetime.now(UTC) + lasts), new_disks)
        save(self._code(code.token), _write_invitation(made))
        return code, made

    def enrol(self, token: bytes, certificate: bytes) -> Known:
        """Take the token, once, and know the certificate's key as the machine's from now on. Who
        has enrolled with it may say it again.
        """
        with alone(self._lock):
            return self._enrol(self._code(token), certificate)

    def _enrol(self, path: Path, certificate: bytes) -> Known:
        used = path.with_suffix(".used")
        self._refuse_anothers(key_of(certificate), path)
        with kept(path):
            if not path.exists():
                if used.exists():
                    return self._again(used, certificate)
                raise EnrolmentCodeError("The enrolment code was never given out here")
        found = load(path, _parse_invitation, _write_invitation)
        if found.expires <= canon.now():
            raise EnrolmentCodeError(f"The enrolment code has expired at {found.expires}")
        known = Known(found.machine, certificate, found.new_disks, canon.now())
        # First: a power cut in between must not use up a code that nobody is known by.
        save(self._machine(found.machine), _write_known(known))
        with kept(path):
            path.rename(used)
            sync_directory(path.parent)  # used for good, also after a power cut
        return known

    def _refuse_anothers(self, key: bytes, path: Path) -> None:
        """One key speaks for one machine. The code is not used up by it."""
        with kept(path):
            there = path.exists()
        wanted = load(path, _parse_invitation, _write_invitation).machine if there else None
        for one in self.machines():
            if wanted not in {None, one.machine} and one.key == key:
                raise EnrolmentCodeError(
                    f"The key {one.fingerprint} is that of machine {one.machine!r} already",
                    todo="Enrol with a code for that machine, or let the operator forget it.",
                )

    def _again(self, used: Path, certificate: bytes) -> Known:
        """The answer once more, to the very machine that has used the code and is still known."""
        machine = load(used, _parse_invitation, _write_invitation).machine
        for one in self.machines():
            if (one.machine, one.certificate) == (machine, certificate):
                return one
        raise EnrolmentCodeError("The enrolment code was used before")

    def machines(self) -> Iterator[Known]:
        """Everybody enrolled. A file that is damaged is its own machine's loss, nobody else's:
        ``refuse_damaged`` tells of it.
        """
        for path in sorted(self._machines.glob("*.json")):
            with suppress(StateError):
                yield load(path, _parse_known, _write_known)

    def refuse_damaged(self) -> None:
        """Raises StateError when the file of a machine is damaged; the others are still known."""
        with alone(self._lock):
            for path in sorted(self._machines.glob("*.json")):
                load(path, _parse_known, _write_known)

    def known(self, key: bytes) -> Known:
        """Raises NotEnrolledError; StateError where a damaged file may be that machine's."""
        for one in self.machines():
            if one.key == key:
                return one
        self.refuse_damaged()
        raise NotEnrolledError(f"No machine is enrolled with the key {text.grouped(key)}")

    def forget(self, machine: str) -> bool:
        """Refuse the machine's key from now on; False when it was not known."""
        path = self._machine(machine)
        with alone(self._lock), kept(path):
            there = path.exists()
            path.unlink(missing_ok=True)
        return there

    def _code(self, token: bytes) -> Path:
        found = blake3(token, derive_key_context="motiongear/1 enrolment token").hexdigest()
        return self._codes / f"{found}.json"

    def _machine(self, machine: str) -> Path:
        """A file name that is safe and another for every machine."""
        named = blake3(machine.encode(), derive_key_context="motiongear/1 machine").hexdigest()[
            :16
        ]
        return self._machines / f"{_NAME.sub('_', machine)[:60]}-{named}.json"


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A gate that this machine has enrolled with, at the sender."""

    address: str
    key: bytes
    machine: str


def _write_enrolled(one: Enrolled) -> Json:
    return {"address": one.address, "key": one.key.hex(), "machine": one.machine}


def _parse_enrolled(fields: canon.Fields) -> Enrolled:
    return Enrolled(
        address=fields.text("address", _LONGEST),
        key=bytes.fromhex(fields.hex("key", FINGERPRINT_SIZE)),
        machine=fields.text("machine", _LONGEST),
    )


class Gates:
    """The gates that this end has enrolled with."""

    def __init__(self, home: Path) -> None:
        self._place = home / "line" / "gates"
        with kept(self._place):
            make_directory(self._place, 0o700)

    def note(self, one: Enrolled) -> None:
        named = blake3(one.address.encode()).hexdigest()[:32]
        save(self._place / f"{named}.json", _write_enrolled(one))

    def all(self) -> list[Enrolled]:
        listed = sorted(self._place.glob("*.json"))
        return [load(one, _parse_enrolled, _write_enrolled) for one in listed]

    def at(self, address: str) -> Enrolled:
        for one in self.all():
            if one.address == address:
                return one
        raise NotEnrolledError(f"This machine is not enrolled with a gate at {address}")
