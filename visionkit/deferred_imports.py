"""Leaves out what other packages import for uses that visionkit has none of: torch's compiler, wandb and scipy.signal.

torchvision, timm, torchmetrics and lightning bring them in when they themselves are imported, for the check of a type,
a decorator, a table of results, a metric of sounds. A prediction uses none of them, and they are half of its start.

Hooks do it, because those packages import each other. Whoever uses the compiler or wandb itself gets the real ones.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType, SimpleNamespace
from typing import Any

COMPILER = "torch._dynamo"


class _CompiledModule(type):
    """The type of the stand-in for what torch.compile makes: nothing is one before the compiler is there."""

    def __instancecheck__(cls, value: object) -> bool:
        compiler = sys.modules.get(COMPILER)
        real: type | None = getattr(compiler, "OptimizedModule", None)
        return real is not None and isinstance(value, real)


OptimizedModule = _CompiledModule("OptimizedModule", (), {})


def is_compile_supported(kind: str) -> bool:
    """Whether the compiler knows a type of device; asked by torchvision's RoI pooling on a GPU."""
    found: bool = importlib.import_module(f"{COMPILER}.utils").is_compile_supported(kind)
    return found


class _Once(ModuleType):
    """Lends one name to one import statement; it is gone before the next."""

    def __init__(self, name: str, lent: str, value: Any) -> None:
        super().__init__(name)
        self._lent = lent, value

    def __getattr__(self, name: str) -> Any:
        lent, value = self._lent
        if name != lent:
            raise AttributeError(name)
        _take_back(self)
        return value


def _take_back(module: ModuleType) -> None:
    if sys.modules.get(module.__name__) is module:
        del sys.modules[module.__name__]


@contextmanager
def _lend(name: str, lent: str, value: Any) -> Iterator[bool]:
    if name in sys.modules:
        yield False
        return
    module = sys.modules[name] = _Once(name, lent, value)
    try:
        yield True
    finally:
        _take_back(module)


@contextmanager
def _disable_once_there() -> Iterator[bool]:
    """Has torch's own decorator leave the compiler alone until something else has imported it.

    An optimizer, a shape that is worked out on the meta device and a logged value each call a function that is kept
    from the compiler, and the first call would import it, 1.2 s of a processor. As long as it is not there it compiles
    nothing that the function had to be kept from.
    """
    yield False
    torch_compile: Any = sys.modules["torch._compile"]
    real = getattr(torch_compile, "_disable_dynamo", None)
    if real is None:  # a private name: a torch without it keeps its own decorator
        return

    def disable(fn: Callable[..., Any] | None = None, recursive: bool = True) -> Any:
        if fn is None:
            return functools.partial(disable, recursive=recursive)
        with_compiler = real(fn, recursive)

        @functools.wraps(fn)
        def call(*args: Any, **kwargs: Any) -> Any:
            return (with_compiler if sys.modules.get(COMPILER) else fn)(*args, **kwargs)

        return call

    torch_compile._disable_dynamo = disable


@contextmanager
def _break_once_there() -> Iterator[bool]:
    """Has the step of torch's optimizers do without the compiler's marks as long as there is no compiler."""
    yield False
    optimizer: Any = sys.modules["torch.optim.optimizer"]
    real = getattr(optimizer, "_use_grad_for_differentiable", None)
    if real is None:  # a private name, as above
        return
    from torch import set_grad_enabled

    def use_grad(func: Callable[..., Any]) -> Any:
        with_compiler = real(func)

        @functools.wraps(func)
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            if sys.modules.get(COMPILER):
                return with_compiler(self, *args, **kwargs)
            with set_grad_enabled(self.defaults["differentiable"]):
                return func(self, *args, **kwargs)

        return call

    optimizer._use_grad_for_differentiable = use_grad


_settings: dict[str, Any] = {}
"""What an importer has set of the compiler's configuration before the compiler was there."""


@contextmanager
def _set_later() -> Iterator[bool]:
    """Takes settings of the compiler, which torch would import for them, until it is there."""
    import torch

    if COMPILER in sys.modules:
        yield False
        return
    config = SimpleNamespace()
    torch._dynamo = SimpleNamespace(config=config)  # type: ignore[assignment]
    try:
        yield True
    finally:
        del torch._dynamo
        _settings.update(vars(config))


