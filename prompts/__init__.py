"""Versioned prompt templates, and the library that loads, checks and renders them.

Imports schemas.
"""
