"""The product: one package per area, each with the same rooms."""
