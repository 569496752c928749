"""Reports for people, made from what the artifact and the run say."""
