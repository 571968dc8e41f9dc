"""Names, help, errors, docs and the demo speak the field's language: `docs/glossary.md`.

Reads identifiers and texts by `ast`, pages without their code. What is banned is a word of the private dialect that the
project once had; each exception has its reason beside it.
"""

import ast
import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("visionkit", "tasks", "datamodules", "ui")
BANNED = {
    "picture": "image",
    "pictures": "images",
    "answer": "prediction, output or response",
    "answers": "predictions",
    "answered": "processed",
    "answering": "predicting",
    "learnt": "trained or learned",
    "taught": "trained",
    "memorised": "overfit",
    "memorized": "overfit",
    "told": "reported",
    "tells": "states or shows",
    "says": "states",
    "anew": "again",
    "wants": "needs or requires",
    "surest": "highest-scoring",
    "persons": "people",
    "joints": "keypoints",
    "starter": "example model",
    "starters": "example models",
    "knob": "control",
    "knobs": "controls",
    "desk": "job queue",
    "road": "path",
    "roads": "paths",
    "mirrored": "flipped",
    "mirroring": "flipping",
    "colour": "color",
    "colours": "colors",
    "metre": "meter",
    "metres": "meters",
    "centre": "center",
    "centres": "centers",
    "grey": "gray",
    "labelled": "labeled",
    "neighbour": "neighbor",
    "neighbours": "neighbors",
    "optimiser": "optimizer",
    "normalised": "normalized",
    "normalisation": "normalization",
    "licence": "license",
    "catalogue": "model registry",
    "start_from": "init_from",
}
"""Word of the dialect -> what to write."""
PHRASES = {
    r"by heart": "overfit", r"where left out": "by default", r"looked at|looks at|looking at": "processed, processes",
    r"stands? there already": "already exists", r"stands? there twice": "duplicate", r"filled up": "padded",
    r"a folder a class|(?:label|record|row|map|crop) an? (?:class|image|person|object)\b": "one ... per ...",
    r"shares of|share of the": "fraction", r"sure enough": "above the score threshold",
}  # fmt: skip
ALLOWED = {
    # (word, where): why
    ("road", "*"): "a class of CamVid and Cityscapes, in examples of class names",
    ("starters", "*"): "ui/starters, the folder of the example models: paths are stored in cards and commands",
    ("joints", "datamodules/mpii.py"): "a key of MPII's json",
    ("joints", "datamodules/lsp.py"): "LSP's file joints.mat",
    ("joints_vis", "datamodules/mpii.py"): "a key of MPII's json",
    ("colours", "ui/views/depth_map.py"): "a key of the page's script",
}
_WORD = re.compile(r"\b(?:" + "|".join(sorted(BANNED, key=len, reverse=True)) + r")\b", re.I)
_PHRASE = re.compile("|".join(f"(?:{pattern})" for pattern in PHRASES), re.I)
_CODE = re.compile(r"`[^`]*`|\]\([^)]*\)|<!--.*?-->|https?:\S+", re.S)
_PARTS = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z0-9]+|[A-Z0-9]+")
_SCRIPT = re.compile(r"=>|document\.|querySelector|<script|<svg|<style|\bvk-")


def is_allowed(word: str, place: str) -> bool:
    return any(word.lower() == known and fnmatch(place, where) for known, where in ALLOWED)


def in_text(text: str, place: str) -> list[str]:
    """What is banned in a text for people."""
    text = " ".join(_CODE.sub(" ", text).split())
    found = [match[0] for match in _WORD.finditer(text)] + [match[0] for match in _PHRASE.finditer(text)]
    return [f"{place}: {word!r} in {text[:90]!r}" for word in found if not is_allowed(word, place)]


def in_name(name: str, place: str) -> list[str]:
    """What is banned in an identifier: a piece of it, or the whole."""
    pieces = {piece.lower() for piece in _PARTS.findall(name)} | {name.lower()}
    return [f"{place}: {word!r} in the name {name}" for word in pieces & BANNED.keys() if not is_allowed(word, place)]


def in_python(source: str, place: str) -> list[str]:
    """Public names and their arguments, docstrings, and every literal that has a blank."""
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            found += in_name(node.name, place)
            if not isinstance(node, ast.ClassDef):
                for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs):
                    found += in_name(argument.arg, place)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id[0] != "_":
            found += in_name(node.target.id, place)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value.strip():
            found += [] if _SCRIPT.search(node.value) else in_text(node.value, place)
    return found


def in_page(text: str, place: str) -> list[str]:
    """A Markdown page outside its code; each paragraph by itself."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
    return [line for paragraph in text.split("\n\n") for line in in_text(paragraph, place)]


def test_python_speaks_the_fields_language():
    found: list[str] = []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            found += in_python(path.read_text("utf-8"), str(path.relative_to(ROOT)))
    assert not found, f"{len(found)} words of the dialect:\n" + "\n".join(found[:40])


def test_pages_speak_the_fields_language():
    pages = [ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("ui/starters/**/README.md")]
    found = [line for path in pages for line in in_page(path.read_text("utf-8"), str(path.relative_to(ROOT)))]
    assert not found, f"{len(found)} words of the dialect:\n" + "\n".join(found[:40])


def test_configurations_speak_the_fields_language():
    found: list[str] = []
    for path in sorted((ROOT / "configs").rglob("*.yaml")):
        for line in path.read_text("utf-8").splitlines():
            found += in_text(line, str(path.relative_to(ROOT)))
    assert not found, f"{len(found)} words of the dialect:\n" + "\n".join(found[:40])


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ("def f(picture):\n    pass\n", "picture"),
        ("class SurestFirst:\n    pass\n", "surest"),
        ("class A:\n    colours: int = 0\n", "colours"),
        ('"""A folder a class."""\n', "A folder a class"),
        ('raise ValueError(f"{1} is told where left out")\n', "told"),
        ('X = "Predicts one label an image."\n', "label an image"),
    ],
)
def test_a_word_of_the_dialect_is_found(source, word):
    assert any(
        repr(word) in line or f"{word!r}".lower() in line.lower() for line in in_python(source, "visionkit/x.py")
    )


def test_code_and_exceptions_are_not_prose():
    assert in_page("Run `visionkit picture` or [it](docs/pictures/a.png).\n\n```bash\nanswer\n```\n", "docs/x.md") == []
    assert in_page("The picture.", "docs/x.md")
    assert in_python('X = "classes sky and road"\n', "tasks/x.py") == []
    assert in_python('X = "two joints of it"\n', "datamodules/mpii.py") == []
    assert in_python('X = "two joints of it"\n', "tasks/pose/task.py")
