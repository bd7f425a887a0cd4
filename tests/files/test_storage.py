from __future__ import annotations

import errno
import os
import stat
import threading
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from crazyrouter.files.errors import InvalidName, NotStored, StorageUnavailable
from crazyrouter.files.names import new_name, shard_of
from crazyrouter.files.storage import LocalStorage, get_storage
from tests.files.test_names import WRONG


def list_files(storage: LocalStorage) -> list[str]:
    return sorted(path.name for path in storage.root.rglob("*") if path.is_file())


class TestUrl:
    def test_names_a_folder(self, settings, tmp_path):
        settings.FILE_STORAGE_URL = (tmp_path / "with space #1").as_uri()

        storage = get_storage()

        assert isinstance(storage, LocalStorage)
        assert storage.root == tmp_path / "with space #1"
        assert not storage.root.exists()
        assert get_storage() is storage

    @pytest.mark.parametrize(
        "url",
        [
            "",
            "s3://bucket/prefix",
            "/plain/path",
            "file://",
            "file:///",
            "file://relative/path",
            "file:///path?x=1",
            "file:///path#x",
        ],
    )
    def test_anything_else_is_refused_by_name(self, settings, url):
        settings.FILE_STORAGE_URL = url

        with pytest.raises(ImproperlyConfigured, match="FILE_STORAGE_URL"):
            get_storage()


