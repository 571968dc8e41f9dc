"""visionkit: train, test, export and serve vision models on any timm backbone.

Importing it costs nothing; `fit` and `load` bring torch along when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from visionkit.predictor import Predictor as Predictor
    from visionkit.predictor import load as load
    from visionkit.training import fit as fit

    __version__: str

__all__ = ["Predictor", "__version__", "fit", "load"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("visionkit")
    if name in ("load", "Predictor"):
        from visionkit import predictor

        return getattr(predictor, name)
    if name == "fit":
        from visionkit import training

        return training.fit
    raise AttributeError(f"module 'visionkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
