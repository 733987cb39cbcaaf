"""Raw data comes in from anywhere, whole, and nothing of it lands outside its folder."""

import io
import os
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

import pytest

from flows.datasets import raw
from flows.datasets.catalog import DatasetError


def tree(root: Path) -> dict[str, str]:
    return {str(p.relative_to(root)): p.read_text() for p in sorted(root.rglob("*")) if p.is_file()}


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def zipped(path: Path, entries: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in entries.items():
            archive.writestr(name, text)
    return path


def tarred(path: Path, *members: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(b"x" * member.size))
    return path


def member(name: str, size: int = 1, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = size, kind, link
    return info


def test_archives_of_a_folder_are_stepped_into(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", {"mh/a_1/a_1.obj": "a", "mh/b_1/b_1.obj": "b", "__MACOSX/x": "x"})
    inside = raw.unpack(archive, tmp_path / "out", bar=False)
    assert tree(inside) == {"a_1/a_1.obj": "a", "b_1/b_1.obj": "b"}
    archive = tarred(tmp_path / "b.tar.gz", member("a_1/a_1.obj"))
    assert tree(raw.unpack(archive, tmp_path / "out", bar=False)) == {
        "a_1/a_1.obj": "x"
    }  # one scan stays one


@pytest.mark.parametrize(
    "name", ["../out.txt", "a/../../out.txt", "/tmp/out.txt", "..\\out.txt", "C:/out.txt"]
)
def test_a_path_that_leaves_the_folder_unpacks_nothing(tmp_path: Path, name: str) -> None:
    before = sorted(tmp_path.parent.iterdir())
    archives = [zipped(tmp_path / "a.zip", {"good.txt": "g", name: "evil"})]
    archives.append(tarred(tmp_path / "a.tgz", member("good.txt"), member(name)))
    for archive in archives:
        with pytest.raises(DatasetError, match="points outside; nothing was unpacked"):
            raw.unpack(archive, tmp_path / "out" / "deep", bar=False)
        assert not (tmp_path / "out" / "deep").exists()
    assert not list(tmp_path.rglob("out.txt"))
    assert sorted(tmp_path.parent.iterdir()) == before


def test_links_and_devices_in_archives_are_refused(tmp_path: Path) -> None:
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE):
        archive = tarred(tmp_path / "a.tgz", member("good.txt"), member("link", 0, kind, "good.txt"))
        with pytest.raises(DatasetError, match="'link' is a link"):
            raw.unpack(archive, tmp_path / "out", bar=False)
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive_zip:
        archive_zip.writestr(link, "/etc/passwd")
    with pytest.raises(DatasetError, match="'link' is a link"):
        raw.unpack(tmp_path / "a.zip", tmp_path / "out", bar=False)


def test_too_much_and_too_many_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = zipped(tmp_path / "a.zip", {"a": "x" * 100, "b": "x"})
    monkeypatch.setattr(raw, "MAX_UNPACKED_BYTES", 100)
    with pytest.raises(DatasetError, match="unpacks to"):
        raw.unpack(archive, tmp_path / "out", bar=False)
    monkeypatch.setattr(raw, "MAX_UNPACKED_BYTES", 1000)
    monkeypatch.setattr(raw, "MAX_FILES", 1)
    with pytest.raises(DatasetError, match="holds 2 files, at most 1"):
        raw.unpack(archive, tmp_path / "out", bar=False)


def test_a_damaged_archive_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zipped(tmp_path / "b.zip", {"a": "x" * 1000}).read_bytes()[:60])
    with pytest.raises(DatasetError, match=r"a\.zip cannot be unpacked"):
        raw.unpack(tmp_path / "a.zip", tmp_path / "out", bar=False)


def test_a_survey_leaves_hidden_files_out_and_refuses_links_and_pipes(tmp_path: Path) -> None:
    root = write(tmp_path / "set", {"a/a.obj": "a", ".DS_Store": "x", ".git/config": "x", "Thumbs.db": "x"})
    assert raw.survey(root).files == [PurePosixPath("a/a.obj")]
    (root / "inside").symlink_to(root / "a/a.obj")
    assert PurePosixPath("inside") in raw.survey(root).files
    (tmp_path / "secret").write_text("s")
    (root / "outside").symlink_to(tmp_path / "secret")
    with pytest.raises(DatasetError, match="link out of the folder"):
        raw.survey(root)
    (root / "outside").unlink()
    os.mkfifo(root / "pipe")
    with pytest.raises(DatasetError, match="neither a file nor a folder"):
        raw.survey(root)


def test_an_interrupted_copy_goes_on_and_appears_whole(tmp_path: Path) -> None:
    source = raw.survey(write(tmp_path / "set", {"a/a.obj": "a", "b/b.obj": "b"}))
    brought: list[str] = []

    def dies(one: Path, other: Path) -> None:
        brought.append(one.name)
        if len(brought) == 2:
            raise KeyboardInterrupt
        raw.copy_file(one, other)

    target, work = tmp_path / "raw", tmp_path / "work"
    with pytest.raises(KeyboardInterrupt):
        raw.copy_files(source, source.files, target, work, False, dies)
    assert not target.exists()
    raw.copy_files(source, source.files, target, work, False, dies)
    assert brought == ["a.obj", "b.obj", "b.obj"]  # the first one was there
    assert tree(target) == {"a/a.obj": "a", "b/b.obj": "b"}


def test_parts_keep_the_scans_of_a_subject_together(tmp_path: Path) -> None:
    names = ["a_1", "a_2", "b_1", "c_1", "c_2"]
    source = raw.survey(write(tmp_path / "set", {f"{n}/{n}.obj": n for n in names} | {"splits.csv": "s"}))
    samples = raw.list_samples(source.root, "scans")
    assert samples == names
    parts = raw.plan_parts(source, "mh", samples, [n[0] for n in names], 3)
    assert {p: [f.parts[0] for f in files] for p, files in parts.items()} == {
        "mh-000": ["a_1", "a_2", "b_1", "splits.csv"],
        "mh-001": ["c_1", "c_2", "splits.csv"],
    }
    assert list(raw.plan_parts(source, "mh", samples, names, None)) == ["mh"]


def test_keypoints_go_with_their_photo(tmp_path: Path) -> None:
    files = {"a.png": "", "a_2.png": "", "openpose/a_keypoints.json": "", "openpose/a_2_keypoints.json": ""}
    source = raw.survey(write(tmp_path / "set", files))
    samples = raw.list_samples(source.root, "photos")
    parts = raw.plan_parts(source, "p", samples, samples, 1)
    assert [str(f) for f in parts["p-000"]] == ["a.png", "openpose/a_keypoints.json"]
    assert [str(f) for f in parts["p-001"]] == ["a_2.png", "openpose/a_2_keypoints.json"]
