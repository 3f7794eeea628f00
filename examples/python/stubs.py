# SPDX-License-Identifier: MIT
"""stubs.py FOLDER: writes FOLDER/infalign/_core.pyi and checks.pyi from the docstrings of the compiled module, for type checkers."""

import inspect
import re
import sys

folder = sys.argv[1]
sys.path.insert(0, folder)

import infalign._core as core  # noqa: E402


MEMBERS = ("__init__", "__call__", "__or__", "__len__", "__iadd__", "__getattr__", "__bool__")


def types_of(signature):
    """A signature of pybind11 in Python's own types."""
    signature = re.sub(r"numpy\.ndarray\[[^\]]*\]", "numpy.ndarray", signature)
    signature = re.sub(r"\b(handle|object)\b", "Any", signature)
    signature = re.sub(r"infalign\._core\.(checks\.)?", "", signature)
    signature = re.sub(r"[\w]+(::[\w<>:() ]+)+", "Any", signature)
    return re.sub(r" = (<[^>]*>|nan)", " = ...", signature)


def function(name, f, indent=""):
    lines = [line for line in (f.__doc__ or "").splitlines() if re.match(r"(\d+\. )?" + re.escape(name) + r"\(", line.strip())]
    found = [re.sub(r"^\d+\. ", "", line.strip()) for line in lines if "->" in line] or [f"{name}(*args, **kwargs) -> Any"]
    result = []
    for signature in found:
        if len(found) > 1:
            result.append(f"{indent}@overload")
        result.append(f"{indent}def {types_of(signature)}: ...")
    return result


def stub(module):
    """The text of a module's stub."""
    out = ["# Written by stubs.py.", "from typing import Any, Callable, Iterator, Optional, overload", "import numpy", ""]
    for name in sorted(dir(module)):
        thing = getattr(module, name)
        if name.startswith("_"):
            continue
        if name == "mean_estimate":
            out += ["class mean_estimate(tuple):", *(f"    {field}: float" for field in thing._fields), ""]
        elif inspect.isclass(thing):
            out.append(f"class {name}:")
            body = []
            for member in sorted(vars(thing)):
                value = vars(thing)[member]
                if isinstance(value, property):
                    body.append(f"    @property\n    def {member}(self) -> Any: ...")
                elif callable(value) and (not member.startswith("_") or member in MEMBERS):
                    body += function(member, value, "    ")
            out += body or ["    ..."]
            out.append("")
        elif callable(thing):
            out += function(name, thing)
    return "\n".join(out) + "\n"


for module, file in ((core, "_core.pyi"), (core.checks, "checks.pyi")):
    text = stub(module)
    compile(text, file, "exec")
    with open(f"{folder}/infalign/{file}", "w", encoding="utf-8") as stubs:
        stubs.write(text)
