"""Seeded defects of queries over documents: filters, updates, order, grouping. Python only, quick to catch."""

from stress.defects.defect import Change, Defect

_FILTERS = "memdb/documents/filters.py"
_TEST_FILTERS = "pytest tests/documents/test_filters.py::"
_TEST_UPDATES = "pytest tests/documents/test_updates.py::"

SEEDS = (
    Defect(
        "a-bool-is-a-number",
        "filters: a bool is no number",
        (
            Change(
                _FILTERS,
                "        if kind is int or kind is float:\n            return value == operand\n",
                "        if isinstance(value, int | float):\n            return value == operand\n",
            ),
        ),
        (_TEST_FILTERS + "test_numbers_are_one_type_and_bools_are_none",),
        quick=True,
    ),
    Defect(
        "ne-of-one-element",
        "filters: $ne excludes a document if any element is equal",
        (
            Change(
                _FILTERS,
                "        inner = _all([_match_path(path, part) for part in predicate.parts])\n",
                "        inner = _all([_match_path(path, part) for part in predicate.parts])\n"
                "        if predicate.op == 'ne':\n"
                "            return lambda doc: type(doc.get(path.text)) is list or not inner(doc)\n",
            ),
        ),
        (_TEST_FILTERS + "test_ne_and_nin_exclude_by_any_element",),
        quick=True,
    ),
    Defect(
        "size-of-an-element",
        "filters: $size is of the array at the path, not of its elements",
        (
            Change(
                "memdb/documents/parsing.py",
                "predicates.has_size(size), takes_array=True)",
                "predicates.has_size(size))",
            ),
        ),
        (_TEST_FILTERS + "test_size_is_of_arrays_only",),
        quick=True,
    ),
    Defect(
        "a-prefix-under-ignorecase",
        "filters: the prefix of a pattern holds for all that the pattern finds",
        (
            Change(
                "memdb/documents/parsing.py",
                "    if pattern.flags & (re.IGNORECASE | re.MULTILINE | re.VERBOSE):\n",
                "    if pattern.flags & (re.MULTILINE | re.VERBOSE):\n",
            ),
        ),
        (_TEST_FILTERS + "test_the_prefix_of_a_pattern",),
        quick=True,
    ),
    Defect(
        "no-null-for-a-missing-element",
        "paths: what a filter sees, an index has an entry of",
        (
            Change(
                "memdb/documents/paths.py",
                "        elif index < 0:\n            found.append(MISSING)\n",
                "        elif index < -1:\n            found.append(MISSING)\n",
            ),
            Change(
                "memdb/documents/paths.py",
                "    values = [None if value is MISSING else value for value in found]\n",
                "    values = [value for value in found if value is not MISSING]\n",
            ),
        ),
        ("pytest tests/documents/test_paths.py::test_an_index_leads_to_all_that_a_filter_sees",),
        quick=True,
    ),
    Defect(
        "a-shared-container-is-written-to",
        "updates: apply never changes its argument",
        (
            Change(
                "memdb/documents/updates.py",
                "                    child = dict(child)\n",
                "                    child = child\n",
            ),
        ),
        (_TEST_UPDATES + "test_set_makes_what_is_missing",),
        quick=True,
    ),
    Defect(
        "the-id-by-value-only",
        "updates: _id can't change, also not to an equal value of another type",
        (
            Change(
                "memdb/documents/updates.py",
                "    if type(old) is type(new) and old == new and id_bytes(old) == id_bytes(new):\n",
                "    if old == new:\n",
            ),
        ),
        (_TEST_UPDATES + "test_the_id_stays",),
        quick=True,
    ),
    Defect(
        "conflicts-at-equal-paths-only",
        "updates: two changes at one place, or one inside of the other, are refused",
        (
            Change(
                "memdb/documents/updates.py",
                "        for length in range(1, len(path.parts) + 1):\n",
                "        for length in range(len(path.parts), len(path.parts) + 1):\n",
            ),
        ),
        (_TEST_UPDATES + "test_what_is_wrong_is_refused_with_its_place",),
        quick=True,
    ),
    Defect(
        "greatest-element-of-an-ascending-sort",
        "sorting: a document sorts where the entries of an index have it",
        (
            Change(
                "memdb/documents/sorting.py",
                "    return (max if is_descending else min)(values, key=encode_ordered)\n",
                "    return max(values, key=encode_ordered)\n",
            ),
        ),
        ("pytest tests/documents/test_grouping.py::test_a_sort_equals_that_of_an_index",),
        quick=True,
    ),
    Defect(
        "a-part-of-a-sum-is-forgotten",
        "grouping: what an addition of floats rounds off is kept",
        (
            Change(
                "memdb/documents/totals.py",
                "            self.parts = [*kept, value]\n",
                "            self.parts = [value]\n",
            ),
        ),
        ("pytest tests/documents/test_grouping.py::test_a_sum_does_not_depend_on_the_order",),
        quick=True,
    ),
)
