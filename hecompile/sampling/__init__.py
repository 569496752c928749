"""Draws pictures with a compiled model from labels or prompts: what both have in common is the model, the noise and the picture
file."""
