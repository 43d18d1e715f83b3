"""Controls of the runner itself: mutations of which it must *not* say that they were caught. Each run judges them first."""

from stress.defects.defect import Change, Defect

__all__ = ["CONTROLS"]

_FILES = "memdb/durability/files.py"
_TEST = "pytest tests/durability/test_engine.py::test_a_new_database_is_created_and_found_again"
_SYNC = "        os.fdatasync(self.descriptor)\n"

CONTROLS: tuple[tuple[Defect, str], ...] = (
    (
        Defect(
            "control: harmless",
            "nothing: it has to be reported alive",
            (Change(_FILES, _SYNC, "        os.fdatasync(self.descriptor)  # the same\n"),),
            (_TEST,),
        ),
        "ALIVE",
    ),
    (
        Defect(
            "control: stale",
            "nothing: its text is not there",
            (Change(_FILES, "        os.fdatasync(self.no_such_descriptor)\n", ""),),
            (_TEST,),
        ),
        "ERROR",
    ),
    (
        Defect(
            "control: there twice",
            "nothing: its text is not unique",
            (Change(_FILES, "def ", "def  "),),
            (_TEST,),
        ),
        "ERROR",
    ),
    (
        Defect(
            "control: no program",
            "nothing: a test fails, but by an unknown name and not by what it checks",
            (
                Change(
                    "memdb/durability/retention.py",
                    "    if len(kept) < 2:\n",
                    "    if no_such_name < 2:\n",
                ),
            ),
            ("pytest tests/durability/test_engine.py::test_damage_of_the_newest_checkpoint_costs_nothing",),
        ),
        "ERROR",
    ),
    (
        Defect(
            "control: no such test",
            "nothing: the command fails without it, too",
            (Change(_FILES, _SYNC, "        pass\n"),),
            ("pytest tests/durability/test_engine.py::test_that_nobody_wrote",),
        ),
        "ERROR",
    ),
)
"""(mutation, verdict that it must get)"""
