"""How hypothesis runs here: a slow machine is no failed test."""

from hypothesis import HealthCheck, settings

# On a busy host data is generated slowly, and an example may take long: that says nothing about the code.
settings.register_profile("pathgrade", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("pathgrade")
