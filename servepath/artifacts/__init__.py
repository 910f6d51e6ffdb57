"""Artifacts on disk: the one place that writes files whole or not at all, and reads manifests with proof.

Every stage meets the next one in files; what those files look like is written here and nowhere else.
"""
