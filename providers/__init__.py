"""How images are got: channels, offers, carrier adapters, routing. Never imports billing."""
