// Empty on purpose: everything comes from libamdhip64.so.7, which this library depends on.
