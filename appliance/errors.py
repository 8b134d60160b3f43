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
    happened: ClassVar[str] = "Something was refused or failed."
    safe: ClassVar[str] = "Nothing was changed."
    todo: ClassVar[str] = "Read the message above and try again."

    def __init__(
        self, what: str, *, safe: str | None = None, todo: str | None = None, verb: str = ""
    ) -> None:
        super().__init__(what)
        self.what = what
        self.safe_now = safe or self.safe
        self.todo_now = todo or self.todo
        self.verb = verb  # what to type, where that is known
        self.later = False  # the other end has said that trying again later is worth it


# --- the store on disk is not what it should be: do not restore from it --------------------


class StoreRefusedError(MotionGearError):
    """The bytes of a store, pack, head or seal are refused."""

    name = "store-refused"
    code = 20
    happened = "The bytes of the store are not what they should be."
    safe = "Nothing was written from it."
    todo = "Ask for the device's other copy or for a new shipment; do not restore from this one."


class NotAStoreError(StoreRefusedError):
    name = "not-a-store"
    code = 21
    happened = "There is no store at this place."
    todo = "Give the directory that holds head.json and packs/."


class UnknownFormatError(StoreRefusedError):
    name = "unknown-format"
    code = 22
    happened = "The format is of a later version, or of another program."
    todo = "Use a MotionGear release that knows this format."


class HeadDamagedError(StoreRefusedError):
    name = "head-damaged"
    code = 23
    happened = "The public head of the store is damaged."


class SealMissingError(StoreRefusedError):
    name = "seal-missing"
    code = 24
    happened = "The store has no seal."
    todo = "The shipment was never sealed, or its seal was removed: seal it on the device."


class SealDamagedError(StoreRefusedError):
    name = "seal-damaged"
    code = 25
    happened = "The seal, or a file that it lists, is damaged."


class SignerMismatchError(StoreRefusedError):
    name = "signer-mismatch"
    code = 26
    happened = "Another device than the one expected has sealed the store."
    todo = "Compare the label with what the sender told you; treat the device as exchanged."


class RootMismatchError(StoreRefusedError):
    name = "root-mismatch"
    code = 27
    happened = "The seal is not the one that was expected."
    todo = "Compare the label with what the sender told you; treat the store as exchanged."


class OlderSealError(StoreRefusedError):
    name = "older-seal"
    code = 28
    happened = "The seal is older than one that was accepted before."
    todo = "You were given an older state of this device: ask the sender for the current one."


class RecipientsMismatchError(StoreRefusedError):
    name = "recipients-mismatch"
    code = 29
    happened = "The store is encrypted to other keys than those authorised."
    todo = "Somebody else could read this store: treat its content as disclosed, ask the sender."


class PackMissingError(StoreRefusedError):
    name = "pack-missing"
    code = 30
    happened = "A pack that the seal lists is not there."


class PackUnlistedError(StoreRefusedError):
    name = "pack-unlisted"
    code = 31
    happened = "The store holds a file that the seal does not list."


class PackDamagedError(StoreRefusedError):
    name = "pack-damaged"
    code = 32
    happened = "A pack is damaged."
    todo = "Copy the pack again from the device; else the blocks it held must be sent anew."


class ForeignPackError(StoreRefusedError):
    name = "foreign-pack"
    code = 33
    happened = "A pack belongs to another shipment."


class PackRepeatedError(StoreRefusedError):
    name = "pack-repeated"
    code = 34
    happened = "A pack, or the place of a pack, occurs twice."


class RecordDamagedError(StoreRefusedError):
    name = "record-damaged"
    code = 35
    happened = "A record inside a pack is damaged."
    todo = "The block named is lost in this store and must be sent anew; all others are unharmed."


class RecordOrderError(StoreRefusedError):
    name = "record-order"
    code = 36
    happened = "Records or packs do not follow each other as they must."


class IncompleteDiskError(StoreRefusedError):
    name = "incomplete-disk"
    code = 37
    happened = "A disk is not in the store to its end."
    todo = "Ingest this disk to its end, or leave it out."


class ErasedInPartError(StoreRefusedError):
    """An erase has begun here, and has not come to its end."""

    name = "erased-in-part"
    code = 38
    happened = "An erase has begun here and has not come to its end."
    safe = "What was erased is gone for good; what is left was not touched now."
    todo = "Let the erase come to its end: resume its job, or erase the place again."


