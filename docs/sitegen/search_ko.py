"""Search in Korean: words without their particles, and the pairs of letters in long ones.

Korean writes particles on to the word: 모멘텀을, 학습률이. Here both the index and the query lose them, again and again
until none is left, but never below two letters. Words of three letters and more are also found by each two neighbours
in them (경사하강법 by 경사, 하강). Where Hangul and Latin letters meet, a word ends: Adam을 is Adam.
"""

from __future__ import annotations

import json
import re
from typing import Any

from sphinx.search import SearchLanguage, languages

PARTICLES = sorted(
    [
        "은",
        "는",
        "이",
        "가",
        "을",
        "를",
        "의",
        "에",
        "에서",
        "에게",
        "께",
        "한테",
        "로",
        "으로",
        "로서",
        "으로서",
        "로써",
        "으로써",
        "와",
        "과",
        "랑",
        "이랑",
        "하고",
        "도",
        "만",
        "까지",
        "부터",
        "보다",
        "처럼",
        "만큼",
        "마다",
        "조차",
        "마저",
        "밖에",
        "이나",
        "나",
        "이란",
        "란",
        "이라는",
        "라는",
        "이라고",
        "라고",
        "이다",
        "입니다",
        "이며",
        "이고",
        "에는",
        "에도",
        "에서는",
        "에서도",
        "으로는",
        "로는",
        "와의",
        "과의",
        "에서의",
        "으로의",
        "로의",
        "들",
        "들은",
        "들이",
        "들을",
        "들의",
        "합니다",
        "하는",
        "하면",
        "하여",
        "해서",
        "한",
        "할",
        "됩니다",
        "되는",
        "되면",
        "된",
        "될",
        "습니다",
    ],
    key=len,
    reverse=True,
)
LEAST = 2  # letters that stay
PAIRS_FROM = 3  # letters of a word that is also found by its pairs
HANGUL = re.compile(r"[가-힣]+")
WORD = re.compile(r"[가-힣]+|[^\W가-힣]+")

SPLITTER = r"""
function splitQuery(query) {
  const josa = new Set(%s);
  const found = query.normalize("NFC").toLowerCase().match(/[가-힣]+|(?:(?![가-힣])[\p{L}\p{N}_])+/gu) || [];
  const kept = found.filter((word, i) => !(i > 0 && josa.has(word)));
  return kept.filter((word) => !/^[가-힣]$/.test(word));
}
"""
STEMMER = r"""
var Stemmer = function () {
  const josa = %s;
  const bare = (word) => {
    if (!/^[가-힣]+$/.test(word)) return word;
    for (;;) {
      const end = josa.find((each) => word.endsWith(each) && word.length - each.length >= %d);
      if (end === undefined) return word;
      word = word.slice(0, word.length - end.length);
    }
  };
  this.stemWord = (word) => bare(word.normalize("NFC").toLowerCase());
};
"""


def bare(word: str) -> str:
    """A word without its particles."""
    while HANGUL.fullmatch(word):
        end = next((each for each in PARTICLES if word.endswith(each) and len(word) - len(each) >= LEAST), None)
        if end is None:
            break
        word = word[: -len(end)]
    return word


class Korean(SearchLanguage):
    """Words of Korean text for the index, and the same for the query, in JavaScript."""

    lang = "ko"
    language_name = "Korean"
    stopwords = frozenset({"그리고", "그러나", "또는", "있습니다", "없습니다", "합니다", "입니다", "됩니다"})
    js_splitter_code = SPLITTER % json.dumps(PARTICLES, ensure_ascii=False)
    js_stemmer_code = STEMMER % (json.dumps(PARTICLES, ensure_ascii=False), LEAST)

    def init(self, options: dict[str, str]) -> None:
        """Nothing to set."""

    def split(self, input: str) -> list[str]:
        """Words, and of long ones each two neighbouring letters."""
        made: list[str] = []
        for word in WORD.findall(input):
            if not HANGUL.fullmatch(word):
                made.append(word)
                continue
            made.append(word)
            stem = bare(word)
            if len(stem) >= PAIRS_FROM:
                made += [stem[i : i + 2] for i in range(len(stem) - 1)]
        return made

    def stem(self, word: str) -> str:
        """A word without its particles."""
        return bare(word.lower())

    def word_filter(self, word: str) -> bool:
        """Single letters of Hangul say nothing."""
        return bool(word) and word not in self.stopwords and not (len(word) == 1 and HANGUL.fullmatch(word))


def setup(app: Any) -> dict[str, bool]:
    """Tell Sphinx."""
    languages["ko"] = Korean
    return {"parallel_read_safe": True, "parallel_write_safe": True}
