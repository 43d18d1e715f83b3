"""Logs, checkpoints and manifests with anything in them, and every checksum right.

`stress damage` has what checksums catch; here is what lies behind them: files that a hostile or a broken
program has written. What recovery accepts must pass `check`, and an engine must be able to go on with it.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import replace
from typing import Any

import msgpack
from durability.rig import Machine, key

from memdb.durability import checkpoints, manifest
from memdb.durability.salvage import snapshot_reader
from memdb.errors import ArenaFullError, CorruptionError, FormatTooNew
from memdb.shm import _kernel as kernel
from stress.damage.scenes import SCENES, Scene, small
from stress.damage.verdicts import Violation as Wrong
from stress.damage.verdicts import read
from stress.fuzz.case import Case, Violation
from stress.fuzz.mutate import Mutator

_DOCUMENTED = (CorruptionError, FormatTooNew, ArenaFullError)
_RECORD = struct.Struct("<IIBBHIQQ16sQQQII")  # record.h
_HEADER = struct.Struct("<8sII16sQQQQ")  # of a segment
_ITEM = struct.Struct("<IIQQ")  # store.h: a scan batch
_LOG = kernel.SEGMENT_HEADER
MODES = ("strict", "until_damage", "salvage")


class Directory:
    """A scene whose files are replaced for the length of a case."""

    def __init__(self, scene: Scene) -> None:
        self.scene, self.files = scene, scene.files
        self.manifest = manifest.decode(bytes(self.files.contents(manifest.PATH)))

    def judged(self, contents: dict[str, bytes], mode: str, *, goes_on: bool) -> str:
        """Recovers with these contents: what a reader finds is sound. ``goes_on``: an engine starts with
        them, commits, and the next one finds that."""
        before = {path: bytes(self.files.contents(path)) for path in contents}
        try:
            for path, content in contents.items():
                self.files.contents(path)[:] = content
            try:
                verdict = self._examine(mode)
                if goes_on:
                    self._go_on(mode)
            except _DOCUMENTED as error:
                return f"refused ({type(error).__name__})"
            except Wrong as error:
                raise Violation(str(error)) from error
            return verdict
        finally:
            for path, content in before.items():
                self.files.contents(path)[:] = content

    def _examine(self, mode: str) -> str:
        reading = read(self.files, mode)
        reading.store.open(reading.lsn)
        reader = snapshot_reader(reading.store)
        try:
            problems = reader.verify() or reading.store.audit()
        finally:
            reader.close()
        if problems:
            raise Violation(f"{mode}: accepted, and check says {problems[:3]}")
        return "replaced by an older checkpoint" if reading.unusable else "accepted"

    def _go_on(self, mode: str) -> None:
        machine = Machine(files=self.files.survivor(), options=small(recovery=mode)).start()
        now = manifest.load(machine.files)
        if now is None or now.lsn_limit >= 1 << 47 or now.next_segment > 10**15:  # where numbers end soon
            return
        try:
            machine.set("after", b"1", "full")
            found = [
                one.state().get(key("after")) for one in (machine, machine.reboot(options=small()).start())
            ]
        except (AssertionError, *_DOCUMENTED) as error:
            raise Violation(f"{mode}: started, and does not go on: {error}") from error
        if found != [b"1\0", b"1\0"]:
            raise Violation(f"{mode}: a commit after the start is {found}")


class Logs:
    """One open segment: records whose fields, operations and order are bent."""

    def __init__(self, seed: int) -> None:
        self.directory = Directory(SCENES["short log"](seed % 1000))
        self.path = self.directory.scene.path("wal", 0)
        image = bytes(self.directory.files.contents(self.path))
        self.salt, self.head, self.capacity = (
            self.directory.manifest.segments[0].salt,
            image[:_LOG],
            len(image),
        )
        self.records: list[tuple[list[Any], bytes]] = []
        at = _LOG
        while (found := kernel.record_read(image, at, self.salt)).verdict == kernel.RECORD_GOOD:
            self.records.append((list(_RECORD.unpack_from(image, at)), found.body))
            at += found.padded

    def case(self, mutator: Mutator) -> Case:
        records = [(list(fields), body) for fields, body in self.records]
        for _ in range(mutator.random.randrange(1, 4)):
            self._bend(mutator, records)
        contents = {self.path: self._sealed(records)}
        mode, goes_on = mutator.random.choice(MODES), mutator.chance(0.1)
        if mutator.chance(0.1):  # without a manifest the header is all that says whose it is
            fields = list(_HEADER.unpack_from(self.head))
            which = mutator.random.randrange(4, 8)
            fields[which] = mutator.number(fields[which])
            head = _HEADER.pack(*fields)
            head += struct.pack("<I", kernel.crc32c(head))
            contents = {self.path: head + contents[self.path][len(head) :], manifest.PATH: b""}
            mode = "salvage"
        return Case(contents[self.path], lambda: self.directory.judged(contents, mode, goes_on=goes_on))

    def _bend(self, mutator: Mutator, records: list[tuple[list[Any], bytes]]) -> None:
        at = mutator.random.randrange(len(records))
        fields, body = records[at]
        pick = mutator.random.randrange(10)
        if pick == 0 and len(records) > 1:
            del records[at]
        elif pick == 1:
            records.insert(mutator.random.randrange(len(records)), (list(fields), body))
        elif pick < 5:
            which = mutator.random.choice((1, 2, 3, 4, 5, 6, 6, 7, 7, 9, 10, 11))
            size = {2: 8, 3: 8, 4: 16, 1: 32, 5: 32}.get(which, 64)
            fields[which] = mutator.number(fields[which], size)
            fields[12] = which == 1  # its length stays wrong
        elif pick < 8 and fields[2] == kernel.RECORD_COMMIT:
            try:
                records[at] = fields, kernel.ops_build(mutator.tree(kernel.parse_ops(body)))
            except (CorruptionError, ValueError, TypeError, LookupError, OverflowError):  # no operations
                records[at] = fields, mutator.bent(body)
        else:
            records[at] = fields, mutator.bent(body, mutator.random.choice(records)[1])

    def _sealed(self, records: list[tuple[list[Any], bytes]]) -> bytes:
        image, places = bytearray(self.head), []
        for fields, body in records:
            places.append(len(image))
            if fields[12] is not True:
                fields[1] = _RECORD.size + len(body)
            image += (_RECORD.pack(*fields[:12], 0, 0) + body).ljust(
                -(-(_RECORD.size + len(body)) // 8) * 8, b"\0"
            )
        image = image[: self.capacity].ljust(self.capacity, b"\0")
        for at in reversed([one for one in places if one + _RECORD.size <= self.capacity]):
            size = int.from_bytes(image[at + 4 : at + 8], "little")
            struct.pack_into(
                "<I", image, at + 72, kernel.crc32c(bytes(image[at + 80 : max(at + 80, at + size)]))
            )
            crc = kernel.crc32c(bytes(image[at : at + 76]), kernel.crc32c(struct.pack("<QQ", self.salt, at)))
            struct.pack_into("<I", image, at + 76, crc)
        return bytes(image)


class Checkpoints:
    """The newest checkpoint, in several blocks: items, counts, keys, LSNs, footer."""

    def __init__(self, seed: int) -> None:
        self.directory = Directory(SCENES["checkpoints"](seed % 1000))
        self.entry = max(self.directory.manifest.checkpoints, key=lambda one: one.lsn)
        file = self.directory.files.open(self.entry.path)
        found = checkpoints.blocks(
            file, self.entry.path, self.entry.salt, checkpoints.HEADER_BYTES + self.entry.size
        )
        self.items = [one for _, payload, _, _ in found for one in kernel.batch_items(bytes(payload))]
        self.head = file.pread(checkpoints.HEADER_BYTES, 0)
        file.close()

    def case(self, mutator: Mutator) -> Case:
        items = [self._item(mutator, *one) for one in self.items]
        for _ in range(mutator.random.randrange(3)):
            at, pick = mutator.random.randrange(len(items)), mutator.random.randrange(3)
            if pick == 0:
                items.insert(mutator.random.randrange(len(items)), items[at])
            elif pick == 1:
                items.append(items.pop(at))
            else:
                items[at] = mutator.bent(items[at])
        image, size, digest = self._sealed(mutator, items)
        entry = replace(self.entry, keys=len(items), size=size, digest=digest)
        others = tuple(one for one in self.directory.manifest.checkpoints if one.lsn != entry.lsn)
        others = () if mutator.chance(0.4) else others  # then salvage has its blocks only
        named = manifest.encode(replace(self.directory.manifest, checkpoints=(*others, entry)))
        contents = {self.entry.path: image, manifest.PATH: named}
        mode, goes_on = mutator.random.choice(MODES), mutator.chance(0.1)
        return Case(image, lambda: self.directory.judged(contents, mode, goes_on=goes_on))

    def _item(self, mutator: Mutator, key: bytes, value: bytes, lsn: int, expires_us: int) -> bytes:
        lengths = [len(key), len(value)]
        if mutator.chance(0.005):
            pick = mutator.random.randrange(5)
            if pick < 2:
                lengths[pick] = mutator.number(lengths[pick], 32)
            elif pick == 2:
                lsn = mutator.number(lsn)
            elif pick == 3:
                expires_us = mutator.number(expires_us)
            else:
                key = mutator.data(key)
                lengths[0] = len(key)
        item = _ITEM.pack(*lengths, lsn, expires_us) + key + value
        return item.ljust(-(-len(item) // 8) * 8, b"\0")

    def _sealed(self, mutator: Mutator, items: list[bytes]) -> tuple[bytes, int, bytes]:
        body, digest, number, at = b"", hashlib.blake2b(digest_size=16), 0, 0
        while at < len(items):
            some = items[at : at + mutator.random.randrange(1, len(items) + 1)]
            payload = b"".join(some)
            if mutator.chance(0.05):
                payload = mutator.data(payload)
            count = mutator.number(len(some), 32) if mutator.chance(0.05) else len(some)
            block = kernel.ckpt_seal(self.entry.salt, number, count, payload)
            digest.update(block)
            body, at, number = body + block + payload, at + len(some), number + 1
        keys = mutator.number(len(items)) if mutator.chance(0.1) else len(items)
        lsn = mutator.number(self.entry.lsn) if mutator.chance(0.02) else self.entry.lsn
        footer = checkpoints.CheckpointFooter(lsn, keys, number, len(body), digest.digest())
        return self.head + body + footer.encode(self.entry.salt), len(body), digest.digest()


class Manifests:
    """The manifest: members that are gone, of another type, or say anything."""

    def __init__(self, seed: int) -> None:
        self.directories = [Directory(SCENES[name](seed % 1000)) for name in ("checkpoints", "segments")]

    def case(self, mutator: Mutator) -> Case:
        directory = mutator.random.choice(self.directories)
        tree: Any = msgpack.unpackb(manifest.encode(directory.manifest)[24:], strict_map_key=False)
        for _ in range(mutator.random.randrange(1, 3)):
            tree = mutator.tree(tree)
        body = msgpack.packb(tree)
        body = mutator.bent(body) if mutator.chance(0.1) else body
        head = struct.pack("<8sIII", manifest.MAGIC, manifest.FORMAT, len(body), kernel.crc32c(body))
        data = head + struct.pack("<I", kernel.crc32c(head)) + body
        mode, goes_on = mutator.random.choice(MODES), mutator.chance(0.1)
        return Case(data, lambda: directory.judged({manifest.PATH: data}, mode, goes_on=goes_on))
