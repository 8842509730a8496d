"""Results for other systems, and other systems' results as records."""
