"""Built-in encoders: one module each."""
