"""The local exchange: real venues' protocols over one matching core, sans-IO, told the time."""
