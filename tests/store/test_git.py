"""Git directories by authors who are not trusted: nothing that they configure is run, and no object stands in for another."""

import hashlib
import os
import shutil
import subprocess
import zlib
from pathlib import Path

import pytest

from jax_aiter.kernels import store
from jax_aiter.kernels.store import source
from jax_aiter.kernels.store.git import read_git

from .conftest import FILES, UNUSED

pytestmark = pytest.mark.usefixtures("hashes", "root")
IDENTITY = ("-c", "user.name=test", "-c", "user.email=test@example.invalid", "-c", "protocol.file.allow=always")


def git(where: Path, *arguments: str, stdin: bytes = b"") -> str:
    done = subprocess.run(["git", *IDENTITY, *arguments], cwd=where, check=True, capture_output=True, input=stdin)
    return done.stdout.decode().strip()


@pytest.fixture
def repository(checkout, tmp_path, monkeypatch):
    """A bare repository whose one commit stands in for the pinned one."""
    git(checkout, "init", "-q", "-b", "main")
    git(checkout, "add", ".")
    git(checkout, "commit", "-q", "-m", "all")
    monkeypatch.setattr(source, "AITER_COMMIT", git(checkout, "rev-parse", "HEAD"))
    bare = tmp_path / "bare"
    git(tmp_path, "clone", "-q", "--bare", str(checkout), str(bare))
    return bare


def _blob(repository: Path, name: str) -> Path:
    """The loose file of a blob."""
    number = git(repository, "rev-parse", f"{source.AITER_COMMIT}:{name}")
    return repository / "objects" / number[:2] / number[2:]


def _loose(repository: Path) -> None:
    for pack in (repository / "objects/pack").glob("*.pack"):
        moved = repository / pack.name
        pack.rename(moved)
        git(repository, "unpack-objects", "-q", stdin=moved.read_bytes())
        moved.unlink()
    for left in (repository / "objects/pack").glob("*"):
        left.unlink()


def _stored(location: store.Location) -> dict[str, bytes]:
    return {p.relative_to(location.path).as_posix(): p.read_bytes() for p in location.path.rglob("*") if p.is_file()}


# ---- of which commit


@pytest.mark.parametrize("form", ["branch", "packed", "detached", "work tree's"])
@pytest.mark.parametrize("tree", ["commit", "0.1.9"])
def test_without_the_pinned_commit_what_head_names_is_read(form, tree, checkout, tmp_path, monkeypatch, releases):
    """A clone of another date. Its files are known by their contents, as those of a package are."""
    older = FILES | {"hsa/gfx942/fmoe.co": b"older"}
    releases(**{"0.1.9": older})
    (checkout / "hsa/gfx942/fmoe.co").write_bytes({"commit": FILES, "0.1.9": older}[tree]["hsa/gfx942/fmoe.co"])
    git(checkout, "init", "-q", "-b", "some/branch")
    git(checkout, "add", ".")
    git(checkout, "commit", "-q", "-m", "all")
    where = checkout if form == "work tree's" else tmp_path / "bare"
    if form == "work tree's":
        for name in ("aiter", "hsa"):  # as after `git clone --no-checkout`
            shutil.rmtree(checkout / name)
    else:
        git(tmp_path, "clone", "-q", "--bare", str(checkout), str(where))
    if form == "packed":
        git(where, "pack-refs", "--all")
        assert not (where / "refs/heads/some/branch").exists()
    if form == "detached":
        (where / "HEAD").write_text(git(where, "rev-parse", "HEAD") + "\n")
    location = store.add_aiter(where)
    assert location.verified
    assert _stored(location) == (FILES if tree == "commit" else older)


@pytest.mark.parametrize(
    "head",
    [
        "",
        "ref: ",
        "ref: refs/heads/../../../secret",
        "ref: /etc/passwd",
        "ref: refs/heads/none",
        "ref: refs",
        "0" * 40,
        "f" * 39,
        "\0",
    ],
)
def test_a_head_that_names_no_commit_here(head, repository, monkeypatch, tmp_path):
    (tmp_path / "secret").write_text(source.AITER_COMMIT)
    monkeypatch.setattr(source, "AITER_COMMIT", "1" * 40)
    (repository / "HEAD").write_text(f"{head}\n")
    with pytest.raises(store.SourceError, match=r"does not hold commit 1{40}, nor one that HEAD names"):
        store.add_aiter(repository)


# ---- what a git directory can ask git to run

