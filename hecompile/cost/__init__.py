"""What a plan will cost, predicted before anything is encrypted."""
