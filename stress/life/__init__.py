"""The hard cases of life as a tier of the harness."""