class CertificateRefusedError(StoreRefusedError):
    name = "certificate-refused"
    code = 39
    happened = "The certificate is not what was signed, or is no certificate."
    safe = "Nothing was changed: it was only read."
    todo = "Ask whoever erased it for the certificate as it was made; do not go by this one."


class ReportRefusedError(StoreRefusedError):
    name = "report-refused"
    code = 19
    happened = "The report is not what was signed, or is no report."
    safe = "Nothing was changed: it was only read."
    todo = "Ask whoever made the report for it anew; do not go by this one."


class CustodyRefusedError(StoreRefusedError):
    name = "custody-refused"
    code = 18
    happened = "The chain of custody is not what was signed, or does not hold together."
    safe = "Nothing was changed: it was only read."
    todo = "Compare it with the other side's copy; ask whoever had the device between the records."


class HandOverError(MotionGearError):
    name = "hand-over"
    code = 17
    happened = "The hand-over cannot be given or answered like this."
    safe = "Nothing was written to the chain of custody."
    todo = "Look at the chain with `motiongear custody show`; compare the code with the giver."


class WrongKeyError(MotionGearError):
    name = "wrong-key"
    code = 40
    happened = "The key opens nothing here."
    safe = "The store is untouched."
    todo = "Use the private key of one of the recipients that `motiongear shipment show` lists."


class WrongPassphraseError(MotionGearError):
    name = "wrong-passphrase"
    code = 41
    happened = "The passphrase does not open the key."
    safe = "The key file is untouched."
    todo = "Type the passphrase again; without it the key cannot be used by anybody."


class KeyFileError(MotionGearError):
    name = "key-file"
    code = 42
    happened = "The file holds no key that can be used."
    todo = "Give a key file made by `motiongear keys new`."


class PrivateKeyOnDeviceError(MotionGearError):
    name = "private-key-on-device"
    code = 43
    happened = "A private key was about to come onto the device."
    safe = "No private key was taken or written."
    todo = "Keep private keys with the operator; give the device the .pub file only."


class CanaryError(MotionGearError):
    name = "canary"
    code = 44
    happened = "The canary or its code does not fit this shipment."


# --- the source --------------------


class NotADiskError(MotionGearError):
    name = "not-a-disk"
    code = 50
    happened = "What was given is no disk and no raw image."
    todo = (
        "Give a whole disk such as /dev/sdb, or a raw image file. `motiongear disks` lists them."
    )


class SourceBusyError(MotionGearError):
    name = "source-busy"
    code = 51
    happened = "The source is in use."
    safe = "The disk was not touched."
    todo = "Unmount it and stop what uses it, then start again."


class OwnDiskError(MotionGearError):
    name = "own-disk"
    code = 52
    happened = "The disk belongs to the device itself."
    safe = "The disk was not touched."
    todo = "This disk belongs to the device itself; choose a source disk."


class SourceChangedError(MotionGearError):
    name = "source-changed"
    code = 53
    happened = "The source is another one, or was written to."
    safe = "What was stored from the first disk is kept."
    todo = "Attach the disk the job began with, or start a new job for this one."


class SourceGoneError(MotionGearError):
    name = "source-gone"
    code = 54
    happened = "The source no longer answers."
    safe = "Everything up to the last checkpoint is stored."
    todo = "Attach the disk again and resume the job."


class FreezeRefusedError(MotionGearError):
    """The file systems of the source cannot be frozen, or must not be by this process."""

    name = "freeze-refused"
    code = 55
    happened = "The file systems of the source cannot be frozen."
    safe = "Nothing is frozen: the source machine goes on as before."
    todo = "Set MOTIONGEAR_HOME to a directory on /run, send the output to a terminal or pipe."


class FreezeLostError(MotionGearError):
    """The file systems were thawed before everything was read: there is no point."""

    name = "freeze-lost"
    code = 56
    happened = "The file systems were thawed before all was read."
    safe = "The source goes on as before; what was read is no point and must not be kept."
    todo = "Run more rounds first, so that the last one is shorter, or allow it more seconds."


# --- space and targets --------------------


class StoreFullError(MotionGearError):
    name = "store-full"
    code = 60
    happened = "The store has no room left."
    safe = "Everything up to the last checkpoint is stored; the store can still be sealed."
    todo = "Free space and resume the job, or seal what is there with --accept."


