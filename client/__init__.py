"""The Python client for other services, usable without Faust. Imports schemas."""
