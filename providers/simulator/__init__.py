"""A local HTTP server that speaks the providers' wire APIs and misbehaves on command."""
