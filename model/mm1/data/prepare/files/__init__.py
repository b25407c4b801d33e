"""What raw files hold: their kind, compression, rows and values."""
