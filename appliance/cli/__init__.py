"""The command ``motiongear``: every verb for a technician's or operator's shell. A thin view, like
every console.

Each error ends the command with its own exit code (docs/cli.md), in words on standard error.
"""

import sys
from importlib import import_module

import click

from appliance.cli import show, speaking
from appliance.errors import MotionGearError
from appliance.events import failed
from appliance.language import chosen, translator

_MODULES = {
    "canary": "manage",
    "catch-up": "catching_up",
    "certificate": "certificate",
    "check": "arrival",
    "completion": "completion",
    "console": "console",
    "custody": "custody",
    "demo": "demo",
    "diagnose": "diagnose",
    "disks": "departure",
    "enrol": "catching_up",
    "erase": "erase",
    "gate": "catching_up",
    "ingest": "departure",
    "inspect": "inspecting",
    "job": "job",
    "jobs": "manage",
    "keys": "keys",
    "label": "label",
    "manifest": "arrival",
    "points": "points",
    "recover": "arrival",
    "report": "report",
    "restore": "arrival",
    "seal": "departure",
    "shipment": "manage",
    "verify": "arrival",
}


class Verbs(click.Group):
    """Imported when they are used: whoever ingests does not wait for the rest."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return sorted(_MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if (module := _MODULES.get(cmd_name)) is None:
            return None
        found = getattr(import_module(f"appliance.cli.{module}"), cmd_name.replace("-", "_"))
        assert isinstance(found, click.Command)
        return found


@click.group(
    cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(package_name="motiongear", message="%(prog)s %(version)s")
def motiongear() -> None:
    """Carry whole servers into a cloud: ingest their disks, seal, ship, verify, restore, check.

    \b
    On the device:        keys new, shipment new, canary, disks, inspect, ingest, jobs, seal, label
    At the destination:   verify, manifest, restore, check, recover, gate, points, report
    At the source:        enrol, catch-up
    When it has arrived:  erase, certificate
    On its way:           custody
    By screens:           console
    To see all of it:     demo
    When it goes wrong:   diagnose
    """  # noqa: D301 - the backspace by which click leaves lines as they are


def main() -> None:
    """Entry point: errors become words and exit codes here, and nowhere else."""
    _ = translator(chosen())
    speaking.listen(chosen())
    try:
        speaking.told(motiongear, _).main(prog_name="motiongear", standalone_mode=False)
    except click.exceptions.Abort:
        click.echo(_("Aborted."), err=True)
        sys.exit(130)
    except click.exceptions.NoArgsIsHelpError as exc:
        exc.show()
        sys.exit(exc.exit_code)
    except click.ClickException as exc:
        _refuse(speaking.refused(exc))
    except MotionGearError as exc:
        _refuse(exc)


def _refuse(exc: MotionGearError) -> None:
    if show.wants_json():
        show.event(failed(exc))
    show.refusal(exc)
    sys.exit(exc.code)
