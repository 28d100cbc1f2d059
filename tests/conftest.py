"""Settings of all tests: a slow machine is no failed claim, and drawn examples are the same on every machine."""

from hypothesis import HealthCheck, settings

settings.register_profile("hwprof", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("hwprof")