class StoreWriteError(MotionGearError):
    name = "store-write"
    code = 61
    happened = "The device's own disk failed while the store was written."
    safe = "Everything up to the last checkpoint is stored."
    todo = "Check the device's own disk before you resume the job."


class TargetFullError(MotionGearError):
    name = "target-full"
    code = 62
    happened = "The target has no room left."
    safe = "The store is untouched; the volume stays marked as partial."
    todo = "Make room at the target, then run the same restore again: it goes on."


class VolumeTooSmallError(MotionGearError):
    name = "volume-too-small"
    code = 63
    happened = "The volume is smaller than the disk."
    safe = "Nothing was written."
    todo = "Give a volume at least as large as the disk."


class VolumeForeignError(MotionGearError):
    name = "volume-foreign"
    code = 64
    happened = "The volume holds something that is not ours."
    safe = "Nothing was written."
    todo = "The target already holds something else under that name: choose another target."


class VolumeMissingError(MotionGearError):
    name = "volume-missing"
    code = 65
    happened = "There is no volume of this disk."
    todo = "Restore the disk first."


class TargetWriteError(MotionGearError):
    name = "target-write"
    code = 66
    happened = "The target failed while a volume was read or written."
    safe = "The store is untouched; the volume stays marked as partial."
    todo = "Mend the target, then run the same restore again: it goes on."


class CheckFailedError(MotionGearError):
    name = "check-failed"
    code = 67
    happened = "The volume does not hold what the manifest says."
    safe = "The store is untouched; the volume is not to be used."
    todo = "Restore the disk again; if it fails again, suspect the target's storage."


class VolumeBusyError(MotionGearError):
    name = "volume-busy"
    code = 68
    happened = "Another job has the volume."
    safe = "Nothing was written: the volume belongs to the other job for now."
    todo = "Wait for that job, or stop it (`motiongear jobs list` shows it); then try again."


class RestoredHurtError(MotionGearError):
    """The volume lacks blocks, and says so; all others are right."""

    name = "restored-hurt"
    code = 69
    happened = "The volume was restored but for blocks that the store has lost."
    safe = "Every other block was read back and is right; the volume is not to be booted yet."
    todo = (
        "Catch up from the source: the first round sends these blocks. Or restore again from "
        "another copy of the packs."
    )


# --- the workflow --------------------


class JobRunningError(MotionGearError):
    name = "job-running"
    code = 70
    happened = "A job is at work on this."
    todo = "Wait for the job to end, or stop it."


class OpenErrorError(MotionGearError):
    name = "open-error"
    code = 71
    happened = "The shipment has disks that are not complete."
    todo = "Resume the job, or accept the incomplete disk by name with --accept."


class NotReadyToShipError(MotionGearError):
    name = "not-ready-to-ship"
    code = 72
    happened = "The shipment does not meet what sealing demands."
    todo = "Meet the condition, or give a reason with --waive: it is signed into the seal."


class AlreadySealedError(MotionGearError):
    name = "already-sealed"
    code = 73
    happened = "The shipment is sealed."
    safe = "The sealed shipment is untouched."
    todo = "Start a new shipment."


class UnknownNameError(MotionGearError):
    """A shipment, job, disk or volume that is not known here."""

    name = "unknown-name"
    code = 74
    happened = "Nothing of that name is known here."
    todo = "List what there is and use one of those names."


class StoppedError(MotionGearError):
    """Not a failure: the operator stopped the job."""

    name = "stopped"
    code = 75
    happened = "The operator stopped the job."
    safe = "Everything up to the last checkpoint is stored."
    todo = "Resume the job when you like."


class ExistsError(MotionGearError):
    name = "exists"
    code = 76
    happened = "There is something of that name already."
    safe = "What was there is untouched."
    todo = "Choose another name or path."


class JobDiedError(MotionGearError):
    name = "job-died"
    code = 77
    happened = "The process of the job is gone."
    safe = "Everything up to the last checkpoint is stored."
    todo = "Resume the job."


class NotDeliveredError(MotionGearError):
    """Nobody is known to have what is to be erased."""

    name = "not-delivered"
    code = 78
    happened = "Nobody is known to have received what is to be erased."
    safe = "Nothing was erased."
    todo = "Let the receiver confirm it first (custody), or say twice that it may be lost."


