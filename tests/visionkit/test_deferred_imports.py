"""Stand-ins for heavy packages are there for one importing module and gone afterwards."""

import importlib
import sys

import pytest

from visionkit import deferred_imports


@pytest.mark.parametrize("name", ["no_such_package", "no_such_package.part"])
def test_a_name_is_lent_once_and_taken_back(name):
    with deferred_imports._lend(name, "Type", int):
        assert sys.modules[name].Type is int
        assert name not in sys.modules
    with deferred_imports._lend(name, "Type", int), pytest.raises(AttributeError):
        _ = sys.modules[name].Other
    assert name not in sys.modules


def test_stand_ins_are_taken_back_after_an_error():
    for stand_in in (deferred_imports._lend("absent", "x", 1), deferred_imports._unused("absent", y=2)):
        with pytest.raises(ImportError), stand_in:
            raise ImportError
        assert "absent" not in sys.modules
    with deferred_imports._without("absent"), pytest.raises(ImportError):
        __import__("absent")
    assert "absent" not in sys.modules


def test_what_is_imported_already_stays():
    import json

    with deferred_imports._without("json"), deferred_imports._lend("json", "loads", None):
        assert sys.modules["json"] is json and json.loads("1") == 1
    assert sys.modules["json"] is json


def test_the_hook_is_set_once():
    before = list(sys.meta_path)
    try:
        deferred_imports.defer_imports()
        once = list(sys.meta_path)
        deferred_imports.defer_imports()
        assert sys.meta_path == once
    finally:
        sys.meta_path[:] = before


def test_all_named_importers_exist():
    from importlib.util import find_spec

    for name in deferred_imports.IMPORTERS:
        assert find_spec(name), f"{name} has moved: its imports are paid for again"


def test_a_version_that_uses_more_gets_the_real_module(tmp_path, monkeypatch):
    (tmp_path / "lent_package.py").write_text("first, second = 1, 2\n")
    (tmp_path / "importer_of_more.py").write_text("from lent_package import first, second\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    lend = deferred_imports._lend
    monkeypatch.setitem(deferred_imports.IMPORTERS, "importer_of_more", lambda: lend("lent_package", "first", None))
    monkeypatch.setattr(sys, "meta_path", [deferred_imports._Finder(), *sys.meta_path])
    try:
        module = importlib.import_module("importer_of_more")
        assert (module.first, module.second) == (1, 2)
    finally:
        for name in ("importer_of_more", "lent_package"):
            sys.modules.pop(name, None)


def test_an_import_that_was_lent_nothing_fails_once_with_its_own_error(tmp_path, monkeypatch):
    (tmp_path / "runs.py").write_text("count = []\n")
    (tmp_path / "package_without_library.py").write_text(
        "import runs\n"
        "runs.count.append(1)\n"
        "raise ImportError('libcudart.so: cannot open' if len(runs.count) == 1 else 'already has a docstring')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "meta_path", [deferred_imports._Finder(), *sys.meta_path])
    name = "package_without_library"
    for stand_in in (deferred_imports.uncollected, lambda: deferred_imports._lend("json", "loads", None)):
        monkeypatch.setitem(deferred_imports.IMPORTERS, name, stand_in)
        with pytest.raises(ImportError, match="cannot open"):
            importlib.import_module(name)
        assert sys.modules.pop("runs").count == [1]


def test_the_decorators_take_their_function_by_the_name_that_torch_gives_it():
    import inspect

    import torch
    from torch import _compile
    from torch.optim import optimizer

    def function():
        return 3

    assert _compile._disable_dynamo(fn=function, recursive=False)() == 3
    for own, real in (
        (_compile._disable_dynamo, "fn"),
        (deferred_imports._disable, next(iter(inspect.signature(torch.compiler.disable).parameters))),
        (optimizer._use_grad_for_differentiable, "func"),
    ):
        assert next(iter(inspect.signature(own).parameters)) == real


def test_a_torch_without_the_private_name_keeps_its_decorator(monkeypatch):
    import torch
    from torch import _compile

    own = torch.compiler.disable
    with deferred_imports._disable_later():
        assert torch.compiler.disable is deferred_imports._disable
    monkeypatch.delattr(_compile, "_disable_dynamo")
    with deferred_imports._disable_later():
        assert torch.compiler.disable is own


def test_an_optimizer_steps_without_the_compiler(monkeypatch):
    """The names of torch that are wrapped exist: an optimizer does without the compiler, and with it does the same."""
    import torch

    def step(factor):
        weight = torch.nn.Parameter(torch.ones(3))
        optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
        optimizer.zero_grad()
        (weight.square().sum() * factor).backward()
        optimizer.step()
        assert torch.is_grad_enabled() and weight.requires_grad and weight.is_leaf
        return weight.detach()

    with monkeypatch.context() as absent:
        absent.delitem(sys.modules, deferred_imports.COMPILER, raising=False)
        without = [step(1.0), step(2.0)]
        torch.empty(3, device="meta").normal_()
        assert deferred_imports.COMPILER not in sys.modules
    importlib.import_module(deferred_imports.COMPILER)
    assert torch.equal(torch.stack(without), torch.stack([step(1.0), step(2.0)]))


def test_settings_of_the_compiler_are_made_once_it_is_there(monkeypatch):
    import torch

    compiler = importlib.import_module(deferred_imports.COMPILER)
    monkeypatch.setattr(deferred_imports, "_settings", {})
    monkeypatch.setattr(compiler.config, "cache_size_limit", 7)
    with monkeypatch.context() as absent:
        absent.delitem(sys.modules, deferred_imports.COMPILER)
        absent.delattr(torch, "_dynamo", raising=False)
        with deferred_imports._set_later():
            torch._dynamo.config.cache_size_limit = 9
            torch._dynamo.config.no_such_setting = 1
        assert "_dynamo" not in vars(torch)
    assert compiler.config.cache_size_limit == 7
    with deferred_imports._set_now():
        pass
    assert compiler.config.cache_size_limit == 9
