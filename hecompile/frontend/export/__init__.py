"""From a module to one graph, by `torch.export`: aten calls whose sizes are integers or multiples of the batch."""
