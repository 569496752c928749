"""The program while it is compiled: a canonical `torch.fx` graph, regions and the plan."""
