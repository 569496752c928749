"""Linear layers in a row or in a sum as one circuit of Concrete without lookups."""
