"""Canonical spellings: every aten call of the front ends in the words of the op table."""
