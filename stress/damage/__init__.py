"""Damage: every way in which the files of a database can differ from what was written, and the verdict on
what memdb makes of each: the right data, an error that says where and what to do, or a reported cut. Never
wrong data, never a silent loss."""
