from __future__ import annotations

import os
import secrets
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.checks import Error
from django.core.checks.registry import registry
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from crazyrouter.files import expiry, tasks
from crazyrouter.files.checks import check_file_ttl
from crazyrouter.files.errors import StorageUnavailable
from crazyrouter.files.expiry import expire_files, expires_after, sweep_orphans
from crazyrouter.files.models import StoredImage
from crazyrouter.files.names import new_name, shard_of
from crazyrouter.files.storage import LocalStorage

HOUR = timedelta(hours=1)


class Crash(BaseException):
    """The process ends here."""


def names_on_disk(storage: LocalStorage) -> set[str]:
    return {file.name for file in storage.iterate() if not file.temporary}


def make_old(storage: LocalStorage, name: str, *, minutes: float) -> Path:
    path = storage.root / shard_of(name) / name
    moment = time.time() - minutes * 60
    os.utime(path, (moment, moment))
    return path


class TestExpiry:
    def test_bytes_go_and_the_row_stays(self, stored, storage):
        dead = stored(b"dead", age=73 * HOUR)
        live = stored(b"live", age=71 * HOUR)
        before = StoredImage.objects.filter(pk=dead.pk).values().get()
        now = timezone.now()

        assert expire_files(now) == 1

        assert names_on_disk(storage) == {live.name}
        assert StoredImage.objects.filter(pk=dead.pk).values().get() == before | {"deleted_at": now}
        live.refresh_from_db()
        assert live.deleted_at is None

    def test_the_very_moment(self, stored, storage):
        image = stored(b"x")

        assert expire_files(image.expires_at - timedelta(microseconds=1)) == 0
        assert expire_files(image.expires_at) == 1

    def test_again_changes_nothing(self, stored, storage):
        image = stored(b"dead", age=73 * HOUR)
        first = timezone.now()
        assert expire_files(first) == 1

        assert expire_files(first + HOUR) == 0

        image.refresh_from_db()
        assert image.deleted_at == first

    @pytest.mark.parametrize("batch", [1, 3, 7, 500])
    def test_batches_reach_everything_once(self, stored, storage, batch):
        moment = timezone.now()
        images = [stored(b"x", age=73 * HOUR + timedelta(seconds=number // 2)) for number in range(7)]
        StoredImage.objects.filter(pk__in=[image.pk for image in images[:4]]).update(expires_at=moment)

        assert expire_files(moment, batch=batch) == 7
        assert names_on_disk(storage) == set()
        assert StoredImage.objects.filter(deleted_at=None).count() == 0

    def test_a_crash_between_bytes_and_row_is_repaired(self, stored, storage, monkeypatch):
        images = [stored(b"x", age=73 * HOUR) for _ in range(3)]

        def crash(*_args, **_options):
            raise Crash

        with monkeypatch.context() as patch:
            patch.setattr("django.db.models.query.QuerySet.update", crash)
            with pytest.raises(Crash):
                expire_files()
        assert names_on_disk(storage) == set()
        assert StoredImage.objects.filter(deleted_at=None).count() == 3

        assert expire_files() == 3
        assert StoredImage.objects.filter(deleted_at=None).count() == 0
        assert len(images) == 3

    def test_a_crash_among_the_bytes_is_repaired(self, stored, storage, monkeypatch):
        for _ in range(3):
            stored(b"x", age=73 * HOUR)
        delete = LocalStorage.delete
        deleted: list[str] = []

        def crash_second(self, name):
            if deleted:
                raise Crash
            deleted.append(name)
            delete(self, name)

        with monkeypatch.context() as patch:
            patch.setattr(LocalStorage, "delete", crash_second)
            with pytest.raises(Crash):
                expire_files()
        assert len(names_on_disk(storage)) == 2

        assert expire_files() == 3
        assert names_on_disk(storage) == set()

    def test_a_file_that_will_not_go_waits_and_blocks_nobody(self, stored, storage, monkeypatch, caplog):
        images = [stored(b"x", age=80 * HOUR - number * HOUR) for number in range(5)]
        delete = LocalStorage.delete

        def refuse_first(self, name):
            if name == images[0].name:
                raise StorageUnavailable("busy")
            delete(self, name)

        with monkeypatch.context() as patch:
            patch.setattr(LocalStorage, "delete", refuse_first)
            assert expire_files(batch=1) == 4

        assert caplog.messages == [f"expired image {images[0].name} cannot be deleted"]
        assert list(StoredImage.objects.filter(deleted_at=None)) == [images[0]]
        assert expire_files() == 1

    def test_two_at_once_mark_each_row_once(self, stored, storage):
        for _ in range(20):
            stored(b"x", age=73 * HOUR)
        start, counts = threading.Barrier(3), []

        def run() -> None:
            start.wait()
            try:
                counts.append(expire_files(batch=3))
            finally:
                connection.close()

        threads = [threading.Thread(target=run) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len(counts) == 3
        assert sum(counts) == 20
        assert names_on_disk(storage) == set()

    def test_lifetime_is_a_setting(self, settings):
        settings.FILE_TTL_HOURS = 30.5
        moment = timezone.now()

        assert expires_after(moment) - moment == timedelta(hours=30, minutes=30)


class TestSweep:
    def test_orphans_go_and_owned_files_stay(self, stored, storage):
        owned, orphan, young = stored(b"owned"), new_name(), new_name()
        storage.write(orphan, b"orphan")
        storage.write(young, b"young")
        for name in (owned.name, orphan):
            make_old(storage, name, minutes=61)
        make_old(storage, young, minutes=59)

        assert sweep_orphans() == 1

        assert names_on_disk(storage) == {owned.name, young}
        assert sweep_orphans() == 0

    def test_age_is_a_parameter(self, database, storage):
        name = new_name()
        storage.write(name, b"orphan")
        make_old(storage, name, minutes=10)

        assert sweep_orphans(timedelta(minutes=11)) == 0
        assert sweep_orphans(timedelta(minutes=9)) == 1

    def test_the_file_of_a_deleted_row_is_an_orphan(self, stored, storage):
        """A deletion that a power cut took back, or a restored backup."""
        image = stored(b"x")
        StoredImage.objects.update(deleted_at=timezone.now())
        make_old(storage, image.name, minutes=61)

        assert sweep_orphans() == 1

    def test_leftovers_of_dead_writers_go_even_beside_a_row(self, stored, storage):
        image = stored(b"x")
        path = make_old(storage, image.name, minutes=61)
        old, young = (path.with_name(f".{image.name}.{secrets.token_hex(8)}.part") for _ in range(2))
        for leftover in (old, young):
            leftover.write_bytes(b"half")
        os.utime(old, (time.time() - 3700,) * 2)

        assert sweep_orphans() == 1

        assert (path.exists(), old.exists(), young.exists()) == (True, False, True)

    def test_what_is_not_ours_is_left_alone(self, database, storage):
        name = new_name()
        storage.write(name, b"x")
        stranger = make_old(storage, name, minutes=61).with_name("notes.txt")
        stranger.write_text("keep")
        os.utime(stranger, (1000, 1000))

        assert sweep_orphans() == 1
        assert stranger.exists()

    def test_touched_between_listing_and_removal_stays(self, database, storage, monkeypatch):
        """A generation that finishes just now touches its pictures before it writes their rows."""
        name = new_name()
        storage.write(name, b"x")
        make_old(storage, name, minutes=61)
        discard = LocalStorage.discard

        def touch_first(self, file, *, older_than):
            self.touch(file.name)
            return discard(self, file, older_than=older_than)

        monkeypatch.setattr(LocalStorage, "discard", touch_first)

        assert sweep_orphans() == 0
        assert names_on_disk(storage) == {name}

    def test_many_are_looked_up_in_batches(self, stored, storage, monkeypatch, django_assert_num_queries):
        monkeypatch.setattr(expiry, "BATCH", 4)
        owned = [stored(b"x").name for _ in range(5)]
        orphans = [new_name() for _ in range(6)]
        for name in orphans:
            storage.write(name, b"x")
        for name in owned + orphans:
            make_old(storage, name, minutes=61)

        with django_assert_num_queries(3):
            assert sweep_orphans() == 6

        assert names_on_disk(storage) == set(owned)

    def test_trouble_with_one_does_not_stop_the_rest(self, database, storage, monkeypatch, caplog):
        names = sorted(new_name() for _ in range(3))
        for name in names:
            storage.write(name, b"x")
            make_old(storage, name, minutes=61)
        discard = LocalStorage.discard

        def refuse_first(self, file, *, older_than):
            if file.name == names[0]:
                raise StorageUnavailable("busy")
            return discard(self, file, older_than=older_than)

        monkeypatch.setattr(LocalStorage, "discard", refuse_first)

        assert sweep_orphans() == 2
        assert caplog.messages == [f"orphan of {names[0]} cannot be deleted"]


class TestTasks:
    def test_names(self):
        assert (tasks.expire_files.name, tasks.sweep_orphan_files.name) == ("files.expire", "files.sweep")

    def test_they_do_the_work(self, stored, storage):
        stored(b"dead", age=73 * HOUR)
        orphan = new_name()
        storage.write(orphan, b"x")
        make_old(storage, orphan, minutes=61)

        assert (tasks.expire_files(), tasks.sweep_orphan_files()) == (1, 1)
        assert names_on_disk(storage) == set()


class TestCheck:
    @pytest.mark.parametrize("hours", [23.9, 1, 0.5])
    def test_too_short_a_life_is_an_error(self, settings, hours):
        settings.FILE_TTL_HOURS = hours

        (found,) = check_file_ttl()

        assert isinstance(found, Error)
        assert found.id == "files.E001"
        assert found.msg == f"FILE_TTL_HOURS is {hours:g}: delivered images must be kept for 24 hours"

    @pytest.mark.parametrize("hours", [24, 72])
    def test_a_day_or_more_is_fine(self, settings, hours):
        settings.FILE_TTL_HOURS = hours

        assert check_file_ttl() == []

    def test_is_registered(self):
        assert "check_file_ttl" in [getattr(check, "__name__", "") for check in registry.get_checks()]


class TestRow:
    """What the database itself refuses."""

    @pytest.mark.parametrize("field", ["width", "height", "bytes"])
    def test_nothing_is_empty(self, stored, field):
        image = stored(b"x")

        with pytest.raises(IntegrityError), transaction.atomic():
            StoredImage.objects.filter(pk=image.pk).update(**{field: 0})

    def test_a_slot_has_one_picture_and_a_name_one_row(self, stored):
        image, other = stored(b"x"), stored(b"y")

        with pytest.raises(IntegrityError), transaction.atomic():
            StoredImage.objects.filter(pk=other.pk).update(generation_id=image.generation_id)
        with pytest.raises(IntegrityError), transaction.atomic():
            StoredImage.objects.filter(pk=other.pk).update(name=image.name)

    def test_no_picture_expires_before_it_exists(self, stored):
        image = stored(b"x")

        with pytest.raises(IntegrityError), transaction.atomic():
            StoredImage.objects.filter(pk=image.pk).update(expires_at=image.created_at)

    def test_shows_its_name(self, stored):
        image = stored(b"x")

        assert str(image) == image.name
