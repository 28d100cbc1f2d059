"""Who waits for whom? Pipeline schedules as data, a small deterministic engine, and the timeline that it gives."""
