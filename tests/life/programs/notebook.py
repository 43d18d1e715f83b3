"""``python notebook.py DATA``: a real Jupyter kernel, driven by nbclient: a snapshot over cells, an
interrupt, a restart."""

import asyncio
import sys

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

import memdb

OPEN = f"import memdb; db = memdb.open({sys.argv[1]!r}, max_memory='64MiB', linger=0.5)"


class Notebook:
    """Cells, run one by one in one kernel."""

    def __init__(self) -> None:
        self.client = NotebookClient(nbformat.v4.new_notebook(), timeout=60, kernel_name="python3")

    async def run(self, source: str) -> str:
        """What the cell prints."""
        cell = nbformat.v4.new_code_cell(source)
        self.client.nb.cells.append(cell)
        await self.client.async_execute_cell(cell, len(self.client.nb.cells) - 1)
        for one in cell.outputs:
            assert one.get("name") != "stderr", one
        return "".join(one.get("text", "") for one in cell.outputs)


async def until(true: object, *arguments: object) -> None:
    assert callable(true)
    for _ in range(3000):
        if true(*arguments):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come true within 30 s")


async def main() -> None:
    notebook = Notebook()
    async with notebook.client.async_setup_kernel():
        await notebook.run(OPEN)
        with memdb.open(sys.argv[1], max_memory="64MiB", linger=0.5) as db:
            await over_cells(notebook, db)
            await interrupted(notebook, db)
            await restarted(notebook, db)
    print("ok")


async def over_cells(notebook: Notebook, db: memdb.Database) -> None:
    """A snapshot taken in one cell is read in later ones, and closed in another."""
    db["shared"] = "before"
    await notebook.run("snap = db.snapshot().__enter__(); print(snap['shared'])")
    db["shared"] = "after"
    assert await notebook.run("print(snap['shared'], db['shared'])") == "before after\n"
    assert db.readers()
    await notebook.run("snap.close()")
    await until(lambda: not db.readers())
    assert await notebook.run("async def get(): return db['shared']\nprint(await get())") == "after\n"


async def interrupted(notebook: Notebook, db: memdb.Database) -> None:
    """Ten times, in a loop of writes: what the loop had acknowledged is there, and the kernel goes on."""
    writer = db.info().processes["writer"]
    for _ in range(10):
        await notebook.run("told = None")
        db.set("n", -1)
        cell = asyncio.create_task(notebook.run("for n in range(10**9):\n    db.set('n', n)\n    told = n"))
        await until(lambda: db["n"] > 20)
        await notebook.client.km.interrupt_kernel()
        try:
            await cell
        except CellExecutionError as error:
            assert error.ename == "KeyboardInterrupt", error
        else:
            raise AssertionError("the cell ended by itself")
        told, stored = (int(word) for word in (await notebook.run("print(told, db['n'])")).split())
        assert told <= stored <= told + 1, (told, stored)
    assert db.info().processes["writer"].pid == writer.pid


async def restarted(notebook: Notebook, db: memdb.Database) -> None:
    """With a snapshot open: nothing of the dead kernel stays, and the new one joins."""
    await notebook.run("db['before'] = 1; snap = db.snapshot().__enter__(); snap['before']")
    await until(db.readers)
    await notebook.client.km.restart_kernel(now=True)
    await notebook.client.kc.wait_for_ready(timeout=60)
    await until(lambda: not db.readers())
    await notebook.run(OPEN)
    assert await notebook.run("print(db['before'])") == "1\n"
    await notebook.run("db.close()")


asyncio.run(main())
