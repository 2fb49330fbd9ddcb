"""Finds time-outs in Python code outside the table ``lab.base.timeouts``."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import pairwise

_TIMEOUT = re.compile("timeout", re.IGNORECASE)
_SECONDS = re.compile("(^|_)SECONDS$")
_SHELL = re.compile(r"\btimeout \d")
_WAITS = {"timeout", "wait_for", "wait", "join", "settimeout", "communicate", "call_later", "Readiness"}
"""Functions that wait as long as a positional argument says."""
_LONG_SECONDS = 5
"""What is shorter and not called a time-out is a pause between two looks, or alike."""
_UNITS = {"milliseconds": 0.001, "seconds": 1, "minutes": 60, "hours": 3600, "days": 86400}


def time_outs(source: str) -> list[str]:
    """Time-outs in a module with the text ``source``: names of constants, and ``line N: expression`` for all else."""
    found = [item for node in ast.walk(ast.parse(source)) for item in _of(node)]
    return list(dict.fromkeys(found))


def early_seconds(source: str) -> list[str]:
    """``Timeout.NAME.seconds`` of a module that are evaluated at its import, before the factor is known."""
    tree = ast.parse(source)
    bodies = [
        statement
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for statement in (node.body if isinstance(node.body, list) else [node.body])
    ]
    later = {id(inner) for body in bodies for inner in ast.walk(body)}
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and id(node) not in later]
    return [f"line {node.lineno}" for node in found if re.fullmatch(r"Timeout\.\w+\.seconds", ast.unparse(node))]


def _of(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            seconds = _number(node.value)
            if seconds and (_TIMEOUT.search(name) or (_SECONDS.search(name) and seconds >= _LONG_SECONDS)):
                yield name
        case ast.arguments():
            positional = [*node.posonlyargs, *node.args]
            defaults = [*zip(positional[::-1], node.defaults[::-1], strict=False)]
            for argument, default in [*defaults, *zip(node.kwonlyargs, node.kw_defaults, strict=True)]:
                if _TIMEOUT.search(argument.arg) and _number(default):
                    yield f"line {argument.lineno}: {argument.arg}"
        case ast.Call():
            yield from _of_call(node)
        case ast.List(elts=elements):
            words = [element.value if isinstance(element, ast.Constant) else None for element in elements]
            if any(first == "timeout" and isinstance(second, str) for first, second in pairwise(words)):
                yield f"line {node.lineno}: {ast.unparse(node)}"
        case ast.Constant(value=str() as text) if _SHELL.search(text):
            yield f"line {node.lineno}: {text.strip()[:40]}"


def _of_call(call: ast.Call) -> Iterator[str]:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    given = [keyword.value for keyword in call.keywords if _TIMEOUT.search(keyword.arg or "")]
    if (
        any((_number(value) or 0) > 1 for value in [*given, *(call.args if name in _WAITS else [])])
        or (name == "timedelta" and _duration(call) >= _LONG_SECONDS)
        # It is nominal: timeouts.seconds() multiplies it.
        or ast.unparse(call) == "timeout.total_seconds()"
    ):
        yield f"line {call.lineno}: {ast.unparse(call)}"


def _number(node: ast.expr | None) -> float | None:
    """Value of a literal, or of a product of literals; None for all else."""
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return float(value)
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            first, second = _number(left), _number(right)
            return None if first is None or second is None else first * second
    return None


def _duration(call: ast.Call) -> float:
    """Seconds of a call of timedelta with literals; 0 for other arguments."""
    return sum(_UNITS.get(keyword.arg or "", 0) * (_number(keyword.value) or 0) for keyword in call.keywords)
