"""Checks of arguments, one wording for all."""

from __future__ import annotations

import math
import numbers
import re


def check_number(name, value, low=0.0, high=math.inf, open_low=False):
    """`value` as a float; raises ValueError unless it lies in the interval."""
    try:
        number = float(value) if isinstance(value, numbers.Real) else math.nan
    except OverflowError:
        number = math.inf
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


def check_all(*checks):
    """Raises ValueError for the first argument that is not good.

    Args:
        *checks: Name, value, whether it is good, and what it must be, as a
            phrase behind "must be".
    """
    for name, value, good, bound in checks:
        if not good:
            raise ValueError(
                f"`{name}` must be {bound}. Received: {name}={value!r}"
            )


def check_expression(name, expression):
    """The expression; raises ValueError unless it is a regular one."""
    try:
        re.compile(expression)
    except (TypeError, re.error) as error:
        raise ValueError(
            f"`{name}` chooses variables by regular expressions on their "
            "paths, such as 'conv.*kernel'. "
            f"Received: {expression!r} ({error})"
        ) from None
    return expression
