"""Kinds of command-line arguments that comparisons with PyTorch share."""

import argparse
from collections.abc import Callable


def sized(text: str) -> list[tuple[str, int]]:
    """Variants and their images a step: `atto:16,micro:256`."""
    pairs = [item.partition(":") for item in text.split(",")]
    return [(name, int(batch)) for name, _, batch in pairs]


def some_of(known: list[str]) -> Callable[[str], list[str]]:
    """Some of the known names, with commas."""

    def listed(text: str) -> list[str]:
        names = text.split(",")
        if unknown := set(names) - set(known):
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: there are {', '.join(known)}")
        return names

    return listed
