import ast
from pathlib import Path

import visionkit

CORE = Path(visionkit.__file__).parent


def imports_families(source: str) -> bool:
    for node in ast.walk(ast.parse(source)):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if any(name == "visionkit.families" or name.startswith("visionkit.families.") for name in names):
            return True
    return False


def test_no_module_of_the_core_imports_a_family():
    """Import-linter has the modules of today by name; this holds for those that come."""
    core = [path for path in CORE.rglob("*.py") if CORE / "families" not in path.parents]
    wrong = [str(path.relative_to(CORE)) for path in core if imports_families(path.read_text("utf-8"))]
    assert not wrong
    assert imports_families("from visionkit.families.dense import network")
    assert imports_families("import visionkit.families")
    assert not imports_families("from visionkit import families_of_backbones")
