"""A document in a form that a reader can open: each writer takes report/document.py and nothing else of the report."""