@contextmanager
def _set_now() -> Iterator[bool]:
    yield False
    for name, value in _settings.items():
        with suppress(AttributeError):  # what importers must expect of another version
            setattr(sys.modules[COMPILER].config, name, value)


def _disable(fn: Callable[..., Any] | None = None, recursive: bool = True, *, reason: str | None = None) -> Any:
    """A decorator that keeps the compiler from a function, and imports it when that is called, as torch's own do."""
    from torch._compile import _disable_dynamo

    return _disable_dynamo(fn, recursive)


@contextmanager
def _disable_later() -> Iterator[bool]:
    import torch
    from torch import _compile

    if not hasattr(_compile, "_disable_dynamo"):  # a private name: a torch without it keeps its own decorator
        yield False
        return
    real = torch.compiler.disable
    torch.compiler.disable = _disable
    try:
        yield True
    finally:
        torch.compiler.disable = real


@contextmanager
def _without(name: str) -> Iterator[bool]:
    """A package that is not there for the module that is imported meanwhile, unless it was imported before."""
    absent = name not in sys.modules
    if absent:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield absent
    finally:
        if absent:
            del sys.modules[name]


@contextmanager
def _unused(name: str, **attributes: Any) -> Iterator[bool]:
    """An empty module that is found and not used by the module that is imported meanwhile."""
    if name in sys.modules:
        yield False
        return
    module = sys.modules[name] = ModuleType(name)
    vars(module).update(attributes)
    try:
        yield True
    finally:
        _take_back(module)


@contextmanager
def uncollected() -> Iterator[bool]:
    """Imports without Python's garbage collector, which would go through all that is imported again and again.

    What there is afterwards stays, so it is not gone through later either; at the end it is, since extensions report
    what is left of them.
    """
    if not gc.isenabled():
        yield False
        return
    gc.disable()
    atexit.unregister(gc.unfreeze)
    atexit.register(gc.unfreeze)
    try:
        yield False
    finally:
        gc.freeze()
        gc.enable()


def _lend_type() -> AbstractContextManager[bool]:
    return _lend(COMPILER, "OptimizedModule", OptimizedModule)


IMPORTERS: dict[str, Callable[[], AbstractContextManager[bool]]] = {
    **dict.fromkeys(("torch", "torchvision", "timm", "lightning", "onnxruntime", "gradio"), uncollected),
    "torch._compile": _disable_once_there,
    COMPILER: _set_now,
    "torch.optim.optimizer": _break_once_there,
    "timm.optim.kron": _set_later,
    "torchvision.ops.roi_align": lambda: _lend(f"{COMPILER}.utils", "is_compile_supported", is_compile_supported),
    "torchvision.tv_tensors": _disable_later,
    "timm.layers.typing": _disable_later,
    "lightning.pytorch.trainer.connectors.logger_connector.result": _disable_later,
    "timm.utils.summary": lambda: _without("wandb"),
    "torchmetrics": lambda: _unused("scipy.signal", hamming=None),
    "lightning.fabric.wrappers": _lend_type,
    "lightning.pytorch.utilities.compile": _lend_type,
}
"""Modules that import one of the three, and what they find meanwhile; the compiler itself; and large packages.

Each context states whether it lends the module something in place of what Python would find.
"""


class _Finder:
    """Finds those modules as Python does, and has them run with less."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in IMPORTERS:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return None
        execute, stand_in = spec.loader.exec_module, IMPORTERS[fullname]

        def run(module: ModuleType) -> None:
            lent = False
            try:
                with stand_in() as lent:
                    execute(module)
            except (ImportError, AttributeError):
                if not lent:  # the error is the module's own, and a second run would hide it behind another one
                    raise
                execute(module)  # another version uses more than is lent

        spec.loader.exec_module = run  # type: ignore[method-assign]
        return spec


def defer_imports() -> None:
    """To be called before torchvision, timm or lightning are imported; what already exists stays as it is."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
