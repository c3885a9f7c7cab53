"""Command lines of tracking and the site: what is wrong with one is one line, and status 2."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from typing import NoReturn

# A machine's name is a folder of results, and part of the site's addresses.
MACHINE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Parser(argparse.ArgumentParser):
    """Say what is wrong without the usage, which ``--help`` has."""

    def error(self, message: str) -> NoReturn:
        """Exit with the message in one line."""
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())}\n")


def whole_number(least: int, most: int | None = None) -> Callable[[str], int]:
    """Return what reads a whole number of a range."""
    accepted = f"{least} or more" if most is None else f"{least} to {most}"

    def read(text: str) -> int:
        if not re.fullmatch(r"[+-]?\d{1,9}", text, re.ASCII):
            raise argparse.ArgumentTypeError(f"must be a whole number, {accepted}, got {text!r}")
        number = int(text)
        if number < least or (most is not None and number > most):
            raise argparse.ArgumentTypeError(f"must be {accepted}, got {number}")
        return number

    return read


def pattern(text: str) -> str:
    """Read a regular expression."""
    try:
        re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no regular expression: {error}") from None
    return text


def shard(text: str) -> tuple[int, int]:
    """Read which of how many shards, such as ``2/4``."""
    found = re.fullmatch(r"([1-9]\d{0,5})/([1-9]\d{0,5})", text, re.ASCII)
    number, count = map(int, found.groups()) if found else (1, 0)
    if number > count:
        raise argparse.ArgumentTypeError(f"must be 1/N to N/N, such as 2/4, got {text!r}")
    return number, count


def machine_name(text: str) -> str:
    """Read the name of a machine."""
    if not MACHINE.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"must be 1 to 64 letters, digits, '.', '_' or '-', the first a letter or a digit, "
            f"got {text!r}"
        )
    return text
