"""Who waits for whom in a pipeline? Schedules as data, the event engine, the timeline."""
