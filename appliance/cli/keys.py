"""``motiongear keys``: recipients' key pairs and the device's identity."""

from pathlib import Path

import click

from appliance import config
from appliance.cli import ask, drawing, show
from appliance.cli.show import translated as _
from appliance.errors import BadInputError, PrivateKeyOnDeviceError
from appliance.seal import keys as recipients
from appliance.seal import text
from appliance.seal.head import FILE as HEAD
from appliance.seal.identity import Device


@click.group()
def keys() -> None:
    """Keys of recipients, and the identity of this device."""


def _refuse_device_state(path: Path) -> None:
    """A private key must not lie where the device keeps its state, nor travel inside a store."""
    home = config.home().resolve()
    places = path.absolute().resolve().parents
    if home in places:
        raise PrivateKeyOnDeviceError(f"{path} lies in this device's own state")
    for place in places:
        if (place / HEAD).exists():
            raise PrivateKeyOnDeviceError(f"{path} lies inside the store {place}")


@keys.command("new")
@click.argument("name", type=ask.TEXT)
@click.option(
    "--out",
    "-o",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="The private key file.",
)
@click.option(
    "--role",
    type=click.Choice(["operator", "recovery"]),
    default="operator",
    help="What the key is for: a recovery key is kept in a safe.",
)
@ask.passphrase_fd
def new(name: str, out: Path, role: recipients.Role, passphrase_fd: int | None) -> None:
    """Make a key pair for NAME: the private file under a passphrase, the public one beside it
    (.pub).

    Do this where the operator is, never on the device: the device only needs the .pub file.
    """
    _refuse_device_state(out)
    secret = ask.secret(passphrase_fd, _("New passphrase"), confirm=True)
    key = recipients.PrivateKey.generate(name, role)
    try:
        public = recipients.write_pair(key, out, secret)
    except OSError as exc:
        raise BadInputError(
            f"The key files cannot be written at {out} ({exc.strerror})",
            todo="Choose a place where there is room and you may write.",
        ) from exc
    told = _("Private key: {path}  (keep it; without its passphrase nobody can use it)")
    show.line(told.format(path=out))
    show.line(_("Public key:  {path}  (give this to the device)").format(path=public))
    show.rows([(_("fingerprint"), key.recipient.fingerprint)])


@keys.command("show")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--qr/--no-qr", default=True, help="Draw the fingerprint as a QR code too.")
def show_key(file: Path | None, qr: bool) -> None:
    """Show the fingerprint of a key FILE, or without FILE of this device: as text, words and QR
    code.
    """
    if file is None:
        device = Device.of(config.ensure_home())
        found = recipients.fingerprint(bytes.fromhex(device.public))
        show.line(_("This device"))
    else:
        recipient = recipients.read_recipient(file)
        found = recipients.fingerprint(recipient.key)
        show.line(f"{recipient.name} ({_(recipient.role)})")
    show.rows([(_("fingerprint"), text.grouped(found)), (_("in words"), text.words(found))])
    if qr:
        click.echo(drawing.qr(text.grouped(found)))
