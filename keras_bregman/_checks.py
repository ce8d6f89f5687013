"""Checks of arguments, one wording for all."""

from __future__ import annotations

import math
import numbers


def check_number(name, value, low=0.0, high=math.inf, open_low=False):
    """`value` as a float; raises ValueError unless it lies in the interval."""
    number = float(value) if isinstance(value, numbers.Real) else math.nan
    above = number > low if open_low else number >= low
    if not (math.isfinite(number) and above and number < high):
        bound = f"greater than {low:g}" if open_low else f"{low:g} or greater"
        if high < math.inf:
            bound += f" and less than {high:g}"
        raise ValueError(
            f"`{name}` must be a finite number {bound}. "
            f"Received: {name}={value!r}"
        )
    return number
