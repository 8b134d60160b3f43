"""The command ``motiongear``: every verb for a technician's or operator's shell. A thin view, like
every console.

Each error ends the command with its own exit code (docs/cli.md), in words on standard error.
"""

import sys

import click

from appliance.cli import catching_up, completion, demo, flow, keys, manage, points, show
from appliance.errors import MotionGearError
from appliance.process import failed


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="motiongear")
def motiongear() -> None:
    """Carry whole servers into a cloud: ingest their disks, seal, ship, verify, restore, check.

    \b
    On the device:        keys new, shipment new, canary, disks, ingest, jobs, seal
    At the destination:   verify, manifest, restore, check, recover, gate, points
    At the source:        enrol, catch-up
    To see all of it:     demo
    """  # noqa: D301 - the backspace by which click leaves lines as they are


for command in (
    demo.demo,
    flow.disks,
    flow.ingest,
    flow.seal,
    flow.verify,
    flow.manifest,
    flow.restore,
    flow.check,
    flow.recover,
    keys.keys,
    manage.shipment,
    manage.canary,
    manage.jobs,
    manage.job,
    catching_up.gate,
    catching_up.enrol,
    catching_up.catch_up,
    points.points,
    completion.completion,
):
    motiongear.add_command(command)


def main() -> None:
    """Entry point: errors become words and exit codes here, and nowhere else."""
    try:
        motiongear.main(prog_name="motiongear", standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("Aborted.", err=True)
        sys.exit(130)
    except click.ClickException as exc:
        exc.show()
        sys.exit(exc.exit_code)
    except MotionGearError as exc:
        if show.wants_json():
            show.event(failed(exc))
        show.refusal(exc)
        sys.exit(exc.code)