class NotConfirmedError(MotionGearError):
    name = "not-confirmed"
    code = 79
    happened = "The confirmation was not given."
    safe = "Nothing was erased."
    todo = "Type the text that is asked for, exactly as it is shown."


# --- the line between sender and gate --------------------


class LinkCutError(MotionGearError):
    name = "link-cut"
    code = 90
    happened = "The line to the other end was cut."
    safe = "What was acknowledged is on the volume and is not sent again."
    todo = "See that both ends run and reach each other; then run the same command again."


class WireViolationError(MotionGearError):
    """The other end said something that it may not say."""

    name = "wire-violation"
    code = 91
    happened = "The other end said what it may not say."
    safe = "Nothing of it was written."
    todo = "Use the same release of MotionGear at both ends."


class WrongPeerError(MotionGearError):
    """Whoever answered has another key than the one that was pinned."""

    name = "wrong-peer"
    code = 92
    happened = "Whoever answered is not the one expected."
    safe = "Nothing was sent."
    todo = "See that the address is the gate's; if the gate is a new one, enrol again."


class NotEnrolledError(MotionGearError):
    name = "not-enrolled"
    code = 93
    happened = "The machine is not enrolled with the gate."
    todo = "Enrol with a code from `motiongear gate invite`."


class EnrolmentCodeError(MotionGearError):
    """The code was used, has expired, or was never given."""

    name = "enrolment-code"
    code = 94
    happened = "The enrolment code is not valid."
    todo = "Let the operator make another with `motiongear gate invite`."


class ReplicaUnknownError(MotionGearError):
    name = "replica-unknown"
    code = 95
    happened = "The gate has no replica of this disk."
    todo = "Restore the disk's shipment first, or let the operator invite with --new-disks."


class OtherShipmentError(MotionGearError):
    name = "other-shipment"
    code = 96
    happened = "The replica was restored from another shipment."
    todo = "Compare the disk with the shipment it was restored from."


class PointRefusedError(MotionGearError):
    """The point was ended, is another machine's, or is not complete."""

    name = "point-refused"
    code = 97
    happened = "The gate does not take this point."
    todo = "Begin a new round."


class ReplicaDiffersError(MotionGearError):
    name = "replica-differs"
    code = 98
    happened = "The replica differs from its source."
    safe = "The source is untouched; the point was not kept."
    todo = "Run the round again; if it differs again, check the volume with `motiongear check`."


class NotConvergingError(MotionGearError):
    name = "not-converging"
    code = 99
    happened = "More is written at the source than the line carries."
    safe = "The replica is at the last round's point."
    todo = "Give the line more, write less at the source, or freeze now with --final."


# --- the machine this runs on --------------------


class NeedRootError(MotionGearError):
    name = "need-root"
    code = 80
    happened = "This needs rights that the process does not have."
    todo = "Run the command as root, for example with sudo."


class ToolMissingError(MotionGearError):
    name = "tool-missing"
    code = 81
    happened = "A program that is needed is not installed."
    todo = "Install the Debian package named above."


class ToolFailedError(MotionGearError):
    name = "tool-failed"
    code = 82
    happened = "A program that was started has failed."


class StateError(MotionGearError):
    name = "state"
    code = 83
    happened = "The state directory cannot be read or written."
    safe = "Stores and packs are untouched: the state database is a cache of them."
    todo = "Check the space and the rights of the state directory."


class BadInputError(MotionGearError):
    """A value on the command line or in a file from the user that cannot be taken."""

    name = "bad-input"
    code = 84
    happened = "A value that was given cannot be taken."


class UsageError(MotionGearError):
    """A command line that is none of this program's, or lacks something."""

    name = "usage"
    code = 2
    happened = "The command line could not be understood."
    todo = "See how it is called."


class MemoryShortError(MotionGearError):
    name = "memory-short"
    code = 85
    happened = "There is not enough memory."
    todo = "Use a machine with more memory, or take the disks one by one."


class FoundWrongError(MotionGearError):
    """Not a failure of the diagnosis: it has found something."""

    name = "found-wrong"
    code = 86
    happened = "The diagnosis has found something wrong."
    safe = "Nothing was changed: it was only looked at."
    todo = "Go through what is listed from the top; what is worst stands first."


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
