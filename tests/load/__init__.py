"""An exactly accounted load for this machine: each request ends as ok or as failed, each POST is proven stored once (README.md)."""
