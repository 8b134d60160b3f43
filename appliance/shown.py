"""Text and figures as people see them, on every console and every paper."""


def safe(text: object) -> str:
    """Foreign text as one line that cannot steer what shows it: what is not printable (control
    characters, line ends, directions, what has no width, halves of characters) is shown escaped.
    """
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape", "backslashreplace").decode()
        for one in str(text)
    )


def size(count: float) -> str:
    """Bytes in decimal units."""
    if count < 1000:
        return f"{count:.0f} B"
    for unit in ("kB", "MB", "GB"):
        count /= 1000
        if count < 999.95:
            return f"{count:.1f} {unit}"
    return f"{count / 1000:.1f} TB"


def duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