#: configuration, each with a command that leaves a mark.
CONFIGURATION = {
    "fsmonitor": {"core.fsmonitor": "RUN"},
    "ssh": {"core.sshCommand": "RUN", "remote.origin.url": "ssh://nowhere.invalid/x"},
    "ext": {"remote.origin.url": "ext::RUN"},
    "uploadpack": {"remote.origin.url": "file:///nowhere", "remote.origin.uploadpack": "RUN"},
    "helper": {"remote.origin.vcs": "evil", "remote.origin.url": "evil::x"},
    "proxy": {"core.gitProxy": "RUN", "remote.origin.url": "git://nowhere.invalid/x"},
    "credential": {"credential.helper": "!RUN", "remote.origin.url": "http://127.0.0.1:9/x"},
    "hooks": {"core.hooksPath": "HOOKS"},
    "pager": {"core.pager": "RUN", "pager.cat-file": "RUN", "pager.ls-tree": "RUN"},
    "alias": {"alias.cat-file": "!RUN", "alias.ls-tree": "!RUN"},
    "filter": {"filter.x.smudge": "RUN", "filter.x.process": "RUN", "diff.x.textconv": "RUN", "diff.external": "RUN"},
    "editor": {"core.editor": "RUN", "sequence.editor": "RUN", "core.askPass": "RUN"},
    "include": {"include.path": "INCLUDED"},
    "transports-allowed": {"remote.origin.url": "ext::RUN", "protocol.allow": "always", "protocol.ext.allow": "always"},
    "alternates": {"core.alternateRefsCommand": "RUN"},
    "packhook": {"uploadpack.packObjectsHook": "RUN"},
}
#: what makes git fetch an object that is not there.
PROMISOR = {"extensions.partialClone": "origin", "core.repositoryFormatVersion": "1", "remote.origin.promisor": "true"}


@pytest.mark.parametrize("lacking", [False, True], ids=["whole", "partial"])
@pytest.mark.parametrize("kind", CONFIGURATION)
def test_nothing_that_a_git_directory_configures_is_run(kind, lacking, repository, tmp_path, monkeypatch):
    mark, script = tmp_path / "mark", tmp_path / "script"
    script.write_text(f'#!/bin/sh\necho "$0 $@" >> {mark}\n')
    script.chmod(0o755)
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for name in ("post-checkout", "reference-transaction", "pre-auto-gc", "post-index-change", "pre-push"):
        for folder in (hooks, repository / "hooks"):
            shutil.copy(script, folder / name)
    shutil.copy(script, tmp_path / "git-remote-evil")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "included").write_text(f"[core]\n\tfsmonitor = {script}\n\tsshCommand = {script}\n")
    _loose(repository)
    (repository / "info" / "attributes").write_text("* filter=x diff=x\n")
    if lacking:
        _blob(repository, "hsa/gfx942/fmoe.co").unlink()
    for key, value in {**PROMISOR, **CONFIGURATION[kind]}.items():
        value = value.replace("RUN", str(script)).replace("HOOKS", str(hooks)).replace("INCLUDED", str(tmp_path / "included"))
        git(repository, "config", key, value)
    for index in ("GIT_DIR", "GIT_WORK_TREE"):
        monkeypatch.setenv(index, "/nowhere")  # as inside a hook of the user's own
    if lacking:
        with pytest.raises(store.SourceError, match=r"lacks hsa/gfx942/fmoe\.co.*fetch that commit into it first"):
            store.add_aiter(repository)
    else:
        assert _stored(store.add_aiter(repository)) == FILES
    assert not mark.exists(), mark.read_text()


