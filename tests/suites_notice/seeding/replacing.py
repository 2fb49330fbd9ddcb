"""Replaces a function of a running program; its text is also put before the driver in its container."""

import importlib
from collections.abc import Callable
from typing import Any


def replace(path: str, change: Callable[[Any], Any]) -> None:
    """Replace what ``path``, ``package.module:name`` or ``package.module:Class.name``, names by ``change`` of it."""
    module, _, names = path.partition(":")
    owner: Any = importlib.import_module(module)
    *parents, name = names.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    setattr(owner, name, change(getattr(owner, name)))


def result(path: str, change: Callable[[Any], Any]) -> None:
    """Let the function at ``path`` return ``change`` of what it returns."""
    replace(path, lambda right: lambda *arguments, **options: change(right(*arguments, **options)))
