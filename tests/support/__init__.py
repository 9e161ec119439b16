"""What tests and benchmarks share: devices, a browser, and ways to do harm. `benchmarks/support` is a link to it."""
