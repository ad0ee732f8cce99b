"""Builds the docs site from docs/ with zensical, strictly: `python tools/site.py FOLDER`.

Pages link to results and examples beside docs/. Those files are copied into the site, so that it is whole by itself.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
FETCHED = re.compile(
    r"""<(?:script|img|iframe)\b[^>]*\bsrc=["']?(?:https?:)?//|<link\b[^>]*\bhref=["']?(?:https?:)?//"""
)


def main(out: Path) -> None:
    """Builds the site in a new or empty folder; raises if a link is wrong or a page would fetch from elsewhere."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        shutil.copytree(ROOT / "docs", work / "docs")
        shutil.copyfile(ROOT / "zensical.toml", work / "zensical.toml")
        for name in ("src", "tools"):
            (work / name).symlink_to(ROOT / name)
        for page in (work / "docs").glob("*.md"):
            page.write_text(re.sub(r"\]\(\.\./([^)#]+)", lambda link: _carried(work, link[1]), page.read_text()))
        subprocess.run(["zensical", "build", "--strict"], cwd=work, check=True)
        shutil.copytree(work / "site", out, dirs_exist_ok=True)
    for page in out.rglob("*.html"):
        if found := FETCHED.search(page.read_text()):
            raise SystemExit(f"{page} fetches from elsewhere: {found[0]}")


def _carried(work: Path, path: str) -> str:
    """Copies a file from beside docs/ into the pages, and returns the beginning of a link to it there."""
    target = work / "docs" / path
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(ROOT / path, target)
    return f"]({path}"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
