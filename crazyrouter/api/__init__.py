"""The public contract: views, validation, authentication, errors, and the lean ASGI handler that serves them."""
