"""Physics: laws of nature, arrays in and arrays out; it knows no networks."""

from memspike.physics.crossbar import effective_conductance

__all__ = ["effective_conductance"]
