"""``motiongear completion``: the script by which a shell completes verbs, options and values.

The values too come from what is there, without changing or making anything; where that cannot be
looked at, nothing is offered and nothing is said: somebody is in the middle of a line.
"""

from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

import click
from click.shell_completion import CompletionItem, get_completion_class

from appliance import config, jobs, shown
from appliance.catchup.points import points_of
from appliance.errors import MotionGearError
from appliance.model import Snapshots
from appliance.state import ENDED, FILE, JobState, State

LIVING = frozenset(JobState) - ENDED
BROKEN_OFF = ENDED - {JobState.FINISHED}
RESTING = BROKEN_OFF | {JobState.PAUSED}

_PROGRAM = "motiongear"
_ASKED_BY = "_MOTIONGEAR_COMPLETE"  # what click looks for in the environment of this program

Offer = Callable[[click.Context, click.Parameter, str], list[CompletionItem[str]]]

_a_file = click.Path().shell_complete
_a_directory = click.Path(file_okay=False).shell_complete


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script by which a SHELL completes verbs, options, jobs and points.

    \b
    bash:  motiongear completion bash > /etc/bash_completion.d/motiongear
    zsh:   motiongear completion zsh > "${fpath[1]}/_motiongear"
    fish:  motiongear completion fish > ~/.config/fish/completions/motiongear.fish
    """  # noqa: D301 - the backspace by which click leaves lines as they are
    script = get_completion_class(shell)
    assert script is not None
    click.echo(script(ctx.find_root().command, {}, _PROGRAM, _ASKED_BY).source())


def files(ctx: click.Context, param: click.Parameter, begun: str) -> list[CompletionItem[str]]:
    """Whatever the shell finds under that name: disks are files too."""
    return _a_file(ctx, param, begun)


def directories(
    ctx: click.Context, param: click.Parameter, begun: str
) -> list[CompletionItem[str]]:
    return _a_directory(ctx, param, begun)


def targets(_: click.Context, __: click.Parameter, begun: str) -> list[CompletionItem[str]]:
    """The kinds of target that are installed."""
    return _beginning(begun, [(one, "") for one in config.plugins("targets")])


def jobs_in(states: Collection[JobState] = frozenset(JobState)) -> Offer:
    """The numbers of the jobs that are in one of these states, the latest first."""

    def offer(_: click.Context, __: click.Parameter, begun: str) -> list[CompletionItem[str]]:
        if not (config.home() / FILE).exists():
            return []
        with suppress(MotionGearError), State(config.home()) as opened:
            rows = sorted(opened.jobs(), key=lambda one: one.id, reverse=True)
            found = [(str(one.id), f"{one.state}: {one.title}") for one in rows]
            return _beginning(
                begun,
                [told for told, one in zip(found, rows, strict=True) if one.state in states],
            )
        return []

    return offer


def points(*words: str) -> Offer:
    """These words, and the numbers of the points at the place that the line has named before."""

    def offer(ctx: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem[str]]:
        place, machine = ctx.params.get("place"), ctx.params.get("machine")
        found = [(one, "") for one in words]
        if place and Path(place).is_dir():
            with suppress(MotionGearError):
                goal = jobs.target_for(str(ctx.params.get("target") or "local"), place)
                if isinstance(goal, Snapshots):
                    held = points_of(goal.snapshots(), machine)
                    found += [(str(one.point), one.machine) for one in reversed(held)]
        return _beginning(begun, found)

    return offer


def _beginning(begun: str, found: list[tuple[str, str]]) -> list[CompletionItem[str]]:
    return [
        CompletionItem(value, help=shown.safe(told) or None)
        for value, told in found
        if value.startswith(begun)
    ]
