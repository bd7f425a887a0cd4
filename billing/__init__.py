"""Who pays, and how much: accounts, API keys, holds and the append-only ledger. Never imports providers."""
