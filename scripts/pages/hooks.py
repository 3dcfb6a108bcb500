"""MkDocs calls these functions while it builds the site (`hooks` in mkdocs.yml)."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
if str(ROOT) not in sys.path:  # MkDocs loads this file by its path
    sys.path.insert(0, str(ROOT))

from mkdocs.structure.files import File, Files, InclusionLevel  # noqa: E402

from scripts.pages import coverage, families, sources  # noqa: E402

#: files of the repository that are pages of the site too.
TAKEN = {
    "README.md": "index.md",
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security.md",
    "vgpu/README.md": "vgpu/index.md",
    "vgpu/docs/arithmetic.md": "vgpu/docs/arithmetic.md",
    "vgpu/docs/hazards.md": "vgpu/docs/hazards.md",
    "vgpu/docs/opcodes.md": "vgpu/docs/opcodes.md",
    "vgpu/docs/time.md": "vgpu/docs/time.md",
}
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#:\s]+)(#[^)\s]*)?\)")


def on_config(config: Any) -> Any:
    """The families' pages come after the table of all ops."""
    (ops,) = (section["Ops"] for section in config.nav if isinstance(section, dict) and "Ops" in section)
    at = next(i for i, entry in enumerate(ops) if "ops.md" in entry.values()) + 1
    made = [{families.title(family): f"ops/{family}.md"} for family in families.ordered()]
    ops[at:at] = [{"Which implementation takes what": coverage.PAGE}, *made]
    return config


def on_files(files: Files, *, config: Any) -> Files:
    pages = {site: relinked((ROOT / path).read_text(), path, site) for path, site in TAKEN.items()}
    for name, text in {**pages, **families.pages(), coverage.PAGE: coverage.page()}.items():
        files.append(File.generated(config, name, content=text))
    for name, text in sources.pages(coverage.linked()).items():
        files.append(File.generated(config, name, content=text, inclusion=InclusionLevel.NOT_IN_NAV))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    source = page.file.src_uri
    return markdown if source in TAKEN.values() or source.startswith("ops/") else relinked(markdown, f"docs/{source}", source)


def relinked(text: str, path: str, site: str) -> str:
    """A file's text as the page `site`: links to what is a page lead there, the names of other files stay names."""
    fences = re.split(r"(^```.*?^```$)", text, flags=re.S | re.M)
    return "".join(part if i % 2 else LINK.sub(lambda m: _link(m, path, site), part) for i, part in enumerate(fences))


def _link(match: re.Match[str], path: str, site: str) -> str:
    image, label, target, anchor = match.groups(default="")
    found = target_of(path, target)
    if not found.exists():
        raise FileNotFoundError(f"{path} links to {target}, which does not exist")
    name = found.relative_to(ROOT).as_posix()
    if name in TAKEN:
        aim = TAKEN[name]
    elif name.startswith("docs/"):
        aim = name.removeprefix("docs/")
    else:  # a file that is no page: the site has no repository to link to
        return label if name in label else f"{label} (`{name}`)"
    up = "../" * site.count("/")
    return f"{image}[{label}]({up}{aim}{anchor})"


def target_of(path: str, target: str) -> Path:
    """The file that a link of a file of the repository names."""
    return (ROOT / path).parent.joinpath(target).resolve()
