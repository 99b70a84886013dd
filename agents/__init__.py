"""The decisions, as plain Python that knows no Kafka.

Imports schemas, prompts and the providers' protocol.
"""
