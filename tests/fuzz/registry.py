"""Every target, by name."""

from tests.fuzz import (
    document_targets,
    line_targets,
    machine_targets,
    pack_targets,
    report_targets,
)
from tests.fuzz.target import Target

TARGETS: dict[str, Target] = {
    one.name: one
    for room in (pack_targets, document_targets, line_targets, machine_targets, report_targets)
    for one in room.TARGETS
}
