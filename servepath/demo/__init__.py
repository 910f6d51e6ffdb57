"""The whole comparison, one stage after another; every stage is a process of its own, as a user would call it."""
