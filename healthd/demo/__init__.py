"""The main job as a play: a sandbox, catchers for mail and Slack, the real daemon, and somebody who repairs things."""
