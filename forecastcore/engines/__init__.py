"""Where work runs; each engine is one module and the only importer of its library."""
