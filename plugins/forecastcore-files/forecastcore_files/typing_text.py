"""From text to numbers, instants and truth values, where no value is lost by it."""

from __future__ import annotations

import re
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["typed"]

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
    encoded = text.dictionary_encode().unify_dictionaries()
    if not encoded.num_chunks:
        return text
    values = _typed_values(_trimmed(encoded.chunk(0).dictionary), decimal, date_format)
    return pa.chunked_array([values.take(chunk.indices) for chunk in encoded.chunks], values.type)


def _typed_values(values: pa.Array, decimal: str, date_format: str | None) -> pa.Array:
    """The same for the distinct values of a column."""
    if values.null_count == len(values):
        return values.cast(pa.float64())
    bare = pc.if_else(pc.is_in(values, value_set=pa.array(_NULLS)), None, values)
    if bare.null_count == len(bare):
        return values
    numbers, dates = partial(_numbers, bare, decimal), partial(_formatted, bare, date_format)
    first = (dates, numbers) if _is_numeric_date(date_format) else (numbers, dates)
    found = (attempt() for attempt in (*first, partial(_instants, bare), partial(_truths, bare)))
    return next((array for array in found if array is not None), values)


def _trimmed(values: pa.Array) -> pa.Array:
    """Without spaces, no-break spaces and byte order marks around; empty is null."""
    cut = pc.utf8_trim(values, characters=" \t\r\n\u00a0\u2007\u202f\u3000\ufeff")
    return pc.if_else(pc.equal(cut, ""), None, cut)


def _all_match(values: pa.Array, pattern: str) -> bool:
    matches = pc.all(pc.match_substring_regex(values, pattern))
    return bool(matches.as_py())


def _numbers(values: pa.Array, decimal: str) -> pa.Array | None:
    if _all_match(values, _WHOLE):
        try:
            return values.cast(pa.int64())
        except pa.ArrowInvalid:
            return None  # too long to be a number that is counted with: an id
    if not _all_match(values, _NUMBER.replace("MARK", re.escape(decimal))):
        return None
    return pc.replace_substring(values, decimal, ".").cast(pa.float64())


def _instants(values: pa.Array) -> pa.Array | None:
    if not _all_match(values, _DATE):
        return None
    for kind in _INSTANTS:
        try:
            return values.cast(kind)
        except pa.ArrowInvalid:
            continue
    return None


def _is_numeric_date(date_format: str | None) -> bool:
    """Whether values of this format look like numbers, and hold a whole date, as `%Y%m%d` does."""
    found = set(re.findall(r"%(.)", date_format or ""))
    return (
        bool(found & set("yY")) and (found >= {"m", "d"} or "j" in found) and not re.sub(r"%.", "", date_format or "")
    )


def _formatted(values: pa.Array, date_format: str | None) -> pa.Array | None:
    if not date_format:
        return None
    import pandas as pd

    offset = "%z" in date_format or "%Z" in date_format
    known = values.drop_null()
    try:
        parsed = pd.to_datetime(known.to_pandas(), format=date_format, utc=offset)
    except ValueError:
        return None
    array = pa.array(parsed, pa.timestamp("ns", "UTC" if offset else None))
    positions = pc.index_in(values, value_set=known)
    return array.take(positions)


def _truths(values: pa.Array) -> pa.Array | None:
    lower = pc.utf8_lower(values)
    if not _all_match(lower, r"^(true|false)$"):
        return None
    return pc.equal(lower, "true")
