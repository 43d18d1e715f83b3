"""The harness is tested too: seeded defects, each of which some test must catch (`python -m stress defects`).

A defect is a mutation of a scratch copy of the checkout (defect.py says of what, seeds_*.py list them):
nothing in the package knows of it. scratch.py owns the copy, trial.py the commands that try to catch,
command.py the run and its verdict.
"""
