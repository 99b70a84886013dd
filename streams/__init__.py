"""The only folder that knows Faust and Kafka. Imports everything, imported by nothing."""
