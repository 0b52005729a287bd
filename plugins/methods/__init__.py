"""Built-in methods: one module each."""
