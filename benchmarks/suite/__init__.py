"""The asv suite: each file answers one question about the project at a commit."""
