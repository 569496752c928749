"""Convolution, activation, convolution as one circuit of Concrete with lookups."""
