"""What the table and the asv suite measure with: workloads, clocks, timers.

Timers return samples in seconds and no statistics: those are asv's, or the caller's.
"""
