"""What a job's own process runs. It imports little: a job should not wait for verbs of people."""

import sys

import click

from appliance import config, process
from appliance.model import JobId


@click.command(hidden=True)
@click.argument("job", type=int)
@click.option("--claim", type=int, help="The descriptor that holds the job's lock.")
def job(job: int, claim: int | None) -> None:
    """What a job's own process runs. Not for people."""
    sys.exit(process.main(config.ensure_home(), JobId(job), claim))
