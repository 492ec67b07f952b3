"""The pure heart of healthd: no I/O, no clock, no framework. Everything here is told what time it is."""
