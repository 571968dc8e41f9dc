"""Turns what the argument parser states into one line that helps.

jsonargparse reports a wrong key in ten lines and suggests nothing. The innermost reason is found here, with the full
name of the key and the nearest name that exists.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, get_args, get_type_hints

from visionkit.augmentation import SampleAugment
from visionkit.data import VisionDataModule
from visionkit.errors import UsageError, VisionKitError, suggest
from visionkit.faults import as_fault, of_exit
from visionkit.remembered import RemembersArguments
from visionkit.renamed import new_key
from visionkit.runs import release
from visionkit.signatures import unknown
from visionkit.task import VisionTask

_BASES: dict[str, type] = {"model": VisionTask, "data": VisionDataModule, "data.augment": SampleAugment}


def explain(message: str, verb: str, options: Iterable[str] = ()) -> str:
    """Shortens a parser error to its reason and names the nearest option.

    Args:
        message: jsonargparse's text.
        verb: The command.
        options: The parser's option strings, to suggest from.
    """
    return f"{_reason(message, list(options))} (visionkit {verb} --help lists the options)"


def _reason(message: str, options: list[str]) -> str:
    key = _full_key(message)
    class_paths = re.findall(r"Problem with given class_path '([^']+)'", message)
    if found := re.search(r"Option '([^']+)' is not accepted", message):
        names = _arguments(class_paths[-1]) if class_paths else []
        owner = class_paths[-1].rpartition(".")[2] if class_paths else "this class"
        listed = f"; it has {', '.join(names)}" if names else ""
        cls = _class(class_paths[-1]) if class_paths else None
        if isinstance(cls, type) and issubclass(cls, VisionTask):
            return f"model.{found[1]}: {unknown(cls, found[1])}"
        whole = key if key.endswith(f".{found[1]}") else f"{key}.{found[1]}"
        if today := new_key(whole):
            return f"{whole}: {owner} has no such argument; it is called {today} today"
        if hasattr(cls, "decode"):  # the arguments of an architecture
            return f"{whole}: {owner} has no such argument{listed}{suggest(found[1], names)}"
        return f"{whole}: {owner} has no such argument{suggest(found[1], names) or listed}"
    if found := re.search(r"Expected a dot import path string: (\S+)", message):
        shown = re.search(r"Given value: (.*)", message)
        if "Subtypes: [dict[" in message and shown is not None and "class_path" not in shown[1]:
            return f"{key}: {found[1]!r} is no mapping; its keys stand below it, or behind it with dots"
        names = class_names(key, _class(class_paths[-1]) if class_paths else None)
        listed = f"; known are {', '.join(names)}" if names else ""
        return f"{key}: unknown class {found[1]!r}{listed}{suggest(found[1], names)}"
    if found := re.search(r"(Import path \S+ does not correspond[^\n]*|Importing '[^']+' is not allowed)", message):
        return f"{key}: {found[1]}"
    if found := re.search(r"(?i)unrecognized arguments: (.*)", message):
        first = found[1].split()[0].partition("=")[0]
        return f"unknown option {first}{_now(first, options)}"
    if found := re.search(r"does not accept option '([^']+)'", message):
        known = {option.strip("-").split(".")[0] for option in options}
        return f"unknown key {found[1]!r} in the configuration{_now(found[1], known)}"
    if found := re.search(r"arguments are required: (.*)", message):
        sides = [name.split(".")[-1] for name in re.split(r",\s*", found[1])]
        if set(sides) <= set(_BASES):
            return f"missing: {', '.join('--' + side for side in sides)}; give a class or a configuration with -c"
        owner = class_paths[-1].rpartition(".")[2] if class_paths else "the class"
        if entry := re.search(rf"'(\w+)': Namespace\([^()]*init_args=Namespace\({sides[0]}=None\b", message):
            near = suggest(entry[1], {*re.findall(r"'(\w+)': Namespace\(", message)} - {entry[1]})
            return f"{key}.{entry[1]}: it has no {sides[0]!r}, which {owner} needs{near or '; is its name misspelt?'}"
        side = (key if len(class_paths) > 1 else key.split(".")[0]) or "data"
        return f"missing: {', '.join(f'--{side}.{name}' for name in sides)}; {owner} needs it"
    if found := re.search(r"Expected an? (.*?)\. Got value: (.*)", message):
        kind = re.sub(r"<class '([^']+)'>", r"\1", found[1])
        if found[2].startswith("Namespace("):
            whole = key.rpartition(".")[0]
            return f"{key}: keys of a free mapping cannot be set one by one; give {whole} whole, as json"
        allowed = re.findall(r"'([^']+)'", kind) if "Literal[" in kind else []
        if allowed:
            given = found[2].strip()
            return f"{key}: {given!r}; allowed are {', '.join(allowed)}{suggest(given, allowed)}"
        return f"{key}: {found[2].strip()!r} is not of the type {kind}"
    if found := re.search(r"Expected an? <class 'dict'>\s", message):
        given = re.search(r"Given value: (.*)", message)
        return f"{key}: a mapping is required{f', not {given[1][:60]}' if given else ''}"
    if found := re.search(r"File does not exist: '?([^'\n]+)'?", message):
        return f"{key or 'configuration'}: no such file {found[1]}; the shipped ones lie in configs/ of the clone"
    kinds, given = re.findall(r"Subtypes: \[(.*)\]", message), re.search(r"Given value: (.*)", message)
    if kinds and given is not None and not given[1].startswith(("Namespace(", "NestedArg(", "{")):
        none_of = re.sub(r"tuple(\[[^\]]*\])", r"\1", re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", kinds[-1]))
        return f"{key}: {given[1][:60]!r} is none of {none_of.replace('NoneType', 'null')}"
    lines = [line.strip(" -") for line in re.sub(r'Parser key "[^"]+":', "", message).splitlines() if line.strip()]
    text = "; ".join(line for line in lines if not line.startswith(("Given value", "Subtypes", "Errors")))
    return f"{key}: {text[:300]}" if key else text[:300]


def _now(name: str, known: Iterable[str]) -> str:
    """What an unknown option is called now, or the nearest one that there is."""
    dashes = "--" if name.startswith("--") else ""
    today = new_key(name.strip("-"))
    return f"; it is called {dashes}{today} today" if today else suggest(name, known)


def _full_key(message: str) -> str:
    """The key that the message is about.

    Names of a mapping, which are no keys of a parser, stand in the value that was given.
    """
    keys = re.findall(r'Parser key "([^"]+)"', message)
    nested = re.findall(r"NestedArg\(key='([^']+)'", message)
    if keys and nested and nested[-1].split(".")[0] in keys[1:]:
        return f"{keys[0]}.{nested[-1]}"
    return ".".join(keys)


def _class(class_path: str) -> Any:
    module, _, name = class_path.rpartition(".")
    return getattr(sys.modules.get(module), name, None)


def _arguments(class_path: str) -> list[str]:
    cls = _class(class_path)
    if cls is None:
        return []
    names: set[str] = set()
    for base in cls.__mro__:
        if "__init__" in vars(base):
            parameters = inspect.signature(base.__init__).parameters
            open_ended = {name for name, each in parameters.items() if each.kind is inspect.Parameter.VAR_KEYWORD}
            names |= set(parameters) - open_ended - {"self", "args", "kwargs"}
            if not open_ended:
                break  # arguments of the bases are not its own
    return sorted(names)


def of_constructor(message: str) -> str | None:
    """What the innermost constructor reported, out of the parser's text; None where none did.

    Of a value that may be an object or a list of objects, the parser chains the failure of the first type alone.

    Args:
        message: jsonargparse's text.
    """
    theirs = ("Not a ", "Expected ", "Does not ", "Problem with ", "Parser key", "a class path", "a dict ")
    own = [line for line in re.findall(r"^ +- (.+)$", message, re.MULTILINE) if not line.startswith(theirs)]
    return own[-1] if own else None


def class_names(key: str, owner: Any = None) -> list[str]:
    """The names that a class may be chosen by, for `model`, `data` and arguments that take objects or lists of them.

    Args:
        key: The argument, in full.
        owner: Class whose argument it is.
    """
    bases = [_BASES[key]] if key in _BASES else _taken_by(owner, key.rpartition(".")[2])
    return sorted({cls.__name__ for base in bases for cls in subclasses(base) if _is_public(cls)})


def _taken_by(owner: Any, name: str) -> list[type]:
    """The classes whose objects an argument takes, in lists too."""
    for base in getattr(owner, "__mro__", ()):
        constructor = vars(base).get("__init__")
        if constructor is not None and name in inspect.signature(constructor).parameters:
            hints = [get_type_hints(constructor).get(name)]
            while any(map(get_args, hints)):
                hints = [part for hint in hints for part in get_args(hint) or [hint]]
            return [hint for hint in hints if isinstance(hint, RemembersArguments)]
    return []


def _is_public(cls: type) -> bool:
    return not inspect.isabstract(cls) and not cls.__name__.startswith("_")


def subclasses(cls: type) -> set[Any]:
    """All imported subclasses, at any depth."""
    direct: set[Any] = set(cls.__subclasses__())
    return direct.union(*(subclasses(each) for each in direct)) if direct else direct


@contextmanager
def parser_errors() -> Iterator[None]:
    """Errors of a command line's parser, and of what it builds, as those of visionkit; what was begun is let go.

    Raises:
        VisionKitError: The error behind it.
    """
    try:
        yield
    except ValueError as error:
        # What a constructor raises comes out of jsonargparse as "does not validate against any of the Union subtypes",
        # once for every level that it lies deep.
        message: BaseException = error
        while message.__cause__ is not None and not isinstance(message, VisionKitError):
            message = message.__cause__
        if message is error:
            raise
        if not isinstance(message, VisionKitError) and (own := of_constructor(str(error))) is not None:
            raise UsageError(own) from None
        raise (as_fault(message) or UsageError(f"configuration: {message}")) from None
    except SystemExit as end:
        if (fault := of_exit(end)) is None:
            raise
        raise fault from None
    finally:
        release()
