"""A SmartlyQ that runs on a laptop, for healthd's own tests and for anybody who builds on the API.

It keeps everything in memory, and shares no code with the daemon: they meet over HTTP.
"""
