"""Numbers as a reader wants them."""

from __future__ import annotations

from rllib_multienv.evaluation.intervals import Interval

#: What stands where there is no number.
NOTHING = "-"


def number_text(value: float | None) -> str:
    """A return or a rate with about four digits."""
    if value is None:
        return NOTHING
    size = abs(value)
    digits = 0 if size >= 1000 else 1 if size >= 100 else 2 if size >= 1 or value == 0 else 3
    return f"{value:z,.{digits}f}"


def score_text(value: float | None) -> str:
    """A normalised score: one digit behind the point."""
    return NOTHING if value is None else f"{value:z,.1f}"


def interval_text(interval: Interval | None, *, score: bool = True) -> str:
    """An estimate with its bounds in brackets: ``81.2 [75.0, 88.4]``."""
    if interval is None:
        return NOTHING
    text = score_text if score else number_text
    if interval.low is None or interval.high is None:
        return text(interval.value)
    return f"{text(interval.value)} [{text(interval.low)}, {text(interval.high)}]"


def count_text(value: int | None) -> str:
    """A whole number with separators."""
    return NOTHING if value is None else f"{value:,}"


def duration_text(seconds: float | None) -> str:
    """Hours and minutes, or minutes and seconds: ``3 h 07 min``, ``2 min 05 s``."""
    if seconds is None:
        return NOTHING
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {whole % 60:02} s"


def listing(words: list[str]) -> str:
    """``"a, b and c"``."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
