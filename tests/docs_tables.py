"""The tables of the documentation that are made from the code: errors and exit codes.

`python -m tests.docs_tables` prints them, to be put into docs/reference/errors.md and cli.md;
tests/test_docs.py compares.
"""

from __future__ import annotations

import inspect

from memdb import errors
from memdb.cli.errors import EXIT_CODES


def error_classes() -> list[type[errors.Error]]:
    """Every public error in the order of the module."""
    return [
        kind
        for name, kind in vars(errors).items()
        if not name.startswith("_") and isinstance(kind, type) and issubclass(kind, errors.Error)
    ]


def errors_table() -> str:
    """One line an error: name, builtin base, code, attributes, meaning."""
    lines = ["| error | also a | `code` | attributes | meaning |", "| --- | --- | --- | --- | --- |"]
    for kind in error_classes():
        builtin = next(base.__name__ for base in kind.__mro__ if base.__module__ == "builtins")
        also = f"`{builtin}`" if builtin != "Exception" else ""
        meaning = " ".join((inspect.getdoc(kind) or "").split("\n\n")[0].replace("``", "`").split())
        attributes = " ".join(f"`{name}`" for name in kind.attributes)
        lines.append(f"| `{kind.__name__}` | {also} | `{kind.code}` | {attributes} | {meaning} |")
    return "\n".join(lines) + "\n"


def exit_codes_table() -> str:
    """One line an exit code."""
    return "| code | meaning |\n| --- | --- |\n" + "".join(
        f"| {code} | {meaning} |\n" for code, meaning in EXIT_CODES.items()
    )


if __name__ == "__main__":
    print(errors_table())
    print(exit_codes_table())
