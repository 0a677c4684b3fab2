"""The rooms behind bin/: one subject a module; bin -> rooms -> run and state; only cli prints or exits."""
