"""The backend `concrete_stacks`: stacks of linear layers, each as one linear circuit of Concrete, without table lookups.

A stack is several linear layers in a row or in a sum with nothing but linear operations between them. Compilers call joining them
vertical fusion. Layers that read the same input side by side are a layer group (`hecompile.ir.layer_groups`), not a stack.
"""
