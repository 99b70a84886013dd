"""The broker that needs nothing installed: librdkafka's mock cluster in a child process."""
