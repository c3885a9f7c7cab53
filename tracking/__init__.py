"""Commands on top of asv: measure a range of commits, compare two, find the one that changed."""