def test_git_is_not_even_needed(repository, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(subprocess, "Popen", None)
    assert _stored(store.add_aiter(repository)) == FILES


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_git_directory_of_another_user_is_read_and_obeyed_in_nothing(repository, tmp_path):
    for path in (repository, *repository.rglob("*")):
        os.chown(path, 65534, 65534, follow_symlinks=False)
    git_says = subprocess.run(
        ["git", "-C", repository, "log"], capture_output=True, env={**os.environ, "HOME": str(tmp_path)}, check=False
    )
    assert git_says.returncode, "git itself refuses it, since git would obey it"
    assert _stored(store.add_aiter(repository)) == FILES


# ---- objects that are not what their ids say


def _object(kind: str, data: bytes) -> tuple[str, bytes]:
    whole = f"{kind} {len(data)}\0".encode() + data
    return hashlib.sha1(whole).hexdigest(), zlib.compress(whole)


def _replaced(repository):
    """`git replace`: refs/replace/<blob> names another."""
    blob = git(repository, "rev-parse", f"{source.AITER_COMMIT}:hsa/gfx942/fmoe.co")
    other = git(repository, "hash-object", "-w", "--stdin", stdin=b"evil")
    git(repository, "replace", blob, other)
    assert git(repository, "cat-file", "blob", blob) == "evil"


def _replaced_commit(repository):
    git(repository, "replace", source.AITER_COMMIT, git(repository, "commit-tree", "-m", "x", _evil_tree(repository)))


def _evil_tree(repository):
    blob = git(repository, "hash-object", "-w", "--stdin", stdin=b"evil")
    return git(repository, "mktree", stdin=f"100644 blob {blob}\tx\n".encode())


def _grafted(repository):
    (repository / "info" / "grafts").write_text(f"{source.AITER_COMMIT}\n")
    (repository / "shallow").write_text(f"{source.AITER_COMMIT}\n")


def _garbage_beside(repository):
    """What git would read and we need not: an index, references and a commit graph that are nonsense."""
    for name in ("index", "packed-refs", "objects/info/commit-graph", "config", "FETCH_HEAD", "objects/pack/multi-pack-index"):
        (repository / name).parent.mkdir(exist_ok=True)
        (repository / name).write_bytes(b"\xff\0nonsense" * 100)


@pytest.mark.parametrize("change", [_replaced, _replaced_commit, _grafted, _garbage_beside])
def test_replaced_and_grafted_objects_change_nothing(change, repository):
    change(repository)
    assert _stored(store.add_aiter(repository)) == FILES


@pytest.mark.parametrize("unverified", [False, True], ids=["verified", "unverified"])
@pytest.mark.parametrize("what", ["commit", "tree", "blob"])
@pytest.mark.parametrize(
    "form", ["other contents", "other kind", "cut", "empty", "nonsense", "lies", "bomb", "pipe", "folder", "device"]
)
def test_an_object_with_other_contents_than_its_id_says_is_refused(what, form, unverified, repository):
    _loose(repository)
    name = {
        "commit": source.AITER_COMMIT,
        "tree": f"{source.AITER_COMMIT}:hsa",
        "blob": f"{source.AITER_COMMIT}:hsa/gfx942/fmoe.co",
    }[what]
    number = git(repository, "rev-parse", name)
    path = repository / "objects" / number[:2] / number[2:]
    good = zlib.decompress(path.read_bytes())
    path.unlink()
    if form in ("pipe", "folder", "device"):
        {"pipe": os.mkfifo, "folder": os.mkdir, "device": lambda place: os.symlink("/dev/zero", place)}[form](path)
    else:
        path.write_bytes(
            {
                "other contents": lambda: _object(what, b"evil")[1],
                "other kind": lambda: zlib.compress(good.replace(what.encode(), b"tag", 1)),
                "cut": lambda: zlib.compress(good)[:-9],
                "empty": lambda: b"",
                "nonsense": lambda: b"\xff" * 100,
                "lies": lambda: zlib.compress(good.replace(b"\0", b"9\0", 1)),
                "bomb": lambda: zlib.compress(f"{what} {1 << 40}\0".encode() + bytes(1 << 20), 1),
            }[form]()
        )
    with pytest.raises(store.SourceError, match=r"damaged|cannot be read"):
        store.add_aiter(repository, unverified=unverified)
    assert store.aiter_location() is None


def test_a_symbolic_link_or_submodule_of_a_wanted_name_is_refused(repository, checkout, monkeypatch):
    for mode, word in (("120000", "link"), ("160000", "submodule")):
        blob = (
            git(checkout, "rev-parse", "HEAD")
            if mode == "160000"
            else git(checkout, "hash-object", "-w", "--stdin", stdin=b"/etc/passwd")
        )
        git(checkout, "update-index", "--add", "--cacheinfo", f"{mode},{blob},hsa/gfx942/fmoe.co")
        monkeypatch.setattr(source, "AITER_COMMIT", git(checkout, "commit-tree", "-m", "x", git(checkout, "write-tree")))
        with pytest.raises(store.SourceError, match=r"fmoe\.co is a link or a submodule") as raised:
            store.add_aiter(checkout / ".git", unverified=True)
        assert word in str(raised.value)


def _written(repository: Path, kind: str, data: bytes) -> bytes:
    """Stores an object whatever it holds; its id."""
    number, packed = _object(kind, data)
    path = repository / "objects" / number[:2] / number[2:]
    path.parent.mkdir(exist_ok=True)
    if not path.exists():
        path.write_bytes(packed)
    return bytes.fromhex(number)


def _tree(repository: Path, files: dict[str, bytes], extra: dict[str, bytes], here: str = "") -> bytes:
    """The tree of these files, and of the folders in it; `extra` are entries to be added to a folder as they are."""
    entries, folders = {}, dict[str, dict[str, bytes]]()
    for name, data in files.items():
        first, _, rest = name.partition("/")
        if rest:
            folders.setdefault(first, {})[rest] = data
        else:
            entries[first] = b"100644 %s\0" % first.encode() + _written(repository, "blob", data)
    for name, below in folders.items():
        entries[name] = b"40000 %s\0" % name.encode() + _tree(repository, below, extra, f"{here}{name}/")
    return _written(repository, "tree", b"".join(entries[name] for name in sorted(entries)) + extra.get(here, b""))


def test_strange_names_in_a_tree_lead_nowhere(repository, monkeypatch, tmp_path):
    """As no git would write them: a way up, an absolute name, a slash inside a name, a terminal's escapes, no text at all."""
    evil, names = (
        _written(repository, "blob", b"evil"),
        (b"..", b"../x.py", b"/etc/x.py", b"\x1b[31m.py", b"\xff\xfe.py", b".git", b"a/b.py"),
    )
    entries = b"".join(b"100644 %s\0" % name + evil for name in names)
    folder = _written(repository, "tree", entries)
    entries += b"".join(b"40000 %s\0" % name + folder for name in (b"..", b".", b"", b"/", b"...", b"..\\.."))
    top = _tree(repository, FILES, {"aiter/ops/triton/": entries, "": entries, "hsa/gfx942/": entries})
    commit = _written(repository, "commit", b"tree %s\nauthor a <a@b.invalid> 1 +0000\n\nx\n" % top.hex().encode())
    monkeypatch.setattr(source, "AITER_COMMIT", commit.hex())
    before = set(tmp_path.rglob("*.py"))
    location = store.add_aiter(repository)
    assert _stored(location) == FILES
    assert all(location.path in path.parents for path in set(tmp_path.rglob("*.py")) - before)


# ---- where the objects are


def test_an_index_of_version_1_is_named_with_its_remedy(repository):
    git(repository, "-c", "pack.indexVersion=1", "repack", "-q", "-a", "-d", "-F")
    if list((repository / "objects/pack").glob("*.idx")):
        with pytest.raises(store.SourceError, match="git repack -ad"):
            store.add_aiter(repository)


def test_a_work_tree_whose_files_are_not_checked_out_is_read_from_its_repository(repository, tmp_path):
    linked, sub = tmp_path / "linked work tree", tmp_path / "sub"
    git(repository, "worktree", "add", "-q", "--no-checkout", str(linked), source.AITER_COMMIT)
    assert (linked / ".git").is_file()
    assert _stored(store.add_aiter(linked)) == FILES
    sub.mkdir()
    (sub / ".git").write_text(f"gitdir: {os.path.relpath(repository, sub)}\n")
    assert _stored(store.add_aiter(sub)) == FILES


@pytest.mark.parametrize(
    "text", ["gitdir: /nowhere\n", "gitdir: /dev/zero\n", "nonsense", "", "gitdir: .git\n", "gitdir: " + "a" * 100_000]
)
def test_a_git_file_that_leads_nowhere_is_a_clear_error(text, tmp_path):
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / ".git").write_text(text)
    with pytest.raises(store.SourceError, match=r"holds no AITER|cannot be read"):
        store.add_aiter(folder)


