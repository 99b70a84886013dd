"""ClickHouse, server or embedded, and files. Imports schemas."""
