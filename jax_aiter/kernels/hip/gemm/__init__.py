"""Matrix products, by Composable Kernel."""