@pytest.mark.parametrize("spelling", ["absolute", "relative", "comments", "chain"])
def test_borrowed_objects_are_read_and_compared_too(spelling, repository, tmp_path):
    borrower = tmp_path / "borrower"
    git(tmp_path, "clone", "-q", "--bare", "--shared", str(repository), str(borrower))
    listed = borrower / "objects/info/alternates"
    lender = str(repository / "objects")
    if spelling == "relative":
        listed.write_text(os.path.relpath(lender, borrower / "objects") + "\n")
    elif spelling == "comments":
        listed.write_text(f"# {lender}\n\n/nowhere/at/all\n{lender}\n{lender}\n{borrower}/objects\n")
    elif spelling == "chain":
        middle = tmp_path / "middle"
        git(tmp_path, "clone", "-q", "--bare", "--shared", str(repository), str(middle))
        listed.write_text(f"{middle}/objects\n")
    assert _stored(store.add_aiter(borrower)) == FILES
    _loose(repository)
    _blob(repository, "hsa/gfx942/fmoe.co").unlink()
    with pytest.raises(store.SourceError, match=r"lacks hsa/gfx942/fmoe\.co"):
        store.add_aiter(borrower)


def test_alternates_that_are_no_file_are_a_clear_error(repository):
    (repository / "objects/info").mkdir(exist_ok=True)
    (repository / "objects/info/alternates").symlink_to("/dev/zero")
    with pytest.raises(store.SourceError, match="cannot be read"):
        store.add_aiter(repository)


def test_only_wanted_files_are_read(repository):
    assert set(UNUSED)
    names = [name for name, _ in read_git(repository, source.AITER_COMMIT, FILES.__contains__)]
    assert sorted(names) == sorted(FILES)
