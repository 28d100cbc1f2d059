"""Accelerators that are not here, played on a CPU: every path for them runs, and what they did is known beforehand."""
