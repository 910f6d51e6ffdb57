"""What each command says, as a document (report/document.py)."""
