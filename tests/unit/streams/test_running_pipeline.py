"""What a process says of itself while it starts."""

from millrace.streams.running_pipeline import RunningPipeline


def test_a_process_is_not_ready_before_all_its_parts_are_made() -> None:
    """Its web server answers from the first moment, and whoever asks would send it work."""
    running = RunningPipeline()
    early = running.missing()
    running.complete = True

    assert early == ["parts that are being made"]
    assert running.missing() == []
