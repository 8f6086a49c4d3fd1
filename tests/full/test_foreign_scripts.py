"""Scripts as other people write them, with what they need from the package index, through each way of declaring it."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Grid

pytestmark = pytest.mark.timeout(900)

#: What a script needs, what it does, and what it then prints.
SCRIPTS: dict[str, tuple[str, str, str]] = {
    "numpy": ("numpy", "import numpy as np\nprint(np.arange(6).reshape(2, 3).sum())", "15"),
    "pandas": ("pandas", "import pandas as pd\nprint(pd.DataFrame({'a': [1, 2]}).a.mean())", "1.5"),
    "requests": ("requests", "import requests\nprint(requests.Request('GET', 'http://x/y').prepare().path_url)", "/y"),
    "pydantic": ("pydantic", "import pydantic\nclass A(pydantic.BaseModel):\n    x: int\nprint(A(x='3').x)", "3"),
    "lxml": ("lxml", "from lxml import etree\nprint(etree.fromstring('<a><b/></a>')[0].tag)", "b"),
    "sqlalchemy": (
        "sqlalchemy",
        "import sqlalchemy as a\nc = a.create_engine('sqlite://').connect()\nprint(c.scalar(a.text('select 41 + 1')))",
        "42",
    ),
    "pillow": ("pillow", "from PIL import Image\nprint(Image.new('RGB', (4, 3)).size)", "(4, 3)"),
    "networkx": ("networkx", "import networkx as nx\nprint(nx.shortest_path_length(nx.path_graph(5), 0, 4))", "4"),
    "pyyaml": ("pyyaml", "import yaml\nprint(yaml.safe_load('a: [1, 2]')['a'])", "[1, 2]"),
    "beautifulsoup": (
        "beautifulsoup4",
        "from bs4 import BeautifulSoup as B\nprint(B('<p>x</p>', 'html.parser').p.text)",
        "x",
    ),
    "dateutil": ("python-dateutil", "from dateutil import parser\nprint(parser.parse('2026-01-02').day)", "2"),
    "attrs": ("attrs", "import attr\n@attr.s\nclass A:\n    x = attr.ib()\nprint(A(1))", "A(x=1)"),
    "jinja": ("jinja2", "import jinja2\nprint(jinja2.Template('{{ a }}!').render(a=1))", "1!"),
    "rich": ("rich", "from rich.text import Text\nprint(Text('plain').plain)", "plain"),
    "click": ("click", "import click\nprint(click.unstyle('x'))", "x"),
    "tqdm": ("tqdm", "from tqdm import tqdm\nprint(sum(tqdm(range(4), disable=True)))", "6"),
    "httpx": ("httpx", "import httpx\nprint(httpx.URL('http://h/p').path)", "/p"),
    "cryptography": (
        "cryptography",
        "from cryptography.fernet import Fernet as F\nk = F(F.generate_key())\nprint(k.decrypt(k.encrypt(b'x')))",
        "b'x'",
    ),
    "orjson": ("orjson", "import orjson\nprint(orjson.dumps({'a': 1}))", "b'{\"a\":1}'"),
    "msgpack": ("msgpack", "import msgpack\nprint(msgpack.unpackb(msgpack.packb([1])))", "[1]"),
    "sympy": ("sympy", "import sympy\nprint(sympy.integrate(sympy.Symbol('x'), (sympy.Symbol('x'), 0, 2)))", "2"),
    "scipy": ("scipy", "import scipy.optimize as o\nprint(round(o.brentq(lambda x: x - 1, 0, 3), 3))", "1.0"),
    "sklearn": (
        "scikit-learn",
        "from sklearn.linear_model import LinearRegression as L\nprint(round(L().fit([[0], [1]], [0, 2]).coef_[0], 3))",
        "2.0",
    ),
    "polars": ("polars", "import polars as pl\nprint(pl.DataFrame({'a': [1, 2]})['a'].sum())", "3"),
    "openpyxl": ("openpyxl", "import openpyxl\nprint(openpyxl.Workbook().active.title)", "Sheet"),
    "tabulate": ("tabulate", "from tabulate import tabulate\nprint(tabulate([['a', 1]], tablefmt='plain'))", "a  1"),
    "docopt": ("docopt==0.6.2", "import docopt\nprint(docopt.docopt('usage: x', []))", "{}"),
    "pycrypto": ("pycrypto==2.6.1", "import Crypto\nprint(Crypto.__version__)", "2.6.1"),
}
WAYS = ("block", "requirements", "option", "project", "imports")
#: What only a declaration can say: a version, or what has to be compiled.
DECLARED = {"docopt", "pycrypto"}


def declare(folder: Path, way: str, needs: str, code: str) -> list[str]:
    """Write a script with what it needs declared in one way; return the words that run it."""
    block = f'# /// script\n# dependencies = ["{needs}"]\n# ///\n' if way == "block" else ""
    (folder / "script.py").write_text(block + code)
    match way:
        case "requirements":
            (folder / "requirements.txt").write_text(f"{needs}\n")
        case "option":
            (folder / "wanted.txt").write_text(f"# what is wanted\n{needs}\n")
            return ["--requirements", str(folder / "wanted.txt"), str(folder / "script.py")]
        case "project":
            text = f'[project]\nname = "mine"\nversion = "1"\ndependencies = ["{needs}"]\n'
            (folder / "pyproject.toml").write_text(text)
    return [str(folder / "script.py")]


@pytest.mark.parametrize("name", SCRIPTS)
def test_it_runs_unedited(grid: Grid, tmp_path: Path, name: str) -> None:
    needs, code, printed = SCRIPTS[name]
    way = WAYS[list(SCRIPTS).index(name) % len(WAYS)]
    if name in DECLARED and way == "imports":
        way = "block"
    done = grid("run", "--memory", "1G", *declare(tmp_path, way, needs, code), seconds=300)
    assert (done.returncode, done.stdout) == (0, f"{printed}\n"), done.stderr
    assert done.stderr.startswith("dependencies: ")


def test_a_plot_comes_back(grid: Grid, tmp_path: Path) -> None:
    code = (
        "import matplotlib\nmatplotlib.use('Agg')\nimport matplotlib.pyplot as p\np.plot([1, 2])\np.savefig('out.png')"
    )
    (tmp_path / "plot.py").write_text(code)
    done = grid("run", "--outputs", str(tmp_path / "out"), str(tmp_path / "plot.py"), seconds=300)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/out.png").read_bytes().startswith(b"\x89PNG")


def uv(*words: str, cwd: Path) -> None:
    subprocess.run([str(Path(sys.executable).with_name("uv")), *words], cwd=cwd, check=True, capture_output=True)


def test_a_lock_of_uvs_own(grid: Grid, tmp_path: Path) -> None:
    text = '[project]\nname = "mine"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["humanize<4.10"]\n'
    (tmp_path / "pyproject.toml").write_text(text)
    uv("lock", "--python", sys.executable, cwd=tmp_path)
    (tmp_path / "s.py").write_text("import humanize\nprint(humanize.__version__)")
    done = grid("run", str(tmp_path / "s.py"), seconds=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("4.9.")
    assert "dependencies: from uv.lock" in done.stderr


def test_a_pylock(grid: Grid, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("humanize<4.10\n")
    words = ["pip", "compile", "--python-version", "3.11.0", "--format", "pylock.toml", "in.txt", "-o", "pylock.toml"]
    uv(*words, cwd=tmp_path)
    (tmp_path / "s.py").write_text("import humanize\nprint(humanize.__version__)")
    done = grid("run", str(tmp_path / "s.py"), seconds=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("4.9.")
    assert "[[packages]]" in grid("show", "--lock", "last").stdout
