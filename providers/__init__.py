"""One adapter per wire API, and what wraps them. Imports schemas."""
