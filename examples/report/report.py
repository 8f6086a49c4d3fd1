"""Summarise a folder of readings: `rgrid run --with examples/report/readings --outputs out examples/report/report.py`.

Imports a module that lies beside it, reads a data folder sent along with `--with`, writes into sub-folders.
"""

import csv
import json
from pathlib import Path

from stats import summary

here = Path(__file__).parent
for year in sorted((here / "readings").iterdir()):
    for file in sorted(year.glob("*.csv")):
        with file.open(newline="", encoding="utf-8") as rows:
            values = [float(row["celsius"]) for row in csv.DictReader(rows)]
        target = Path("report") / year.name / f"{file.stem}.json"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(summary(values), indent=2) + "\n", encoding="utf-8")
        print(f"{year.name}/{file.stem}: mean {summary(values)['mean']:.1f} °C over {len(values)} readings")
