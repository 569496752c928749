"""The backend `concrete`: single linear layers as circuits of Concrete without table lookups."""