class TestWriting:
    def test_what_was_written_is_read(self, storage):
        name = new_name()

        storage.write(name, b"picture")

        path = storage.root / shard_of(name) / name
        assert path.read_bytes() == b"picture"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert list_files(storage) == [name]
        assert storage.size(name) == 7
        assert storage.read(name) == b"picture"

    def test_order_of_durability(self, storage, monkeypatch):
        """File, then name, then folder: a crash at any point leaves a whole picture or none."""
        name = new_name()
        storage.write(new_name(), b"makes the root")
        (storage.root / shard_of(name)).mkdir(exist_ok=True)
        steps = []
        sync, rename = os.fsync, os.rename

        def watch_sync(descriptor):
            steps.append("sync folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "sync file")
            sync(descriptor)

        def watch_rename(path, target):
            steps.append(f"rename {Path(path).read_bytes().decode()}")
            rename(path, target)

        monkeypatch.setattr(os, "fsync", watch_sync)
        monkeypatch.setattr(os, "rename", watch_rename)

        storage.write(name, b"picture")

        assert steps == ["sync file", "rename picture", "sync folder"]

    def test_new_folders_are_synced_into_their_parents(self, storage, monkeypatch):
        synced = []
        sync = os.fsync

        def watch(descriptor):
            synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
            sync(descriptor)

        monkeypatch.setattr(os, "fsync", watch)
        name = new_name()

        storage.write(name, b"picture")

        folder = storage.root / shard_of(name)
        assert synced[:2] == [storage.root.parent, storage.root]
        assert synced[2].parent == folder
        assert synced[3:] == [folder]

    @pytest.mark.parametrize("failing", ["fsync", "write", "rename", "open", "mkdir"])
    @pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT])
    def test_a_full_or_broken_disk(self, storage, monkeypatch, failing, code):
        def fail(*_args, **_options):
            raise OSError(code, os.strerror(code))

        patches = {
            "fsync": (os, "fsync", fail),
            "write": (os, "write", fail),
            "rename": (os, "rename", fail),
            "open": (os, "open", fail),
            "mkdir": (Path, "mkdir", fail),
        }
        if failing != "mkdir":
            (storage.root / "aa").mkdir(parents=True)
        name = "qwen_image_" + "a" * 32 + ".png"
        with monkeypatch.context() as patch:
            patch.setattr(*patches[failing])
            with pytest.raises(StorageUnavailable) as caught:
                storage.write(name, b"picture")

        assert str(caught.value) == f"{name}: {os.strerror(code)}"
        assert list_files(storage) == []
        storage.write(name, b"picture")
        assert storage.read(name) == b"picture"

    def test_a_write_in_several_parts(self, storage, monkeypatch):
        write = os.write
        monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:3]))
        name = new_name()

        storage.write(name, b"0123456789")

        monkeypatch.undo()
        assert storage.root.joinpath(shard_of(name), name).read_bytes() == b"0123456789"

    def test_an_interrupted_write_leaves_nothing(self, storage, monkeypatch):
        def interrupt(_):
            raise KeyboardInterrupt

        monkeypatch.setattr(os, "fsync", interrupt)
        storage.root.joinpath("aa").mkdir(parents=True)

        with pytest.raises(KeyboardInterrupt):
            storage.write("qwen_image_" + "a" * 32 + ".png", b"picture")

        assert list_files(storage) == []

    def test_a_folder_where_a_file_stands(self, storage):
        storage.root.parent.mkdir(exist_ok=True)
        storage.root.write_text("in the way")

        with pytest.raises(StorageUnavailable):
            storage.write(new_name(), b"picture")

    def test_many_threads_at_once(self, storage):
        names = [f"qwen_image_aa{'b' * 24}{first}{second}.png" for first in "abcdefgh" for second in "abcdefgh"]
        start = threading.Barrier(8)

        def write(part: list[str]) -> None:
            start.wait()
            for name in part:
                storage.write(name, name.encode())

        threads = [threading.Thread(target=write, args=(names[at::8],)) for at in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert list_files(storage) == sorted(names)
        assert [storage.read(name) for name in names] == [name.encode() for name in names]

    def test_two_writers_of_one_name_leave_one_whole_file(self, storage):
        name = new_name()
        start = threading.Barrier(4)

        def write(letter: bytes) -> None:
            start.wait()
            storage.write(name, letter * 100_000)

        threads = [threading.Thread(target=write, args=(letter,)) for letter in (b"a", b"b", b"c", b"d")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        data = storage.read(name)
        assert (len(data), len(set(data))) == (100_000, 1)
        assert list_files(storage) == [name]


class TestReading:
    @pytest.mark.parametrize(
        ("start", "length", "expected"),
        [
            (0, None, b"0123456789"),
            (0, 4, b"0123"),
            (3, 4, b"3456"),
            (8, 100, b"89"),
            (10, 1, b""),
            (4, None, b"456789"),
        ],
    )
    def test_ranges(self, storage, start, length, expected):
        name = new_name()
        storage.write(name, b"0123456789")

        assert storage.read(name, start=start, length=length) == expected

    def test_an_open_file_outlives_its_name(self, storage):
        name = new_name()
        storage.write(name, b"0123456789")

        with storage.open(name) as file:
            storage.delete(name)
            assert file.read() == b"0123456789"

    @pytest.mark.parametrize("verb", ["open", "read", "size", "touch"])
    def test_nothing_there(self, storage, verb):
        with pytest.raises(NotStored):
            getattr(storage, verb)(new_name())

    @pytest.mark.parametrize("verb", ["open", "read", "size", "touch", "delete"])
    def test_trouble_is_not_absence(self, storage, verb):
        name = "qwen_image_" + "a" * 32 + ".png"
        storage.root.mkdir()
        (storage.root / "aa").write_text("a file where the folder was")

        with pytest.raises(StorageUnavailable):
            getattr(storage, verb)(name)

    @pytest.mark.parametrize("name", WRONG)
    @pytest.mark.parametrize("verb", ["write", "open", "read", "size", "touch", "delete"])
    def test_names_are_checked_before_the_disk(self, storage, name, verb, monkeypatch):
        def fail(*_args, **_options):
            raise AssertionError("the disk was touched")

        for owner, call in ((os, "open"), (os, "utime"), (Path, "unlink"), (Path, "stat"), (os, "rename")):
            monkeypatch.setattr(owner, call, fail)
        with pytest.raises(InvalidName):
            getattr(storage, verb)(name, *([b"x"] if verb == "write" else []))


class TestRemoving:
    def test_delete_is_idempotent(self, storage):
        name = new_name()
        storage.write(name, b"picture")

        storage.delete(name)
        storage.delete(name)

        assert list_files(storage) == []

    def test_listing_an_empty_storage(self, storage):
        assert list(storage.iterate()) == []

    def test_listing_shows_files_and_leftovers_of_ours_only(self, storage):
        name = "qwen_image_" + "a" * 32 + ".png"
        storage.write(name, b"picture")
        folder = storage.root / "aa"
        leftover = folder / f".{name}.0123456789abcdef.part"
        leftover.write_bytes(b"half")
        os.utime(folder / name, (1000, 1000))
        os.utime(leftover, (2000, 2000))
        (folder / "notes.txt").write_text("not ours")
        (storage.root / "lost+found").mkdir()

        files = sorted(storage.iterate(), key=lambda file: file.modified)

        assert [(file.name, file.modified, file.temporary) for file in files] == [
            (name, 1000, False),
            (name, 2000, True),
        ]
        assert [Path(file.path) for file in files] == [folder / name, leftover]

    def test_discard_spares_what_was_touched_since(self, storage):
        name = new_name()
        storage.write(name, b"picture")
        path = storage.root / shard_of(name) / name
        os.utime(path, (1000, 1000))
        (listed,) = storage.iterate()
        storage.touch(name)

        assert storage.discard(listed, older_than=2000) is False
        assert storage.read(name) == b"picture"

        os.utime(path, (1000, 1000))
        assert storage.discard(listed, older_than=2000) is True
        assert storage.discard(listed, older_than=2000) is False
        assert list_files(storage) == []
