"""Seeded defects of typed models: what is stored of an object, and what is refused. Python only, quick to catch."""

from stress.defects.defect import Change, Defect

_MODELS = "memdb/documents/models.py"
_ANNOTATIONS = "memdb/documents/annotations.py"
_TESTS = "pytest tests/documents/test_models.py::"

SEEDS = (
    Defect(
        "a-struct-is-not-checked-on-writing",
        "models: nothing is stored that the model would not read again",
        (
            Change(
                _MODELS,
                "        document = dump(item)\n        load(document)\n",
                "        document = dump(item)\n",
            ),
        ),
        (_TESTS + "test_constraints_of_msgspec_hold_both_ways",),
        quick=True,
    ),
    Defect(
        "an-id-that-the-model-can-not-take",
        "models: an id that the collection makes is one that the model reads",
        (
            Change(
                _MODELS,
                "        if not self._takes_generated:\n",
                "        if self._takes_generated:\n",
            ),
        ),
        (_TESTS + "test_an_id_that_a_collection_can_not_make_has_to_be_given",),
        quick=True,
    ),
    Defect(
        "a-union-that-forgets-which",
        "models: a union of which the store does not tell the types apart is refused",
        (
            Change(
                _ANNOTATIONS,
                "            if alike and not (one.same and other.same):\n",
                "            if alike and not (one.same or other.same):\n",
            ),
        ),
        (_TESTS + "test_fields_that_could_not_be_read_again_are_refused_at_once",),
        quick=True,
    ),
)
