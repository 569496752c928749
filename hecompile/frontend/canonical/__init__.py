"""Canonicalization: the rules that rewrite every aten call of the front ends as calls of the op table."""
