"""Count the words of a text: `rgrid run examples/wordcount.py --top 5 examples/data/alice.txt`."""

import argparse
import re
from collections import Counter
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("text", type=Path)
parser.add_argument("--top", type=int, default=10)
words = parser.parse_args()

found = Counter(re.findall(r"[a-z']+", words.text.read_text(encoding="utf-8").lower()))
print(f"{sum(found.values())} words, {len(found)} different ones, in {words.text.name}")
for word, count in found.most_common(words.top):
    print(f"{count:6}  {word}")
