"""One module per wire API."""
