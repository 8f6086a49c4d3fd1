"""The house's own rules: the layout, the sizes, and what a checkout must not hold."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
TRACKED = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")


def test_alembic_folder_is_no_package() -> None:
    assert not (ROOT / "alembic/__init__.py").exists(), "it would shadow the library"


def test_outer_folders_are_no_packages() -> None:
    assert not [f for f in ("actors", "api", "cli", "tests") if (ROOT / f / "__init__.py").exists()]


def test_modules_stay_small() -> None:
    for name in TRACKED:
        if name.endswith(".py") and not name.startswith("tests/") and (ROOT / name).is_file():
            assert len((ROOT / name).read_text().splitlines()) <= 400, f"{name}: what second noun moved in?"


def test_public_names_are_there() -> None:
    import rgrid

    assert all(hasattr(rgrid, name) for name in rgrid.__all__)


def test_every_module_says_what_it_is_for() -> None:
    import ast

    for name in TRACKED:
        if name.endswith(".py") and (ROOT / name).is_file():
            assert ast.get_docstring(ast.parse((ROOT / name).read_text())), name


def test_the_cluster_file_is_one_ray_takes() -> None:
    import json
    from importlib.util import find_spec

    import jsonschema
    import yaml

    spec = find_spec("ray")
    assert spec is not None
    assert spec.origin is not None
    schema = json.loads((Path(spec.origin).parent / "autoscaler/ray-schema.json").read_text())
    jsonschema.validate(yaml.safe_load((ROOT / "cluster.yaml").read_text()), schema)
