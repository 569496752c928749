"""Backends that encrypt with TFHE, by Concrete's compiler and runtime.

`linear/` runs single linear layers and `stacks/` several linear layers in one circuit. These circuits hold no table lookups (TLUs),
so they need no evaluation keys. `lookups/` runs small regions with an activation, which is a table lookup and needs keys.
"""
