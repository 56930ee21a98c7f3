"""The examples in docstrings: finding them, and running them as an interactive Python does."""

import ast
import asyncio
import builtins
import contextlib
import doctest
import inspect
import io
import re
import sys
import traceback
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fvd
import fvd.aio

_PARSER = doctest.DocTestParser()
_CHECKER = doctest.OutputChecker()
_BLOCK = re.compile(r"^```pycon\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def docstrings(module: types.ModuleType) -> dict[str, str]:
    """The docstring of every public name of the module, and of the public methods of its classes.

    It is empty if there is none. The names are `__all__`; without it, all that the module defines.
    """
    of_assignments = _assignments(module)
    if hasattr(module, "__all__"):
        of_assignments = _imported_assignments(module) | of_assignments
    defined = (name for name, value in vars(module).items() if _is_defined_in(module, value))
    names = getattr(module, "__all__", [*of_assignments, *defined])
    found = {module.__name__: inspect.getdoc(module) or ""}
    for name in names:
        value = getattr(module, name)
        if name.startswith("_") and name not in getattr(module, "__all__", ()):
            continue
        is_object = inspect.isclass(value) or inspect.isroutine(value)
        text = of_assignments.get(name) if name in of_assignments or not is_object else inspect.getdoc(value)
        found[f"{module.__name__}.{name}"] = text or ""
        if inspect.isclass(value):
            members = _members(value)
            found |= {f"{module.__name__}.{name}.{member}": text for member, text in members}
    return found


def _is_defined_in(module: types.ModuleType, value: object) -> bool:
    is_object = inspect.isclass(value) or inspect.isfunction(value)
    return is_object and getattr(value, "__module__", None) == module.__name__


def _imported_assignments(module: types.ModuleType) -> dict[str, str]:
    """The names that the module imports from modules of the package which assign to them."""
    found: dict[str, str] = {}
    for statement in _body(module):
        match statement:
            case ast.ImportFrom(module=str(source), names=names) if source.startswith("fvd."):
                there = sys.modules[source]
                if str(there.__file__).endswith(".py"):
                    texts = _assignments(there)
                    found |= {name.name: texts[name.name] for name in names if name.name in texts}
    return found


def _body(module: types.ModuleType) -> list[ast.stmt]:
    return ast.parse(Path(str(module.__file__)).read_text()).body


def _assignments(module: types.ModuleType) -> dict[str, str]:
    """Names that are assigned to at the top of the module, with the text below: griffe's attribute docs."""
    body = _body(module)
    found = {}
    for statement, below in zip(body, [*body[1:], None], strict=True):
        match statement:
            case ast.Assign(targets=[ast.Name(name)]) | ast.AnnAssign(target=ast.Name(name)):
                text = ""
                if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
                    text = inspect.cleandoc(str(below.value.value))
                if not name.startswith("_") and name != "TYPE_CHECKING":
                    found[name] = text
    return found


def _members(cls: type) -> Iterator[tuple[str, str]]:
    for name, member in vars(cls).items():
        if name.startswith("_") or name in getattr(cls, "__slots__", ()):
            continue
        if inspect.isroutine(member) or inspect.isdatadescriptor(member):
            yield name, inspect.getdoc(member) or ""


def examples(text: str) -> str:
    """The examples in a docstring: its blocks of `pycon`."""
    # The blank line ends the output of the last example of a block.
    return "\n".join(_BLOCK.findall(text))


def run_examples(text: str, names: dict[str, Any]) -> str:
    """Runs `examples` with these global names, in the current directory.

    As in `python -m asyncio`, an example may contain `await`. Returns what went wrong; empty if nothing did.
    Whatever the examples leave open is closed.
    """
    wrong = []
    names["__builtins__"] = builtins
    with asyncio.Runner() as runner:
        for example in _PARSER.get_examples(text):
            try:
                got, raised = _run(example.source, names, runner), None
            except Exception as error:
                got, raised = "", "".join(traceback.format_exception_only(error))
            # Like doctest, this compares only the line of an exception, not its traceback.
            want = example.want if example.exc_msg is None else example.exc_msg
            if not _CHECKER.check_output(want, raised or got, doctest.ELLIPSIS) or (
                raised is not None and example.exc_msg is None
            ):
                wrong.append(f"{example.source}gave\n{raised or got}not\n{want}")
        _close(names, runner)
    return "\n".join(wrong)


def _run(source: str, names: dict[str, Any], runner: asyncio.Runner) -> str:
    """Runs one example, and returns what it prints."""
    code = compile(source, "<example>", "single", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    printed, hook = io.StringIO(), sys.displayhook
    sys.displayhook = sys.__displayhook__
    try:
        with contextlib.redirect_stdout(printed):
            result = types.FunctionType(code, names)()
            if inspect.iscoroutine(result):
                runner.run(result)
    finally:
        sys.displayhook = hook
    return printed.getvalue()


def _close(names: dict[str, Any], runner: asyncio.Runner) -> None:
    for value in reversed(list(names.values())):
        if isinstance(value, fvd.aio.Image):
            runner.run(value.close())
        elif isinstance(value, fvd.Server):
            value.stop()
        elif isinstance(value, fvd.Image | io.IOBase):
            value.close()
