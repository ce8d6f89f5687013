"""Programs of those who work on the package; `make` calls them."""
