"""Histories: real clients write down what they did and saw, and checkers judge it (tests/histories)."""
