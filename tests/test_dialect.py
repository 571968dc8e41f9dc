"""Names, help, errors, docs and the demo speak the field's language: `docs/glossary.md`.

Reads identifiers and texts by `ast`, pages with the names in their code, style sheets, scripts, and the names of files.
What is banned is a word of the private dialect that the project once had; each exception has its reason beside it.
"""

import ast
import re
import subprocess
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("visionkit", "tasks", "datamodules", "ui", "benchmarks")
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
    "said": "stated or predicted",
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
    "neighbourhood": "neighborhood",
    "optimiser": "optimizer",
    "normalised": "normalized",
    "normalisation": "normalization",
    "licence": "license",
    "behaviour": "behavior",
    "bevelled": "beveled",
    "initialisation": "initialization",
    "localisation": "localization",
    "minimised": "minimized",
    "normalisations": "normalizations",
    "normalising": "normalizing",
    "optimisation": "optimization",
    "quantise": "quantize",
    "recognising": "recognizing",
    "relabelled": "relabeled",
    "synchronise": "synchronize",
    "catalogue": "model registry",
    "start_from": "init_from",
}
"""Word of the dialect -> what to write."""
PHRASES = {
    r"by heart": "overfit", r"where left out": "by default", r"looked at|looks at|looking at": "processed, processes",
    r"stands? there already": "already exists", r"stands? there twice": "duplicate", r"filled up": "padded",
    r"a folder a class|(?:label|record|row|map|crop) an? (?:class|image|person|object)\b": "one ... per ...",
    r"shares of|shares? of the|its shares|and shares|class shares": "fraction",
    r"(?:each|every|per|a|is a) joint(?! \w)|draws a joint": "keypoint",
    r"sure enough": "above the score threshold",
}  # fmt: skip
ALLOWED = {
    # (word, where): why
    ("road", "*"): "a class of CamVid and Cityscapes, in examples of class names",
    ("starters", "*"): "ui/starters, the folder of the example models: paths are stored in cards and commands",
    ("joints", "datamodules/mpii.py"): "a key of MPII's json",
    ("joints", "datamodules/lsp.py"): "LSP's file joints.mat",
    ("joints_vis", "datamodules/mpii.py"): "a key of MPII's json",
    ("joints", "docs/*"): "the names of those keys and files, in code",
    ("colour", "visionkit/renamed.py"): "an argument's name in older checkpoints",
    ("mirrored", "visionkit/renamed.py"): "an argument's name in older checkpoints",
    ("start_from", "visionkit/renamed.py"): "an argument's name in older checkpoints",
    ("persons", "visionkit/renamed.py"): "an argument's name in older configurations",
    ("metre", "visionkit/renamed.py"): "an argument's name in older configurations",
    ("pictures", "visionkit/renamed.py"): "an argument's name in older configurations",
    ("colours", "visionkit/renamed.py"): "an argument's name in older configurations",
}
_WORD = re.compile(r"\b(?:" + "|".join(sorted(BANNED, key=len, reverse=True)) + r")\b", re.I)
_PHRASE = re.compile("|".join(f"(?:{pattern})" for pattern in PHRASES), re.I)
_CODE = re.compile(r"`[^`]*`|\]\([^)]*\)|<!--.*?-->|https?:\S+", re.S)
_BLOCK = re.compile(r"^```.*?^```", re.S | re.M)
_SPAN = re.compile(r"`[^`\n]+`|\]\([^)]*\)")
_COMMENT = re.compile(r"(?:^|  )# (.*)$", re.M)
_NAME = re.compile(r"[A-Za-z_]\w*")
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


def in_code(text: str, place: str) -> list[str]:
    """What is banned in the names of a piece of code, a path, or a selector of a style sheet."""
    return [line for name in dict.fromkeys(_NAME.findall(text)) for line in in_name(name, place)]


def in_python(source: str, place: str) -> list[str]:
    """Every name that is given, comments, docstrings, and literals: as a text where they have a blank, else a name."""
    found = [line for comment in _COMMENT.findall(source) for line in in_text(comment, place)]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found += in_name(node.name, place)
        elif isinstance(node, ast.arg):
            found += in_name(node.arg, place)
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            found += in_name(node.id if isinstance(node, ast.Name) else node.attr, place)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            prose = " " in node.value.strip() and not _SCRIPT.search(node.value)
            found += (in_text if prose else in_code)(node.value, place)
            found += [line for span in _SPAN.findall(node.value) for line in in_code(span, place)] if prose else []
    return found


def in_page(text: str, place: str) -> list[str]:
    """A Markdown page: the names in its code, and its prose paragraph by paragraph."""
    found = [line for code in (*_BLOCK.findall(text), *_SPAN.findall(text)) for line in in_code(code, place)]
    return found + [line for paragraph in _BLOCK.sub("", text).split("\n\n") for line in in_text(paragraph, place)]


def test_python_speaks_the_fields_language():
    found: list[str] = []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            found += in_python(path.read_text("utf-8"), str(path.relative_to(ROOT)))
    assert not found, f"{len(found)} words of the dialect:\n" + "\n".join(found[:40])


def test_pages_speak_the_fields_language():
    pages = [
        ROOT / "README.md",
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("benchmarks/*.md"),
        *ROOT.glob("ui/starters/**/README.md"),
    ]
    found = [line for path in pages for line in in_page(path.read_text("utf-8"), str(path.relative_to(ROOT)))]
    assert not found, f"{len(found)} words of the dialect:\n" + "\n".join(found[:40])


def test_styles_and_scripts_speak_the_fields_language():
    found: list[str] = []
    for path in sorted((ROOT / "ui").rglob("*")):
        if path.suffix in (".css", ".html", ".js"):
            found += in_code(path.read_text("utf-8"), str(path.relative_to(ROOT)))
    assert not found, f"{len(found)} words of the dialect:\n" + "\n".join(found[:40])


def test_names_of_files_speak_the_fields_language():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout, so what is tracked is unknown")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    found = [line for path in listed.splitlines() for line in in_code(path, path)]
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
        ("class A:\n    def _f(self):\n        self.knobs = 1\n", "knobs"),
        ("taught = 1\n", "taught"),
        ("x = 1  # the surest of them\n", "surest"),
        ('X = "vk-picture-file"\n', "picture"),
        ('X = "Writes `pictures/a.png` for all."\n', "pictures"),
    ],
)
def test_a_word_of_the_dialect_is_found(source, word):
    assert any(
        repr(word) in line or f"{word!r}".lower() in line.lower() for line in in_python(source, "visionkit/x.py")
    )


def test_code_is_read_and_exceptions_are_not_found():
    assert in_page("Run `visionkit image` or [it](docs/images/a.png).\n\n```bash\npredict\n```\n", "docs/x.md") == []
    for page in ("The picture.", "`<person>/picture`", "[it](docs/pictures/a.png)", "```bash\ncat --picture x\n```\n"):
        assert in_page(page, "docs/x.md"), page
    assert in_code(".vk-answer { grid-area: ask; }", "ui/server/page.css")
    assert in_code("docs/pictures/start.webp", "docs/pictures/start.webp")
    assert in_code("ui/starters/depth/kitchen/model.json", "ui/starters/depth/kitchen/model.json") == []
    assert in_python('X = "classes sky and road"\n', "tasks/x.py") == []
    assert in_python('X = "two joints of it"\n', "datamodules/mpii.py") == []
    assert in_python('X = "two joints of it"\n', "tasks/pose/task.py")
