"""What `limpet doctor` looks at: each destination step by step, then this host. `step` has the words for it."""
