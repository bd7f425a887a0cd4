"""Public pages: plain HTML made on the server from what the code itself goes by. No login, no database."""
