"""Templates of papers, as Jinja reads them: all text escaped, nothing left undefined."""

from jinja2 import Environment, PackageLoader, StrictUndefined

from appliance.language import Translator


def plain(found: object) -> str:
    """Foreign text as one line that is what it looks like: controls, line ends and the marks that
    turn the direction of writing are shown escaped.
    """
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape", "backslashreplace").decode()
        for one in str(found)
    )


def environment(translate: Translator) -> Environment:
    """Templates speak through ``_``, and show foreign text through the filter ``plain``."""
    made = Environment(
        loader=PackageLoader("appliance.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["_"] = translate
    made.filters["plain"] = plain
    return made
