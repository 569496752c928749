"""The compile pipeline: one file per pass, named as the pass is printed."""
