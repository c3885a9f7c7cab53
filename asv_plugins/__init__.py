"""Plugins of airspeed velocity, named in ``asv.conf.json``."""
