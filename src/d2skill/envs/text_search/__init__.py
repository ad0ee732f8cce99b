"""Full-text search by BM25, with the results of Pyserini's SimpleSearcher over a Lucene 8 index, in Python and NumPy.

`tokenizer` cuts text into tokens, `analyzer` turns tokens into terms (with `porter_stemmer`), `postings` counts the
terms of documents, `bm25` has the formulas, `index` ranks, and `index_files` keeps an index in a folder that many
processes can share.
"""

from d2skill.envs.text_search.analyzer import analyze
from d2skill.envs.text_search.index import BM25Index
from d2skill.envs.text_search.index_files import read_arrays, write_arrays
from d2skill.envs.text_search.tokenizer import tokenize

__all__ = ["BM25Index", "analyze", "read_arrays", "tokenize", "write_arrays"]
