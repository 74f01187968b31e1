"""The public names of sk_mtl, and where each has its page."""

import importlib
import inspect
from typing import Any

import sk_mtl

MODULES = ("sk_mtl", *(f"sk_mtl.{name}" for name in sk_mtl._SUBMODULES))
"""The public modules."""


def exported() -> dict[str, Any]:
    """Return what every public name of every public module names."""
    modules = map(importlib.import_module, MODULES)
    return {f"{m.__name__}.{name}": getattr(m, name) for m in modules for name in m.__all__}


def is_ours(thing: Any) -> bool:
    """Whether a class, function or method is defined in the package."""
    return str(getattr(thing, "__module__", "")).partition(".")[0] == "sk_mtl"


def has_page(thing: Any) -> bool:
    """Whether a thing is a class or a function of the package; constants stand in lists."""
    return (inspect.isclass(thing) or inspect.isfunction(thing)) and is_ours(thing)


def homes() -> dict[str, str]:
    """Return under which name each public name is documented.

    What several modules export has its home in `sk_mtl`, or else in the module that defines it.
    """
    things = exported()
    names: dict[int, list[str]] = {}
    for name, thing in things.items():
        if has_page(thing):
            names.setdefault(id(thing), []).append(name)

    def order(name: str) -> tuple[bool, bool]:
        module = name.rpartition(".")[0]
        return module == "sk_mtl", f"{things[name].__module__}.".startswith(f"{module}.")

    return {
        name: max(names.get(id(thing), [name]), key=order) if has_page(thing) else name
        for name, thing in things.items()
    }


def other_names() -> dict[str, str]:
    """Return the homes of what docstrings call otherwise: by another module, or by bare name."""
    things, found = exported(), homes()
    bare: dict[str, set[str]] = {}
    for home in found.values():
        bare.setdefault(home.rpartition(".")[2], set()).add(home)
    for name, thing in things.items():
        if has_page(thing):
            found[f"{thing.__module__}.{thing.__qualname__}"] = found[name]
    return found | {name: of.pop() for name, of in bare.items() if len(of) == 1}
