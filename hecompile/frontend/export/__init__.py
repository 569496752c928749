"""From `torch.export` to one graph of aten calls whose sizes are integers or multiples of the batch."""
