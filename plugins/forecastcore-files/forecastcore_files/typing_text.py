"""From text to numbers, instants and truth values, where no value is lost by it."""

from __future__ import annotations

import re
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["typed"]

Values = list[pa.Array]

_NULLS = ("NA", "N/A", "#N/A", "<NA>", "NaN", "nan", "-nan", "NULL", "null", "None", "NaT")
_WHOLE = r"^-?(0|[1-9][0-9]*)$"
# an exponent needs its sign or a mark before it: `12E4` is an article number, `1e-05` and `1.2E4` are numbers
_NUMBER = r"^-?((0|[1-9][0-9]*)(MARK[0-9]*)?|MARK[0-9]+)([eE][+-][0-9]+)?$|^-?[0-9]MARK[0-9]*[eE][0-9]+$|^-?inf$"
_DATE = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}"
_INSTANTS = (pa.timestamp("us"), pa.timestamp("us", "UTC"), pa.timestamp("ns"), pa.timestamp("ns", "UTC"))


def typed(text: pa.ChunkedArray, *, decimal: str = ".", date_format: str | None = None) -> pa.ChunkedArray:
    """A text column as whole numbers, numbers, instants or truth values, if every value is one; else as text.

    Numbers have no leading zeros, no plus sign, no separators of thousands, and fit. Instants are ISO 8601 or follow
    `date_format`; those with an offset become UTC, those without one stay naive. Spaces around values are cut.

    Args:
        text: strings; empty ones and nulls are null.
        decimal: mark of numbers.
        date_format: strptime format that is tried besides ISO 8601. Columns of whole numbers are tried for it only if
            it stands for a whole date, as `%Y%m%d` does; `%Y` alone would make a date of every count.
    """
    # Each chunk has a dictionary of its own: one for all would be made anew for each chunk, of all values so far.
    encoded = [chunk.dictionary_encode() for chunk in text.chunks]
    if not encoded:
        return text
    values = _typed_values([_trimmed(chunk.dictionary) for chunk in encoded], decimal, date_format)
    return pa.chunked_array([some.take(chunk.indices) for some, chunk in zip(values, encoded, strict=True)])


def _typed_values(values: Values, decimal: str, date_format: str | None) -> Values:
    """The same for the distinct values of each chunk."""
    if all(some.null_count == len(some) for some in values):
        return [some.cast(pa.float64()) for some in values]
    bare = [pc.if_else(pc.is_in(some, value_set=pa.array(_NULLS)), None, some) for some in values]
    if all(some.null_count == len(some) for some in bare):
        return values
    numbers, dates = partial(_numbers, bare, decimal), partial(_formatted, bare, date_format)
    first = (dates, numbers) if _is_numeric_date(date_format) else (numbers, dates)
    found = (attempt() for attempt in (*first, partial(_instants, bare), partial(_truths, bare)))
    return next((arrays for arrays in found if arrays is not None), values)


def _trimmed(values: pa.Array) -> pa.Array:
    """Without spaces, no-break spaces and byte order marks around; empty is null."""
    cut = pc.utf8_trim(values, characters=" \t\r\n\u00a0\u2007\u202f\u3000\ufeff")
    return pc.if_else(pc.equal(cut, ""), None, cut)


def _all_match(values: Values, pattern: str) -> bool:
    return all(pc.all(pc.match_substring_regex(some, pattern), min_count=0).as_py() for some in values)


def _numbers(values: Values, decimal: str) -> Values | None:
    if _all_match(values, _WHOLE):
        try:
            return [some.cast(pa.int64()) for some in values]
        except pa.ArrowInvalid:
            return None  # too long to be a number that is counted with: an id
    if not _all_match(values, _NUMBER.replace("MARK", re.escape(decimal))):
        return None
    return [pc.replace_substring(some, decimal, ".").cast(pa.float64()) for some in values]


def _instants(values: Values) -> Values | None:
    if not _all_match(values, _DATE):
        return None
    for kind in _INSTANTS:
        try:
            return [some.cast(kind) for some in values]
        except pa.ArrowInvalid:
            continue
    return None


def _is_numeric_date(date_format: str | None) -> bool:
    """Whether values of this format look like numbers, and hold a whole date, as `%Y%m%d` does."""
    found = set(re.findall(r"%(.)", date_format or ""))
    return (
        bool(found & set("yY")) and (found >= {"m", "d"} or "j" in found) and not re.sub(r"%.", "", date_format or "")
    )


def _formatted(values: Values, date_format: str | None) -> Values | None:
    if not date_format:
        return None
    offset = "%z" in date_format or "%Z" in date_format
    try:
        return [_parsed(some, date_format, offset=offset) for some in values]
    except ValueError:
        return None


def _parsed(values: pa.Array, date_format: str, *, offset: bool) -> pa.Array:
    import pandas as pd

    known = values.drop_null()
    parsed = pd.to_datetime(known.to_pandas(), format=date_format, utc=offset)
    array = pa.array(parsed, pa.timestamp("ns", "UTC" if offset else None))
    return array.take(pc.index_in(values, value_set=known))


def _truths(values: Values) -> Values | None:
    lower = [pc.utf8_lower(some) for some in values]
    if not _all_match(lower, r"^(true|false)$"):
        return None
    return [pc.equal(some, "true") for some in lower]
