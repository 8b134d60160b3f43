"""``make errors``: docs/errors.md, every refusal with what it means, in both languages."""

from appliance.errors import MotionGearError, all_errors
from appliance.language import Language, translator

_TOP = """# Errors

Every refusal has a stable code, which is the exit code of the command, and a stable name, which
stands in events. What happened, what is safe, what to do: here in general; the message itself adds
what is special to the case. Made by `make errors` from the program. 中文在每条英文之后。
"""


def page() -> str:
    parts = [_TOP, *(_entry(one) for one in all_errors())]
    return "\n".join(parts)


def _entry(error: type[MotionGearError]) -> str:
    lines = [f"## {error.code} {error.name}", ""]
    for language in Language:
        _ = translator(language)
        lines += [f"- {_(error.happened)} *{_(error.safe)}* {_(error.todo)}"]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    print(page(), end="")  # noqa: T201 - its output
