"""Templates of papers, as Jinja reads them: all text escaped, nothing left undefined."""

from jinja2 import Environment, PackageLoader, StrictUndefined

from appliance import shown
from appliance.language import Translator


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
    made.filters["plain"] = shown.safe
    return made
