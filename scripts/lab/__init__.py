"""The lab: a network in namespaces whose truth is known. Its command is ``scripts/lab/run``."""
