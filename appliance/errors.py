"""Every way in which MotionGear refuses or fails, as sentences for the person at the console.

An error says what happened, what is safe, and what to do; its ``name`` is stable and stands in
events and test vectors, its ``code`` is the exit code of the command (docs/cli.md lists all of
them). Classes are grouped by what one does next, not by where they arise.
"""

from typing import ClassVar


class MotionGearError(Exception):
    """Base of all refusals. ``what`` is one sentence without a final full stop."""

    name: ClassVar[str] = "error"
    code: ClassVar[int] = 1
    safe: ClassVar[str] = "Nothing was changed."
    todo: ClassVar[str] = "Read the message above and try again."

    def __init__(self, what: str, *, safe: str | None = None, todo: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.safe_now = safe or self.safe
        self.todo_now = todo or self.todo
        self.verb = ""  # what to type, where a console knows it
        self.later = False  # the other end has said that trying again later is worth it


# --- the store on disk is not what it should be: do not restore from it --------------------


class StoreRefusedError(MotionGearError):
    """The bytes of a store, pack, head or seal are refused."""

    name = "store-refused"
    code = 20
    safe = "Nothing was written from it."
    todo = "Ask for the device's other copy or for a new shipment; do not restore from this one."


class NotAStoreError(StoreRefusedError):
    name = "not-a-store"
    code = 21
    todo = "Give the directory that holds head.json and packs/."


class UnknownFormatError(StoreRefusedError):
    name = "unknown-format"
    code = 22
    todo = "Use a MotionGear release that knows this format."


class HeadDamagedError(StoreRefusedError):
    name = "head-damaged"
    code = 23


class SealMissingError(StoreRefusedError):
    name = "seal-missing"
    code = 24
    todo = "The shipment was never sealed, or its seal was removed: seal it on the device."


class SealDamagedError(StoreRefusedError):
    name = "seal-damaged"
    code = 25


class SignerMismatchError(StoreRefusedError):
    name = "signer-mismatch"
    code = 26
    todo = "Compare the label with what the sender told you; treat the device as exchanged."


class RootMismatchError(StoreRefusedError):
    name = "root-mismatch"
    code = 27
    todo = "Compare the label with what the sender told you; treat the store as exchanged."


class OlderSealError(StoreRefusedError):
    name = "older-seal"
    code = 28
    todo = "You were given an older state of this device: ask the sender for the current one."


class RecipientsMismatchError(StoreRefusedError):
    name = "recipients-mismatch"
    code = 29
    todo = "Somebody else could read this store: treat its content as disclosed, ask the sender."


class PackMissingError(StoreRefusedError):
    name = "pack-missing"
    code = 30


class PackUnlistedError(StoreRefusedError):
    name = "pack-unlisted"
    code = 31


class PackDamagedError(StoreRefusedError):
    name = "pack-damaged"
    code = 32
    todo = "Copy the pack again from the device; else the blocks it held must be sent anew."


class ForeignPackError(StoreRefusedError):
    name = "foreign-pack"
    code = 33


class PackRepeatedError(StoreRefusedError):
    name = "pack-repeated"
    code = 34


class RecordDamagedError(StoreRefusedError):
    name = "record-damaged"
    code = 35
    todo = "The block named is lost in this store and must be sent anew; all others are unharmed."


class RecordOrderError(StoreRefusedError):
    name = "record-order"
    code = 36


class IncompleteDiskError(StoreRefusedError):
    name = "incomplete-disk"
    code = 37
    todo = "Ingest this disk to its end, or leave it out."


class ErasedInPartError(StoreRefusedError):
    """An erase has begun here, and has not come to its end."""

    name = "erased-in-part"
    code = 38
    safe = "What was erased is gone for good; what is left was not touched now."
    todo = "Let the erase come to its end: resume its job, or erase the place again."


class CertificateRefusedError(StoreRefusedError):
    name = "certificate-refused"
    code = 39
    safe = "Nothing was changed: it was only read."
    todo = "Ask whoever erased it for the certificate as it was made; do not go by this one."


class ReportRefusedError(StoreRefusedError):
    name = "report-refused"
    code = 19
    safe = "Nothing was changed: it was only read."
    todo = "Ask whoever made the report for it anew; do not go by this one."


class WrongKeyError(MotionGearError):
    name = "wrong-key"
    code = 40
    safe = "The store is untouched."
    todo = "Use the private key of one of the recipients that `motiongear shipment show` lists."


class WrongPassphraseError(MotionGearError):
    name = "wrong-passphrase"
    code = 41
    safe = "The key file is untouched."
    todo = "Type the passphrase again; without it the key cannot be used by anybody."


class KeyFileError(MotionGearError):
    name = "key-file"
    code = 42
    todo = "Give a key file made by `motiongear keys new`."


class PrivateKeyOnDeviceError(MotionGearError):
    name = "private-key-on-device"
    code = 43
    safe = "No private key was taken or written."
    todo = "Keep private keys with the operator; give the device the .pub file only."


class CanaryError(MotionGearError):
    name = "canary"
    code = 44


# --- the source --------------------


class NotADiskError(MotionGearError):
    name = "not-a-disk"
    code = 50
    todo = (
        "Give a whole disk such as /dev/sdb, or a raw image file. `motiongear disks` lists them."
    )


class SourceBusyError(MotionGearError):
    name = "source-busy"
    code = 51
    safe = "The disk was not touched."
    todo = "Unmount it and stop what uses it, then start again."


class OwnDiskError(MotionGearError):
    name = "own-disk"
    code = 52
    safe = "The disk was not touched."
    todo = "This disk belongs to the device itself; choose a source disk."


class SourceChangedError(MotionGearError):
    name = "source-changed"
    code = 53
    safe = "What was stored from the first disk is kept."
    todo = "Attach the disk the job began with, or start a new job for this one."


class SourceGoneError(MotionGearError):
    name = "source-gone"
    code = 54
    safe = "Everything up to the last checkpoint is stored."
    todo = "Attach the disk again and resume the job."


class FreezeRefusedError(MotionGearError):
    """The file systems of the source cannot be frozen, or must not be by this process."""

    name = "freeze-refused"
    code = 55
    safe = "Nothing is frozen: the source machine goes on as before."
    todo = "Set MOTIONGEAR_HOME to a directory on /run, send the output to a terminal or pipe."


class FreezeLostError(MotionGearError):
    """The file systems were thawed before everything was read: there is no point."""

    name = "freeze-lost"
    code = 56
    safe = "The source goes on as before; what was read is no point and must not be kept."
    todo = "Run more rounds first, so that the last one is shorter, or allow it more seconds."


# --- space and targets --------------------


class StoreFullError(MotionGearError):
    name = "store-full"
    code = 60
    safe = "Everything up to the last checkpoint is stored; the store can still be sealed."
    todo = "Free space and resume the job, or seal what is there with --accept."


class StoreWriteError(MotionGearError):
    name = "store-write"
    code = 61
    safe = "Everything up to the last checkpoint is stored."
    todo = "Check the device's own disk before you resume the job."


class TargetFullError(MotionGearError):
    name = "target-full"
    code = 62
    safe = "The store is untouched; the volume stays marked as partial."
    todo = "Make room at the target, then run the same restore again: it goes on."


class VolumeTooSmallError(MotionGearError):
    name = "volume-too-small"
    code = 63
    safe = "Nothing was written."
    todo = "Give a volume at least as large as the disk."


class VolumeForeignError(MotionGearError):
    name = "volume-foreign"
    code = 64
    safe = "Nothing was written."
    todo = "The target already holds something else under that name: choose another target."


class VolumeMissingError(MotionGearError):
    name = "volume-missing"
    code = 65
    todo = "Restore the disk first."


class TargetWriteError(MotionGearError):
    name = "target-write"
    code = 66
    safe = "The store is untouched; the volume stays marked as partial."
    todo = "Mend the target, then run the same restore again: it goes on."


class CheckFailedError(MotionGearError):
    name = "check-failed"
    code = 67
    safe = "The store is untouched; the volume is not to be used."
    todo = "Restore the disk again; if it fails again, suspect the target's storage."


class VolumeBusyError(MotionGearError):
    name = "volume-busy"
    code = 68
    safe = "Nothing was written: the volume belongs to the other job for now."
    todo = "Wait for that job, or stop it (`motiongear jobs list` shows it); then try again."


class RestoredHurtError(MotionGearError):
    """The volume lacks blocks, and says so; all others are right."""

    name = "restored-hurt"
    code = 69
    safe = "Every other block was read back and is right; the volume is not to be booted yet."
    todo = (
        "Catch up from the source: the first round sends these blocks. Or restore again from "
        "another copy of the packs."
    )


# --- the workflow --------------------


class JobRunningError(MotionGearError):
    name = "job-running"
    code = 70
    todo = "Wait for the job to end, or stop it."


class OpenErrorError(MotionGearError):
    name = "open-error"
    code = 71
    todo = "Resume the job, or accept the incomplete disk by name with --accept."


class NotReadyToShipError(MotionGearError):
    name = "not-ready-to-ship"
    code = 72
    todo = "Meet the condition, or give a reason with --waive: it is signed into the seal."


class AlreadySealedError(MotionGearError):
    name = "already-sealed"
    code = 73
    safe = "The sealed shipment is untouched."
    todo = "Start a new shipment."


class UnknownNameError(MotionGearError):
    """A shipment, job, disk or volume that is not known here."""

    name = "unknown-name"
    code = 74
    todo = "List what there is and use one of those names."


class StoppedError(MotionGearError):
    """Not a failure: the operator stopped the job."""

    name = "stopped"
    code = 75
    safe = "Everything up to the last checkpoint is stored."
    todo = "Resume the job when you like."


class ExistsError(MotionGearError):
    name = "exists"
    code = 76
    safe = "What was there is untouched."
    todo = "Choose another name or path."


class JobDiedError(MotionGearError):
    name = "job-died"
    code = 77
    safe = "Everything up to the last checkpoint is stored."
    todo = "Resume the job."


class NotDeliveredError(MotionGearError):
    """Nobody is known to have what is to be erased."""

    name = "not-delivered"
    code = 78
    safe = "Nothing was erased."
    todo = "Let the receiver confirm it first (custody), or say twice that it may be lost."


class NotConfirmedError(MotionGearError):
    name = "not-confirmed"
    code = 79
    safe = "Nothing was erased."
    todo = "Type the text that is asked for, exactly as it is shown."


# --- the line between sender and gate --------------------


class LinkCutError(MotionGearError):
    name = "link-cut"
    code = 90
    safe = "What was acknowledged is on the volume and is not sent again."
    todo = "See that both ends run and reach each other; then run the same command again."


class WireViolationError(MotionGearError):
    """The other end said something that it may not say."""

    name = "wire-violation"
    code = 91
    safe = "Nothing of it was written."
    todo = "Use the same release of MotionGear at both ends."


class WrongPeerError(MotionGearError):
    """Whoever answered has another key than the one that was pinned."""

    name = "wrong-peer"
    code = 92
    safe = "Nothing was sent."
    todo = "See that the address is the gate's; if the gate is a new one, enrol again."


class NotEnrolledError(MotionGearError):
    name = "not-enrolled"
    code = 93
    todo = "Enrol with a code from `motiongear gate invite`."


class EnrolmentCodeError(MotionGearError):
    """The code was used, has expired, or was never given."""

    name = "enrolment-code"
    code = 94
    todo = "Let the operator make another with `motiongear gate invite`."


class ReplicaUnknownError(MotionGearError):
    name = "replica-unknown"
    code = 95
    todo = "Restore the disk's shipment first, or let the operator invite with --new-disks."


class OtherShipmentError(MotionGearError):
    name = "other-shipment"
    code = 96
    todo = "Compare the disk with the shipment it was restored from."


class PointRefusedError(MotionGearError):
    """The point was ended, is another machine's, or is not complete."""

    name = "point-refused"
    code = 97
    todo = "Begin a new round."


class ReplicaDiffersError(MotionGearError):
    name = "replica-differs"
    code = 98
    safe = "The source is untouched; the point was not kept."
    todo = "Run the round again; if it differs again, check the volume with `motiongear check`."


class NotConvergingError(MotionGearError):
    name = "not-converging"
    code = 99
    safe = "The replica is at the last round's point."
    todo = "Give the line more, write less at the source, or freeze now with --final."


# --- the machine this runs on --------------------


class NeedRootError(MotionGearError):
    name = "need-root"
    code = 80
    todo = "Run the command as root, for example with sudo."


class ToolMissingError(MotionGearError):
    name = "tool-missing"
    code = 81
    todo = "Install the Debian package named above."


class ToolFailedError(MotionGearError):
    name = "tool-failed"
    code = 82


class StateError(MotionGearError):
    name = "state"
    code = 83
    safe = "Stores and packs are untouched: the state database is a cache of them."
    todo = "Check the space and the rights of the state directory."


class BadInputError(MotionGearError):
    """A value on the command line or in a file from the user that cannot be taken."""

    name = "bad-input"
    code = 84


class MemoryShortError(MotionGearError):
    name = "memory-short"
    code = 85
    todo = "Use a machine with more memory, or take the disks one by one."


def all_errors() -> list[type[MotionGearError]]:
    """Every error class with a code of its own, by code: the source of docs/cli.md."""
    found: list[type[MotionGearError]] = []
    todo = [MotionGearError]
    while todo:
        cls = todo.pop()
        if "code" in vars(cls):
            found.append(cls)
        todo.extend(cls.__subclasses__())
    return sorted(found, key=lambda cls: cls.code)
