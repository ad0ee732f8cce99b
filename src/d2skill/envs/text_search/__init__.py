"""The search engine of WebShop: what Pyserini's SimpleSearcher answers over a Lucene 8 index, in Python and NumPy.

`analysis` turns text into terms (`tokens` cuts it into words, `porter` takes their endings off), `counting` counts them
in documents, `index` ranks documents by BM25, and `files` keeps an index in a folder that many processes can share.
"""

from d2skill.envs.text_search.analyzer import analyze
from d2skill.envs.text_search.index import Index

__all__ = ["Index", "analyze"]
