"""What strangers offer: read, bounded, filtered, counted, saved."""
