"""Linear layers as circuits of Concrete without lookups."""
