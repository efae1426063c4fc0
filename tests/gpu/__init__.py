"""What only a GPU can show; everything here skips, with the reason, where there is none."""
