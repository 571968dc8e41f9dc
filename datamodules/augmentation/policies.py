"""Augmentation policies: which operations, how strong. Drawn here; done by albumentations in `library`.

The operations and ranges are those of the papers. They are "-like" because albumentations does the pixels: sharpness
below 1 is a slight blur, moved-in borders are gray.
"""

from __future__ import annotations

import functools
import math
from typing import Any, Literal

import numpy as np

Policy = Literal["none", "randaugment", "trivialaugment", "autoaugment"]

BINS = 31
"""Strengths are counted from 0 to 30."""

_SIGNED = {"shear_x", "shear_y", "translate_x", "translate_y", "rotate", "brightness", "color", "contrast", "sharpness"}
_MOST = {  # the strongest of RandAugment and AutoAugment, and of TrivialAugment (wide)
    "shear_x": (0.3, 0.99),
    "shear_y": (0.3, 0.99),
    "translate_x": (150 / 331, 32 / 224),
    "translate_y": (150 / 331, 32 / 224),
    "rotate": (30.0, 135.0),
    "brightness": (0.9, 0.99),
    "color": (0.9, 0.99),
    "contrast": (0.9, 0.99),
    "sharpness": (0.9, 0.99),
    "posterize": (4.0, 6.0),
    "solarize": (1.0, 1.0),
    "autocontrast": (0.0, 0.0),
    "equalize": (0.0, 0.0),
    "identity": (0.0, 0.0),
}
OPERATIONS = tuple(_MOST)

_AUTOAUGMENT = (  # the policy that was found on ImageNet: pairs of (operation, probability, strength 0 to 9)
    (("posterize", 0.4, 8), ("rotate", 0.6, 9)),
    (("solarize", 0.6, 5), ("autocontrast", 0.6, 0)),
    (("equalize", 0.8, 0), ("equalize", 0.6, 0)),
    (("posterize", 0.6, 7), ("posterize", 0.6, 6)),
    (("equalize", 0.4, 0), ("solarize", 0.2, 4)),
    (("equalize", 0.4, 0), ("rotate", 0.8, 8)),
    (("solarize", 0.6, 3), ("equalize", 0.6, 0)),
    (("posterize", 0.8, 5), ("equalize", 1.0, 0)),
    (("rotate", 0.2, 3), ("solarize", 0.6, 8)),
    (("equalize", 0.6, 0), ("posterize", 0.4, 6)),
    (("rotate", 0.8, 8), ("color", 0.4, 0)),
    (("rotate", 0.4, 9), ("equalize", 0.6, 0)),
    (("equalize", 0.0, 0), ("equalize", 0.8, 0)),
    (("invert", 0.6, 0), ("equalize", 1.0, 0)),
    (("color", 0.6, 4), ("contrast", 1.0, 8)),
    (("rotate", 0.8, 8), ("color", 1.0, 2)),
    (("color", 0.8, 8), ("solarize", 0.8, 7)),
    (("sharpness", 0.4, 7), ("invert", 0.6, 0)),
    (("shear_x", 0.6, 5), ("equalize", 1.0, 0)),
    (("color", 0.4, 0), ("equalize", 0.6, 0)),
    (("equalize", 0.4, 0), ("solarize", 0.2, 4)),
    (("solarize", 0.6, 5), ("autocontrast", 0.6, 0)),
    (("invert", 0.6, 0), ("equalize", 1.0, 0)),
    (("color", 0.6, 4), ("contrast", 1.0, 8)),
    (("equalize", 0.8, 0), ("equalize", 0.6, 0)),
)


def draw_operations(
    policy: Policy, rng: np.random.Generator, operations: int = 2, magnitude: int = 9
) -> tuple[tuple[str, float], ...]:
    """Draws what is done to one sample.

    Args:
        policy: `randaugment` (Cubuk et al., 2019): `operations` of equal strength; `trivialaugment` (Mueller and
            Hutter, 2021): one of any strength; `autoaugment` (Cubuk et al., 2018): a pair from the learned table.
        rng: The sample's own.
        operations: For `randaugment`.
        magnitude: For `randaugment`, 0 to 30.

    Returns:
        Names and signed strengths in the operation's own unit.
    """
    if policy == "trivialaugment":
        name = OPERATIONS[rng.integers(len(OPERATIONS))]
        return ((name, _strength(name, int(rng.integers(BINS)), rng, wide=True)),)
    if policy == "autoaugment":
        pair = _AUTOAUGMENT[rng.integers(len(_AUTOAUGMENT))]
        drawn = [
            (name, _strength(name, round(level * (BINS - 1) / 9), rng), rng.random() < chance)
            for name, chance, level in pair
        ]
        return tuple((name, strength) for name, strength, done in drawn if done)
    names = [OPERATIONS[k] for k in rng.integers(len(OPERATIONS), size=operations)]
    return tuple((name, _strength(name, magnitude, rng)) for name in names)


def _strength(name: str, level: int, rng: np.random.Generator, wide: bool = False) -> float:
    most = _MOST.get(name, (0.0, 0.0))[wide]
    sign = -1.0 if name in _SIGNED and rng.random() < 0.5 else 1.0
    return sign * most * level / (BINS - 1)


@functools.lru_cache(maxsize=2048)
def build_operation(lib: Any, name: str, strength: float) -> Any:
    """One transform of albumentations that does exactly this; kept, since only a few hundred differ.

    Args:
        lib: The albumentations module.
        name: One of `OPERATIONS`, or `invert`.
        strength: Signed, in the operation's unit: tangent, fraction of the side, degrees, factor - 1, bits, fraction.
    """
    gray = 114
    if name in ("shear_x", "shear_y"):
        angle = math.degrees(math.atan(strength))
        axis = name[-1]
        return lib.Affine(shear={axis: (angle, angle), "xy".replace(axis, ""): (0, 0)}, fill=gray, p=1)
    if name in ("translate_x", "translate_y"):
        axis = name[-1]
        moved = {axis: (strength, strength), "xy".replace(axis, ""): (0, 0)}
        return lib.Affine(translate_percent=moved, fill=gray, p=1)
    if name == "rotate":
        return lib.Affine(rotate=(strength, strength), fill=gray, p=1)
    if name in ("brightness", "contrast", "color"):
        factors: dict[str, tuple[float, float]] = {
            "brightness": (1, 1),
            "contrast": (1, 1),
            "saturation": (1, 1),
            "hue": (0, 0),
        }
        factors["saturation" if name == "color" else name] = (1 + strength, 1 + strength)
        return lib.ColorJitter(**factors, p=1)
    if name == "sharpness":
        if strength < 0:
            return lib.GaussianBlur(blur_limit=0, sigma_limit=(-strength, -strength), p=1)
        return lib.Sharpen(alpha=(strength / 2, strength / 2), lightness=(1, 1), p=1)
    if name == "posterize":
        bits = max(1, 8 - round(strength))
        return lib.Posterize(num_bits=bits, p=1) if bits < 8 else lib.NoOp(p=1)
    if name == "solarize":
        return lib.Solarize(threshold_range=(1 - strength, 1 - strength), p=1)
    if name == "autocontrast":
        return lib.AutoContrast(cutoff=0, method="pil", p=1)
    plain = {"equalize": "Equalize", "invert": "InvertImg", "identity": "NoOp"}
    return getattr(lib, plain[name])(p=1)
